package watch

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// many is more files than the kernel's queue holds by default.
const many = 20_000

// makeMany makes empty files with numbers for names, from one number to before another. It doesn't open them: whatever
// happens beside it, a file is one event.
func makeMany(t testing.TB, dir string, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := unix.Mknod(dir+"/"+strconv.Itoa(i), unix.S_IFREG|0o644, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// queueLimit returns fs.fanotify.max_queued_events.
func queueLimit(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/fs/fanotify/max_queued_events")
	must(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	return n
}

// Nothing is lost while nobody reads, however much it is.
func TestUnlimitedQueue(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	w := late(t, dir, Config{Roots: []string{dir}})
	makeMany(t, dir, 0, many)
	events := w.stop()
	if len(events) != many {
		t.Fatalf("%d events of %d", len(events), many)
	}
	for i, e := range events {
		if got, want := tellOne(dir, e), fmt.Sprint("create ", i); got != want {
			t.Fatalf("event %d: %s", i, got)
		}
	}
	if s := w.Stats(); s != (Stats{Read: many, Delivered: many}) {
		t.Errorf("%+v", s)
	}
}

// Where the kernel's queue overflows there is one event in its place. What was queued before it is there, what comes
// later has right paths again, although a directory was renamed and nothing says so.
func TestOverflow(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	limit := queueLimit(t)
	in(t, dir, "mkdirs r/d/e\nmkdir r/many")
	w := late(t, dir, Config{Roots: []string{dir + "/r"}, LimitedQueue: true})
	in(t, dir, "touch r/d/e/0")
	makeMany(t, dir+"/r/many", 1, limit+5000)
	in(t, dir, "mv r/d r/renamed\nmkdir r/lost")
	events := w.step()
	if len(events) != limit+1 {
		t.Fatalf("%d events, the limit is %d", len(events), limit)
	}
	// What was lost may have been a rename before this: nobody can know.
	events[0].PathState = event.PathExact
	if got := tellOne(dir, events[0]); got != "close_write|create r/renamed/e/0" && got != "close_write|create r/d/e/0" {
		t.Error(got)
	}
	for i := 1; i < limit; i++ {
		events[i].PathState = event.PathExact
		if got, want := tellOne(dir, events[i]), fmt.Sprint("create r/many/", i); got != want {
			t.Fatalf("event %d: %s", i, got)
		}
	}
	if got := tellOne(dir, events[limit]); got != "overflow r" {
		t.Error(got)
	}
	in(t, dir, "touch r/renamed/e/1\ntouch r/lost/2\ntouch r/3\nmv r/renamed r/again\ntouch r/again/e/4\ntouch 5")
	w.expect(
		"close_write|create r/renamed/e/1", "close_write|create r/lost/2", "close_write|create r/3",
		"rename|ondir r/renamed -> r/again", "close_write|create r/again/e/4",
	)
	if s := w.Stats(); s.Overflows != 1 {
		t.Errorf("%+v", s)
	}
}

// What was known for sure before an overflow isn't any more.
func TestKnownBeforeAnOverflow(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	in(t, dir, "mkdirs r/many")
	w := late(t, dir, Config{Roots: []string{dir + "/r"}, LimitedQueue: true})
	in(t, dir, "mkdirs r/d/e\ntouch r/d/e/0")
	compare(t, []string{"create|ondir r/d", "create|ondir r/d/e", "close_write|create r/d/e/0"}, w.tell(w.step()))
	makeMany(t, dir+"/r/many", 0, queueLimit(t))
	in(t, dir, "mv r/d r/renamed")
	if events := w.step(); events[len(events)-1].Mask != fanotify.Overflow {
		t.Errorf("ends with %q", w.tell(events[len(events)-1:]))
	}
	in(t, dir, "touch r/renamed/e/1")
	w.expect("close_write|create r/renamed/e/1")
}

// The kernel queues one overflow at a time. What is lost while it waits has no other: until the queue was empty, no path
// may be called exact.
func TestLossBehindAnOverflow(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	limit := queueLimit(t)
	in(t, dir, "mkdirs r/d/e\nmkdir r/many")
	w := late(t, dir, Config{Roots: []string{dir + "/r"}, LimitedQueue: true})
	in(t, dir, "touch r/d/e/0")
	makeMany(t, dir+"/r/many", 1, limit+10)
	n, err := w.main.pending.read() // so that there is room again
	must(t, err)
	if n == 0 {
		t.Fatal("nothing was queued")
	}
	in(t, dir, "touch r/d/e/1")
	makeMany(t, dir+"/r/many", limit+10, 2*limit)
	in(t, dir, "mv r/d r/renamed")
	must(t, w.main.handleAll())
	for _, e := range w.step() {
		if strings.HasSuffix(e.Path, "/r/d/e/1") || strings.HasSuffix(e.Path, "/r/renamed/e/1") {
			if e.PathState == event.PathExact {
				t.Errorf("%s: the directory had another name, or may have had", tellOne(dir, e))
			}
		}
	}
	in(t, dir, "touch r/renamed/e/2")
	w.expect("close_write|create r/renamed/e/2")
}

// Records from before and behind an overflow may contradict each other: that must not lead in circles.
func TestContradiction(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	limit := queueLimit(t)
	in(t, dir, "mkdirs r/x/p\nmkdirs r/many")
	w := late(t, dir, Config{Roots: []string{dir + "/r"}, LimitedQueue: true})
	in(t, dir, "touch r/x/p/0\nmv r/x/p r/p")
	makeMany(t, dir+"/r/many", 1, limit+10)
	in(t, dir, "mv r/x r/p/x") // lost
	_, err := w.main.pending.read()
	must(t, err)
	in(t, dir, "mv r/p/x r/y")
	must(t, w.main.handleAll())
	events := append(w.step(), w.step()...)
	if got := tellOne(dir, events[0]); got != "close_write|create r/x/p/0 (current)" && got != "close_write|create r/p/x/p/0 (current)" &&
		got != "close_write|create r/y/p/0 (current)" {
		t.Error(got)
	}
	in(t, dir, "touch r/y/1\ntouch r/p/2")
	w.expect("close_write|create r/y/1", "close_write|create r/p/2")
}

// A backlog above the limit is given up, and that is an overflow.
func TestMaxBacklog(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	in(t, dir, "mkdirs r/d")
	w := late(t, dir, Config{Roots: []string{dir + "/r"}, MaxBacklog: 1000})
	makeMany(t, dir+"/r/d", 0, many)
	in(t, dir, "mv r/d r/renamed")
	compare(t, []string{"overflow r"}, w.tell(w.step()))
	in(t, dir, "touch r/renamed/f")
	w.expect("close_write|create r/renamed/f")
	if s := w.Stats(); s.Overflows != 1 {
		t.Errorf("%+v", s)
	}
}

// A consumer that doesn't read loses events, and is told in their place how many. The memory stays.
func TestSlowConsumer(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	const queued = 100
	w := late(t, dir, Config{Roots: []string{dir}, MaxQueued: queued})
	handle := func() {
		for {
			n, err := w.main.pending.read()
			must(t, err)
			if n == 0 {
				return
			}
			must(t, w.main.handleAll())
		}
	}
	makeMany(t, dir, 0, 50)
	handle()
	makeMany(t, dir, 50, 1000)
	handle() // lost: it doesn't fit as a whole
	before := memory()
	for i := range 20 {
		makeMany(t, dir, 1000+i*1000, 2000+i*1000)
		handle()
	}
	if grown := int64(memory()) - int64(before); grown > 4<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	next, lost := uint64(0), uint64(0)
	count := func(events []event.Event) {
		for _, e := range events {
			next += e.Lost
			lost += e.Lost
			if e.Lost > 0 {
				continue
			}
			if got, want := tellOne(dir, e), fmt.Sprint("create ", next); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
			next++
		}
	}
	count(w.step())
	if next != 21_000 || lost < 21_000-queued {
		t.Errorf("%d events, %d of them lost", next, lost)
	}
	// One that has read everything has room for as many, whatever comes at once.
	makeMany(t, dir, 21_000, 21_000+queued/2)
	count(w.step())
	earlier := lost
	makeMany(t, dir, int(next), 22_000)
	count(w.step())
	if next != 22_000 || lost-earlier != 22_000-21_050-queued {
		t.Errorf("%d events, %d of the last are lost", next, lost-earlier)
	}
	if s := w.Stats(); s != (Stats{Read: next, Delivered: next - lost, Lost: lost}) {
		t.Errorf("%d events, %d lost; %+v", next, lost, s)
	}
}

func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// The record of a loss says where and how much, between what was before and what comes after it.
func TestLossInItsPlace(t *testing.T) {
	q := newQueue(3)
	push := func(masks ...fanotify.Mask) {
		b := q.take()
		for _, m := range masks {
			b.events = append(b.events, event.Event{Mask: m, PathState: event.PathExact})
			b.paths = append(b.paths, paths{})
		}
		q.push(b)
	}
	pop := func() []string {
		var lines []string
		for {
			b, err := q.tryPop()
			must(t, err)
			if b == nil {
				return lines
			}
			lines = append(lines, tell("", b.events)...)
			q.recycle(b)
		}
	}
	push(fanotify.Create, fanotify.Modify)
	push(fanotify.Attrib, fanotify.Attrib)                    // lost
	push(fanotify.Attrib, fanotify.Overflow, fanotify.Attrib) // lost, and more
	if b, err := q.tryPop(); err != nil || len(b.events) != 2 {
		t.Fatal(b, err)
	}
	push(fanotify.Delete)
	push(fanotify.Delete, fanotify.Delete, fanotify.Delete) // lost
	compare(t, []string{"lost 4", "overflow -", "delete -", "lost 3"}, pop())
	push(fanotify.Create)
	compare(t, []string{"create -"}, pop())
	if delivered, lost := q.counts(); delivered != 5 || lost != 7 {
		t.Errorf("delivered %d, lost %d", delivered, lost)
	}
}

// What the process itself does is left out, but its renames keep the tree right; asked for, it is reported.
func TestOwnEvents(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		in(t, dir, "mkdirs r/d")
		w := start(t, dir, Config{Roots: []string{dir + "/r"}, Latency: -1})
		in(t, dir, "touch r/own\nmkdir r/d/e\nmv r/d r/f\nrm r/own")
		shell(t, dir, ": > r/f/e/x; mkdir r/end")
		compare(t, []string{"create r/f/e/x", "close_write r/f/e/x"}, bits(w, dir+"/r/end"))

		w = live(t, dir, Config{Roots: []string{dir + "/r"}})
		in(t, dir, "touch r/own\nmkdir r/end2")
		compare(t, []string{"create r/own", "close_write r/own"}, bits(w, dir+"/r/end2"))
	})
}

// bits returns the events before the sentinel, bit by bit: how they merge depends on when they are read.
func bits(w *watching, sentinel string) []string {
	w.t.Helper()
	var lines []string
	for _, e := range w.until(sentinel) {
		for _, m := range []fanotify.Mask{fanotify.Create, fanotify.Modify, fanotify.CloseWrite} {
			if e.Mask.Has(m) {
				one := e
				one.Mask = m
				lines = append(lines, tellOne(w.base, one))
			}
		}
	}
	return lines
}

// A watch that writes what it sees to what it watches doesn't see that.
func TestOutputIsNoInput(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	w := start(t, dir, Config{Roots: []string{dir}, Events: everything, Latency: -1})
	out, err := os.Create(dir + "/out")
	must(t, err)
	defer out.Close()
	shell(t, dir, ": > one; mkdir end")
	for batch, err := range w.Events(t.Context()) {
		must(t, err)
		for _, e := range batch {
			_, err := fmt.Fprintln(out, tellOne(dir, e))
			must(t, err)
			if e.Path == dir+"/out" {
				t.Fatal(tellOne(dir, e))
			}
		}
		if batch[len(batch)-1].Path == dir+"/end" {
			break
		}
	}
	must(t, out.Sync())
	shell(t, dir, ": > two; mkdir end2")
	for _, e := range w.until(dir + "/end2") {
		if e.Path == dir+"/out" {
			t.Error(tellOne(dir, e))
		}
	}
}

// A handle that can't be opened any more takes nothing else with it.
func TestStaleHandleInABatch(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		in(t, dir, "mkdirs r/gone\nmkdirs r/stays\nwrite r/gone/f")
		f, err := os.OpenFile(dir+"/r/gone/f", os.O_WRONLY, 0)
		must(t, err)
		w := late(t, dir, Config{Roots: []string{dir + "/r"}})
		in(t, dir, "rmtree r/gone")
		compare(t, []string{"delete r/gone/f", "delete|ondir r/gone"}, w.tell(w.step()))
		for h, n := range w.main.tree.nodes {
			if n.name == "gone" {
				delete(w.main.tree.nodes, h) // as if it were long ago
			}
		}
		in(t, dir, "touch r/stays/1")
		_, err = f.WriteString("late")
		must(t, err)
		in(t, dir, "touch r/stays/2")
		must(t, f.Close())
		w.expect("close_write|create r/stays/1", "close_write|create r/stays/2")
	})
}

// A file that is open may be written to when its directory is gone, too, which has no handle any more.
func TestWriteInARemovedDirectory(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		in(t, dir, "mkdirs r/d\nwrite r/d/f")
		f, err := os.OpenFile(dir+"/r/d/f", os.O_WRONLY, 0)
		must(t, err)
		in(t, dir, "rm r/d/f")
		w := late(t, dir, Config{Roots: []string{dir + "/r"}})
		in(t, dir, "rmdir r/d\nmkdir r/d")
		compare(t, []string{"delete|ondir r/d", "create|ondir r/d"}, w.tell(w.step()))
		_, err = f.WriteString("late")
		must(t, err)
		compare(t, []string{"modify r/d/f"}, w.tell(w.step()))
		must(t, f.Close())
	})
}

// A budget that a burst exceeds many times costs nothing but time.
func TestLatency(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	for _, latency := range []time.Duration{-1, 0, 100 * time.Microsecond, 20 * time.Millisecond} {
		w := start(t, dir, Config{Roots: []string{dir}, Latency: latency, OwnEvents: true})
		makeMany(t, dir, 0, 2000)
		must(t, os.Mkdir(dir+"/end", 0o755))
		made := 0
		for _, e := range w.until(dir + "/end") {
			if e.Mask.Has(fanotify.Create) {
				made++
			}
		}
		if made != 2000 {
			t.Errorf("latency %v: %d files of 2000", latency, made)
		}
		must(t, w.Close())
		must(t, os.RemoveAll(dir+"/end"))
		for i := range 2000 {
			must(t, os.Remove(dir+"/"+strconv.Itoa(i)))
		}
	}
}
