package fanotify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// TestNoWakeUpIsLost lets a writer wait for each of its events to be seen: if the reader sleeps through one, both hang.
func TestNoWakeUpIsLost(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	g := watched(t, dir, Delete)
	ctx := withPatience(t)
	const rounds = 5000
	seen := make(chan struct{}, 1)
	written := make(chan error, 1)
	go func() {
		written <- func() error {
			name := filepath.Join(dir, "f")
			for range rounds {
				if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Remove(name)); err != nil {
					return err
				}
				select {
				case <-seen:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		}()
	}()
	var b Batch
	for n := 0; n < rounds; {
		if err := g.Wait(ctx); err != nil {
			t.Fatalf("after %d events: %v", n, err)
		}
		if _, err := g.TryRead(&b); err != nil {
			t.Fatal(err)
		}
		for e, err := range b.Events() {
			if err != nil || e.Mask != Delete {
				t.Fatal(e, err)
			}
			n++
			seen <- struct{}{}
		}
	}
	check(t, <-written)
}

// TestWriterRunsFree reads beside a writer that waits for nobody.
func TestWriterRunsFree(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	g := watched(t, dir, Create)
	const files = 5000
	written := make(chan error, 1)
	go func() {
		for i := range files {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	i := 0
	for e, err := range g.Events(withPatience(t)) {
		if err != nil {
			t.Fatalf("after %d events: %v", i, err)
		}
		if entry, _ := e.Dir(); string(entry.Name) != fmt.Sprint(i) {
			t.Fatalf("got %q, want %d", entry.Name, i)
		}
		if i++; i == files {
			break
		}
	}
	check(t, <-written)
}

// TestCanceledWaitLeavesNothing cancels a wait that an event ends: the next wait must not end by it.
func TestCanceledWaitLeavesNothing(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	g := watched(t, dir, Attrib)
	name := file(t, dir, "f")
	change := func() {
		if err := os.Chmod(name, 0o600); err != nil {
			t.Error(err)
		}
	}
	ctx := withPatience(t)
	var b Batch
	for i := range 5000 {
		first, cancel := context.WithCancel(t.Context())
		var both sync.WaitGroup
		both.Go(func() {
			change()
			for range i % 50 { // Wait is about to return: meet it there
				runtime.Gosched()
			}
			cancel()
		})
		if err := g.Wait(first); err != nil && err != context.Canceled {
			t.Fatal(i, err)
		}
		both.Wait()
		if n, err := g.TryRead(&b); n == 0 || err != nil {
			t.Fatal(i, err)
		}
		both.Go(change)
		check(t, g.Wait(ctx))
		if n, err := g.TryRead(&b); n == 0 || err != nil {
			t.Fatalf("round %d: the second wait ended without an event: %v", i, err)
		}
		both.Wait()
	}
}

func TestClosedGroup(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	g := watched(t, dir, Create)
	check(t, g.Close(), g.Close())
	_, tryErr := g.TryRead(new(Batch))
	_, backlogErr := g.Backlog()
	_, infoErr := g.Info()
	for name, err := range map[string]error{
		"Read": g.Read(t.Context(), new(Batch)), "TryRead": tryErr, "Wait": g.Wait(t.Context()), "Backlog": backlogErr, "Info": infoErr,
	} {
		if err != os.ErrClosed {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"Mark":   g.Mark(TargetInode, dir, Create, 0),
		"Unmark": g.Unmark(TargetInode, dir, Create, 0),
		"Flush":  g.Flush(TargetInode),
	} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for e, err := range g.Events(t.Context()) {
		t.Error(e, err)
	}
}

// TestCloseBesideEverything is for the race detector, and for errors other than os.ErrClosed: those of a descriptor
// that is used after it was closed.
func TestCloseBesideEverything(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	name := file(t, dir, "f")
	for range 100 {
		g, err := NewGroup(Config{UnlimitedMarks: true})
		check(t, err)
		var all sync.WaitGroup
		begun := make(chan struct{}, 3)
		repeat := func(call func() error) {
			all.Go(func() {
				for i := 0; ; i++ {
					if err := call(); errors.Is(err, os.ErrClosed) {
						return
					} else if err != nil && !errors.Is(err, unix.ENOENT) { // unmarked already
						t.Error(err)
						return
					}
					if i == 0 {
						begun <- struct{}{}
					}
				}
			})
		}
		check(t, g.Mark(TargetInode, name, Open, 0))
		f, err := os.Open(name) // one event, so that the first Read comes back
		check(t, err, f.Close())
		var b Batch
		repeat(func() error { return g.Read(t.Context(), &b) })
		repeat(func() error {
			return errors.Join(g.Mark(TargetInode, name, Open, 0), g.Unmark(TargetInode, name, Open, 0))
		})
		repeat(func() error { _, err := g.Backlog(); return err })
		repeat(func() error { _, err := g.Info(); return err })
		for range 3 {
			<-begun
		}
		all.Go(func() { g.Close() })
		check(t, g.Close())
		all.Wait()
		b.Close()
	}
}

func TestReadingAllocatesNothing(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	g := watched(t, dir, Attrib)
	f, err := os.Open(file(t, dir, "f"))
	check(t, err)
	defer f.Close()
	fd := int(f.Fd())
	known := map[Handle]bool{handleAt(t, dir): true}
	var b Batch
	missed := 0
	ctx := context.Background()
	allocs := testing.AllocsPerRun(100, func() {
		if unix.Fchmod(fd, 0o600) != nil || g.Wait(ctx) != nil {
			missed++
		}
		if n, err := g.TryRead(&b); n == 0 || err != nil {
			missed++
		}
		for e, err := range b.Events() {
			if entry, _ := e.Dir(); err != nil || !known[Handle(entry.Dir)] {
				missed++
			}
		}
	})
	if allocs > 0 || missed > 0 {
		t.Errorf("%v allocations, %d missed", allocs, missed)
	}
}

// TestReadIsBoundedByBuffer shows that one read opens no more descriptors than its buffer has events, also after the
// batch was used for a group with a bigger one.
func TestReadIsBoundedByBuffer(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	const files = 100
	for i := range files {
		file(t, dir, fmt.Sprint(i))
	}
	var b Batch
	defer b.Close()
	for _, tt := range []struct {
		config Config
		most   int
	}{
		{Config{}, files},
		{Config{Report: ReportPIDFD}, files},
		{Config{BufferSize: 240}, 10},
		{Config{BufferSize: 240, Report: ReportPIDFD}, 7},
		{Config{BufferSize: 1}, 5},
	} {
		g := newGroup(t, tt.config)
		mark(t, g, TargetMount, dir, Open, 0)
		for i := range files {
			f, err := os.Open(filepath.Join(dir, fmt.Sprint(i)))
			check(t, err, f.Close())
		}
		total := 0
		for {
			n, err := g.TryRead(&b)
			check(t, err)
			if n == 0 {
				break
			}
			events := 0
			for e, err := range b.Events() {
				check(t, err)
				events++
				f, err := e.File()
				check(t, err)
				if name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); name != filepath.Join(dir, fmt.Sprint(total)) {
					t.Errorf("event %d is of %s", total, name)
				}
				check(t, f.Close())
				total++
			}
			if events > tt.most {
				t.Errorf("%+v: %d events in one read, want at most %d", tt.config, events, tt.most)
			}
		}
		if total != files {
			t.Errorf("%+v: %d events", tt.config, total)
		}
	}
}

func TestBufferSize(t *testing.T) {
	for _, tt := range []struct {
		config Config
		want   int
	}{
		{Config{}, MinBufferSize},
		{Config{Report: ReportFID}, DefaultBufferSize},
		{Config{Report: ReportMnt}, DefaultBufferSize},
		{Config{Report: ReportFID | ReportPIDFD}, MinBufferSize},
		{Config{Report: ReportFID, BufferSize: 1}, MinBufferSize},
		{Config{Report: ReportFID, BufferSize: 5000}, 5000},
		{Config{BufferSize: 1}, leastBuffer},
		{Config{BufferSize: 200}, 200},
	} {
		if got := tt.config.bufferSize(); got != tt.want {
			t.Errorf("%+v: %d, want %d", tt.config, got, tt.want)
		}
	}
}

// TestLoopsLeaveNothingOpen leaves loops early, in the ways that there are; TestMain counts the descriptors.
func TestLoopsLeaveNothingOpen(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	opens := func() {
		for i := range 5 {
			file(t, dir, fmt.Sprint(i))
		}
	}
	g := newGroup(t, Config{Report: ReportPIDFD})
	mark(t, g, TargetMount, dir, Open, 0)
	opens()
	for e, err := range g.Events(withPatience(t)) {
		check(t, err)
		kept := e.Detach()
		kept.Close()
		break
	}
	opens()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the loop swallowed a panic")
			}
		}()
		for range g.Events(withPatience(t)) {
			panic("in the loop")
		}
	}()
	opens()
	var b Batch
	for range 2 { // the second read ends the events of the first
		check(t, g.Read(withPatience(t), &b))
		opens()
	}
	b.Close()
}

// TestBacklog counts two events before they are read.
//
// Proves FIONREAD.
func TestBacklog(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	g := watched(t, dir, Create)
	if n, err := g.Backlog(); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	file(t, dir, "a")
	file(t, dir, "b")
	n, err := g.Backlog()
	check(t, err)
	if events := len(queued(t, g, nil)); n != metadataSize*events || events != 2 {
		t.Errorf("backlog %d of %d events", n, events)
	}
}
