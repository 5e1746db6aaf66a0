package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/rule"
)

// newStream returns a stream that writes events of r to out.
func newStream(t testing.TB, r rule.Rule, form form, out io.Writer) *stream {
	t.Helper()
	match, err := rule.Compile(r)
	if err != nil {
		t.Fatal(err)
	}
	return &stream{filter: &filter{rule: match}, form: form, out: out, wrote: func() {}}
}

func batches(batches ...[]event.Event) source {
	return func(context.Context) iter.Seq2[[]event.Event, error] {
		return func(yield func([]event.Event, error) bool) {
			for _, batch := range batches {
				if !yield(batch, nil) {
					return
				}
			}
		}
	}
}

func created(path string) event.Event {
	return event.Event{Time: at(), Mask: fanotify.Create, Path: path, PathState: event.PathExact, PID: 4121, Process: touch()}
}

// pieces keeps what each call of Write wrote.
type pieces []string

func (p *pieces) Write(b []byte) (int, error) {
	*p = append(*p, string(b))
	return len(b), nil
}

// numberForm writes the sequence number and the path, or what was lost.
type numberForm struct{}

func (numberForm) append(b []byte, e *event.Event) []byte {
	return fmt.Appendf(b, "%d %s %d %s\n", e.Seq, e.Path, e.Lost, e.Scope)
}

func (numberForm) appendEnd(b []byte, end batchEnd) []byte {
	return fmt.Appendf(b, "%d batch %d %t\n", end.seq, end.number, end.settled)
}

func TestStreamNumbersWhatItWrites(t *testing.T) {
	var out pieces
	s := newStream(t, rule.Rule{Events: fanotify.Create}, numberForm{}, &out)
	deleted := created("/gone")
	deleted.Mask = fanotify.Delete
	err := s.run(t.Context(), batches(
		[]event.Event{created("/a"), deleted, created("/b")},
		[]event.Event{deleted},
		[]event.Event{{Lost: 512}, {Mask: fanotify.Overflow, Scope: "/srv"}, created("/c")},
	))
	if err != nil {
		t.Fatal(err)
	}
	want := pieces{"1 /a 0 \n2 /b 0 \n", "3  512 \n4  0 /srv\n5 /c 0 \n"}
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("one write a batch, with loss in its place (-want +got):\n%s", diff)
	}
	if got, want := s.tally(), "3 events, 512 lost, an unknown number lost in 1 overflow of the kernel's queue"; got != want {
		t.Errorf("tally = %q, want %q", got, want)
	}
}

func TestStreamEndsAtCount(t *testing.T) {
	var out pieces
	s := newStream(t, rule.Rule{Events: fanotify.Create}, numberForm{}, &out)
	s.count = 2
	batch := []event.Event{{Lost: 7}, created("/a"), created("/b"), created("/c")}
	if err := s.run(t.Context(), batches(batch, batch)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pieces{"1  7 \n2 /a 0 \n3 /b 0 \n"}, out); diff != "" {
		t.Errorf("two events, and the loss beside (-want +got):\n%s", diff)
	}
}

// endsAfter ends a context when so many writes are done.
type endsAfter struct {
	pieces
	writes int
	end    context.CancelFunc
}

func (w *endsAfter) Write(b []byte) (int, error) {
	if len(w.pieces)+1 == w.writes {
		w.end()
	}
	return w.pieces.Write(b)
}

func TestStreamEndsWithItsContextAtARecord(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	out := endsAfter{writes: 2, end: end}
	s := newStream(t, rule.Rule{Events: fanotify.Create}, numberForm{}, &out)
	batch := slices.Repeat([]event.Event{created("/" + strings.Repeat("x", 4000))}, 100)
	if err := s.run(ctx, batches(batch)); err != nil {
		t.Fatal(err)
	}
	if len(out.pieces) != 2 || !strings.HasSuffix(out.pieces[1], "\n") {
		t.Errorf("%d writes, want 2 with a whole record at the end", len(out.pieces))
	}
}

func TestStreamWritesBigBatchesInPieces(t *testing.T) {
	var out pieces
	s := newStream(t, rule.Rule{Events: fanotify.Create}, numberForm{}, &out)
	path := "/" + strings.Repeat("x", 4000)
	batch := slices.Repeat([]event.Event{created(path)}, 100)
	if err := s.run(t.Context(), batches(batch)); err != nil {
		t.Fatal(err)
	}
	for i, piece := range out {
		if len(piece) > writeSize+5000 || !strings.HasSuffix(piece, "\n") {
			t.Errorf("piece %d has %d bytes and ends with %q", i, len(piece), piece[len(piece)-1])
		}
	}
	if n := strings.Count(strings.Join(out, ""), "\n"); n != len(batch) {
		t.Errorf("%d records, want %d", n, len(batch))
	}
}

func TestStreamFails(t *testing.T) {
	gone := errors.New("gone")
	s := newStream(t, rule.Rule{Events: fanotify.Create}, numberForm{}, io.Discard)
	fails := func(context.Context) iter.Seq2[[]event.Event, error] {
		return func(yield func([]event.Event, error) bool) { yield(nil, gone) }
	}
	if err := s.run(t.Context(), fails); !errors.Is(err, gone) {
		t.Errorf("got %v, want the error of the events", err)
	}
	r, w := io.Pipe()
	r.CloseWithError(gone)
	s.out = w
	if err := s.run(t.Context(), batches([]event.Event{created("/a")}, nil)); !errors.Is(err, gone) {
		t.Errorf("got %v, want the error of the output", err)
	}
}

// manyEvents is a batch of what a busy machine brings.
func manyEvents() []event.Event {
	var batch []event.Event
	for i := range 64 {
		e := created(fmt.Sprintf("/srv/some/directory/with a name/file-%d.txt", i))
		if i%8 == 0 {
			e.Mask, e.NewPath = fanotify.Rename, e.Path+"ä\n"
		}
		batch = append(batch, e)
	}
	return batch
}

func forms(t testing.TB) map[string]form {
	t.Helper()
	template, err := newTemplateForm("%T %e %w%f %n %P %x", defaultTimeFormat, '\n')
	if err != nil {
		t.Fatal(err)
	}
	return map[string]form{
		"json":    &jsonForm{end: '\n'},
		"line":    newLineForm(defaultTimeFormat, '\n', false, false),
		"color":   newLineForm(defaultTimeFormat, '\n', true, true),
		"format":  template,
		"summary": newSummary(),
	}
}

func TestStreamDoesNotAllocate(t *testing.T) {
	batch := manyEvents()
	for name, form := range forms(t) {
		s := newStream(t, rule.Rule{Events: changeEvents, Path: []string{"/srv/*", "-*.o"}}, form, io.Discard)
		if err := s.write(context.Background(), batch); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { _ = s.write(context.Background(), batch) }); n != 0 {
			t.Errorf("%s: %v allocations for %d events, want none", name, n, len(batch))
		}
	}
}

func BenchmarkStream(b *testing.B) {
	batch := manyEvents()
	for name, form := range forms(b) {
		b.Run(name, func(b *testing.B) {
			var out bytes.Buffer
			s := newStream(b, rule.Rule{Events: changeEvents}, form, &out)
			b.ReportAllocs()
			for b.Loop() {
				out.Reset()
				_ = s.write(context.Background(), batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/event")
		})
	}
}

// The timeout of a summary, which writes nothing before the end, begins anew with every event, too.
func TestSummaryIsNotIdle(t *testing.T) {
	s := newStream(t, rule.Rule{Events: fanotify.Create}, newSummary(), io.Discard)
	wrote := 0
	s.wrote = func() { wrote++ }
	for range 3 {
		if err := s.write(t.Context(), []event.Event{{Mask: fanotify.Create, Path: "/a/b"}}); err != nil {
			t.Fatal(err)
		}
	}
	if wrote != 3 {
		t.Errorf("%d of 3 batches were noticed", wrote)
	}
}
