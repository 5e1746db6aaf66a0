package watch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"

	"fanlight/internal/fstest"
)

// inodeKinds are the filesystems whose directories are marked one by one. FUSE has a group of its own.
var inodeKinds = []string{fstest.Overlay, fstest.FUSE}

// Directories are followed wherever they are made and moved.
func TestInodes(t *testing.T) {
	stories := []struct {
		name, before, story string
		want                []string
	}{
		{"what is there", "mkdirs a/b/c\nwrite a/b/c/f", "write a/b/c/f\nmkdir a/b/c/d\nrm a/b/c/f", []string{
			"modify|close_write|delete a/b/c/f", "create|ondir a/b/c/d",
		}},
		{"made and filled", "", "mkdirs a/b/c\ntouch a/b/c/f", []string{
			"create|ondir a", "found create|ondir a/b", "found create|ondir a/b/c", "found create a/b/c/f",
		}},
		{"moved", "mkdirs a/b/c", "mv a d\ntouch d/b/c/f\nmv d/b e\ntouch e/c/g", []string{
			"rename|ondir a -> d", "close_write|create d/b/c/f", "rename|ondir d/b -> e", "close_write|create e/c/g",
		}},
		{"a new one at the old name", "mkdir a", "mv a b\nmkdir a\ntouch a/f\ntouch b/f", []string{
			"rename|ondir a -> b", "create|ondir a", "found create a/f", "close_write|create b/f",
		}},
		{"made again", "mkdir a\nwrite a/f", "rmtree a\nmkdir a\ntouch a/g", []string{
			"delete a/f", "delete|ondir a", "create|ondir a", "found create a/g",
		}},
		{"made and moved", "", "mkdir a\ntouch a/f\nmv a b\ntouch b/g\nmkdir a\ntouch a/h", []string{
			"create|ondir a", "rename|ondir a -> b", "found create b/f", "found create b/g", "create|ondir a", "found create a/h",
		}},
		{"below one that moves", "mkdir a", "mkdir a/b\ntouch a/b/f\nmv a c\ntouch c/b/g", []string{
			"create|ondir a/b", "rename|ondir a -> c", "found create c/b/f", "found create c/b/g",
		}},
		{"replaced", "mkdirs a/x\nmkdir b", "mv b a/x\ntouch a/x/f\nrmtree a", []string{
			"rename|ondir b -> a/x", "attrib|ondir a/x", "close_write|create|delete a/x/f", "delete|ondir a/x", "delete|ondir a",
		}},
		{"exchanged", "mkdirs a/x\nmkdir b", "exchange a b\ntouch a/f\ntouch b/x/f", []string{
			"rename|ondir a -> b", "rename|ondir b -> a", "close_write|create a/f", "close_write|create b/x/f",
		}},
		{"moved out and back", "mkdirs a/x", "touch a/x/1\nmv a ../out\ntouch ../out/x/2\nmkdir ../out/y\ntouch ../out/y/3\nmv ../out b\ntouch b/x/4", []string{
			"close_write|create a/x/1", "rename|ondir a -> -", "rename|ondir - -> b", "found create|ondir b/x (current)",
			"found create b/x/1 (current)", "found create b/x/2 (current)", "found create|ondir b/y (current)",
			"found create b/y/3 (current)", "close_write|create b/x/4 (current)",
		}},
		{"moved in", "mkdirs ../in/a\nwrite ../in/a/f", "mv ../in b\ntouch b/a/g\nrm b/a/f", []string{
			"rename|ondir - -> b", "found create|ondir b/a", "found create b/a/g",
		}},
		{"a file through a new directory", "write f", "mkdir a\nmv f a/f\nmv a/f g", []string{
			"create|ondir a", "rename f -> -", "rename - -> g",
		}},
		{"a directory into a new one", "mkdirs a/b", "mkdir c\nmv a c/a\ntouch c/a/b/f", []string{
			"create|ondir c", "rename|ondir a -> c/a (current)", "close_write|create c/a/b/f (current)",
		}},
	}
	eachOf(t, inodeKinds, func(t *testing.T, dir string) {
		for i, s := range stories {
			t.Run(s.name, func(t *testing.T) {
				if s.name == "exchanged" && strings.HasSuffix(t.Name(), "fuse/exchanged") {
					return // bindfs can't
				}
				at := ground(t, dir, fmt.Sprint(i, "/r"))
				in(t, at, s.before)
				w := late(t, at, Config{Roots: []string{at}})
				in(t, at, s.story)
				w.expect(s.want...)
			})
		}
	})
}

// Trees that are made at full speed, by several at a time, while others are renamed and removed: every name that is left
// was told, and none twice.
func TestInodesAtFullSpeed(t *testing.T) {
	eachOf(t, inodeKinds, func(t *testing.T, dir string) {
		in(t, dir, "mkdirs r/old/1\nmkdir r/0\nmkdir r/1\nmkdir r/2")
		w := live(t, dir, Config{Roots: []string{dir + "/r"}})
		var made sync.WaitGroup
		for i := range 3 {
			made.Go(func() {
				for n := range 300 {
					at := fmt.Sprintf("%s/r/%d/%d", dir, i, n)
					if err := errors.Join(os.MkdirAll(at+"/b/c", 0o755), touch(at+"/b/c/f"), touch(at+"/b/g")); err != nil {
						t.Error(err)
					}
					switch n % 4 {
					case 1:
						must(t, unix.Rename(at, at+"m"))
						must(t, os.MkdirAll(at+"/n/o", 0o755))
					case 2:
						must(t, os.RemoveAll(at))
					case 3:
						must(t, unix.Rename(at+"/b", at+"/d"))
						must(t, touch(at+"/d/c/h"))
					}
				}
			})
		}
		made.Wait()
		want := map[string]bool{}
		must(t, filepath.WalkDir(dir+"/r", func(path string, _ os.DirEntry, err error) error {
			want[path] = true
			return err
		}))
		told := map[string]bool{}
		rename := func(from, to string) {
			for path := range told {
				if rest, ok := strings.CutPrefix(path, from); ok && (rest == "" || rest[0] == '/') {
					delete(told, path)
					told[to+rest] = true
				}
			}
		}
		found := 0
		for _, e := range w.stop() {
			switch {
			case e.Mask.Has(fanotify.Overflow):
				t.Error("overflow")
			case e.Mask.Has(fanotify.Rename):
				if e.Path != "" && e.NewPath != "" {
					rename(e.Path, e.NewPath)
				}
				if e.NewPath != "" {
					told[e.NewPath] = true
				}
			case e.Mask.Has(fanotify.Create):
				if told[e.Path] {
					t.Errorf("twice: %s", tellOne(dir, e))
				}
				if e.Found && (e.PID != 0 || e.Process != nil) {
					t.Errorf("a process: %s", tellOne(dir, e))
				}
				if e.Found {
					found++
				}
				told[e.Path] = !e.Mask.Has(fanotify.Delete)
			}
			if e.Mask.Has(fanotify.Delete) {
				delete(told, e.Path)
			}
		}
		for path := range want {
			if !told[path] && !slices.Contains([]string{"", "/old", "/old/1", "/0", "/1", "/2"}, strings.TrimPrefix(path, dir+"/r")) {
				t.Errorf("missing: %s", path)
			}
		}
		t.Logf("%d names are left, %d were found", len(want), found)
		if c := w.Coverage(); c[0].Missed != 0 || c[0].Form != FormInodes || c[0].Reason == nil {
			t.Errorf("%+v", c)
		}
	})
}

// A root is followed when it is renamed, and watched again when it, or a directory above it, is made again.
func TestInodesRoots(t *testing.T) {
	eachOf(t, inodeKinds, func(t *testing.T, dir string) {
		in(t, dir, "mkdirs a/b/root/d")
		w := late(t, dir, Config{Roots: []string{dir + "/a/b/root"}})
		in(t, dir, "touch a/other\nmkdir a/b/beside\ntouch a/b/beside/f\nmv a/b/root a/moved\ntouch a/moved/d/1\nmv a c\ntouch c/moved/2")
		compare(t, []string{
			"rename|ondir a/b/root -> a/moved", "close_write|create a/moved/d/1", "close_write|create c/moved/2",
		}, w.tell(w.step()))
		in(t, dir, "mkdirs a/b/root/d\ntouch a/b/root/f\ntouch a/b/g")
		compare(t, []string{
			"found create|ondir a/b/root", "found create|ondir a/b/root/d", "found create a/b/root/f",
		}, w.tell(w.step()))
		in(t, dir, "rm a/b/root/f\nrmtree a/b\nmkdirs a/b/root\ntouch a/b/root/g")
		compare(t, []string{
			"delete a/b/root/f", "delete|ondir a/b/root/d", "delete|ondir a/b/root", "found create|ondir a/b/root",
			"found create a/b/root/g",
		}, w.tell(w.step()))
		in(t, dir, "touch a/b/root/h\ntouch c/moved/d/i")
		w.expect("close_write|create a/b/root/h", "close_write|create c/moved/d/i")

		in(t, dir, "mkdirs e/f\nwrite e/f/file")
		w = late(t, dir, Config{Roots: []string{dir + "/e/f/file"}})
		in(t, dir, "write e/f/file\ntouch e/f/other\nrmtree e\nmkdirs e/f\ntouch e/f/file")
		compare(t, []string{"modify|close_write|delete e/f/file", "found create e/f/file"}, w.tell(w.step()))
		in(t, dir, "chmod e/f/file\ntouch e/f/other\nmv e/f/other e/f/file")
		w.expect("attrib e/f/file", "rename - -> e/f/file")
	})
}

// Beyond the limit of marks nothing is silent: Coverage counts what is missing from the start, and what comes later is an
// overflow. What is free again is used.
func TestInodesLimit(t *testing.T) {
	eachOf(t, inodeKinds, func(t *testing.T, dir string) {
		in(t, dir, "mkdirs a/b\nmkdir c\nmkdir d")
		w := late(t, dir, Config{Roots: []string{dir}, MaxMarks: 4})
		c := w.Coverage()[0]
		if c.Marked != 4 || c.Missed != 1 || !errors.Is(c.MissedReason, errBudget) {
			t.Errorf("%+v", c)
		}
		in(t, dir, "rmtree a\nmkdir e\nmkdir f\nmkdir g\ntouch f/1\ntouch g/2")
		got := w.tell(w.step())
		if n := len(got); n == 0 || got[n-1] != "overflow ." || slices.Index(got, "overflow .") != n-1 {
			t.Errorf("%q", got)
		}
		if c := w.Coverage()[0]; c.Marked != 4 || c.Missed < 1 {
			t.Errorf("%+v", c)
		}
		if n := w.Stats().Overflows; n != 1 {
			t.Errorf("%d overflows", n)
		}
	})
}

// Without descriptors for the moment, directories are marked later; a record says that something may be missing.
func TestInodesWithoutDescriptors(t *testing.T) {
	eachOf(t, inodeKinds, func(t *testing.T, dir string) {
		in(t, dir, "mkdir a")
		w := late(t, dir, Config{Roots: []string{dir}})
		in(t, dir, "mkdirs b/c\ntouch b/c/f")
		var limit unix.Rlimit
		must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
		none := limit
		none.Cur = 0
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &none))
		got := w.tell(w.step())
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		compare(t, []string{"create|ondir b", "overflow ."}, got)
		if c := w.Coverage()[0]; c.Missed != 1 || !errors.Is(c.MissedReason, unix.EMFILE) {
			t.Errorf("%+v", c)
		}
		in(t, dir, "touch a/g") // any event; without one, time does it
		compare(t, []string{
			"close_write|create a/g", "found create|ondir b/c", "found create b/c/f",
		}, w.tell(w.step()))
		if c := w.Coverage()[0]; c.Missed != 0 || c.Marked != 4 {
			t.Errorf("%+v", c)
		}
		in(t, dir, "touch b/c/h")
		w.expect("close_write|create b/c/h")
	})
}

// After a loss everything is walked again, and paths are exact again when that is done.
func TestInodesAfterOverflow(t *testing.T) {
	eachOf(t, inodeKinds, func(t *testing.T, dir string) {
		in(t, dir, "mkdirs a/b/c\nmkdir gone\nmkdirs x/y")
		w := late(t, dir, Config{Roots: []string{dir}, MaxBacklog: 1000})
		in(t, dir, "mv a/b moved\nrmdir gone\nmkdirs new/n\nmv x/y x/z")
		for i := range 20_000 {
			must(t, touch(fmt.Sprint(dir, "/a/", i)))
		}
		got := w.tell(w.step())
		if !slices.Contains(got, "overflow .") {
			t.Errorf("no overflow in %d events", len(got))
		}
		if c := w.Coverage()[0]; c.Marked != 8 || c.Missed != 0 {
			t.Errorf("%+v", c)
		}
		in(t, dir, "touch moved/c/f\ntouch new/n/f\ntouch x/z/f\nmv moved/c c\ntouch c/g")
		w.expect("close_write|create moved/c/f", "close_write|create new/n/f", "close_write|create x/z/f",
			"rename|ondir moved/c -> c", "close_write|create c/g")
	})
}
