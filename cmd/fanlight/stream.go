package main

import (
	"context"
	"fmt"
	"io"
	"iter"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/rule"
)

// writeSize is how many bytes are gathered before they are written in the middle of a batch: what a pipe holds.
const writeSize = 64 << 10

// form turns events into output. A form that writes records appends one for each event; one that sums up appends
// nothing until the end.
type form interface {
	append(b []byte, e *event.Event) []byte
}

// stream chooses, numbers and writes events.
type stream struct {
	match *rule.Matcher
	form  form
	out   io.Writer
	count uint64 // end after so many events; 0 for no end
	wrote func() // called after a batch with events that are wanted

	seq       uint64 // the number of the last record of this output
	seen      uint64 // events that matched
	lost      uint64 // events that are known to be lost
	overflows uint64 // losses of an unknown number of events
}

// run writes events until they end, count is reached or ctx ends, after which it is done with the write that it is at.
func (s *stream) run(ctx context.Context, events iter.Seq2[[]event.Event, error]) error {
	buf := make([]byte, 0, writeSize+4096)
	for batch, err := range events {
		if err != nil {
			return err
		}
		if buf, err = s.write(ctx, buf[:0], batch); err != nil || s.complete() {
			return err
		}
	}
	return nil
}

func (s *stream) complete() bool { return s.count > 0 && s.seen >= s.count }

// write writes the records of one batch, in one piece unless it is big. It returns the buffer for the next batch.
func (s *stream) write(ctx context.Context, buf []byte, batch []event.Event) ([]byte, error) {
	defer func(before uint64) {
		if s.seq != before {
			s.wrote()
		}
	}(s.seq)
	for i := range batch {
		e := &batch[i]
		switch {
		case e.Lost > 0:
			s.lost += e.Lost
		case e.Mask.Has(fanotify.Overflow):
			s.overflows++
		case s.match.Match(e):
			s.seen++
		default:
			continue
		}
		s.seq++
		e.Seq = s.seq // the batch is borrowed, and read nowhere else
		buf = s.form.append(buf, e)
		if s.complete() {
			break
		}
		if len(buf) >= writeSize {
			if _, err := s.out.Write(buf); err != nil {
				return buf, err
			}
			buf = buf[:0]
			if ctx.Err() != nil {
				break
			}
		}
	}
	if len(buf) == 0 {
		return buf, nil
	}
	_, err := s.out.Write(buf)
	return buf, err
}

// tally says how many events were seen and lost.
func (s *stream) tally() string {
	text := plural(s.seen, "event")
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

func plural(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
