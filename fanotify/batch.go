package fanotify

import (
	"context"
	"fmt"
	"iter"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Batch is a buffer of events that were read together. The zero value is ready for use; its memory, Config.BufferSize
// bytes, is allocated by the first read and used again by the next. A Batch that is forgotten is closed when it is
// collected. It must not be copied.
type Batch struct {
	_     noCopy
	queue *queue
}

// queue is what a Batch holds, apart from it so that it can be closed when nobody has the Batch any more.
type queue struct {
	group *Group
	buf   []byte
	rest  []byte // what Events has not yielded
	at    int    // offset of rest in what was read, for errors
	n     int
	err   error
	read  func(fd uintptr)

	// The events that are yielded: one again and again or, where processes wait, one for each event of a read. Somebody
	// who keeps an event beyond the body of the loop doesn't answer for another process then.
	slots   []*slot
	next    int
	current *slot
}

// slot is the place of an event.
type slot struct {
	event Event
	held  held
}

func newQueue() *queue {
	q := new(queue)
	q.read = func(fd uintptr) { q.n, q.err = unix.Read(int(fd), q.buf[:q.group.config.BufferSize]) }
	q.take()
	return q
}

// take takes the place for the next event.
func (q *queue) take() {
	if q.next == len(q.slots) {
		s := &slot{held: held{fd: noDescriptor, pidfd: noDescriptor}}
		s.event.held = &s.held
		q.slots = append(q.slots, s)
	}
	q.current = q.slots[q.next]
	q.current.held.group = q.group
	if q.group != nil && q.group.asks() {
		q.next++
	}
}

// Read waits until events are queued and reads them into b, whose former events end. It returns the context's error,
// os.ErrClosed once the group is closed, or the errno of read(2).
//
// Where events carry descriptors, but not ReportFDError, an event whose descriptor the kernel can't open (EMFILE,
// ETXTBSY, EROFS; EINTR when a signal came while it was opened) is lost: the error is returned if it is the first of a
// read, and nothing says so if it is another. A permission event is denied by the kernel then.
func (g *Group) Read(ctx context.Context, b *Batch) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := g.TryRead(b)
		if n > 0 || err != nil {
			return err
		}
		if err := g.Wait(ctx); err != nil {
			return err
		}
	}
}

// TryRead reads what is queued into b, whose former events end, and returns the number of bytes: 0 when nothing is
// queued. Errors are those of Read. In a group that reports handles it doesn't wait, and when it returns less than the
// buffer's size by MinBufferSize or more, the queue was empty for a moment. Where events carry descriptors, it opens
// files, and that may take as long as open(2) does: see ReportFDError.
func (g *Group) TryRead(b *Batch) (int, error) {
	if b.queue == nil {
		b.queue = newQueue()
		runtime.AddCleanup(b, (*queue).close, b.queue)
	}
	b.queue.close()
	if !g.reading.CompareAndSwap(false, true) {
		return 0, ErrReading
	}
	defer g.reading.Store(false)
	return g.fill(b.queue)
}

// fill reads what is queued into q, which holds nothing.
func (g *Group) fill(q *queue) (int, error) {
	if len(q.buf) < g.config.BufferSize {
		q.buf = make([]byte, g.config.BufferSize)
	}
	q.group, q.next = g, 0
	if err := g.conn.Control(q.read); err != nil {
		return 0, os.ErrClosed
	}
	switch {
	case q.err == nil:
		q.rest, q.at = q.buf[:q.n], 0
		return q.n, nil
	case q.err == unix.EAGAIN:
		return 0, nil
	}
	return 0, fmt.Errorf("read fanotify events: %w", q.err)
}

// Events yields the events that the batch still holds. A malformed event is a *ParseError at its place; the events
// behind it follow as long as their bounds can be told. The event is borrowed for the body of the loop, and ends with
// it, also by a break or a panic; the rest stays for another call.
func (b *Batch) Events() iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		if b.queue != nil {
			b.queue.events(yield)
			runtime.KeepAlive(b)
		}
	}
}

// events yields the events that are left, and says whether yield wants more.
func (q *queue) events(yield func(*Event, error) bool) bool {
	defer q.end()
	for len(q.rest) > 0 {
		e, err := q.step()
		if !yield(e, err) {
			return false
		}
	}
	return true
}

// step ends the current event, parses the one behind it and moves on.
func (q *queue) step() (*Event, error) {
	q.end()
	q.take()
	e := &q.current.event
	n, err := e.parse(q.rest)
	at := q.at
	q.rest, q.at = q.rest[n:], at+n
	if err != nil {
		q.end()
		err.Offset += at
		return nil, err
	}
	return e, nil
}

// end ends the current event.
func (q *queue) end() { q.current.held.end() }

// Close ends the events that the batch still holds: their descriptors are closed, and whoever waits for an answer gets
// Config.Unanswered. The batch may be read into again.
func (b *Batch) Close() {
	if b.queue != nil {
		b.queue.close()
	}
}

func (q *queue) close() {
	for len(q.rest) > 0 {
		q.step() //nolint:errcheck // What is malformed has nothing to close.
	}
	q.end()
}

// Ahead yields the events that the batch still holds without moving on: Events will yield them again. The event is
// parsed into scratch, which is a zero Event or one that Ahead filled; it has no descriptors and can't be answered:
// both belong to the event that Events yields, and one of those isn't overwritten. Malformed events are left out.
func (b *Batch) Ahead(scratch *Event) iter.Seq[*Event] {
	return func(yield func(*Event) bool) {
		if b.queue == nil {
			return
		}
		if scratch.held != nil {
			scratch = new(Event)
		}
		for rest := b.queue.rest; len(rest) > 0; {
			n, err := scratch.parse(rest)
			rest = rest[n:]
			if err == nil && !yield(scratch) {
				return
			}
		}
	}
}
