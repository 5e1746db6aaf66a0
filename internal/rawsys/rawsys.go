// Package rawsys makes the system calls that package unix has no fitting wrapper for. It is the only package that uses
// unsafe, and does nothing else: what the calls mean is for those who make them.
package rawsys

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sleep suspends the operating system's thread for d, or until a signal comes (nanosleep(2)). The runtime isn't told:
// the goroutine keeps its processor (GOMAXPROCS), and nothing is woken when it goes on. For a reader that sleeps a
// millisecond a thousand times a second this is worth a third of its processor time: time.Sleep, and the wrapper of
// nanosleep in package unix too, wake the runtime's monitor and idle threads each time. The garbage collector isn't
// held up, because it interrupts the sleep by a signal.
func Sleep(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	// An error can only be EINTR, and to wake early does no harm.
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}

// MountRequest is struct mnt_id_req (linux/mount.h): which mount, and what of it.
type MountRequest struct {
	size      uint32
	_         uint32
	ID        uint64 // unique, or LSMT_ROOT
	Param     uint64 // statmount: what is asked for; listmount: the id behind which to go on
	Namespace uint64 // the mount namespace by its unique id; 0 is the caller's (since Linux 6.11)
}

// Sizes in bytes of struct mnt_id_req.
const (
	requestWithoutNamespace = 24 // MNT_ID_REQ_SIZE_VER0
	requestWithNamespace    = 32 // MNT_ID_REQ_SIZE_VER1
)

// prepared returns the request with the smallest size that says it all: Linux 6.8 knows only the smaller.
func (r MountRequest) prepared() MountRequest {
	r.size = requestWithoutNamespace
	if r.Namespace != 0 {
		r.size = requestWithNamespace
	}
	return r
}

// Statmount fills buffer, which must not be empty, with a struct statmount and the strings behind it (statmount(2),
// since Linux 6.8). The error is the errno: EOVERFLOW when the buffer is too small.
func Statmount(request MountRequest, buffer []byte) error {
	r := request.prepared()
	_, _, errno := unix.Syscall6(unix.SYS_STATMOUNT, uintptr(unsafe.Pointer(&r)), uintptr(unsafe.Pointer(&buffer[0])),
		uintptr(len(buffer)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Listmount fills ids, which must not be empty, with unique ids of mounts in ascending order and returns their number
// (listmount(2), since Linux 6.8). The error is the errno.
func Listmount(request MountRequest, ids []uint64) (int, error) {
	r := request.prepared()
	n, _, errno := unix.Syscall6(unix.SYS_LISTMOUNT, uintptr(unsafe.Pointer(&r)), uintptr(unsafe.Pointer(&ids[0])),
		uintptr(len(ids)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// MountNamespaceID returns the unique id of the mount namespace that fd is open on, a file of nsfs such as
// /proc/PID/ns/mnt (NS_GET_MNTNS_ID, ioctl_nsfs(2), since Linux 6.11). The error is the errno.
func MountNamespaceID(fd int) (uint64, error) {
	var id uint64
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.NS_GET_MNTNS_ID, uintptr(unsafe.Pointer(&id)))
	if errno != 0 {
		return 0, errno
	}
	return id, nil
}
