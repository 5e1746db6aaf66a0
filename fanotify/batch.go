package fanotify

import (
	"context"
	"fmt"
	"iter"
	"os"

	"golang.org/x/sys/unix"
)

// Batch is a buffer of events that were read together. The zero value is ready for use; its memory, Config.BufferSize
// bytes, is allocated by the first read and used again by the next.
type Batch struct {
	buf   []byte
	rest  []byte // what Events has not yielded
	at    int    // offset of rest in what was read, for errors
	event Event
	n     int
	err   error
	read  func(fd uintptr)
}

// Read waits until events are queued and reads them into b, whose former events end. It returns the context's error,
// os.ErrClosed once the group is closed, or the errno of read(2).
//
// Where events carry descriptors, but not ReportFDError, an event whose descriptor the kernel can't open (EMFILE,
// ETXTBSY, EROFS) is lost: the error is returned if it is the first of a read, and nothing says so if it is another.
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
	b.Close()
	if !g.reading.CompareAndSwap(false, true) {
		return 0, errReading
	}
	defer g.reading.Store(false)
	if len(b.buf) < g.config.BufferSize {
		b.buf = make([]byte, g.config.BufferSize)
	}
	if b.read == nil {
		b.read = func(fd uintptr) { b.n, b.err = unix.Read(int(fd), b.buf[:b.event.group.config.BufferSize]) }
	}
	b.event.group = g
	if err := g.conn.Control(b.read); err != nil {
		return 0, os.ErrClosed
	}
	switch b.err {
	case nil:
		b.rest, b.at = b.buf[:b.n], 0
		return b.n, nil
	case unix.EAGAIN, unix.EINTR:
		return 0, nil
	}
	return 0, fmt.Errorf("read fanotify events: %w", b.err)
}

// Events yields the events that the batch still holds. A malformed event is a *ParseError at its place; the events
// behind it follow as long as their bounds can be told. The event is borrowed until the next step; leaving the loop
// keeps the rest for another call.
func (b *Batch) Events() iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		for len(b.rest) > 0 {
			e, err := b.next()
			if !yield(e, err) {
				return
			}
		}
		b.event.Close()
	}
}

// next ends the current event, parses the one behind it and moves on.
func (b *Batch) next() (*Event, error) {
	b.event.Close()
	n, err := b.event.parse(b.rest)
	at := b.at
	b.rest, b.at = b.rest[n:], at+n
	if err != nil {
		b.event.Close()
		err.Offset += at
		return nil, err
	}
	return &b.event, nil
}

// Close ends the events that the batch still holds: their descriptors are closed, unanswered permission events are
// allowed. The batch may be read into again.
func (b *Batch) Close() {
	for len(b.rest) > 0 {
		b.next() //nolint:errcheck // What is malformed has nothing to close.
	}
	b.event.Close()
}

// Ahead yields the events that the batch still holds without moving on: Events will yield them again. The event is
// parsed into scratch; it has no descriptors, which belong to the event that Events yields. Malformed events are left
// out.
func (b *Batch) Ahead(scratch *Event) iter.Seq[*Event] {
	return func(yield func(*Event) bool) {
		for rest := b.rest; len(rest) > 0; {
			n, err := scratch.parse(rest)
			scratch.fd, scratch.pidfd, scratch.pending = noDescriptor, noDescriptor, false
			rest = rest[n:]
			if err == nil && !yield(scratch) {
				return
			}
		}
	}
}
