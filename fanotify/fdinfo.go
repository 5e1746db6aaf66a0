package fanotify

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// GroupInfo is what the kernel shows of a group, whoever made it (/proc/PID/fdinfo/FD, proc_pid_fdinfo(5)).
type GroupInfo struct {
	// Config is what the group was made with, as far as the kernel shows it: not Audit (to Linux 6.18), and nothing
	// that isn't the kernel's, such as BufferSize. Bits that this package doesn't know are kept in Report.
	Config Config
	// Marks are the group's marks, the newest first.
	Marks []MarkInfo
	// OtherMarks is the number of marks on what this package doesn't know, by a newer kernel.
	OtherMarks int
}

// MarkInfo is a mark as the kernel shows it.
type MarkInfo struct {
	Target Target
	// Device is, for inodes and filesystems, the number of the superblock: the one in mountinfo and in Mount. It is
	// what stat(2) says of a file, except on btrfs, where every subvolume shows a number of its own, and on an
	// overlayfs of several filesystems, where the files of each layer may.
	Device Device
	// Inode is the inode's number inside the kernel. It is what stat(2) says, except where the filesystem makes one up,
	// as overlayfs may.
	Inode uint64
	// HandleType and Handle are those of a marked inode, as in Handle.Type and Handle.Bytes. The filesystem's id isn't
	// shown. Handle is nil where the filesystem has no handles, which before Linux 6.6 are those that can't be opened.
	HandleType int32
	Handle     []byte
	// MountID is, for a mount, its id in mountinfo (Mount.OldID), which is used again after an unmount.
	MountID int
	// Namespace is, for a mount namespace, its number on nsfs: the inode number of /proc/PID/ns/mnt.
	Namespace uint32

	Mask    Mask // EventOnChild may be the kernel's own addition
	Ignored Mask
	Flags   MarkFlags // IgnoredSurvModify, Evictable and Ignore are shown
}

// Device is a device number.
type Device struct{ Major, Minor uint32 }

// String returns the number as mountinfo shows it, such as "8:1".
func (d Device) String() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// ErrNotGroup says that a descriptor is something else than a fanotify group.
var ErrNotGroup = errors.New("fanotify: the descriptor is not a group")

// Info returns what the kernel shows of the group (since Linux 3.8): every mark, those that vanished left out. It takes
// time and memory in proportion to the number of marks, during which the kernel adds and removes none. The error is
// os.ErrClosed, or an *fs.PathError where /proc isn't mounted.
func (g *Group) Info() (GroupInfo, error) {
	var info GroupInfo
	var err error
	if g.conn.Control(func(fd uintptr) { info, err = readGroupInfo(fmt.Sprintf("/proc/self/fdinfo/%d", fd)) }) != nil {
		return GroupInfo{}, os.ErrClosed
	}
	return info, err
}

// ReadGroupInfo returns what the kernel shows of the group that a process has open as descriptor fd. The process is
// named by its id in the pid namespace of /proc. Its owner may ask, and root: others get an error that is
// fs.ErrPermission (PTRACE_MODE_READ_FSCREDS, ptrace(2)). Of another descriptor the error is ErrNotGroup, of one that
// isn't open fs.ErrNotExist. The cost is that of Group.Info.
func ReadGroupInfo(pid, fd int) (GroupInfo, error) {
	return readGroupInfo(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
}

func readGroupInfo(name string) (GroupInfo, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return GroupInfo{}, err
	}
	info, err := parseGroupInfo(text)
	if err != nil {
		return GroupInfo{}, fmt.Errorf("%s: %w", name, err)
	}
	return info, nil
}

// OpenGroup is a group that a process has open.
type OpenGroup struct {
	PID  int // in the pid namespace of /proc
	FD   int // -1 beside an error that is about the process
	Info GroupInfo
}

// anonymousGroup is what a descriptor of a group links to in /proc/PID/fd.
const anonymousGroup = "anon_inode:[fanotify]"

// GroupsOf yields the groups that a process has open, by descriptor. Beside an error PID says whose it is: that of a
// process that may not be asked is fs.ErrPermission, of one that doesn't exist fs.ErrNotExist. What is closed meanwhile
// is left out. A group that is open twice comes twice.
//
// Only the descriptors of the process's first thread are seen, which are those of all its threads unless one of them
// called unshare(2) with CLONE_FILES. A group whose last descriptor is on its way through a socket is with nobody.
func GroupsOf(pid int) iter.Seq2[OpenGroup, error] {
	return func(yield func(OpenGroup, error) bool) {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		fds, err := numbersIn(dir)
		if err != nil {
			yield(OpenGroup{PID: pid, FD: -1}, err)
			return
		}
		for _, fd := range fds {
			g := OpenGroup{PID: pid, FD: fd}
			link, err := os.Readlink(filepath.Join(dir, strconv.Itoa(fd)))
			switch {
			case err == nil && link != anonymousGroup:
				continue
			case err == nil:
				g.Info, err = ReadGroupInfo(pid, fd)
			}
			if gone(err) || errors.Is(err, ErrNotGroup) { // another descriptor by now
				continue
			}
			if errors.Is(err, fs.ErrPermission) { // the descriptors may be listed, but not looked at: as for all others
				yield(OpenGroup{PID: pid, FD: -1}, err)
				return
			}
			if !yield(g, err) {
				return
			}
		}
	}
}

// AllGroups yields the groups of all processes that /proc shows, in the order of their ids, each as GroupsOf does. A
// process that may not be asked is an error at its place, so that nobody takes what was seen for all that there is;
// processes that end meanwhile are left out. It costs one system call for every open descriptor on the machine.
func AllGroups() iter.Seq2[OpenGroup, error] {
	return func(yield func(OpenGroup, error) bool) {
		pids, err := numbersIn("/proc")
		if err != nil {
			yield(OpenGroup{PID: -1, FD: -1}, err)
			return
		}
		for _, pid := range pids {
			for g, err := range GroupsOf(pid) {
				if !gone(err) && !yield(g, err) {
					return
				}
			}
		}
	}
}

// gone says whether err means that a process or a descriptor ended before it could be asked.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// numbersIn returns the entries of a directory whose names are numbers, in ascending order.
func numbersIn(dir string) ([]int, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// parseGroupInfo parses the text of an fdinfo file (fanotify_show_fdinfo in fs/notify/fdinfo.c). What a newer kernel
// adds is left out, what is malformed is an error.
func parseGroupInfo(text []byte) (GroupInfo, error) {
	var info GroupInfo
	isGroup := false
	n := 0
	for line := range bytes.Lines(text) {
		n++
		what, rest, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		if what != "fanotify" {
			continue // of any open file
		}
		var err error
		if strings.HasPrefix(rest, "flags:") {
			isGroup = true
			info.Config, err = parseConfig(rest)
		} else {
			err = info.addMark(rest)
		}
		if err != nil {
			return GroupInfo{}, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if !isGroup {
		return GroupInfo{}, ErrNotGroup
	}
	return info, nil
}

// parseConfig parses what the kernel shows of a group itself.
func parseConfig(text string) (Config, error) {
	var flags, eventFlags uint64
	for key, value := range pairs(text) {
		var err error
		switch key {
		case "flags":
			flags, err = strconv.ParseUint(value, 16, 32)
		case "event-flags":
			eventFlags, err = strconv.ParseUint(value, 16, 31)
		}
		if err != nil {
			return Config{}, fmt.Errorf("%s: %w", key, err)
		}
	}
	const class = uint64(ClassContent | ClassPreContent)
	const settings = unix.FAN_CLOEXEC | unix.FAN_NONBLOCK | unix.FAN_UNLIMITED_QUEUE | unix.FAN_UNLIMITED_MARKS |
		unix.FAN_ENABLE_AUDIT
	return Config{
		Class:          Class(flags & class),
		Report:         Report(flags &^ (class | settings)),
		EventFlags:     int(eventFlags),
		UnlimitedQueue: flags&unix.FAN_UNLIMITED_QUEUE != 0,
		UnlimitedMarks: flags&unix.FAN_UNLIMITED_MARKS != 0,
		Audit:          flags&unix.FAN_ENABLE_AUDIT != 0,
	}, nil
}

// addMark parses what the kernel shows of one mark. The first key says what is marked.
func (info *GroupInfo) addMark(text string) error {
	var m MarkInfo
	known, complete := false, false
	handleSize := uint64(0)
	for key, value := range pairs(text) {
		var n uint64
		var err error
		switch key {
		case "ino":
			known, m.Target = true, TargetInode
			m.Inode, err = strconv.ParseUint(value, 16, 64)
		case "sdev":
			if !known {
				known, m.Target = true, TargetFilesystem
			}
			n, err = strconv.ParseUint(value, 16, 32)
			m.Device = Device{uint32(n >> 20), uint32(n & (1<<20 - 1))} // MKDEV in linux/kdev_t.h
		case "mnt_id":
			known, m.Target = true, TargetMount
			n, err = strconv.ParseUint(value, 16, 31)
			m.MountID = int(n)
		case "mnt_ns":
			known, m.Target = true, TargetMountNamespace
			n, err = strconv.ParseUint(value, 10, 32)
			m.Namespace = uint32(n)
		case "mflags":
			n, err = strconv.ParseUint(value, 16, 32)
			m.Flags = MarkFlags(n)
		case "mask":
			complete = true
			n, err = strconv.ParseUint(value, 16, 64)
			m.Mask = Mask(n)
		case "ignored_mask":
			n, err = strconv.ParseUint(value, 16, 64)
			m.Ignored = Mask(n)
		case "fhandle-bytes":
			handleSize, err = strconv.ParseUint(value, 16, 31)
		case "fhandle-type":
			n, err = strconv.ParseUint(value, 16, 32)
			m.HandleType = int32(n)
		case "f_handle":
			m.Handle, err = hex.DecodeString(value)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	switch {
	case !complete:
		return errors.New("a mark without a mask")
	case uint64(len(m.Handle)) != handleSize:
		return fmt.Errorf("f_handle: %d bytes, not %d", len(m.Handle), handleSize)
	case known:
		info.Marks = append(info.Marks, m)
	default:
		info.OtherMarks++
	}
	return nil
}

// pairs yields the keys and values of a line: words with a colon.
func pairs(line string) iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		for word := range strings.FieldsSeq(line) {
			key, value, _ := strings.Cut(word, ":")
			if !yield(key, value) {
				return
			}
		}
	}
}
