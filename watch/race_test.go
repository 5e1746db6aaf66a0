package watch

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// An empty directory that a rename replaces goes without a record: what happened in it before, never seen until then,
// has no place that is sure. What came out of it isn't said to be where it is now.
func TestReplaced(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		for i, known := range []bool{true, false} {
			at := ground(t, dir, fmt.Sprint(i))
			in(t, at, "mkdirs x/b\nmkdir new")
			w := late(t, at, Config{Roots: []string{dir}})
			want := []string{
				"create|ondir - (unknown)", "rename|ondir - -> c (unknown)", "rename|ondir - -> b (unknown)",
				"rename|ondir new -> x", "close_write|create c/f",
			}
			if known {
				in(t, at, "chmod x")
				compare(t, []string{"attrib|ondir x"}, w.tell(w.step()))
				want = []string{
					"create|ondir x/c", "rename|ondir x/c -> c", "rename|ondir x/b -> b", "rename|ondir new -> x",
					"attrib|ondir x", "close_write|create c/f",
				}
			}
			in(t, at, "mkdir x/c\nmv x/c c\nmv x/b b\nmv new x\ntouch c/f")
			w.expect(want...)
		}
	})
}

// Events know their process; what they know is left out where nobody wants it.
func TestProcesses(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	exe, err := os.Readlink("/proc/self/exe")
	must(t, err)
	for _, without := range []bool{false, true} {
		w := late(t, dir, Config{Roots: []string{dir}, NoProcesses: without})
		in(t, dir, "touch f\nrm f")
		events := w.stop()
		if len(events) != 1 || events[0].PID != int32(os.Getpid()) {
			t.Fatalf("%+v", events)
		}
		switch p := events[0].Process; {
		case without && p != nil:
			t.Errorf("%+v", p)
		case !without && (p == nil || p.PID != int32(os.Getpid()) || p.PPID != int32(os.Getppid()) ||
			p.State != event.ProcessLive || p.Exe != exe):
			t.Errorf("%+v", p)
		}
	}
}

// A directory that is first met while it is renamed or removed: the kernel does that first and tells then. An answer
// from in between must not be taken for the place as of the event, nor for the end of all knowledge.
func TestMetWhileItChanges(t *testing.T) {
	const n = 3000
	dir := fstest.New(t, fstest.Tmpfs)
	for i := range n {
		at := ground(t, dir, fmt.Sprint("r/moved", i))
		must(t, unix.Mkdir(fmt.Sprint(dir, "/r/removed", i), 0o755))
		must(t, unix.Mknod(fmt.Sprint(dir, "/r/removed", i, "/f"), unix.S_IFREG, 0))
		must(t, unix.Mkdir(at+"/sub", 0o755))
	}
	w := live(t, dir, Config{Roots: []string{dir + "/r"}})
	for i := range n {
		must(t, unix.Mknod(fmt.Sprint(dir, "/r/moved", i, "/sub/f"), unix.S_IFREG, 0))
		must(t, unix.Rename(fmt.Sprint(dir, "/r/moved", i), fmt.Sprint(dir, "/r/later", i)))
		must(t, unix.Unlink(fmt.Sprint(dir, "/r/removed", i, "/f")))
		must(t, unix.Rmdir(fmt.Sprint(dir, "/r/removed", i)))
	}
	var want []string
	for i := range n {
		want = append(want,
			fmt.Sprint("create r/moved", i, "/sub/f"), fmt.Sprint("rename|ondir r/moved", i, " -> r/later", i),
			fmt.Sprint("delete r/removed", i, "/f"), fmt.Sprint("delete|ondir r/removed", i),
		)
	}
	var got []string
	for _, e := range w.stop() {
		if e.Mask&(fanotify.Create|fanotify.Rename|fanotify.Delete) != 0 {
			got = append(got, tellOne(dir, e))
		}
	}
	compare(t, want, got)
}
