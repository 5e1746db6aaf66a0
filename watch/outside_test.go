package watch

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// A directory from outside of the mount that is watched, which was met there with some of what is in it, comes in.
func TestMovedInFromOutsideTheMount(t *testing.T) {
	base := fstest.New(t, fstest.Tmpfs)
	in(t, base, "mkdirs t/sub\nmkdirs t/other/d\nmkdir b")
	fstest.Bind(t, base+"/t/sub", base+"/b")
	w := late(t, base, Config{Roots: []string{base + "/b"}})
	in(t, base, "mkdir t/other/e\ntouch t/other/e/f\ntouch t/other/d/f")
	compare(t, nil, w.tell(w.step()))
	in(t, base, "mv t/other t/sub/in\ntouch t/sub/in/e/x\ntouch t/sub/in/d/x")
	events := w.tell(w.step())
	compare(t, []string{"close_write|create b/in/e/x", "close_write|create b/in/d/x"}, events[1:])
}

// Where the kernel can't be asked for a directory, because something is mounted over every way to it, nobody knows
// whether its events are wanted: a record says so. Where there is another way, that is taken.
func TestNobodyToAsk(t *testing.T) {
	for _, otherWay := range []bool{false, true} {
		base := fstest.New(t, fstest.Tmpfs)
		in(t, base, "mkdirs r/d1/d2")
		if otherWay {
			fstest.Bind(t, base, ground(t, fstest.New(t, fstest.Tmpfs), "way"))
		}
		w := late(t, base, Config{Roots: []string{base + "/r"}})
		var dirs []int
		for _, name := range []string{"/r", "/r/d1/d2"} {
			fd, err := unix.Open(base+name, unix.O_PATH|unix.O_CLOEXEC, 0)
			must(t, err)
			dirs = append(dirs, fd)
		}
		must(t, unix.Mount("none", base, "tmpfs", 0, ""))
		makeAt(t, dirs[0], "seen")
		makeAt(t, dirs[1], "one")
		makeAt(t, dirs[1], "two")
		want, losses := []string{"close_write|create r/seen", "mnt_attach .", "overflow r"}, uint64(1)
		if otherWay {
			want, losses = []string{
				"close_write|create r/seen", "close_write|create r/d1/d2/one", "close_write|create r/d1/d2/two", "mnt_attach .",
			}, 0
		}
		compare(t, want, w.tell(w.step()))
		if n := w.Stats().Overflows; n != losses {
			t.Errorf("%d losses, want %d", n, losses)
		}
		must(t, unix.Unmount(base, 0))
		for _, fd := range dirs {
			must(t, unix.Close(fd))
		}
	}
}

// Paths that wait for the consumer are bounded in bytes, not only in number.
func TestQueuedPathsAreBounded(t *testing.T) {
	q := newQueue(1 << 30)
	long := make([]byte, maxBatch)
	pushed := 0
	for range 2 * maxText / maxBatch {
		b := q.take()
		b.text = append(b.text, long...)
		b.add(paths{0, uint32(len(long)), uint32(len(long))})
		q.push(b)
		pushed++
	}
	if q.text > maxText || len(q.batches) != maxText/maxBatch {
		t.Errorf("%d batches with %d bytes wait", len(q.batches), q.text)
	}
	if _, lost := q.counts(); int(lost)+len(q.batches) != pushed {
		t.Errorf("%d wait and %d are lost of %d", len(q.batches), lost, pushed)
	}
	for range maxText / maxBatch {
		if b, err := q.tryPop(); err != nil || len(b.events[0].Path) != maxBatch {
			t.Fatal(err)
		}
	}
	if q.text != 0 {
		t.Errorf("%d bytes wait in an empty queue", q.text)
	}
	if b, _ := q.tryPop(); b == nil || b.events[0].Lost == 0 {
		t.Error("no record of the loss")
	}
}

// e-dant/watcher reports only the first directory.
func TestMkdirAllAndFile(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		w := live(t, dir, Config{Roots: []string{dir}})
		must(t, os.MkdirAll(dir+"/a/b/c", 0o755))
		must(t, os.WriteFile(dir+"/a/b/c/f", nil, 0o644))
		must(t, os.Mkdir(dir+"/end", 0o755))
		want := map[string]bool{dir + "/a": true, dir + "/a/b": true, dir + "/a/b/c": true, dir + "/a/b/c/f": true}
		for _, e := range w.until(dir + "/end") {
			delete(want, e.Path)
		}
		if len(want) > 0 {
			t.Errorf("not reported: %v", want)
		}
	})
}
