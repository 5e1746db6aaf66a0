package fanotify

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// checkError wants an errno and a line, in which * stands for anything.
func checkError(t *testing.T, err error, errno unix.Errno, line string) {
	t.Helper()
	if !errors.Is(err, errno) {
		t.Fatalf("got %v, want %v", err, errno)
	}
	text := err.Error()
	pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(line), `\*`, ".*") + "$"
	if !regexp.MustCompile(pattern).MatchString(text) {
		t.Errorf("\ngot  %s\nwant %s", text, line)
	}
	if n := strings.Count(text, errno.Error()); n != 1 || strings.ContainsAny(text, "\n\x1b") {
		t.Errorf("not one line, or the errno %d times: %q", n, text)
	}
}

func TestInitErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config Config
		line   string
	}{
		{"classes", Config{Class: ClassContent | ClassPreContent}, "class 0xc is none of class_notif, class_content, class_pre_content"},
		{"access mode", Config{EventFlags: 3}, "event flags 0x3 hold more than an access mode, *"},
		{"event flags", Config{EventFlags: unix.O_DIRECTORY}, "event flags 0x10000 hold more than an access mode, *"},
		{"mounts with handles", Config{Report: ReportMnt | ReportFID}, "report_mnt goes with class_notif, and not with handles or report_fd_error: use a group of its own for mounts"},
		{"mounts with class", Config{Report: ReportMnt, Class: ClassContent}, "report_mnt goes with class_notif*"},
		{"mounts with descriptor errors", Config{Report: ReportMnt | ReportFDError}, "report_mnt goes with class_notif*"},
		{"content with handles", Config{Class: ClassContent, Report: ReportFID}, "a group of class_content reports descriptors, not handles: use a second group for report_fid"},
		{"pre-content with names", Config{Class: ClassPreContent, Report: ReportDFIDName}, "a group of class_pre_content reports descriptors, not handles: use a second group for report_dir_fid|report_name"},
		{"name alone", Config{Report: ReportName | ReportFID}, "report_name needs report_dir_fid"},
		{"target alone", Config{Report: ReportTargetFID}, "report_target_fid needs report_fid, report_dir_fid and report_name"},
		{"target without fid", Config{Report: ReportTargetFID | ReportDFIDName}, "report_target_fid needs *"},
		{"pidfd of threads", Config{Report: ReportPIDFD | ReportTID}, "this kernel has no pidfds of threads: choose one of report_pidfd and report_tid"},
		{"unknown", Config{Report: ReportFID | 1<<20}, "this kernel doesn't know all of class_notif, report_fid|0x100000: ask Supports"},
		{"unknown with audit", Config{Audit: true, Report: 1 << 20}, "this kernel knows not all of these flags, or is built without CONFIG_AUDITSYSCALL: ask Supports"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewGroup(tt.config)
			checkError(t, err, unix.EINVAL, "fanotify_init: invalid argument: "+tt.line)
		})
	}
	// What this kernel doesn't do.
	for errno, reason := range map[unix.Errno]string{
		unix.ENOSYS: "fanotify_init: function not implemented: this kernel is built without CONFIG_FANOTIFY, or a system call filter hides it",
		unix.ENFILE: "fanotify_init: too many open files in system: the limit of open files of the system is reached: raise fs.file-max (now *)",
		unix.ENOMEM: "fanotify_init: cannot allocate memory",
		unix.EPERM:  "fanotify_init: operation not permitted: before Linux 5.13 every group needs CAP_SYS_ADMIN",
	} {
		checkError(t, newInitError(Config{Report: ReportFID}, errno), errno, reason)
	}
}

// TestMarkErrors makes each errno happen.
func TestMarkErrors(t *testing.T) {
	fstest.NeedKernel(t, Supports(FeatureEvictable))
	fstest.NeedKernel(t, Supports(FeatureIgnore))
	fstest.NeedKernel(t, Supports(FeatureMnt))
	fstest.NeedKernel(t, Supports(FeaturePreAccess))
	tmpfs, ext4, overlay := fstest.New(t, fstest.Tmpfs), fstest.New(t, fstest.Ext4), fstest.New(t, fstest.Overlay)
	fuse, subvolume := fstest.New(t, fstest.FUSE), fstest.New(t, fstest.Subvolume)
	name, sub := file(t, tmpfs, "f"), mkdir(t, tmpfs, "sub")
	marked, evictable := file(t, tmpfs, "marked"), file(t, tmpfs, "evictable")
	surviving, ignoring := file(t, tmpfs, "surviving"), file(t, tmpfs, "ignoring")
	dangling, strange := filepath.Join(tmpfs, "dangling"), filepath.Join(tmpfs, "two\nlines\u009b\xff")
	check(t, os.Symlink("nowhere", dangling))

	fd := newGroup(t, Config{})
	fid := newGroup(t, Config{Report: ReportFID})
	names := newGroup(t, Config{Report: ReportDFIDName})
	target := newGroup(t, Config{Report: ReportDFIDNameTarget})
	mounts := newGroup(t, Config{Report: ReportMnt})
	content := newGroup(t, Config{Class: ClassContent})
	pre := newGroup(t, Config{Class: ClassPreContent})
	mark(t, fid, TargetInode, tmpfs, Open, 0) // a strong filesystem id
	mark(t, fd, TargetInode, marked, Open, 0)
	mark(t, fd, TargetInode, evictable, Open, Evictable)
	mark(t, fd, TargetInode, surviving, Open, IgnoreSurv)
	mark(t, fd, TargetInode, ignoring, Open, Ignore)
	preMarked := file(t, ext4, "pre")
	preDir := mkdir(t, ext4, "dir")
	mark(t, pre, TargetInode, preDir, PreAccess, 0)

	memfd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	check(t, err)
	defer unix.Close(memfd)
	opath, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	check(t, err)
	defer unix.Close(opath)

	for _, tt := range []struct {
		name   string
		group  *Group
		target Target
		path   string
		mask   Mask
		flags  MarkFlags
		errno  unix.Errno
		reason string
	}{
		{"NUL", fd, 0, "a\x00b", Open, 0, unix.EINVAL, "no path holds a NUL"},
		{"target", fd, 0x40000000, name, Open, 0, unix.EINVAL, "the target is none of inode, mount, filesystem, mntns"},
		{"unknown flags", fd, 0, name, Open, 0x5000, unix.EINVAL, "unknown flags: 0x5000"},
		{"no events", fd, 0, name, 0, 0, unix.EINVAL, "the mask is empty: name an event"},
		{"unknown events", fd, 0, name, Open | 0x200000, 0, unix.EINVAL, "unknown events: 0x200000"},
		{"high bits", fd, 0, name, Open | 1<<40, 0, unix.EINVAL, "unknown events: 0x10000000000"},
		{"overflow", fid, 0, name, Open | Overflow, 0, unix.EINVAL, "overflow comes unasked and can't be in a mask"},
		{"both ignores", fd, 0, name, Open, Ignore | IgnoredMask, unix.EINVAL, "ignore and ignored_mask exclude each other"},
		{"mount group", mounts, TargetInode, name, Open, 0, unix.EINVAL, "a group with report_mnt has mntns marks only"},
		{"mount group's events", mounts, TargetMountNamespace, "/proc/self/ns/mnt", MntAttach | OnDir, 0, unix.EINVAL, "a group with report_mnt has no ondir, only mnt_attach and mnt_detach"},
		{"namespace mark", fd, TargetMountNamespace, "/proc/self/ns/mnt", Open, 0, unix.EINVAL, "mount namespaces need a group with report_mnt"},
		{"mount events", fid, TargetInode, name, MntAttach, 0, unix.EINVAL, "mount namespaces need a group with report_mnt"},
		{"no namespace", mounts, TargetMountNamespace, name, MntAttach, 0, unix.EINVAL, "not a mount namespace: mark /proc/PID/ns/mnt, and without dont_follow"},
		{"namespace's link", mounts, TargetMountNamespace, "/proc/self/ns/mnt", MntAttach, DontFollow, unix.EINVAL, "not a mount namespace: mark /proc/PID/ns/mnt, and without dont_follow"},
		{"permission", fid, 0, name, Open | OpenPerm, 0, unix.EINVAL, "open_perm needs a group of class_content or class_pre_content"},
		{"pre_access", content, 0, name, PreAccess, 0, unix.EINVAL, "pre_access needs a group of class_pre_content"},
		{"handles", fd, 0, name, Open | Create | Attrib, 0, unix.EINVAL, "attrib|create needs a group that reports handles (report_fid, report_dir_fid)"},
		{"handles in content class", content, 0, name, DeleteSelf, 0, unix.EINVAL, "delete_self needs a group that reports handles (report_fid, report_dir_fid)"},
		{"fs_error on an inode", fid, 0, name, FSError, 0, unix.EINVAL, "fs_error needs a filesystem mark"},
		{"evictable mount", fid, TargetMount, name, Open, Evictable, unix.EINVAL, "only inode marks are evictable"},
		{"dirent events of a mount", names, TargetMount, tmpfs, Open | Create | Delete, 0, unix.EINVAL, "a mount mark has no create|delete: mark the filesystem, or inodes"},
		{"rename without names", fid, 0, sub, Rename, 0, unix.EINVAL, "rename needs a group with report_name"},
		{"pre_access of directories", pre, 0, preDir, PreAccess | OnDir, 0, unix.EINVAL, "pre_access and ondir exclude each other"},
		{"proc", content, 0, "/proc/version", OpenPerm, 0, unix.EINVAL, "proc has no open_perm, or the object is neither file nor directory, *"},
		{"ignore mask of a mount", fd, TargetMount, name, Open, Ignore, unix.EINVAL, "the ignore mask of a mount mark has to survive modification: use ignore|ignored_surv_modify"},
		{"ignore mask of a filesystem", fd, TargetFilesystem, name, Open, Ignore, unix.EINVAL, "the ignore mask of a filesystem mark has to survive modification: use *"},
		{"memfd's mount", fd, TargetMount, fmt.Sprintf("/proc/self/fd/%d", memfd), Open, 0, unix.EINVAL, "a filesystem inside the kernel (pipe, socket, memfd) has inode marks only, *"},
		{"memfd's filesystem", fid, TargetFilesystem, fmt.Sprintf("/proc/self/fd/%d", memfd), Open, 0, unix.EINVAL, "a filesystem inside the kernel *"},

		{"ignore mask of a directory", fd, 0, sub, Open, Ignore, unix.EISDIR, "the ignore mask of a directory has to survive modification: use ignore|ignored_surv_modify"},
		{"onlydir", fd, 0, name, Open, OnlyDir, unix.ENOTDIR, "onlydir asks for a directory"},
		{"path through a file", fd, 0, name + "/x", Open, OnlyDir, unix.ENOTDIR, "the way to it leads through a file"},
		{"dirent events of a file", target, 0, name, Open | Create | Delete, 0, unix.ENOTDIR, "create|delete are for directories, which this mark insists on"},
		{"rename of a file", names, 0, name, Rename, 0, unix.ENOTDIR, "rename are for directories, which this mark insists on"},
		{"ignored directories of a file", fd, 0, name, Open | OnDir, IgnoreSurv, unix.ENOTDIR, "ondir are for directories, which this mark insists on"},
		{"no file", fd, 0, name + "x", Open, 0, unix.ENOENT, ""},
		{"dangling link", fd, 0, dangling, Open, 0, unix.ENOENT, "the symbolic link leads nowhere: dont_follow marks the link itself"},
		{"empty path", fd, 0, "", Open, 0, unix.ENOENT, "the path is empty"},
		{"not evictable", fd, 0, marked, Open, Evictable, unix.EEXIST, "the object has a mark that is not evictable: unmark it first"},
		{"old after new", fd, 0, ignoring, Open, IgnoredMask, unix.EEXIST, "the mark's ignore mask was set with ignore: use that, or unmark it first"},
		{"ignore after surviving", fd, 0, surviving, Open, Ignore, unix.EEXIST, "the mark's ignore mask survives modification: use ignore|ignored_surv_modify, or unmark it first"},
		{"pre_access, then directories", pre, 0, preDir, Open | OnDir, 0, unix.EEXIST, "pre_access and ondir exclude each other on one mark: unmark the other first"},

		{"zero id", fid, TargetFilesystem, fuse, Open, 0, unix.ENODEV, "fuse has no filesystem id to report: use inode marks, or a group without handles"},
		{"zero id of a mount", fid, TargetMount, fuse, Open, 0, unix.ENODEV, "fuse has no filesystem id to report: use *"},
		{"subvolume", fid, TargetFilesystem, subvolume, Open, 0, unix.EXDEV, "btrfs: a subvolume's filesystem id is not the filesystem's: mark a mount of the top level (subvolid=5), or use inode marks or a group without handles"},
		{"subvolume's mount", fid, TargetMount, subvolume, Open, 0, unix.EXDEV, "btrfs: a subvolume's filesystem id *"},
		{"weak id among others", fid, TargetInode, subvolume, Open, 0, unix.EXDEV, "btrfs: handles of filesystems without an id of their own (FUSE, btrfs subvolumes) can't be told from others: use a group for this filesystem alone"},
		{"zero id among others", fid, TargetInode, fuse, Open, 0, unix.EXDEV, "fuse: handles of filesystems without an id of their own *"},
		{"overlay", fid, TargetFilesystem, overlay, Open, 0, unix.EOPNOTSUPP, "overlay can't open its file handles: use inode marks, mount it with index=on,nfs_export=on, or mark the filesystem below"},
		{"proc's handles", fid, TargetMount, "/proc", Open, 0, unix.EOPNOTSUPP, "proc can't open its file handles: use inode marks, or a group without handles"},
		{"no pre-content", pre, TargetInode, name, PreAccess, 0, unix.EOPNOTSUPP, "tmpfs has no pre-content events: ext4, xfs and btrfs have"},
		{"strange name", fd, 0, strange, Open, 0, unix.ENOENT, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.group.Mark(tt.target, tt.path, tt.mask, tt.flags)
			path := tt.path
			if path == strange || strings.Contains(path, "\x00") {
				path = fmt.Sprintf("%q", path)
			}
			if path == "" {
				path = fmt.Sprintf("descriptor %d", unix.AT_FDCWD)
			}
			line := fmt.Sprintf("mark %s: %v", path, tt.errno)
			if tt.reason != "" {
				line += ": " + tt.reason
			}
			checkError(t, err, tt.errno, line)
			var merr *MarkError
			if !errors.As(err, &merr) || merr.Path != tt.path || merr.Mask != tt.mask || merr.Target != tt.target || merr.Flags != tt.flags {
				t.Errorf("%+v", merr)
			}
		})
	}

	err = fd.MarkAt(TargetInode, opath, "", Open, 0)
	checkError(t, err, unix.EBADF, fmt.Sprintf("mark descriptor %d: bad file descriptor: an open descriptor is needed that is not O_PATH", opath))
	err = fd.MarkAt(TargetInode, -5, "f", Open, 0)
	checkError(t, err, unix.EBADF, "mark f: bad file descriptor: the path is relative to descriptor -5, which is not an open directory")
	err = fd.Unmark(TargetInode, name, Open, 0)
	checkError(t, err, unix.ENOENT, "unmark "+name+": no such file or directory: there is no such mark in this group: it was never set, or ended with its object or by eviction")
	err = fd.Unmark(TargetInode, name+"x", Open, 0)
	checkError(t, err, unix.ENOENT, "unmark "+name+"x: no such file or directory")
	err = fd.Flush(TargetMountNamespace)
	checkError(t, err, unix.EINVAL, "flush mntns marks: invalid argument: mount namespaces need a group with report_mnt")
	err = mounts.Flush(TargetInode)
	checkError(t, err, unix.EINVAL, "flush inode marks: invalid argument: a group with report_mnt has mntns marks only")
	check(t, pre.Unmark(TargetInode, preDir, PreAccess, 0))
	mark(t, pre, TargetInode, preMarked, OnDir, 0)
	err = pre.Mark(TargetInode, preMarked, PreAccess, 0)
	checkError(t, err, unix.EEXIST, "mark "+preMarked+": file exists: pre_access and ondir exclude each other on one mark: unmark the other first")

	// What this kernel doesn't do.
	for errno, reason := range map[unix.Errno]string{
		unix.ENOSYS:       ": this kernel is built without CONFIG_FANOTIFY",
		unix.EPERM:        ": a security module refuses",
		unix.EOPNOTSUPP:   ": tmpfs has no file handles: use a group without handles",
		unix.EINVAL:       ": this kernel is too old for these events or flags: ask Supports",
		unix.ELOOP:        "",
		unix.ENAMETOOLONG: "",
	} {
		e := &MarkError{Op: opMark, Path: name, Mask: Open, Err: errno, dirfd: unix.AT_FDCWD, config: Config{Report: ReportFID}}
		e.Reason = e.explain()
		checkError(t, e, errno, fmt.Sprintf("mark %s: %v%s", name, errno, reason))
	}
}

// TestDescriptorLimit takes away the descriptors of a process of its own.
func TestDescriptorLimit(t *testing.T) {
	fstest.Unprivileged(t, nil, func(t *testing.T, _ string) {
		warm, err := NewGroup(Config{Report: ReportFID}) // the runtime's poller needs some itself
		check(t, err)
		defer warm.Close()
		next, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
		check(t, err, unix.Close(next))
		var old unix.Rlimit
		check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
		for more := range uint64(2) { // none for the group, then none for its epoll instance
			check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(next) + more, Max: old.Max}))
			_, err := NewGroup(Config{Report: ReportFID})
			check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
			line := fmt.Sprintf("fanotify_init: too many open files: the limit of open descriptors of this process is reached: "+
				"raise RLIMIT_NOFILE (now %d)", uint64(next)+more)
			checkError(t, err, unix.EMFILE, line)
		}
	})
}

// limitedVariable makes the test binary run the rest of TestUserLimits.
const limitedVariable = "FANLIGHT_TEST_LIMITED"

// TestUserLimits reaches the limits: those of a user namespace of its own, which nobody else feels, and those of a user
// that nobody else is.
func TestUserLimits(t *testing.T) {
	switch dir := os.Getenv("DIR"); os.Getenv(limitedVariable) {
	case "namespace":
		reachNamespaceLimits(t, dir)
		return
	case "user":
		reachUserLimit(t)
		return
	}
	dir := fstest.New(t, fstest.Tmpfs)
	check(t, os.Chmod(dir, 0o777))
	const stranger = 54321
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: stranger, Size: 1}}
	for mode, attributes := range map[string]*syscall.SysProcAttr{
		"namespace": {Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, Credential: &syscall.Credential{NoSetGroups: true}},
		"user":      {Credential: &syscall.Credential{Uid: stranger, Gid: stranger}},
	} {
		cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^TestUserLimits$")
		cmd.Env = append(os.Environ(), limitedVariable+"="+mode, "DIR="+dir)
		cmd.SysProcAttr = attributes
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestUserLimits") {
			t.Errorf("%s: %v\n%s", mode, err, out)
		}
	}
}

func reachNamespaceLimits(t *testing.T, dir string) {
	check(t, os.WriteFile("/proc/sys/user/max_fanotify_groups", []byte("1"), 0))
	check(t, os.WriteFile("/proc/sys/user/max_fanotify_marks", []byte("1"), 0))
	limits, err := ReadLimits()
	check(t, err)
	if limits.NamespaceGroups != 1 || limits.NamespaceMarks != 1 {
		t.Errorf("%+v", limits)
	}
	g := newGroup(t, Config{Report: ReportFID})
	_, err = NewGroup(Config{Report: ReportFID})
	checkError(t, err, unix.EMFILE, "fanotify_init: too many open files: the limit of groups of this user is reached: "+
		"raise user.max_fanotify_groups (now 1)")
	if err := Supports(FeatureRename); err == nil || errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, unix.EMFILE) {
		t.Errorf("without a free group a feature is neither there nor missing: %v", err)
	}
	mark(t, g, TargetInode, file(t, dir, "a"), Open, 0)
	name := file(t, dir, "b")
	err = g.Mark(TargetInode, name, Open, 0)
	checkError(t, err, unix.ENOSPC, "mark "+name+": no space left on device: the limit of marks of this user is reached: "+
		"raise user.max_fanotify_marks (now 1)")
	_, err = NewGroup(Config{UnlimitedQueue: true})
	checkError(t, err, unix.EPERM, "fanotify_init: operation not permitted: needs CAP_SYS_ADMIN in the initial user namespace for *")
	err = g.Mark(TargetFilesystem, dir, Open, 0)
	checkError(t, err, unix.EPERM, "mark "+dir+": operation not permitted: a filesystem mark needs CAP_SYS_ADMIN in the "+
		"user namespace that owns it: inode marks do without")
}

func reachUserLimit(t *testing.T) {
	limits, err := ReadLimits()
	check(t, err)
	for range limits.MaxUserGroups {
		newGroup(t, Config{Report: ReportFID})
	}
	_, err = NewGroup(Config{Report: ReportFID})
	checkError(t, err, unix.EMFILE, fmt.Sprintf("fanotify_init: too many open files: the limit of groups of this user is "+
		"reached: raise fs.fanotify.max_user_groups (now %d)", limits.MaxUserGroups))
	e := &MarkError{Op: opMark, Path: "/srv", Err: unix.ENOSPC}
	e.Reason = e.explain()
	checkError(t, e, unix.ENOSPC, fmt.Sprintf("mark /srv: no space left on device: the limit of marks of this user is "+
		"reached: raise fs.fanotify.max_user_marks (now %d)", limits.MaxUserMarks))
}
