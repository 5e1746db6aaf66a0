package fanotify

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// permissionEvents are the events whose process waits for an answer.
const permissionEvents = OpenPerm | AccessPerm | OpenExecPerm | PreAccess

// allow answers a permission event that waits, before its descriptor is closed or handed over: the kernel knows the
// request by the descriptor's number. When the group is closed, the kernel has allowed it already.
func (e *Event) allow() {
	if !e.pending || e.group == nil {
		return
	}
	e.pending = false
	var response [8]byte // struct fanotify_response
	binary.NativeEndian.PutUint32(response[:4], uint32(e.fd))
	binary.NativeEndian.PutUint32(response[4:], unix.FAN_ALLOW)
	// An error would say that nobody waits any more: nothing to do then.
	_ = e.group.conn.Control(func(fd uintptr) { _, _ = unix.Write(int(fd), response[:]) })
}
