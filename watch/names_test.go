package watch

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/internal/fstest"
)

var names = []string{
	"a\nb", "\x1b[31mred\x07", "\xff\xfe not UTF-8", strings.Repeat("n", 255), "-rf", " ", "...", "a\\b", "a\tb",
	"gone (deleted)", " (deleted)", "%s%n", "unreachable)", "(unreachable)",
}

// Names are bytes, whatever they look like: in records and in the kernel's answers.
func TestNames(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		for i, name := range names {
			t.Run(fmt.Sprintf("%q", name[:min(len(name), 16)]), func(t *testing.T) {
				at := ground(t, dir, fmt.Sprint(i))
				must(t, os.MkdirAll(at+"/old/"+name+"/"+name, 0o755))
				must(t, os.MkdirAll(at+"/kept/"+name+"/"+name, 0o755))
				w := late(t, at, Config{Roots: []string{at}})
				must(t, touch(at+"/"+name))
				must(t, touch(at+"/kept/"+name+"/"+name+"/f")) // asked for
				must(t, touch(at+"/old/"+name+"/"+name+"/f"))
				must(t, os.MkdirAll(at+"/new/"+name, 0o755))
				must(t, touch(at+"/new/"+name+"/"+name)) // from the records
				must(t, os.Rename(at+"/"+name, at+"/new/"+name+"/g"))
				must(t, os.RemoveAll(at+"/old/"+name)) // too late to ask
				w.expect(
					"close_write|create "+name,
					"close_write|create kept/"+name+"/"+name+"/f",
					"close_write|create|delete old/"+name+"/"+name+"/f",
					"create|ondir new", "create|ondir new/"+name,
					"close_write|create new/"+name+"/"+name,
					"rename "+name+" -> new/"+name+"/g",
					"delete|ondir old/"+name+"/"+name, "delete|ondir old/"+name,
				)
			})
		}
	})
}

// A root may have any name, too.
func TestNamesOfRoots(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	for _, name := range names {
		at := ground(t, dir, name)
		w := late(t, at, Config{Roots: []string{at}})
		in(t, at, "mkdir d\ntouch d/f")
		w.expect("create|ondir d", "close_write|create d/f")
	}
}

// A directory may lie deeper than any path that a system call takes.
func TestDeeperThanPathMax(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		const levels = 30
		name := strings.Repeat("d", 200)
		deep := strings.Repeat("/"+name, levels)
		events := func(w *watching) []event.Event {
			fd := descend(t, dir, name, levels)
			defer unix.Close(fd)
			makeAt(t, fd, "f")
			must(t, unix.Unlinkat(fd, "f", 0))
			return w.step()
		}
		want := "close_write|create|delete " + deep[1:] + "/f"
		w := late(t, dir, Config{Roots: []string{dir}})
		got := w.tell(events(w))
		if len(got) != levels+1 || got[levels] != want {
			t.Errorf("made: %q", got)
		}
		w = late(t, dir, Config{Roots: []string{dir}})
		compare(t, []string{want}, w.tell(events(w)))
		w = late(t, dir, Config{Roots: []string{dir}, MaxDirs: 1})
		must(t, os.RemoveAll(dir+"/"+name))
		var wanted []string
		for i := levels; i > 0; i-- {
			wanted = append(wanted, "delete|ondir "+strings.Repeat("/"+name, i)[1:])
		}
		got = w.tell(w.stop())
		if !slices.Equal(got, wanted) {
			t.Errorf("removed: %q", got)
		}
	})
}

// descend makes directories of one name, one in the other, where there are none, and returns the last one.
func descend(t *testing.T, dir, name string, levels int) int {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	must(t, err)
	for range levels {
		if err := unix.Mkdirat(fd, name, 0o755); err != nil && err != unix.EEXIST {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, name, unix.O_PATH|unix.O_CLOEXEC, 0)
		must(t, err)
		must(t, unix.Close(fd))
		fd = next
	}
	return fd
}
