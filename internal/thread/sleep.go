// Package thread sleeps without the Go scheduler. It is the only package that uses unsafe: the wrappers of nanosleep(2)
// tell the scheduler of the call, which is what costs.
package thread

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sleep suspends the operating system's thread for d, or until a signal comes. The runtime isn't told: the goroutine
// keeps its processor (GOMAXPROCS), and nothing is woken when it goes on. For a reader that sleeps a millisecond a
// thousand times a second this is worth a third of its processor time: time.Sleep wakes the runtime's monitor and
// idle threads each time. The garbage collector isn't held up, because it interrupts the sleep by a signal.
func Sleep(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	// An error can only be EINTR, and to wake early does no harm.
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}
