package fanotify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// waiter waits for the events of a group. Wait and reset are for the reader, the others for any goroutine.
type waiter interface {
	// wait blocks until events are queued. It returns errInterrupted when interrupt was called since the last reset.
	// Once the group is closed it returns os.ErrClosed, or errInterrupted and then os.ErrClosed.
	wait() error
	interrupt()
	reset()
	close() // after the group
}

var errInterrupted = errors.New("interrupted")

// Wait blocks until an event is queued, the context is done or the group is closed (os.ErrClosed). It reads nothing.
// The error is ErrReading beside another reader.
//
// Until the next Wait, a group of ClassNotif costs its reader nothing, however many events are queued. One that asks
// waits in a thread of its own, so that the answer comes soon.
func (g *Group) Wait(ctx context.Context) error {
	if !g.reading.CompareAndSwap(false, true) {
		return ErrReading
	}
	defer g.reading.Store(false)
	defer g.interruptedBy(ctx)()
	return g.await(ctx)
}

// ErrReading says that another goroutine reads or waits: between two readers the order of events would be lost.
var ErrReading = errors.New("fanotify: another goroutine is reading this group: one reader at a time")

// interruptedBy lets the context interrupt the waits until release is called, and perhaps one behind that: await looks
// whether it was meant.
func (g *Group) interruptedBy(ctx context.Context) (release func() bool) {
	if ctx.Done() == nil {
		return func() bool { return false }
	}
	return context.AfterFunc(ctx, g.waiter.interrupt)
}

// await is Wait for the reader that there is, with a context that interrupts.
func (g *Group) await(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := g.waiter.wait(); err != errInterrupted {
			return err
		}
		g.waiter.reset()
	}
}

// parked waits in the runtime's poller. It is for groups that only notify: their readers let events gather.
//
// The group itself stays out of the poller: that is edge-triggered, and would wake a thread for each event that is
// queued while nobody wants to read yet; with a latency budget this costs five times what reading does. An epoll
// instance of its own that holds the group with EPOLLONESHOT is in the poller instead: once its event was taken it
// stays silent until it is armed again.
type parked struct {
	group syscall.RawConn
	epoll *os.File
	conn  syscall.RawConn // of epoll

	// What a wait needs, made once, so that waiting allocates nothing.
	ready func(epfd uintptr) bool // arms the group and looks whether it is readable
	arm   func(fd uintptr)
	epfd  int
	err   error
	fired [1]unix.EpollEvent
}

func newParked(fd int, group syscall.RawConn) (*parked, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	err = unix.SetNonblock(epfd, true) // before os.NewFile, so that it goes into the poller
	w := &parked{group: group, epoll: os.NewFile(uintptr(epfd), "epoll")}
	if err == nil {
		w.conn, err = w.epoll.SyscallConn()
	}
	if err == nil {
		err = w.epoll.SetReadDeadline(time.Time{}) // fails if it is not in the poller
	}
	if err == nil {
		err = unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLONESHOT})
	}
	if err != nil {
		w.epoll.Close()
		return nil, err
	}
	armed := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT}
	w.arm = func(fd uintptr) { w.err = unix.EpollCtl(w.epfd, unix.EPOLL_CTL_MOD, int(fd), &armed) }
	w.ready = w.isReady
	return w, nil
}

func (w *parked) isReady(epfd uintptr) bool {
	w.epfd = int(epfd)
	// Taking the event disarms the group. What fired before this wait may be read already: arm and look again.
	if w.group.Control(w.arm) != nil {
		w.err = os.ErrClosed
		return true
	}
	n := 0
	if w.err == nil {
		n, w.err = unix.EpollWait(w.epfd, w.fired[:], 0)
	}
	if w.err != nil {
		w.err = fmt.Errorf("wait for fanotify events: %w", w.err)
	}
	return n > 0 || w.err != nil
}

func (w *parked) wait() error {
	w.err = nil
	err := w.conn.Read(w.ready)
	switch {
	case w.err != nil:
		return w.err
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errInterrupted
	}
	return os.ErrClosed // what else Read says of a descriptor in the poller
}

func (w *parked) interrupt() { w.epoll.SetReadDeadline(time.Unix(1, 0)) } //nolint:errcheck // Closed: nobody waits.
func (w *parked) reset()     { w.epoll.SetReadDeadline(time.Time{}) }     //nolint:errcheck // Closed: nobody will.
func (w *parked) close()     { w.epoll.Close() }

// blocked waits in a thread. It is for groups that ask: a process waits for each of their events, and the way through
// the runtime's poller takes half as long again as all else on the way to the answer.
type blocked struct {
	group syscall.RawConn
	wake  *os.File // an eventfd
	conn  syscall.RawConn

	// What a wait needs, made once, so that waiting allocates nothing.
	onGroup func(fd uintptr)
	onWake  func(fd uintptr)
	poll    [2]unix.PollFd // the group, wake
	err     error
}

func newBlocked(group syscall.RawConn) (*blocked, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	w := &blocked{group: group, wake: os.NewFile(uintptr(fd), "eventfd")}
	if w.conn, err = w.wake.SyscallConn(); err == nil {
		err = unix.SetNonblock(fd, true) // after os.NewFile, which would put it into the poller
	}
	if err != nil {
		w.wake.Close()
		return nil, err
	}
	w.onGroup = func(fd uintptr) {
		w.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		if w.conn.Control(w.onWake) != nil {
			w.err = os.ErrClosed
		}
	}
	w.onWake = func(fd uintptr) {
		w.poll[1] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		_, w.err = unix.Poll(w.poll[:], -1)
	}
	return w, nil
}

func (w *blocked) wait() error {
	for {
		w.err = nil
		if w.group.Control(w.onGroup) != nil {
			return os.ErrClosed
		}
		switch {
		case w.err == unix.EINTR:
		case w.err == os.ErrClosed:
			return w.err
		case w.err != nil:
			return fmt.Errorf("wait for fanotify events: %w", w.err)
		case w.poll[1].Revents != 0:
			return errInterrupted
		default:
			return nil
		}
	}
}

func (w *blocked) interrupt() {
	one := binary.NativeEndian.AppendUint64(nil, 1)
	_ = w.conn.Control(func(fd uintptr) { _, _ = unix.Write(int(fd), one) }) // closed: nobody waits
}

func (w *blocked) reset() {
	var count [8]byte
	_ = w.conn.Control(func(fd uintptr) { _, _ = unix.Read(int(fd), count[:]) })
}

func (w *blocked) close() {
	w.interrupt()
	w.wake.Close()
}
