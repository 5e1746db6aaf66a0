package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// flood makes and removes a file in dir until the returned function is called.
func flood(t *testing.T, dir string) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			if err := errors.Join(touch(dir+"/flood"), os.Remove(dir+"/flood")); err != nil {
				t.Error(err)
				return
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// Close ends a loop over Events that waits, and one in the middle of a flood, from any goroutine and more than once.
func TestClose(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	for _, flooded := range []bool{false, true} {
		for _, latency := range []time.Duration{-1, time.Millisecond, time.Hour} {
			w := start(t, dir, Config{Roots: []string{dir}, OwnEvents: true, Latency: latency})
			end := func() {}
			if flooded {
				end = flood(t, dir)
			}
			var consumer, closers sync.WaitGroup
			consumer.Go(func() {
				for _, err := range w.Events(t.Context()) {
					if err != nil {
						t.Error(err)
					}
				}
			})
			for i := range 4 {
				closers.Go(func() {
					if i == 3 {
						w.Stop()
					}
					if err := w.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			closers.Wait()
			consumer.Wait()
			end()
			for batch, err := range w.Events(t.Context()) {
				t.Errorf("closed, and there is %q, %v", w.tell(batch), err)
			}
		}
	}
}

// Stop ends the stream behind what had happened, although more comes all the time.
func TestStopInAFlood(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	in(t, dir, "mkdir d")
	defer flood(t, dir+"/d")()
	w := live(t, dir, Config{Roots: []string{dir}})
	in(t, dir, "mkdir before")
	seen := false
	for _, e := range w.stop() {
		seen = seen || e.Path == dir+"/before"
	}
	if !seen {
		t.Error("what happened before Stop is missing")
	}
}

// What happened before a Stop is counted when it is noticed, so that the end doesn't depend on an empty queue.
func TestWaiting(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	w := late(t, dir, Config{Roots: []string{dir}})
	expect := func(want uint64) {
		t.Helper()
		if n := w.main.waiting(); n != want {
			t.Errorf("%d events are waiting, there are %d", n, want)
		}
	}
	expect(0)
	makeMany(t, dir, 0, 5000)
	expect(5000)
	_, err := w.main.pending.read() // a part of them
	must(t, err)
	expect(5000)
	makeMany(t, dir, 5000, 5010)
	expect(5010)
	must(t, w.main.handleAll())
	expect(5010 - w.Stats().Read)
	w.step()
	expect(0)
}

// Events that are drained while a doubt is settled come as well as others, without another wake-up.
func TestDrainedLast(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	w := late(t, dir, Config{Roots: []string{dir}, Events: Changes | fanotify.Open})
	in(t, dir, "mkdir a\nmv a b\nmv b a")
	// To settle the doubt the root is opened: that is an event, which the question itself drains.
	compare(t, []string{
		"create|ondir a", "rename|ondir a -> b", "rename|ondir b -> a", "open|ondir .",
	}, w.tell(w.step()))
	in(t, dir, "mv a b\nmv b a")
	w.release()
	compare(t, []string{"rename|ondir a -> b", "rename|ondir b -> a"}, w.tell(w.until(dir)))
}

// A context ends one loop; the next goes on.
func TestEventsAgain(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	w := live(t, dir, Config{Roots: []string{dir}})
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan struct{})
	go func() {
		close(waiting)
		cancel()
	}()
	for range w.Events(ctx) {
		t.Error("there is nothing")
	}
	<-waiting
	in(t, dir, "mkdir a")
	for range w.Events(ctx) {
		t.Error("the context is done")
	}
	if got := w.until(dir + "/a"); len(got) != 0 {
		t.Errorf("%q", w.tell(got))
	}
	ctx, cancel = context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	for _, err := range w.Events(ctx) {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	}
	in(t, dir, "mkdir b\nmkdir c")
	w.expect("create|ondir b", "create|ondir c")
}

// A done context ends a loop although more is there all the time.
func TestCancelInAFlood(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	defer flood(t, dir)()
	w := live(t, dir, Config{Roots: []string{dir}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for range w.Events(ctx) {
		if n++; n > 1 {
			t.Fatal("goes on")
		}
		cancel()
	}
}

// After Close there is no goroutine and no descriptor, and no mark.
func TestNothingStays(t *testing.T) {
	dir := fstest.New(t, fstest.Ext4)
	in(t, dir, "mkdirs r/a/b/c")
	goroutines, descriptors := runtime.NumGoroutine(), countDescriptors(t)
	for range 10 {
		w, err := New(Config{Roots: []string{dir + "/r"}, Latency: -1, OnlyRoots: true})
		must(t, err)
		shell(t, dir, "mv r/a r/x; : > r/x/b/c/f; mv r/x r/a; rm r/a/b/c/f; mkdir r/end; rmdir r/end")
		for batch, err := range w.Events(t.Context()) {
			must(t, err)
			if strings.HasSuffix(batch[len(batch)-1].Path, "/r/end") {
				break
			}
		}
		must(t, w.Close())
	}
	if n := countDescriptors(t); n != descriptors {
		t.Errorf("%d descriptors, before %d", n, descriptors)
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); { // soon after the last thing that they do
		if runtime.NumGoroutine() <= goroutines {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines, before %d", runtime.NumGoroutine(), goroutines)
}

func countDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// A watch keeps no filesystem from being unmounted: not while it waits, not with a budget to wait out, not with events
// that nobody read.
func TestUnmount(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		point := ground(t, t.TempDir(), "point")
		in(t, dir, "mkdirs r/a/b")
		for _, latency := range []time.Duration{-1, 5 * time.Millisecond} {
			must(t, unix.Mount(dir, point, "", unix.MS_BIND, ""))
			w := live(t, point, Config{Roots: []string{point + "/r"}, Latency: latency})
			in(t, point, "touch r/a/b/f\nrm r/a/b/f\nmkdir r/end")
			w.until(point + "/r/end")
			must(t, unix.Unmount(point, 0)) // the watch may be settling
			must(t, w.Close())
			in(t, dir, "rmdir r/end")
		}
		must(t, unix.Mount(dir, point, "", unix.MS_BIND, ""))
		w := late(t, point, Config{Roots: []string{point + "/r"}})
		in(t, point, "touch r/a/b/f")
		w.step()
		in(t, point, "touch r/a/b/g")
		must(t, unix.Unmount(point, 0))
		// It is mounted elsewhere, too, where it may have been written to after the unmount.
		w.expect("close_write|create r/a/b/g (current)", "mnt_detach .")
	})
}

// Stop delivers what happened before, however much of it is read ahead and more than fits into a batch.
func TestStopWithMuchPending(t *testing.T) {
	const n = 50_000
	dir := fstest.New(t, fstest.Tmpfs)
	in(t, dir, "mkdirs r/a")
	w := late(t, dir, Config{Roots: []string{dir + "/r"}, Events: fanotify.Create})
	for i := range n {
		must(t, touch(fmt.Sprint(dir, "/r/a/", i)))
	}
	if got := len(w.stop()); got != n {
		t.Errorf("%d events of %d", got, n)
	}
}
