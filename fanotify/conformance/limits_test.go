package conformance_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// stranger is a user that nobody else is: groups count for the user on the whole machine. It is also the one who makes
// the user namespaces, because a group in one counts for its maker as well.
const stranger = 54417

// In the environment of a process that TestLTP17Limits started: what it is to do, and the file to mark.
const (
	limitsVariable     = "FANLIGHT_TEST_LIMITS"
	limitsFileVariable = "FANLIGHT_TEST_LIMITS_FILE"
)

// TestLTP17Limits makes groups with a mark in each until the kernel refuses. LTP raises the number of user namespaces
// before, for systems where it is 0; that takes CAP_SYS_RESOURCE, and is not what is tested.
//
// Proves max_user_groups.
func TestLTP17Limits(t *testing.T) {
	limits, err := fanotify.ReadLimits()
	check(t, err)
	const few = 10
	rows := []struct {
		name      string
		namespace *syscall.SysProcAttr // nil is the one that all is in
		sysctl    string               // in the namespace, set to few
		config    fanotify.Config
		groups    int
		want      unix.Errno
		reason    string
	}{
		0: {name: "groups of the system", groups: limits.MaxUserGroups, want: unix.EMFILE,
			reason: fmt.Sprintf("raise fs.fanotify.max_user_groups (now %d)", limits.MaxUserGroups)},
		1: {name: "groups of the system in a namespace, as root", namespace: ownNamespace(0),
			config: fanotify.Config{Report: fanotify.ReportFID}, groups: limits.MaxUserGroups, want: unix.EMFILE,
			reason: fmt.Sprintf("raise fs.fanotify.max_user_groups (now %d)", limits.MaxUserGroups)},
		2: {name: "groups of a namespace", namespace: ownNamespace(stranger), sysctl: "max_fanotify_groups",
			config: fanotify.Config{Report: fanotify.ReportFID}, groups: few, want: unix.EMFILE,
			reason: fmt.Sprintf("raise user.max_fanotify_groups (now %d)", few)},
		3: {name: "marks of a namespace", namespace: ownNamespace(stranger), sysctl: "max_fanotify_marks",
			config: fanotify.Config{Report: fanotify.ReportFID}, groups: few, want: unix.ENOSPC,
			reason: fmt.Sprintf("raise user.max_fanotify_marks (now %d)", few)},
	}
	for number, row := range rows {
		name := fmt.Sprint(number)
		t.Run(name, func(t *testing.T) {
			switch os.Getenv(limitsVariable) {
			case "reach":
				if row.sysctl != "" {
					check(t, os.WriteFile(filepath.Join("/proc/sys/user", row.sysctl), fmt.Append(nil, few), 0))
				}
				reachLimit(t, row.config, row.groups, row.want, row.reason)
			case "namespace":
				again(t, "reach", os.Getenv(limitsFileVariable), row.namespace)
			default:
				name := file(t, fstest.New(t, fstest.Tmpfs), "file")
				first := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
				if row.namespace != nil {
					again(t, "namespace", name, first)
					return
				}
				first.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN} // for events with descriptors
				again(t, "reach", name, first)
			}
		})
	}
}

// ownNamespace starts a process in a user namespace in which the stranger, who starts it, is user id.
func ownNamespace(id int) *syscall.SysProcAttr {
	ids := []syscall.SysProcIDMap{{ContainerID: id, HostID: stranger, Size: 1}}
	a := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	if id != 0 {
		a.AmbientCaps = []uintptr{unix.CAP_SYS_RESOURCE} // to set the limits of the namespace
	}
	return a
}

// again runs this very test in a process of its own, which finds mode in its environment.
func again(t *testing.T, mode, path string, attributes *syscall.SysProcAttr) {
	t.Helper()
	pattern := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.v", "-test.run="+pattern)
	// The race detector lets a process wait for a second before it ends, in case that there are races to report.
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", limitsVariable+"="+mode, limitsFileVariable+"="+path)
	cmd.SysProcAttr = attributes
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" (") {
		t.Fatalf("%s: %v\n%s", mode, err, out)
	}
}

// reachLimit makes groups with a mark each and wants the one after so many to be refused, or its mark.
func reachLimit(t *testing.T, config fanotify.Config, groups int, want unix.Errno, reason string) {
	name := os.Getenv(limitsFileVariable)
	for range groups {
		mark(t, newGroup(t, config), inode, name, fanotify.Open, 0)
	}
	g, err := fanotify.NewGroup(config)
	if err == nil {
		defer g.Close()
		if want == unix.EMFILE {
			t.Fatalf("%d groups, and one more", groups)
		}
		err = g.Mark(inode, name, fanotify.Open, 0)
	}
	var init *fanotify.InitError
	if !errors.Is(err, want) || errors.As(err, &init) != (want == unix.EMFILE) || !strings.HasSuffix(fmt.Sprint(err), reason) {
		t.Errorf("after %d groups: got %v, want %v: %s", groups, err, want, reason)
	}
}
