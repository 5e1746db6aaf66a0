package fanotify

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Target says what a mark is put on (the mark types of fanotify_mark(2)).
type Target uint32

// The targets. Only TargetInode works without CAP_SYS_ADMIN.
const (
	TargetInode          Target = unix.FAN_MARK_INODE      // a file or directory; vanishes with it (since Linux 2.6.37)
	TargetMount          Target = unix.FAN_MARK_MOUNT      // one mount (since 2.6.37)
	TargetFilesystem     Target = unix.FAN_MARK_FILESYSTEM // every mount of the filesystem (since 4.20)
	TargetMountNamespace Target = unix.FAN_MARK_MNTNS      // a mount namespace: /proc/PID/ns/mnt (since 6.15)
)

// String returns the kernel's name in lower case without FAN_MARK_, such as "filesystem".
func (t Target) String() string {
	switch t {
	case TargetInode:
		return "inode"
	case TargetMount:
		return "mount"
	case TargetFilesystem:
		return "filesystem"
	case TargetMountNamespace:
		return "mntns"
	}
	return fmt.Sprintf("target %#x", uint32(t))
}

// MarkFlags modify a mark.
type MarkFlags uint32

// The flags of marks.
const (
	DontFollow MarkFlags = unix.FAN_MARK_DONT_FOLLOW // mark a symbolic link itself (since Linux 2.6.37)
	OnlyDir    MarkFlags = unix.FAN_MARK_ONLYDIR     // ENOTDIR if it isn't a directory (since 2.6.37)
	// Ignore sets the ignore mask with the rules that its modifiers say (since 6.0).
	Ignore MarkFlags = unix.FAN_MARK_IGNORE
	// IgnoredMask sets the ignore mask with the old rules: directories always, children if the mark says so (since
	// 2.6.37).
	IgnoredMask MarkFlags = unix.FAN_MARK_IGNORED_MASK
	// IgnoredSurvModify keeps an ignore mask when the object is modified (since 2.6.37).
	IgnoredSurvModify MarkFlags = unix.FAN_MARK_IGNORED_SURV_MODIFY
	// Evictable lets the kernel drop an inode mark with the inode (since 5.19).
	Evictable MarkFlags = unix.FAN_MARK_EVICTABLE

	IgnoreSurv = Ignore | IgnoredSurvModify
)

// markFlagNames has the text of each flag at its bit's number.
var markFlagNames = [64]string{
	2: "dont_follow", 3: "onlydir", 5: "ignored_mask", 6: "ignored_surv_modify", 9: "evictable", 10: "ignore",
}

// String returns the kernel's names in lower case without FAN_MARK_, in the form of a Mask: "onlydir|evictable".
func (f MarkFlags) String() string { return string(appendBits(nil, uint64(f), &markFlagNames)) }

// Mark adds mask to the mark, or with Ignore and IgnoredMask to the ignore mask, of what path leads to. There is one
// mark for each group and object; bits add up. It blocks as looking the path up does, and makes no events. The error
// is a *MarkError.
func (g *Group) Mark(target Target, path string, mask Mask, flags MarkFlags) error {
	return g.MarkAt(target, unix.AT_FDCWD, path, mask, flags)
}

// MarkAt is Mark with a path that is relative to the directory dirfd. With an empty path dirfd itself is marked; it
// must not be an O_PATH descriptor then.
func (g *Group) MarkAt(target Target, dirfd int, path string, mask Mask, flags MarkFlags) error {
	return g.mark(opMark, target, dirfd, path, mask, flags)
}

// Unmark takes mask away from the mark, or with Ignore and IgnoredMask from the ignore mask, of what path leads to;
// the mark ends with its last bit. Events that are queued already still come. The error is a *MarkError, ENOENT when
// there is no such mark.
func (g *Group) Unmark(target Target, path string, mask Mask, flags MarkFlags) error {
	return g.UnmarkAt(target, unix.AT_FDCWD, path, mask, flags)
}

// UnmarkAt is Unmark with a path as in MarkAt.
func (g *Group) UnmarkAt(target Target, dirfd int, path string, mask Mask, flags MarkFlags) error {
	return g.mark(opUnmark, target, dirfd, path, mask, flags)
}

// Flush ends all marks of one kind of target: mounts, filesystems, mount namespaces, or with TargetInode inodes.
// Events that are queued already still come. The error is a *MarkError.
func (g *Group) Flush(target Target) error {
	return g.mark(opFlush, target, unix.AT_FDCWD, "/", 0, 0)
}

// What a call does to marks, in the words of its errors.
const (
	opMark   = "mark"
	opUnmark = "unmark"
	opFlush  = "flush"
)

func (g *Group) mark(op string, target Target, dirfd int, path string, mask Mask, flags MarkFlags) error {
	command := uint(unix.FAN_MARK_ADD)
	switch op {
	case opUnmark:
		command = unix.FAN_MARK_REMOVE
	case opFlush:
		command = unix.FAN_MARK_FLUSH
	}
	var err error
	if path == "" && dirfd == unix.AT_FDCWD {
		err = unix.ENOENT // the system call would take it for "no path" and complain of the descriptor
	} else if cerr := g.conn.Control(func(fd uintptr) {
		err = unix.FanotifyMark(int(fd), command|uint(target)|uint(flags), uint64(mask), dirfd, path)
	}); cerr != nil {
		err = os.ErrClosed
	}
	if err == nil {
		return nil
	}
	e := &MarkError{Op: op, Path: path, Target: target, Mask: mask, Flags: flags, Err: err, dirfd: dirfd, config: g.config}
	e.Reason = e.explain()
	return e
}
