package fanotify

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Handle is a file handle with the id of its filesystem: the identity of a file or directory that survives renames
// and, as far as the filesystem keeps generation numbers, is never used for another object. It is comparable and a good
// map key.
//
// It holds what an information record holds, in native byte order: the filesystem id (8 bytes), the number of handle
// bytes (4), the handle type (4) and the handle bytes.
type Handle string

// HandleBytes is a Handle that is borrowed from an event. A map that is keyed by Handle can be asked with
// m[Handle(b)] without an allocation.
type HandleBytes []byte

const handleHeader = 16 // filesystem id, number of bytes, type

// FSID is the id of a filesystem as statfs(2) tells it (f_fsid). FUSE and some others have the zero id.
type FSID [8]byte

// String returns the two numbers of the id in hexadecimal, as stat(1) prints them.
func (id FSID) String() string {
	return fmt.Sprintf("%x:%x", binary.NativeEndian.Uint32(id[:4]), binary.NativeEndian.Uint32(id[4:]))
}

// FSID returns the filesystem's id. The handle must come from this package.
func (h Handle) FSID() FSID { return FSID([]byte(h[:8])) }

// FSID returns the filesystem's id.
func (b HandleBytes) FSID() FSID { return FSID(b[:8]) }

// Type returns the type of the handle, which only its filesystem understands. FILEID_INVALID (0xff) stands in a
// filesystem error without an object.
func (h Handle) Type() int32 {
	return int32(binary.NativeEndian.Uint32([]byte(h[12:16])))
}

// Bytes returns a copy of the handle proper: what open_by_handle_at(2) calls f_handle.
func (h Handle) Bytes() []byte { return []byte(h[handleHeader:]) }

// String returns the handle in hexadecimal: filesystem id, type and bytes.
func (h Handle) String() string {
	return fmt.Sprintf("%s %x %s", h.FSID(), h.Type(), hex.EncodeToString(h.Bytes()))
}

// NewHandle puts a handle together.
func NewHandle(id FSID, handleType int32, bytes []byte) Handle {
	b := make([]byte, 0, handleHeader+len(bytes))
	b = append(b, id[:]...)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(bytes)))
	b = binary.NativeEndian.AppendUint32(b, uint32(handleType))
	return Handle(append(b, bytes...))
}

// atHandleFID asks for a handle that identifies, but perhaps can't be opened (AT_HANDLE_FID, since Linux 6.5).
const atHandleFID = 0x200

// HandleAt returns the handle of path (name_to_handle_at(2), since Linux 2.6.39), relative to the directory dirfd
// unless it is absolute; dirfd may be unix.AT_FDCWD. With an empty path it is the handle of dirfd itself, which may be
// an O_PATH descriptor. A symbolic link is not followed. Where a filesystem's handles can't be opened (overlayfs,
// proc), the handle only identifies, as in events. The call makes no events.
//
// Events tell the same handle, except on btrfs: there the filesystem id in events is that of what was marked, which for
// files in another subvolume differs from theirs, the handle's other parts being equal.
//
// The error is an *os.PathError; EOPNOTSUPP says that the filesystem has no handles at all.
func HandleAt(dirfd int, path string) (Handle, error) {
	if path != "" {
		fd, err := unix.Openat(dirfd, path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", &os.PathError{Op: "open", Path: path, Err: err}
		}
		defer unix.Close(fd)
		dirfd = fd
	}
	h, _, err := unix.NameToHandleAt(dirfd, "", unix.AT_EMPTY_PATH)
	if err == unix.EOPNOTSUPP {
		h, _, err = unix.NameToHandleAt(dirfd, "", unix.AT_EMPTY_PATH|atHandleFID)
		if err == unix.EINVAL {
			err = unix.EOPNOTSUPP // the kernel is older than the flag
		}
	}
	if err != nil {
		return "", &os.PathError{Op: "name_to_handle_at", Path: path, Err: err}
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(dirfd, &fs); err != nil {
		return "", &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return NewHandle(fsidOf(&fs), h.Type(), h.Bytes()), nil
}

func fsidOf(fs *unix.Statfs_t) FSID {
	var id FSID
	binary.NativeEndian.PutUint32(id[:4], uint32(fs.Fsid.Val[0]))
	binary.NativeEndian.PutUint32(id[4:], uint32(fs.Fsid.Val[1]))
	return id
}

// Open opens the object (open_by_handle_at(2), since Linux 2.6.39) with the given open(2) flags, to which O_CLOEXEC is
// added, and returns a descriptor for the caller to close. With O_PATH it makes no events and can't block on a FIFO or
// a device.
//
// mountFD is a descriptor of anything on the filesystem, through whose mount the object is opened; an O_PATH
// descriptor is not enough (EBADF). The error is the errno: ESTALE when the object is gone, EPERM without
// CAP_DAC_READ_SEARCH.
func (h Handle) Open(mountFD, flags int) (int, error) {
	return unix.OpenByHandleAt(mountFD, unix.NewFileHandle(h.Type(), []byte(h[handleHeader:])), flags|unix.O_CLOEXEC)
}
