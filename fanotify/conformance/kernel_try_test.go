package conformance_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// place is a directory on an ext4 filesystem, with a file in it.
type place string

func newPlace(t *testing.T) place {
	t.Helper()
	dir := fstest.New(t, fstest.Ext4)
	name := file(t, dir, "file")
	check(t, os.Chmod(dir, 0o777), os.Chmod(name, 0o644))
	return place(dir)
}

func (p place) file() string { return filepath.Join(string(p), "file") }

// try uses something of the kernel and returns its errno.
type try func(p place) error

// handles is a group that needs no privilege.
var handles = fanotify.Config{Report: fanotify.ReportFID}

// inGroup returns the one way that makes a group and does these things with it.
func inGroup(config fanotify.Config, steps ...func(p place, g *fanotify.Group) error) []try {
	return []try{func(p place) error {
		g, err := fanotify.NewGroup(config)
		if err != nil {
			return err
		}
		defer g.Close()
		for _, step := range steps {
			if err := step(p, g); err != nil {
				return err
			}
		}
		return nil
	}}
}

func markInode(p place, g *fanotify.Group) error {
	return g.Mark(fanotify.TargetInode, p.file(), fanotify.Open, 0)
}

func unmarkInode(p place, g *fanotify.Group) error {
	return g.Unmark(fanotify.TargetInode, p.file(), fanotify.Open, 0)
}

func flushInodes(_ place, g *fanotify.Group) error { return g.Flush(fanotify.TargetInode) }

func backlog(_ place, g *fanotify.Group) error {
	_, err := g.Backlog()
	return err
}

func info(_ place, g *fanotify.Group) error {
	_, err := g.Info()
	return err
}

func statMount(p place) error {
	id, err := fanotify.MountIDAt(-1, p.file())
	if err == nil {
		_, err = fanotify.StatMount(fanotify.OwnNamespace, id)
	}
	return err
}

func listMounts(place) error {
	for _, err := range fanotify.ListMounts(fanotify.OwnNamespace, fanotify.WholeNamespace) {
		return err
	}
	return nil
}

func limits(place) error {
	_, err := fanotify.ReadLimits()
	return err
}

func handleOf(p place) error {
	_, err := fanotify.HandleAt(-1, p.file())
	return err
}

func openHandle(p place) error {
	h, err := fanotify.HandleAt(-1, p.file())
	if err != nil {
		return err
	}
	mount, err := os.Open(p.file())
	if err != nil {
		return err
	}
	defer mount.Close()
	fd, err := h.Open(int(mount.Fd()), unix.O_PATH)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// use says what is to be tried: a constant of the kernel by its type and value, a field of Config, or another row.
type use struct {
	Kind  string
	Value uint64
	Field string
}

// otherTries are the ways to use what is no constant.
var otherTries = map[string][]try{
	"FAN_CLOEXEC":         inGroup(handles),
	"FAN_NONBLOCK":        inGroup(handles),
	"event_f_flags":       inGroup(fanotify.Config{EventFlags: unix.O_RDWR}),
	"FAN_MARK_ADD":        inGroup(handles, markInode),
	"FAN_MARK_REMOVE":     inGroup(handles, markInode, unmarkInode),
	"FAN_MARK_FLUSH":      inGroup(handles, markInode, flushInodes),
	"FAN_AUDIT":           inGroup(fanotify.Config{Class: fanotify.ClassContent, Audit: true}),
	"name_to_handle_at":   {handleOf},
	"AT_HANDLE_FID":       {handleOf},
	"open_by_handle_at":   {openHandle},
	"FIONREAD":            inGroup(handles, backlog),
	"fdinfo":              inGroup(handles, markInode, info),
	"statmount":           {statMount},
	"listmount":           {listMounts},
	"STATX_MNT_ID_UNIQUE": {func(p place) error { _, err := fanotify.MountIDAt(-1, p.file()); return err }},
	"NS_GET_MNTNS_ID":     {func(place) error { _, err := fanotify.MountNamespaceID("/proc/self/ns/mnt"); return err }},
	"max_queued_events":   {limits},
	"max_user_groups":     {limits},
	"max_user_marks":      {limits},
	"watchdog_timeout":    {limits},
}

// tries returns the ways to use it, of which one has to work.
func (u use) tries() (tries []try) {
	all := []fanotify.Config{
		handles, {Report: fanotify.ReportDFIDName}, {Report: fanotify.ReportMnt},
		{}, {Class: fanotify.ClassContent}, {Class: fanotify.ClassPreContent},
	}
	on := func(target fanotify.Target, mask fanotify.Mask, flags fanotify.MarkFlags) func(place, *fanotify.Group) error {
		return func(p place, g *fanotify.Group) error {
			paths := []string{p.file(), string(p)}
			if target == fanotify.TargetMountNamespace {
				paths = []string{"/proc/self/ns/mnt"}
			}
			var err error
			for _, path := range paths {
				if err = g.Mark(target, path, mask, flags); err == nil {
					return nil
				}
			}
			return err
		}
	}
	kind, value := u.Kind, u.Value
	switch kind {
	case "other":
		tries = otherTries[u.Field]
	case "Config":
		for _, config := range []fanotify.Config{handles, {}} {
			reflect.ValueOf(&config).Elem().FieldByName(u.Field).SetBool(true)
			tries = append(tries, inGroup(config)...)
		}
	case "Class":
		for _, report := range []fanotify.Report{fanotify.ReportFID, 0} {
			tries = append(tries, inGroup(fanotify.Config{Class: fanotify.Class(value), Report: report})...)
		}
	case "Report":
		for _, beside := range []fanotify.Report{0, fanotify.ReportFID, fanotify.ReportDirFID, fanotify.ReportDFIDNameTarget} {
			tries = append(tries, inGroup(fanotify.Config{Report: fanotify.Report(value) | beside})...)
		}
	case "Target":
		for _, config := range all[:3] {
			tries = append(tries, inGroup(config, on(fanotify.Target(value), fanotify.Open, 0))...)
			tries = append(tries, inGroup(config, on(fanotify.Target(value), fanotify.MntAttach, 0))...)
		}
	case "MarkFlags":
		tries = inGroup(handles, on(fanotify.TargetInode, fanotify.Open, fanotify.MarkFlags(value)))
	case "Mask":
		for _, config := range all {
			for _, target := range []fanotify.Target{fanotify.TargetInode, fanotify.TargetFilesystem, fanotify.TargetMountNamespace} {
				tries = append(tries, inGroup(config, on(target, fanotify.Mask(value), 0))...)
			}
		}
	}
	return tries
}

// privileges are sets of capabilities, from nothing up.
var privileges = []struct {
	text         string
	capabilities []int
}{
	{"none", nil},
	{"CAP_DAC_READ_SEARCH", []int{unix.CAP_DAC_READ_SEARCH}},
	{"CAP_AUDIT_WRITE", []int{unix.CAP_AUDIT_WRITE}},
	{"CAP_SYS_ADMIN", []int{unix.CAP_SYS_ADMIN}},
	{"CAP_SYS_ADMIN, CAP_AUDIT_WRITE", []int{unix.CAP_SYS_ADMIN, unix.CAP_AUDIT_WRITE}},
}

// leastPrivilege returns the first of the privileges with which one of the ways works. The error says how each failed
// with the last one.
func leastPrivilege(tries []try, p place) (string, error) {
	errs := []error{errors.New("nothing to try")}
	for _, privilege := range privileges {
		if len(tries) > 0 {
			errs = nil
		}
		for _, use := range tries {
			err := withCapabilities(privilege.capabilities, func() error { return use(p) })
			if err == nil {
				return privilege.text, nil
			}
			errs = append(errs, err)
		}
	}
	return "", errors.Join(errs...)
}

// withCapabilities runs use on a thread that has no other capabilities for the moment.
func withCapabilities(capabilities []int, use func() error) error {
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var own [2]unix.CapUserData
	if err := unix.Capget(&header, &own[0]); err != nil {
		return fmt.Errorf("read the capabilities: %w", err)
	}
	few := own
	few[0].Effective, few[1].Effective = 0, 0
	for _, c := range capabilities {
		few[c/32].Effective |= 1 << (c % 32)
	}
	if err := unix.Capset(&header, &few[0]); err != nil {
		return fmt.Errorf("drop the capabilities: %w", err)
	}
	err := use()
	if back := unix.Capset(&header, &own[0]); back != nil {
		return fmt.Errorf("take the capabilities back: %w", back) // the thread stays locked and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}
