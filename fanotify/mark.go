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
	// Ignore sets the ignore mask with the rules that its modifiers say (since 6.0). Without IgnoredSurvModify the mask
	// ends when the file is modified, and a file that is open for writing takes none (see Mark).
	Ignore MarkFlags = unix.FAN_MARK_IGNORE
	// IgnoredMask sets the ignore mask with the old rules: directories always, children if the mark says so (since
	// 2.6.37). Without IgnoredSurvModify it is as with Ignore.
	IgnoredMask MarkFlags = unix.FAN_MARK_IGNORED_MASK
	// IgnoredSurvModify keeps an ignore mask when the object is modified (since 2.6.37).
	IgnoredSurvModify MarkFlags = unix.FAN_MARK_IGNORED_SURV_MODIFY
	// Evictable lets the kernel drop an inode mark with the inode (since 5.19).
	Evictable MarkFlags = unix.FAN_MARK_EVICTABLE
	// Unverified takes the kernel's word for an ignore mask (see Mark): for a cache, where one that isn't there costs
	// no more than the next event. It is not the kernel's flag.
	Unverified MarkFlags = 1 << 31

	IgnoreSurv = Ignore | IgnoredSurvModify
)

// markFlagNames has the text of each flag at its bit's number.
var markFlagNames = [64]string{
	2: "dont_follow", 3: "onlydir", 5: "ignored_mask", 6: "ignored_surv_modify", 9: "evictable", 10: "ignore",
	31: "unverified",
}

// String returns the kernel's names in lower case without FAN_MARK_, in the form of a Mask: "onlydir|evictable".
func (f MarkFlags) String() string { return string(appendBits(nil, uint64(f), &markFlagNames)) }

// Mark adds mask to the mark, or with Ignore and IgnoredMask to the ignore mask, of what path leads to. There is one
// mark for each group and object; bits add up. It blocks as looking the path up does, and makes no events. The error
// is a *MarkError (fanotify_mark(2), since Linux 2.6.37; targets, bits and flags have their own versions).
//
// The kernel says yes to an ignore mask without IgnoredSurvModify on a file that somebody has open for writing, and
// does nothing (fanotify_add_inode_mark in fs/notify/fanotify/fanotify_user.c). So Mark looks at the group's marks in
// this one case, and returns ETXTBSY if the ignore mask isn't on what path leads to: it never was, or ended meanwhile
// by a modification or with an evicted mark. The look needs /proc and takes some 10 µs for every mark of the group;
// Unverified leaves it out.
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
	kernelFlags := command | uint(target) | uint(flags&^Unverified)
	var err error
	switch {
	case path == "" && dirfd == unix.AT_FDCWD:
		err = unix.ENOENT // the system call would take it for "no path" and complain of the descriptor
	case op == opMark && target == TargetInode && flags&ignoreFlags != 0 && flags&(IgnoredSurvModify|Unverified) == 0:
		err = g.markVerified(kernelFlags, dirfd, path, mask, flags)
	default:
		err = g.fanotifyMark(kernelFlags, mask, dirfd, path)
	}
	if err == nil {
		return nil
	}
	e := &MarkError{Op: op, Path: path, Target: target, Mask: mask, Flags: flags, Err: err, dirfd: dirfd, config: g.config}
	e.Reason = e.explain()
	return e
}

func (g *Group) fanotifyMark(flags uint, mask Mask, dirfd int, path string) (err error) {
	if g.conn.Control(func(fd uintptr) { err = unix.FanotifyMark(int(fd), flags, uint64(mask), dirfd, path) }) != nil {
		return os.ErrClosed
	}
	return err
}

// markVerified adds to an ignore mask and returns nil if the mask is there afterwards, ETXTBSY if it isn't, or why that
// can't be told. What is marked is what is looked for, whatever becomes of the path meanwhile.
func (g *Group) markVerified(kernelFlags uint, dirfd int, path string, mask Mask, flags MarkFlags) error {
	if path != "" {
		how := unix.O_PATH | unix.O_CLOEXEC
		if flags&DontFollow != 0 {
			how |= unix.O_NOFOLLOW
		}
		fd, err := unix.Openat(dirfd, path, how, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		dirfd = fd
		// A mark by descriptor takes no O_PATH.
		path, kernelFlags = fmt.Sprintf("/proc/self/fd/%d", fd), kernelFlags&^unix.FAN_MARK_DONT_FOLLOW
	}
	o, err := newMarkedObject(dirfd)
	if err != nil {
		return err
	}
	if err := g.fanotifyMark(kernelFlags, mask, dirfd, path); err != nil {
		return err
	}
	if !o.regular { // nothing else counts who has it open for writing
		return nil
	}
	info, err := g.Info()
	if err != nil {
		return fmt.Errorf("the ignore mask may be set, but can't be verified: %w", err)
	}
	mask &^= OnDir | EventOnChild
	for _, m := range info.Marks {
		if o.is(&m) && m.Ignored.Has(mask) {
			return nil
		}
	}
	return unix.ETXTBSY
}

// markedObject tells an inode from the others that a group has marked.
type markedObject struct {
	regular bool
	inode   uint64
	handle  Handle  // "" if it has none
	device  *Device // of its superblock; nil if that can't be told
}

func newMarkedObject(fd int) (markedObject, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return markedObject{}, err
	}
	o := markedObject{regular: st.Mode&unix.S_IFMT == unix.S_IFREG, inode: st.Ino}
	o.handle, _ = HandleAt(fd, "")
	// The device that fstat tells is another one on btrfs and overlayfs.
	if id, err := MountIDAt(fd, ""); err == nil {
		if mount, err := StatMount(OwnNamespace, id); err == nil {
			o.device = &mount.Device
		}
	}
	return o, nil
}

// is reports whether m is the mark of o, by its handle: inode numbers come twice in a filesystem with subvolumes.
// Without one the number has to do. Where the mount is in no namespace, and before Linux 6.8, the device isn't looked
// at.
func (o *markedObject) is(m *MarkInfo) bool {
	switch {
	case m.Target != TargetInode, o.device != nil && *o.device != m.Device:
		return false
	case o.handle != "" && m.Handle != nil:
		return o.handle.Type() == m.HandleType && o.handle[handleHeader:] == Handle(m.Handle)
	}
	return o.inode == m.Inode
}
