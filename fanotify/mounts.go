package fanotify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"fanlight/internal/rawsys"
)

// MountFields is a set of what statmount(2) told of a mount, with the kernel's values (STATMOUNT_).
type MountFields uint64

// The fields. What one doesn't have, such as options, is absent or empty.
const (
	MountSuper           MountFields = 0x1   // Device, Magic, SuperFlags (since Linux 6.8)
	MountBasic           MountFields = 0x2   // the ids, Attributes, Propagation, PeerGroup, Master (since 6.8)
	MountPropagateFrom   MountFields = 0x4   // PropagateFrom (since 6.8)
	MountRoot            MountFields = 0x8   // Root (since 6.8)
	MountPoint           MountFields = 0x10  // Point (since 6.8)
	MountType            MountFields = 0x20  // Type (since 6.8)
	MountNamespace       MountFields = 0x40  // Namespace (since 6.11)
	mountOptionLine      MountFields = 0x80  // Options, in one line (since 6.11)
	MountSubtype         MountFields = 0x100 // Subtype (since 6.13)
	MountSource          MountFields = 0x200 // Source (since 6.13)
	MountOptions         MountFields = 0x400 // Options (since 6.13; before by splitting a line at its commas)
	MountSecurityOptions MountFields = 0x800 // SecurityOptions (since 6.13)

	mountFields = MountSuper | MountBasic | MountPropagateFrom | MountRoot | MountPoint | MountType | MountNamespace |
		mountOptionLine | MountSubtype | MountSource | MountOptions | MountSecurityOptions
)

// Mount is what the kernel tells of one mount (statmount(2)). Strings hold the bytes of names as they are, also
// newlines and what isn't UTF-8.
type Mount struct {
	Fields MountFields // what the running kernel told; everything else is zero

	// ID and Parent are unique: an id is never used again before the next boot. They are those of Event.MountID and
	// STATX_MNT_ID_UNIQUE. The root of a namespace is its own parent, or has one that can't be asked for.
	ID, Parent uint64
	// OldID and OldParent are the ids in mountinfo, which are used again after an unmount.
	OldID, OldParent int

	Device     Device // of the superblock, as in mountinfo and MarkInfo
	Magic      uint64 // the filesystem type's number, f_type in statfs(2)
	SuperFlags uint32 // unix.MS_RDONLY, MS_SYNCHRONOUS, MS_DIRSYNC, MS_LAZYTIME of the filesystem
	Type       string // such as "ext4" or "fuse"
	Subtype    string // such as "sshfs" for "fuse"
	Source     string // what was mounted, such as a device
	// Options are those that the filesystem shows, without the flags above; SecurityOptions those of security modules.
	Options, SecurityOptions []string

	// Root is the directory or file of the filesystem that is mounted. Point is where, seen from the caller's root, or
	// from that of the namespace when it is another one.
	Root, Point string
	Attributes  uint64 // unix.MOUNT_ATTR_RDONLY and the like, of the mount

	Propagation   uint64 // unix.MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE (mount_namespaces(7))
	PeerGroup     uint64 // the peer group's id of a shared mount, else 0
	Master        uint64 // the peer group that a slave receives from, else 0
	PropagateFrom uint64 // the closest peer group above it that the caller sees, else 0

	Namespace uint64 // the unique id of the mount's namespace
}

// OwnNamespace stands for the caller's mount namespace.
const OwnNamespace = 0

// WholeNamespace stands, as a parent, for the whole namespace (LSMT_ROOT).
const WholeNamespace = 1<<64 - 1

// StatMount tells of the mount with that unique id (statmount(2), since Linux 6.8; ask Supports of FeatureStatMount).
// The namespace is OwnNamespace or the unique id of another one (MountNamespaceID, since 6.11), which takes
// CAP_SYS_ADMIN in the user namespace that owns it.
//
// The error unwraps to the errno: ENOENT when the mount is gone, not attached to a namespace, or in another one; EPERM
// without CAP_SYS_ADMIN for one that can't be reached from the caller's root. It is errors.ErrUnsupported on an older
// kernel. It may wait for a mount or an unmount that is under way.
func StatMount(namespace, id uint64) (Mount, error) {
	request := rawsys.MountRequest{ID: id, Param: uint64(mountFields), Namespace: namespace}
	for size := 4096; ; size *= 2 {
		buffer := make([]byte, size)
		switch err := rawsys.Statmount(request, buffer); {
		case err == unix.EOVERFLOW && size < 1<<24: // options may be long, but have an end
			continue
		case err != nil:
			return Mount{}, fmt.Errorf("statmount %d: %w", id, mountError(err))
		}
		m, err := parseMount(buffer)
		if err != nil {
			return Mount{}, fmt.Errorf("statmount %d: %w", id, err)
		}
		return m, nil
	}
}

// ListMounts yields the unique ids of the mounts below the mount parent, children's children too, in the order of
// mounting; below WholeNamespace all that the caller's root reaches (listmount(2), since Linux 6.8). The namespace is
// as in StatMount, and so are the errors, of which one ends the sequence. What is mounted meanwhile comes, what is
// unmounted may be gone when it is asked for.
func ListMounts(namespace, parent uint64) iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		request := rawsys.MountRequest{ID: parent, Namespace: namespace}
		page := make([]uint64, 512)
		for {
			n, err := rawsys.Listmount(request, page)
			if err != nil {
				yield(0, fmt.Errorf("listmount %d: %w", parent, mountError(err)))
				return
			}
			for _, id := range page[:n] {
				if !yield(id, nil) {
					return
				}
			}
			if n < len(page) {
				return
			}
			request.Param = page[n-1]
		}
	}
}

// mountError says that a kernel is too old to know the size of the request, which has a namespace since Linux 6.11.
func mountError(err error) error {
	if err == unix.E2BIG {
		return fmt.Errorf("other mount namespaces: %w by this kernel", errors.ErrUnsupported)
	}
	return err
}

// MountIDAt returns the unique id of the mount that path leads to, relative to the directory dirfd unless it is
// absolute (statx(2) with STATX_MNT_ID_UNIQUE, since Linux 6.8); dirfd may be unix.AT_FDCWD. A symbolic link is
// followed, nothing is mounted for it. With an empty path it is the mount of dirfd itself, which may be an O_PATH
// descriptor. The call makes no events. The error is an *os.PathError, errors.ErrUnsupported on an older kernel.
func MountIDAt(dirfd int, path string) (uint64, error) {
	flags := unix.AT_NO_AUTOMOUNT
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	var s unix.Statx_t
	err := unix.Statx(dirfd, path, flags, unix.STATX_MNT_ID_UNIQUE, &s)
	if err == nil && s.Mask&unix.STATX_MNT_ID_UNIQUE == 0 {
		err = fmt.Errorf("unique mount ids: %w by this kernel", errors.ErrUnsupported)
	}
	if err != nil {
		return 0, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	return s.Mnt_id, nil
}

// MountNamespaceID returns the unique id of the mount namespace that path names, a file on nsfs such as
// /proc/PID/ns/mnt (NS_GET_MNTNS_ID, ioctl_nsfs(2), since Linux 6.11). It isn't the number that MarkInfo has. The error
// is an *os.PathError: EINVAL for a namespace of another kind, ENOTTY for everything else and on an older kernel.
func MountNamespaceID(path string) (uint64, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	id, err := rawsys.MountNamespaceID(fd)
	if err != nil {
		return 0, &os.PathError{Op: "ask for the mount namespace", Path: path, Err: err}
	}
	return id, nil
}

// statmountSize is where in a struct statmount (linux/mount.h) the strings begin, in bytes.
const statmountSize = 512

// parseMount parses a struct statmount.
func parseMount(b []byte) (Mount, error) {
	if len(b) < statmountSize {
		return Mount{}, fmt.Errorf("%d bytes of struct statmount", len(b))
	}
	size := binary.NativeEndian.Uint32(b)
	if size < statmountSize || uint64(size) > uint64(len(b)) {
		return Mount{}, fmt.Errorf("struct statmount says %d of %d bytes", size, len(b))
	}
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
	texts := mountStrings{b: b[statmountSize:size]}
	told := MountFields(u64(8))
	text := func(field MountFields, at int) string {
		if told&field == 0 {
			return ""
		}
		return texts.at(u32(at))
	}
	list := func(field MountFields, number, at int) []string {
		if told&field == 0 {
			return nil
		}
		return texts.list(u32(number), u32(at))
	}
	m := Mount{
		Fields:          told & mountFields &^ mountOptionLine,
		Type:            text(MountType, 36),
		Root:            text(MountRoot, 104),
		Point:           text(MountPoint, 108),
		Subtype:         text(MountSubtype, 120),
		Source:          text(MountSource, 124),
		Options:         list(MountOptions, 128, 132),
		SecurityOptions: list(MountSecurityOptions, 136, 140),
	}
	if line := text(mountOptionLine, 4); line != "" && told&MountOptions == 0 {
		m.Fields |= MountOptions
		m.Options = strings.Split(line, ",")
	}
	if told&MountSuper != 0 {
		m.Device, m.Magic, m.SuperFlags = Device{u32(16), u32(20)}, u64(24), u32(32)
	}
	if told&MountBasic != 0 {
		m.ID, m.Parent, m.OldID, m.OldParent = u64(40), u64(48), int(u32(56)), int(u32(60))
		m.Attributes, m.Propagation, m.PeerGroup, m.Master = u64(64), u64(72), u64(80), u64(88)
	}
	if told&MountPropagateFrom != 0 {
		m.PropagateFrom = u64(96)
	}
	if told&MountNamespace != 0 {
		m.Namespace = u64(112)
	}
	return m, texts.err
}

// mountStrings are the strings behind a struct statmount, each ended by NUL. It remembers the first that isn't there.
type mountStrings struct {
	b   []byte
	err error
}

// at returns the string that begins at an offset.
func (s *mountStrings) at(offset uint32) string {
	text, _, ok := s.cut(s.from(offset))
	if !ok {
		return ""
	}
	return text
}

// list returns n strings, of which the first begins at an offset.
func (s *mountStrings) list(n, offset uint32) []string {
	var list []string
	rest := s.from(offset)
	for range n {
		text, behind, ok := s.cut(rest)
		if !ok {
			return nil
		}
		list, rest = append(list, text), behind
	}
	return list
}

func (s *mountStrings) from(offset uint32) []byte {
	return s.b[min(uint64(offset), uint64(len(s.b))):]
}

func (s *mountStrings) cut(b []byte) (text string, rest []byte, ok bool) {
	before, rest, ok := bytes.Cut(b, []byte{0})
	if !ok && s.err == nil {
		s.err = errors.New("a string of struct statmount has no end")
	}
	return string(before), rest, ok
}
