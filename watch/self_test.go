package watch

import (
	"fmt"
	"os"
	"testing"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// The self events of files have no name. Where nobody asked for them they are not seen, where somebody did they come
// with the name that the record beside them has, or not at all.
func TestSelfEvents(t *testing.T) {
	const self = fanotify.DeleteSelf | fanotify.MoveSelf
	stories := []struct {
		before, story string
		asked, usual  []string
	}{
		{"write f", "rm f", []string{"delete_self f"}, []string{"delete f"}},
		{"write f", "mv f g", []string{"move_self g"}, []string{"rename f -> g"}},
		{"write f\nwrite g", "mv f g", []string{"move_self g"}, []string{"rename f -> g"}},
		{"write f\nln f g", "rm f", nil, []string{"delete f"}},
		{"write f", "ln f g", nil, []string{"create g"}},
		{"mkdir d", "rmdir d", []string{"delete_self|ondir d"}, []string{"delete|ondir d"}},
		{"mkdirs d/e", "mv d/e f", []string{"move_self|ondir f"}, []string{"rename|ondir d/e -> f"}},
		{"mkdirs d\nmkdir e", "mv d e", []string{"move_self|ondir e"}, []string{"rename|ondir d -> e"}},
		{"mkdirs d\nwrite d/f", "rmtree d", []string{"delete_self d/f", "delete_self|ondir d"}, []string{"delete d/f", "delete|ondir d"}},
		{"mkdirs d\nwrite d/f", "mv d/f g\nmv d e", []string{"move_self g", "move_self|ondir e"}, []string{"rename d/f -> g", "rename|ondir d -> e"}},
	}
	fstest.Each(t, func(t *testing.T, dir string) {
		for _, whole := range []bool{false, true} {
			for i, s := range stories {
				for mask, want := range map[fanotify.Mask][]string{self: s.asked, 0: s.usual} {
					at := ground(t, dir, fmt.Sprint(i, whole, mask))
					in(t, at, s.before)
					root := at
					if whole {
						root = dir
					}
					w := late(t, at, Config{Roots: []string{root}, Events: mask})
					in(t, at, s.story)
					t.Logf("%s; %s", s.before, s.story)
					w.expect(want...)
				}
			}
		}
	})
}

// Each of two renames has its own name, although the file is one.
func TestMovedTwice(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	in(t, dir, "write a")
	w := late(t, dir, Config{Roots: []string{dir}, Events: fanotify.MoveSelf})
	shell(t, dir, "mv a b; mv b c; mv c d; true") // by three processes: no two records merge
	w.expect("move_self b", "move_self c", "move_self d")
}

// The record that has the name may come with the next read.
func TestRemovedInTheNextRead(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	const n = 10_000 // some reads
	makeMany(t, dir, 0, n)
	w := late(t, dir, Config{Roots: []string{dir}, Events: fanotify.DeleteSelf})
	for i := range n {
		must(t, os.Remove(fmt.Sprint(dir, "/", i)))
	}
	events := w.stop()
	if len(events) != n {
		t.Errorf("%d events of %d", len(events), n)
	}
	for i, e := range events {
		if got, want := tellOne(dir, e), fmt.Sprint("delete_self ", i); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}
