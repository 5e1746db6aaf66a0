package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"fanlight/event"
	"fanlight/fanotify"
)

// writeSize is how many bytes are gathered before they are written in the middle of a batch: what a pipe holds.
const writeSize = 64 << 10

// form turns events into output. A form that writes records appends one for each event, and one behind each batch of
// --settle; one that sums up appends nothing until the end.
type form interface {
	append(b []byte, e *event.Event) []byte
	appendEnd(b []byte, end batchEnd) []byte
}

// source yields events until they end or ctx does. A deadline of ctx is an error.
type source func(ctx context.Context) iter.Seq2[[]event.Event, error]

// stream chooses, numbers and writes events.
type stream struct {
	filter *filter
	form   form
	out    io.Writer
	count  uint64                          // end after so many events or, with gathered, batches; 0 for no end
	wrote  func()                          // called after a batch with events that are wanted
	early  func(number uint64, why string) // called when a batch of --settle was written before it settled

	gathered *gathering // what --settle holds back; nil without

	buf       []byte
	seq       uint64 // the number of the last record of this output
	seen      uint64 // events that matched
	batches   uint64 // batches of --settle that were written
	lost      uint64 // events that are known to be lost
	overflows uint64 // losses of an unknown number of events
}

// run writes events until they end, count is reached or ctx ends, after which it is done with the write that it is at.
func (s *stream) run(ctx context.Context, events source) error {
	if s.gathered != nil {
		return s.settle(ctx, events)
	}
	for batch, err := range events(ctx) {
		if err != nil {
			return err
		}
		if err = s.write(ctx, batch); err != nil || s.complete() {
			return err
		}
	}
	return nil
}

func (s *stream) complete() bool {
	if s.gathered != nil {
		return s.count > 0 && s.batches >= s.count
	}
	return s.count > 0 && s.seen >= s.count
}

// wanted reports whether e is to be written, and counts it.
func (s *stream) wanted(e *event.Event) bool {
	switch {
	case e.Lost > 0:
		s.lost += e.Lost
	case e.Mask.Has(fanotify.Overflow):
		s.overflows++
	case s.filter.match(e):
		s.seen++
	default:
		return false
	}
	return true
}

// write writes the records of one batch, in one piece unless it is big.
func (s *stream) write(ctx context.Context, batch []event.Event) error {
	defer func(before uint64) {
		if s.seq != before {
			s.wrote()
		}
	}(s.seq)
	for i := range batch {
		if !s.wanted(&batch[i]) {
			continue
		}
		// The batch is borrowed, and read nowhere else.
		if err := s.put(&batch[i]); err != nil {
			return err
		}
		if s.complete() || len(s.buf) == 0 && ctx.Err() != nil {
			break
		}
	}
	return s.flush()
}

// put numbers and writes one record, as soon as there is enough to write.
func (s *stream) put(e *event.Event) error {
	s.seq++
	e.Seq = s.seq
	s.buf = s.form.append(s.buf, e)
	if len(s.buf) < writeSize {
		return nil
	}
	return s.flush()
}

func (s *stream) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	_, err := s.out.Write(s.buf)
	s.buf = s.buf[:0]
	return err
}

// settle gathers events, and writes them whenever nothing came for a while, when there are too many, and at the end.
func (s *stream) settle(ctx context.Context, events source) error {
	for more := true; more; {
		var err error
		if more, err = s.gather(ctx, events); err != nil {
			return err
		}
	}
	if ctx.Err() != nil || s.complete() {
		return nil
	}
	return s.writeGathered(ctx, "")
}

// gather takes in events until the time that it waits for changes or comes. It reports whether there may be more.
func (s *stream) gather(ctx context.Context, events source) (more bool, err error) {
	quiet := ctx
	if due, ok := s.gathered.due(); ok {
		var stop context.CancelFunc
		quiet, stop = context.WithDeadline(ctx, due)
		defer stop()
	}
	for batch, err := range events(quiet) {
		switch {
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			err = s.writeGathered(ctx, "it did not become quiet")
			return !s.complete(), err
		case err != nil:
			return false, err
		}
		before := s.gathered.last
		if err := s.hold(ctx, batch); err != nil || s.complete() {
			return false, err
		}
		if s.gathered.last != before {
			s.wrote()
			return true, nil
		}
	}
	return false, nil
}

// hold takes in the events of one batch, and writes what becomes too much.
func (s *stream) hold(ctx context.Context, batch []event.Event) error {
	now := time.Now()
	for i := range batch {
		if !s.wanted(&batch[i]) {
			continue
		}
		s.gathered.add(&batch[i], now)
		if s.gathered.full() {
			if err := s.writeGathered(ctx, "it has too many paths"); err != nil || s.complete() {
				return err
			}
		}
	}
	return nil
}

// writeGathered writes what is gathered, if anything is, and what ends a batch. Unless the batch has settled, why says
// for what other reason it is written, "" for the end of the watch.
func (s *stream) writeGathered(ctx context.Context, why string) error {
	now := time.Now()
	settled := s.gathered.settled(now)
	events := s.gathered.take()
	if len(events) == 0 {
		return nil
	}
	for i := range events {
		if err := s.put(&events[i]); err != nil {
			return err
		}
		if len(s.buf) == 0 && ctx.Err() != nil {
			return nil
		}
	}
	s.seq++
	s.batches++
	s.buf = s.form.appendEnd(s.buf, batchEnd{seq: s.seq, time: now, number: s.batches, settled: settled})
	err := s.flush()
	if !settled && why != "" {
		s.early(s.batches, why)
	}
	return err
}

// tally says how many events were seen and lost.
func (s *stream) tally() string {
	text := plural(s.seen, "event")
	if s.gathered != nil {
		text += " in " + plurals(s.batches, "batch", "batches")
	}
	if s.lost == 0 && s.overflows == 0 {
		return text + ", none lost"
	}
	if s.lost > 0 {
		text += fmt.Sprintf(", %d lost", s.lost)
	}
	if s.overflows > 0 {
		text += fmt.Sprintf(", an unknown number lost in %s of the kernel's queue", plural(s.overflows, "overflow"))
	}
	return text
}

func plural(n uint64, thing string) string { return plurals(n, thing, thing+"s") }

func plurals(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
