package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/rule"
)

// gather adds events to a gathering and returns what is in it, as "path mask pid state" and losses in words.
func gather(events ...event.Event) []string {
	g := newGathering(time.Second)
	for i := range events {
		g.add(&events[i], at())
	}
	var texts []string
	for _, e := range g.take() {
		switch {
		case e.Lost > 0:
			texts = append(texts, fmt.Sprintf("lost %d", e.Lost))
		case e.Mask.Has(fanotify.Overflow):
			texts = append(texts, "overflow "+e.Scope)
		default:
			texts = append(texts, fmt.Sprintf("%s %s%s %d %s", e.Path, e.NewPath, e.Mask, e.PID, e.PathState))
		}
	}
	return texts
}

func what(mask fanotify.Mask, path string) event.Event {
	e := created(path)
	e.Mask = mask
	return e
}

func moved(old, new string, mask fanotify.Mask) event.Event {
	e := what(fanotify.Rename|mask, old)
	e.NewPath = new
	return e
}

func TestGathering(t *testing.T) {
	by := func(pid int32, e event.Event) event.Event {
		e.PID = pid
		return e
	}
	current := what(fanotify.Modify, "/a")
	current.PathState = event.PathCurrent
	for _, test := range []struct {
		name   string
		events []event.Event
		want   []string
	}{
		{"nothing", nil, nil},
		{
			"union, first sight",
			[]event.Event{created("/b"), created("/a"), what(fanotify.Modify, "/b"), what(fanotify.Delete, "/b")},
			[]string{"/b modify|create|delete 4121 exact", "/a create 4121 exact"},
		},
		{
			"a directory is renamed",
			[]event.Event{created("/d/x"), moved("/d", "/e", fanotify.OnDir), created("/e/y"), moved("/e", "/f", fanotify.OnDir)},
			[]string{
				"/d/x create 4121 exact", "/d moved_from|ondir 4121 exact", "/e moved_from|moved_to|ondir 4121 exact",
				"/e/y create 4121 exact", "/f moved_to|ondir 4121 exact",
			},
		},
		{
			"in and out",
			[]event.Event{moved("", "/in", 0), moved("/out", "", 0), moved("", "", 0)},
			[]string{"/in moved_to 4121 exact", "/out moved_from 4121 exact", " rename 4121 exact"},
		},
		{
			"several processes",
			[]event.Event{by(1, created("/a")), by(2, created("/a")), by(2, created("/b")), by(2, created("/a"))},
			[]string{"/a create 0 exact", "/b create 2 exact"},
		},
		{
			"the less certain state stays",
			[]event.Event{created("/a"), current, created("/a")},
			[]string{"/a modify|create 4121 current"},
		},
		{
			"losses",
			[]event.Event{
				created("/a"), {Lost: 2}, {Mask: fanotify.Overflow, Scope: "/a"}, created("/a"), {Lost: 3},
				{Mask: fanotify.Overflow, Scope: "/a"}, {Mask: fanotify.Overflow, Scope: "/b"},
			},
			[]string{"/a create 4121 exact", "lost 5", "overflow /a", "overflow /b"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, gather(test.events...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What is known of the process is kept when nothing is known of it later.
func TestGatheringKeepsTheProcess(t *testing.T) {
	g := newGathering(time.Second)
	known, unknown := created("/a"), created("/a")
	known.Process.State = event.ProcessExited
	unknown.Process = &event.Process{PID: unknown.PID, UID: event.NoUID}
	for _, e := range []event.Event{unknown, known, unknown} {
		g.add(&e, at())
	}
	if got := g.take()[0]; got.Process != known.Process {
		t.Errorf("process %+v", got.Process)
	}
}

func TestGatheringIsBounded(t *testing.T) {
	g := newGathering(time.Second)
	add := func(path string) {
		e := created(path)
		g.add(&e, at())
	}
	for i := range maxGathered {
		if g.full() {
			t.Fatalf("full with %d paths", i)
		}
		add(fmt.Sprint("/", i%maxGathered))
		add("/0")
	}
	if !g.full() {
		t.Error("not full")
	}
	g.take()
	for i, size := 0, 0; size < maxGatheredText; i++ {
		if g.full() {
			t.Fatalf("full with %d bytes", size)
		}
		path := fmt.Sprintf("/%d%4000d", i, 0)
		add(path)
		size += len(path)
	}
	if !g.full() {
		t.Error("not full of long paths")
	}
}

// feed is a source whose batches come through a channel, which ends it when it is closed.
func feed(in <-chan []event.Event) source {
	return func(ctx context.Context) iter.Seq2[[]event.Event, error] {
		return func(yield func([]event.Event, error) bool) {
			for {
				select {
				case batch, ok := <-in:
					if !ok || !yield(batch, nil) {
						return
					}
				case <-ctx.Done():
					if err := ctx.Err(); !errors.Is(err, context.Canceled) {
						yield(nil, err)
					}
					return
				}
			}
		}
	}
}

// settling runs a stream with --settle in a bubble of synctest. What it returns gives it events, waits for a time and
// returns what was written meanwhile.
func settling(t *testing.T, s *stream, quiet time.Duration) (step func(wait time.Duration, events ...event.Event) string, end func() string) {
	t.Helper()
	var out pieces
	s.out, s.gathered = &out, newGathering(quiet)
	s.early = func(number uint64, why string) { out = append(out, fmt.Sprintf("early %d: %s\n", number, why)) }
	in := make(chan []event.Event)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.run(t.Context(), feed(in)); err != nil {
			t.Error(err)
		}
	}()
	taken := 0
	written := func() string {
		synctest.Wait()
		text := strings.Join(out[taken:], "")
		taken = len(out)
		return text
	}
	step = func(wait time.Duration, events ...event.Event) string {
		if len(events) > 0 {
			select {
			case in <- events:
			case <-done:
			}
		}
		<-time.After(wait)
		return written()
	}
	return step, func() string {
		close(in)
		<-done
		return written()
	}
}

func wantText(t *testing.T, got, want string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream(t, rule.Rule{Events: fanotify.Create}, numberForm{}, io.Discard)
		step, end := settling(t, s, time.Second)
		wantText(t, step(time.Hour), "")
		wantText(t, step(999*time.Millisecond, created("/a"), created("/b")), "")
		wantText(t, step(999*time.Millisecond, created("/a"), created("/c")), "")
		// What nobody wants doesn't make it longer.
		wantText(t, step(time.Millisecond, what(fanotify.Delete, "/a")), "1 /a 0 \n2 /b 0 \n3 /c 0 \n4 batch 1 true\n")
		wantText(t, step(time.Hour), "")
		wantText(t, step(time.Second, event.Event{Lost: 7}), "5  7 \n6 batch 2 true\n")
		wantText(t, step(0, created("/a")), "")
		wantText(t, end(), "7 /a 0 \n8 batch 3 false\n")
		wantText(t, s.tally(), "5 events in 3 batches, 7 lost")
	})
}

func TestSettleNeverQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream(t, rule.Rule{Events: fanotify.Create}, numberForm{}, io.Discard)
		step, end := settling(t, s, time.Second)
		for range 10 * 2 {
			wantText(t, step(time.Second/2, created("/a")), map[bool]string{
				true: "1 /a 0 \n2 batch 1 false\nearly 1: it did not become quiet\n",
			}[s.batches > 0])
		}
		wantText(t, step(time.Second, created("/b")), "3 /b 0 \n4 batch 2 true\n")
		wantText(t, end(), "")
	})
}

func TestSettleTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream(t, rule.Rule{Events: fanotify.Create}, numberForm{}, io.Discard)
		step, end := settling(t, s, time.Second)
		var events []event.Event
		for i := range maxGathered + 1 {
			events = append(events, created(fmt.Sprint("/", i)))
		}
		text := step(0, events...)
		if n := strings.Count(text, "\n"); n != maxGathered+2 || !strings.Contains(text, "early 1: it has too many paths") {
			t.Errorf("%d lines", n)
		}
		wantText(t, end(), fmt.Sprintf("%d /%d 0 \n%d batch 2 false\n", maxGathered+2, maxGathered, maxGathered+3))
	})
}

func TestSettleCountsBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream(t, rule.Rule{Events: fanotify.Create}, numberForm{}, io.Discard)
		s.count = 2
		step, end := settling(t, s, time.Second)
		wantText(t, step(time.Second, created("/a"), created("/b")), "1 /a 0 \n2 /b 0 \n3 batch 1 true\n")
		wantText(t, step(time.Second, created("/c")), "4 /c 0 \n5 batch 2 true\n")
		wantText(t, step(time.Second, created("/d")), "")
		wantText(t, end(), "")
	})
}

// What is borrowed is given back: the strings of a batch are not kept.
func TestSettleKeepsNothingBorrowed(t *testing.T) {
	g := newGathering(time.Second)
	batch := []event.Event{created("/a")}
	g.add(&batch[0], at())
	batch[0] = event.Event{}
	if got := g.take(); !slices.ContainsFunc(got, func(e event.Event) bool { return e.Path == "/a" }) {
		t.Errorf("%+v", got)
	}
}

func TestBatchEnds(t *testing.T) {
	end := batchEnd{seq: 9, time: at(), number: 2, settled: true}
	for name, want := range map[string]string{
		"json":    `{"seq":9,"time":"` + at().UTC().Format("2006-01-02T15:04:05.000000000Z") + `","events":[],"batch":2,"settled":true}` + "\n",
		"line":    "\n",
		"format":  "\n",
		"summary": "",
	} {
		got := forms(t)[name].appendEnd(nil, end)
		wantText(t, string(got), want)
		var e event.Event
		if name == "json" && (event.Decode(got, &e) != nil || e.Seq != 9 || e.Mask != 0) {
			t.Errorf("not an event: %+v", e)
		}
	}
}
