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
	event Event  // what Events yields; it holds held
	held  held
	n     int
	err   error
	read  func(fd uintptr)
}

func newQueue() *queue {
	q := &queue{held: held{fd: noDescriptor, pidfd: noDescriptor}}
	q.event.held = &q.held
	q.read = func(fd uintptr) { q.n, q.err = unix.Read(int(fd), q.buf[:q.group.config.BufferSize]) }
	return q
}

// Read waits until events are queued and reads them into b, whose former events end. It returns the context's error,
// os.ErrClosed once the group is closed, or the errno of read(2).
//
// Where events carry descriptors, but not ReportFDError, an event whose descriptor the kernel can't open (EMFILE,
// ETXTBSY, EROFS) is lost: the error is returned if it is the first of a read, and nothing says so if it is another.
// A permission event is denied by the kernel then.
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

// TryRead reads what is queued into b, without waiting, and returns the number of bytes: 0 when nothing is queued.
// When it is less than the buffer's size by MinBufferSize or more, the queue was empty for a moment. Errors are those
// of Read.
func (g *Group) TryRead(b *Batch) (int, error) {
	if b.queue == nil {
		b.queue = newQueue()
		runtime.AddCleanup(b, (*queue).close, b.queue)
	}
	q := b.queue
	q.close()
	if !g.reading.CompareAndSwap(false, true) {
		return 0, errReading
	}
	defer g.reading.Store(false)
	if len(q.buf) < g.config.BufferSize {
		q.buf = make([]byte, g.config.BufferSize)
	}
	q.group, q.held.group = g, g
	if err := g.conn.Control(q.read); err != nil {
		return 0, os.ErrClosed
	}
	switch q.err {
	case nil:
		q.rest, q.at = q.buf[:q.n], 0
		return q.n, nil
	case unix.EAGAIN, unix.EINTR:
		return 0, nil
	}
	return 0, fmt.Errorf("read fanotify events: %w", q.err)
}

// Events yields the events that the batch still holds. A malformed event is a *ParseError at its place; the events
// behind it follow as long as their bounds can be told. The event is borrowed for the body of the loop, and ends with
// it, also by a break or a panic; the rest stays for another call.
func (b *Batch) Events() iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		q := b.queue
		if q == nil {
			return
		}
		defer runtime.KeepAlive(b)
		defer q.held.end()
		for len(q.rest) > 0 {
			e, err := q.next()
			if !yield(e, err) {
				return
			}
		}
	}
}

// next ends the current event, parses the one behind it and moves on.
func (q *queue) next() (*Event, error) {
	q.held.end()
	n, err := q.event.parse(q.rest)
	at := q.at
	q.rest, q.at = q.rest[n:], at+n
	if err != nil {
		q.held.end()
		err.Offset += at
		return nil, err
	}
	return &q.event, nil
}

// Close ends the events that the batch still holds: their descriptors are closed, and whoever waits for an answer gets
// Config.Unanswered. The batch may be read into again.
func (b *Batch) Close() {
	if b.queue != nil {
		b.queue.close()
	}
}

func (q *queue) close() {
	for len(q.rest) > 0 {
		q.next() //nolint:errcheck // What is malformed has nothing to close.
	}
	q.held.end()
}

// Ahead yields the events that the batch still holds without moving on: Events will yield them again. The event is
// parsed into scratch, which is a zero Event or one that Ahead filled; it has no descriptors and can't be answered:
// both belong to the event that Events yields. Malformed events are left out.
func (b *Batch) Ahead(scratch *Event) iter.Seq[*Event] {
	return func(yield func(*Event) bool) {
		if b.queue == nil {
			return
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
