package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// collected is what a watch told so far, by path.
type collected struct {
	mu    sync.Mutex
	names map[string]int
	ended chan struct{}
}

// collect gathers what a watch tells, in a goroutine of its own, until the watch is closed.
func collect(t *testing.T, w *Watcher) *collected {
	c := &collected{names: map[string]int{}, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		for batch, err := range w.Events(context.Background()) {
			if err != nil {
				t.Error(err)
				return
			}
			c.mu.Lock()
			for _, e := range batch {
				c.names[e.Path]++
			}
			c.mu.Unlock()
		}
	}()
	return c
}

func (c *collected) has(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.names[name] > 0
}

// TestSync asks for what was done just before, in every way of watching: idle, with a latency budget, busy.
func TestSync(t *testing.T) {
	eachOf(t, []string{fstest.Tmpfs, fstest.FUSE}, func(t *testing.T, dir string) {
		w, err := New(Config{Roots: []string{dir}, Events: fanotify.Create, OwnEvents: true, OnlyRoots: true})
		must(t, err)
		defer w.Close()
		c := collect(t, w)
		ctx := t.Context()
		must(t, w.Sync(ctx)) // nothing happened
		var others sync.WaitGroup
		for i := range 4 {
			others.Go(func() {
				for j := range 50 {
					name := fmt.Sprintf("%s/%d-%d", dir, i, j)
					if err := errors.Join(touch(name), w.Sync(ctx)); err != nil || !c.has(name) {
						t.Errorf("%s after Sync: %t, %v", name, c.has(name), err)
						return
					}
				}
			})
		}
		others.Wait()
		must(t, w.Close())
		<-c.ended
		if err := w.Sync(ctx); err != os.ErrClosed {
			t.Error("after Close:", err)
		}
	})
}

// TestSyncBehindABacklog has more in the queue than one read takes.
func TestSyncBehindABacklog(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	w, err := prepare(Config{Roots: []string{dir}, Events: fanotify.Create, OwnEvents: true, OnlyRoots: true})
	must(t, err)
	defer w.Close()
	const files = 20_000
	for i := range files {
		must(t, touch(fmt.Sprint(dir, "/", i)))
	}
	c := collect(t, w)
	synced := make(chan error, 1)
	go func() { synced <- w.Sync(t.Context()) }()
	w.start()
	must(t, <-synced)
	if name := fmt.Sprint(dir, "/", files-1); !c.has(name) {
		t.Error("after Sync there is no", name)
	}
	must(t, w.Close())
	<-c.ended
}

// TestSyncNeedsALoop shows that without a consumer only the context ends it, and Close.
func TestSyncNeedsALoop(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	w, err := New(Config{Roots: []string{dir}, Events: fanotify.Create, OwnEvents: true, OnlyRoots: true})
	must(t, err)
	defer w.Close()
	must(t, touch(dir+"/f"))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- w.Sync(ctx) }()
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Error(err)
	}
	go func() { ended <- w.Sync(t.Context()) }()
	must(t, w.Close())
	if err := <-ended; err != os.ErrClosed {
		t.Error("Close meanwhile:", err)
	}
	var none []event.Event
	for batch := range w.Events(t.Context()) {
		none = batch
	}
	if none != nil {
		t.Error(none)
	}
}
