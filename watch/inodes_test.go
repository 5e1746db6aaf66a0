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
			"create|ondir c", "found create|ondir c/a (current)", "rename|ondir a -> -", "close_write|create c/a/b/f (current)",
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
