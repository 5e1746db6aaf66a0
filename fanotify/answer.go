package fanotify

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// held is what an event holds: its descriptors, and the process that waits for its answer. It is apart from the event
// so that it can be given back when nobody has the event any more.
//
// The kernel knows a request by the number of its descriptor, and answers the first that has it. So a descriptor is
// closed or handed over only after the answer, or the number could come back with somebody else's request.
type held struct {
	group *Group

	// mu is for a detached event, whose methods may be called by any goroutine. It is held for the answer, which
	// doesn't block, and never while a descriptor is closed, which may.
	mu      sync.Mutex
	fd      int32 // owned when >= 0, else FAN_NOFD, noDescriptor or an errno that is negated
	pidfd   int32 // likewise, with FAN_NOPIDFD and FAN_EPIDFD
	request request
	out     answers
}

// noDescriptor stands for a descriptor that was never reported or that was handed over: the kernel knows no such errno.
const noDescriptor = -1 << 31

// request says whether a process waits for the answer.
type request uint8

const (
	notAsked request = iota
	waiting
	answered
)

// Respond answers a permission event: the process goes on, or its system call fails (since Linux 2.6.37; fanotify(7),
// "Dealing with permission events"). It doesn't block. The event keeps its descriptor. Of a detached event, any
// goroutine may call it, and the first one answers.
//
// The error is ErrAnswered, ErrNotAsked, or a *ResponseError for what the kernel would refuse, after which the process
// still waits. After os.ErrClosed it doesn't: closing the group has allowed it. EINVAL comes from a kernel that is too
// old for Errno or Rule, and has got the bare answer.
func (e *Event) Respond(r Response) error {
	if e.held == nil {
		return ErrNotAsked
	}
	err := e.held.respond(&r)
	runtime.KeepAlive(e)
	return err
}

// Allow is Respond with the zero Response: the process goes on.
func (e *Event) Allow() error { return e.Respond(Response{}) }

// Deny is Respond with a Response that denies: the process gets EPERM.
func (e *Event) Deny() error { return e.Respond(Response{Deny: true}) }

func (h *held) respond(r *Response) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.check(r); err != nil {
		return err
	}
	h.request = answered
	h.out.add(h.fd, r)
	return h.out.send(h.group)
}

// check says whether the request can be answered by r.
func (h *held) check(r *Response) error {
	switch h.request {
	case notAsked:
		return ErrNotAsked
	case answered:
		return ErrAnswered
	}
	return r.check(&h.group.config)
}

// take takes over the descriptor of an event, and with it the process that waits for an answer. In a group that asks,
// a bit that is yet unknown is taken for a question: to answer nobody does no harm, to leave somebody waiting does.
func (h *held) take(mask Mask, fd int32) {
	h.fd, h.pidfd, h.request = fd, noDescriptor, notAsked
	asks := mask&permissionEvents != 0 || mask&^notified != 0 && h.group != nil && h.group.asks()
	if asks && fd >= 0 {
		h.request = waiting
	}
}

// end ends what the borrowed event holds.
func (h *held) end() {
	if h.fd >= 0 || h.pidfd >= 0 {
		h.release()
	}
}

// release answers who still waits, then closes the descriptors that nobody took.
func (h *held) release() {
	h.mu.Lock()
	if h.request == waiting {
		h.request = answered
		h.group.unanswered.Add(1) // before the process goes on
		h.out.add(h.fd, &h.group.config.Unanswered)
		if err := h.out.send(h.group); errors.Is(err, os.ErrClosed) || errors.Is(err, unix.ENOENT) {
			h.group.unanswered.Add(^uint64(0)) // the kernel has allowed it, or nobody was waiting
		}
	}
	fd, pidfd := h.fd, h.pidfd
	h.fd, h.pidfd = noDescriptor, noDescriptor
	h.mu.Unlock()
	closeDescriptor(fd)
	closeDescriptor(pidfd)
}

func closeDescriptor(fd int32) {
	if fd >= 0 {
		unix.Close(int(fd))
	}
}

// Unanswered returns how many permission events got Config.Unanswered because nobody answered them.
func (g *Group) Unanswered() uint64 { return g.unanswered.Load() }

// Answers sends several answers with one system call (writev(2)). The zero value is ready for use, by one goroutine;
// what it allocates it uses again. Whoever is in it waits until Send: it is for answers that are all there within a
// moment, such as those to the events of one Batch. Answers that are forgotten are sent when they are collected.
// It must not be copied.
type Answers struct {
	_       noCopy
	pending *pending
}

// pending is what Answers holds, apart from it so that it can be sent when nobody has the Answers any more.
type pending struct {
	group *Group
	fds   []int32 // of the events that out answers
	out   answers
}

// Add takes the request from the event, and the descriptor with it, to answer it by the next Send. The errors are those
// of Respond, after which the event is as it was. All events between two calls of Send are of one group.
func (a *Answers) Add(e *Event, r Response) error {
	if e.held == nil {
		return ErrNotAsked
	}
	if a.pending == nil {
		a.pending = new(pending)
		runtime.AddCleanup(a, func(p *pending) { p.send() }, a.pending) //nolint:errcheck // There is nobody to tell.
	}
	err := a.pending.add(e.held, &r)
	runtime.KeepAlive(e)
	return err
}

func (p *pending) add(h *held, r *Response) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.check(r); err != nil {
		return err
	}
	if len(p.fds) > 0 && p.group != h.group {
		return errOtherGroup
	}
	p.group = h.group
	p.fds = append(p.fds, h.fd)
	p.out.add(h.fd, r)
	h.request, h.fd = answered, noDescriptor
	return nil
}

var errOtherGroup = errors.New("fanotify: answers to another group wait to be sent: send them first")

// Send gives the answers, in the order of Add, and closes the descriptors of their events. The errors are those of
// Respond; the first one is returned.
func (a *Answers) Send() error {
	if a.pending == nil {
		return nil
	}
	err := a.pending.send()
	runtime.KeepAlive(a)
	return err
}

func (p *pending) send() error {
	err := p.out.send(p.group)
	for _, fd := range p.fds {
		closeDescriptor(fd)
	}
	p.fds = p.fds[:0]
	return err
}

// answers are answers as the kernel takes them, each in a buffer of its own: behind the first one in a buffer, write(2)
// ignores the others.
type answers struct {
	bytes []byte
	each  [][]byte // parts of bytes
	rest  [][]byte // those of each that are to be written
	write func(fd uintptr)
	n     int
	err   error
}

func (a *answers) add(fd int32, r *Response) {
	begin := len(a.bytes)
	a.bytes = r.append(a.bytes, fd)
	a.each = append(a.each, a.bytes[begin:]) // when bytes grows, this stays valid where it was
}

// writevWithoutAllocation is how many buffers unix.Writev takes without allocating memory.
const writevWithoutAllocation = 8

// send writes all answers and returns the first error. It goes on after an error, and gives without errno and rule what
// an older kernel refuses with them.
func (a *answers) send(g *Group) error {
	if a.write == nil {
		a.write = func(fd uintptr) {
			if len(a.rest) == 1 {
				a.n, a.err = unix.Write(int(fd), a.rest[0])
				return
			}
			a.n, a.err = unix.Writev(int(fd), a.rest[:min(len(a.rest), writevWithoutAllocation)])
		}
	}
	var failed error
	for a.rest = a.each; len(a.rest) > 0; {
		if g.conn.Control(a.write) != nil {
			failed = os.ErrClosed
			break
		}
		if a.err == nil {
			for ; a.n > 0; a.rest = a.rest[1:] {
				a.n -= len(a.rest[0])
			}
			continue
		}
		if failed == nil {
			failed = fmt.Errorf("answer a permission event: %w", a.err)
		}
		if answer := a.rest[0]; a.err == unix.EINVAL && !isPlain(answer) {
			makePlain(answer)
			a.rest[0] = answer[:responseSize]
		} else {
			a.rest = a.rest[1:]
		}
	}
	a.bytes, a.each, a.rest = a.bytes[:0], a.each[:0], nil
	return failed
}
