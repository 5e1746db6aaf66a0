package doctor

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
)

// uses says since which kernel there is a feature and what Fanlight does with it.
var uses = map[fanotify.Feature]struct{ since, use string }{
	fanotify.FeatureTID:                {"4.20", "thread ids in events"},
	fanotify.FeatureFID:                {"5.1", "create, delete, rename and attrib: all watching"},
	fanotify.FeatureDirFID:             {"5.9", "the directory of an event: all watching"},
	fanotify.FeatureName:               {"5.9", "names in events: all watching"},
	fanotify.FeatureTargetFID:          {"5.17", "directories that are followed when they are made, moved and removed"},
	fanotify.FeaturePIDFD:              {"5.15", "processes that can't be taken for others"},
	fanotify.FeatureThreadPIDFD:        {"7.2", "pidfds of threads"},
	fanotify.FeatureFDError:            {"6.13", "why an event has no descriptor"},
	fanotify.FeatureMnt:                {"6.15", "mounts that are told of as they come and go"},
	fanotify.FeatureAudit:              {"4.15", "decisions in the audit log"},
	fanotify.FeatureAuditRule:          {"6.3", "the rule of a decision in the audit log"},
	fanotify.FeatureUnprivileged:       {"5.13", "watching without root"},
	fanotify.FeaturePermission:         {"2.6.37", "decisions about opening and reading"},
	fanotify.FeatureOpenExecPerm:       {"5.0", "decisions about executing"},
	fanotify.FeaturePreAccess:          {"6.14", "content filled in before it is read; answers with an errno"},
	fanotify.FeatureOpenExec:           {"5.0", "the event open_exec"},
	fanotify.FeatureFSError:            {"5.16", "errors of filesystems"},
	fanotify.FeatureRename:             {"5.17", "renames with both names in one event"},
	fanotify.FeatureFilesystemMark:     {"4.20", "watching a filesystem of any size by one mark"},
	fanotify.FeatureEvictable:          {"5.19", "marks that don't hold memory"},
	fanotify.FeatureIgnore:             {"6.0", "ignore marks that obey their flags; this report's permission columns"},
	fanotify.FeatureIdentifyingHandles: {"6.5", "handles on filesystems that can't open them"},
	fanotify.FeatureStatMount:          {"6.8", "mounts by ids that are never used again"},
}

// features asks for everything that not every kernel has.
func features() []Feature {
	var all []Feature
	for _, name := range fanotify.Features() {
		f := Feature{Name: string(name), Answer: Yes, Since: uses[name].since, For: uses[name].use}
		switch err := fanotify.Supports(name); {
		case errors.Is(err, errors.ErrUnsupported):
			f.Answer = No
		case errors.Is(err, unix.EPERM):
			f.Answer, f.Reason = Unknown, "it needs CAP_SYS_ADMIN"
		case err != nil:
			f.Answer, f.Reason = Unknown, err.Error()
		}
		all = append(all, f)
	}
	return all
}

// capabilities are those that Fanlight has a use for.
var capabilities = []struct {
	name string
	bit  int
}{
	{"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN},             // marks on filesystems, permission events
	{"CAP_DAC_READ_SEARCH", unix.CAP_DAC_READ_SEARCH}, // to open handles
	{"CAP_SYS_PTRACE", unix.CAP_SYS_PTRACE},           // the executable and the descriptors of others
	{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN},             // the process connector
	{"CAP_AUDIT_WRITE", unix.CAP_AUDIT_WRITE},         // decisions in the audit log
}

func privilege() (Privilege, error) {
	p := Privilege{UID: os.Geteuid(), Has: []string{}, Lacks: []string{}}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return p, fmt.Errorf("capget: %w", err)
	}
	for _, c := range capabilities {
		if sets[c.bit/32].Effective&(1<<(c.bit%32)) != 0 {
			p.Has = append(p.Has, c.name)
		} else {
			p.Lacks = append(p.Lacks, c.name)
		}
	}
	ids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return p, err
	}
	p.InitialNamespace = strings.Join(strings.Fields(string(ids)), " ") == "0 0 4294967295"
	return p, nil
}

// effective reports whether this process has a capability.
func (p Privilege) effective(name string) bool { return slices.Contains(p.Has, name) }

// noFanotify returns the error of a kernel that has no fanotify at all.
func noFanotify() error {
	g, err := newWatchGroup()
	if err == nil {
		return g.Close()
	}
	if errors.Is(err, unix.ENOSYS) {
		return err
	}
	return nil
}

// connector tries whether the kernel would tell of all processes. Nothing is asked for: the socket only joins.
func connector(p Privilege) Ability {
	if !p.effective("CAP_NET_ADMIN") { // without it the socket may join, and hears nothing of others
		return Ability{Answer: No, Reason: "it needs CAP_NET_ADMIN", Remedy: runAsRoot}
	}
	const processes = 1 // CN_IDX_PROC in linux/connector.h
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_CONNECTOR)
	if err == nil {
		defer unix.Close(fd)
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: processes})
	}
	if err == nil {
		return Ability{Answer: Yes}
	}
	a := refused(err)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		a.Reason = "this kernel, or this network namespace, has none"
	}
	return a
}

// limitsOf lists the limits and what they are for.
func limitsOf(l fanotify.Limits) []Limit {
	return []Limit{
		{"fs.fanotify.max_queued_events", l.MaxQueuedEvents, "events in a queue"},
		{"fs.fanotify.max_user_groups", l.MaxUserGroups, "groups of a user"},
		{"fs.fanotify.max_user_marks", l.MaxUserMarks, "marks of a user"},
		{"user.max_fanotify_groups", l.NamespaceGroups, "groups of a user in this user namespace"},
		{"user.max_fanotify_marks", l.NamespaceMarks, "marks of a user in this user namespace"},
		{"fs.fanotify.watchdog_timeout", int(l.WatchdogTimeout.Seconds()), "seconds until an unanswered listener is logged; 0 is never"},
	}
}

func usersOf(usage fanotify.Usage) []User {
	users := []User{}
	for _, u := range usage.Users {
		users = append(users, User{u.UID, userName(int(u.UID)), u.Groups, u.Marks})
	}
	return users
}

func userName(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return ""
	}
	return u.Username
}

func kernelVersion() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}
