package fanotify

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// eachWaiter runs a test with a group of each kind that waits in its own way, and with what makes an event in it.
func eachWaiter(t *testing.T, test func(t *testing.T, g *Group, act func())) {
	for _, config := range []Config{{Report: ReportDFIDNameTarget}, {Class: ClassContent, Report: ReportFDError}} {
		t.Run(config.Class.String(), func(t *testing.T) {
			dir := fstest.New(t, fstest.Tmpfs)
			name := file(t, dir, "f")
			g := newGroup(t, config)
			mark(t, g, TargetInode, name, Open, 0)
			test(t, g, func() {
				f, err := os.Open(name)
				check(t, err, f.Close())
			})
		})
	}
}

// awaitReader waits until another goroutine is about to wait for events, or does.
func awaitReader(t *testing.T, ctx context.Context, g *Group) {
	t.Helper()
	for !g.reading.Load() {
		if ctx.Err() != nil {
			t.Fatal("nobody reads")
		}
	}
}

// TestContextEndsWait cancels what waits, and what is about to.
//
// Proves FAN_NONBLOCK.
func TestContextEndsWait(t *testing.T) {
	eachWaiter(t, testContextEndsWait)
}

func testContextEndsWait(t *testing.T, g *Group, act func()) {
	canceled, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if err := g.Wait(canceled); err != context.Canceled {
		t.Error("canceled meanwhile:", err)
	}
	if err := g.Wait(canceled); err != context.Canceled {
		t.Error("canceled before:", err)
	}
	late, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := g.Wait(late); err != context.DeadlineExceeded {
		t.Error("deadline:", err)
	}
	var b Batch
	if err := g.Read(late, &b); err != context.DeadlineExceeded {
		t.Error("Read after the deadline:", err)
	}
	for e, err := range g.Events(canceled) {
		t.Error("Events after it was canceled:", e, err)
	}
	n := 0
	for _, err := range g.Events(late) {
		if n++; err != context.DeadlineExceeded {
			t.Error("Events after the deadline:", err)
		}
	}
	if n != 1 {
		t.Errorf("%d errors", n)
	}

	act()
	if err := g.Wait(withPatience(t)); err != nil {
		t.Error("another context:", err)
	}
	if err := g.Read(canceled, &b); err != context.Canceled { // or a flood would keep a canceled reader
		t.Error("Read with a canceled context and events:", err)
	}
	if got := queued(t, g, nil); len(got) != 1 {
		t.Error(got)
	}
}

func TestCloseWakesReader(t *testing.T) {
	for name, wait := range map[string]func(ctx context.Context, g *Group) error{
		"Wait": func(ctx context.Context, g *Group) error { return g.Wait(ctx) },
		"Read": func(ctx context.Context, g *Group) error { return g.Read(ctx, new(Batch)) },
		"Events": func(ctx context.Context, g *Group) error {
			for e, err := range g.Events(ctx) {
				return fmt.Errorf("event %v, %w", e, err)
			}
			return os.ErrClosed
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachWaiter(t, func(t *testing.T, g *Group, _ func()) {
				ctx := withPatience(t)
				ended := make(chan error, 1)
				go func() { ended <- wait(ctx, g) }()
				awaitReader(t, ctx, g)
				check(t, g.Close())
				if err := <-ended; err != os.ErrClosed {
					t.Error(err)
				}
			})
		})
	}
}

// TestOneReaderAtATime has a second reader beside one that waits, and beside the body of a loop.
func TestOneReaderAtATime(t *testing.T) {
	eachWaiter(t, func(t *testing.T, g *Group, act func()) {
		ctx := withPatience(t)
		second := func(beside string) {
			if _, err := g.TryRead(new(Batch)); err != ErrReading {
				t.Errorf("TryRead beside %s: %v", beside, err)
			}
			if err := g.Wait(ctx); err != ErrReading {
				t.Errorf("Wait beside %s: %v", beside, err)
			}
			if err := g.Read(ctx, new(Batch)); err != ErrReading {
				t.Errorf("Read beside %s: %v", beside, err)
			}
			n := 0
			for _, err := range g.Events(ctx) {
				if n++; err != ErrReading {
					t.Errorf("Events beside %s: %v", beside, err)
				}
			}
			if n != 1 {
				t.Errorf("Events beside %s yielded %d times", beside, n)
			}
		}
		ended := make(chan error, 1)
		go func() { ended <- g.Wait(ctx) }()
		awaitReader(t, ctx, g)
		second("Wait")
		act()
		check(t, <-ended)
		for e, err := range g.Events(ctx) {
			check(t, err)
			second("a loop")
			if e.Mask != Open {
				t.Error(e.Mask)
			}
			break
		}
	})
}

// TestSecondReaderTakesNoWakeUp has readers that come second and whose context is done: what wakes the first one, an
// event, its context or Close, must reach it.
func TestSecondReaderTakesNoWakeUp(t *testing.T) {
	eachWaiter(t, func(t *testing.T, g *Group, act func()) {
		done, cancel := context.WithCancel(t.Context())
		cancel()
		var b Batch
		defer b.Close()
		for round := range 300 {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			ended := make(chan error, 1)
			go func() { ended <- g.Wait(ctx) }()
			awaitReader(t, ctx, g)
			var others sync.WaitGroup
			for range 4 {
				others.Go(func() { g.Wait(done) }) //nolint:errcheck // Either is fine: it is canceled, or comes second.
			}
			var want error
			switch {
			case round == 299:
				want = os.ErrClosed
				check(t, g.Close())
			case round%2 == 0:
				act()
			default:
				want = context.Canceled
				cancel()
			}
			if err := <-ended; err != want {
				t.Fatalf("round %d: %v, want %v", round, err, want)
			}
			cancel()
			others.Wait()
			if want == nil {
				_, err := g.TryRead(&b)
				check(t, err)
			}
		}
	})
}

// TestLoopLeavesTheRest leaves a loop over a group: what was read comes in the next one, but nobody waits for that.
func TestLoopLeavesTheRest(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	g := watched(t, dir, Create)
	for i := range 5 {
		file(t, dir, fmt.Sprint(i))
	}
	var names []string
	for len(names) < 5 {
		for e, err := range g.Events(withPatience(t)) {
			check(t, err)
			dir, _ := e.Dir()
			names = append(names, string(dir.Name))
			break
		}
	}
	if !slices.Equal(names, strings.Split("0 1 2 3 4", " ")) {
		t.Error(names)
	}

	// Descriptors are closed with the group.
	g = newGroup(t, Config{})
	mark(t, g, TargetInode, dir, Open|EventOnChild, 0)
	for i := range 5 {
		file(t, dir, fmt.Sprint(i))
	}
	for range g.Events(withPatience(t)) {
		break
	}
	check(t, g.Close())

	g = newGroup(t, Config{Class: ClassContent, UnlimitedQueue: true, Unanswered: Response{Deny: true}})
	mark(t, g, TargetInode, dir, OpenPerm|EventOnChild, 0)
	watchdog := time.AfterFunc(patience, func() { t.Error("somebody still waits"); g.Close() })
	defer watchdog.Stop()
	var opens sync.WaitGroup
	for i := range 5 {
		opens.Go(func() {
			f, err := os.Open(filepath.Join(dir, fmt.Sprint(i)))
			if err == nil {
				f.Close()
			} else if errnoOf(err) != unix.EPERM {
				t.Error(err)
			}
		})
	}
	for backlog := 0; backlog < 5*metadataSize; {
		var err error
		backlog, err = g.Backlog()
		check(t, err)
	}
	for e, err := range g.Events(withPatience(t)) {
		check(t, err, e.Allow())
		break
	}
	opens.Wait()
	if n := g.Unanswered(); n != 4 {
		t.Errorf("%d unanswered", n)
	}
}

// TestLease opens a file that somebody has a lease on: it must not keep the answer to somebody else, and what can't be
// opened is told.
func TestLease(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	leased, other := file(t, dir, "leased"), file(t, dir, "other")
	f, err := os.OpenFile(leased, os.O_RDWR, 0)
	check(t, err)
	defer f.Close()
	g := newGroup(t, Config{Class: ClassContent, Report: ReportFDError})
	mark(t, g, TargetInode, dir, OpenPerm|EventOnChild, 0)
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	check(t, err)
	for _, name := range []string{leased, other} {
		cat := exec.Command("cat", name)
		var ended error
		got := answer(t, g, func() error { ended = cat.Run(); return nil }, func(e *Event) string {
			f, err := e.File()
			if err == nil {
				check(t, f.Close())
			}
			return fmt.Sprint(e.Mask, " ", err, "; ", e.Allow())
		})
		want := "open_perm resource temporarily unavailable; " + ErrNotAsked.Error()
		if name == other {
			want = "open_perm <nil>; <nil>"
		}
		if !slices.Equal(got, []string{want}) || (ended == nil) != (name == other) {
			t.Errorf("%s: %q, cat ended with %v", name, got, ended)
		}
	}

	if _, err := NewGroup(Config{EventFlags: unix.O_NONBLOCK}); err == nil || !strings.Contains(err.Error(), "add it") {
		t.Error("what would be lost in silence:", err)
	}
	if _, err := NewGroup(Config{BufferSize: maxBufferSize + 1}); err == nil || !strings.Contains(err.Error(), "use 1073741824") {
		t.Error("a buffer that can't be allocated:", err)
	}
}
