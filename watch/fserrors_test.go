package watch

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// TestFSErrors aborts an ext4 filesystem, as its own errors do, beside one that reports none and one that can't.
func TestFSErrors(t *testing.T) {
	dir, other, without := fstest.New(t, fstest.Ext4), fstest.New(t, fstest.Tmpfs), fstest.New(t, fstest.Overlay)
	w, err := New(Config{
		Roots: []string{dir, other, without}, Events: fanotify.Create | fanotify.FSError, OwnEvents: true, OnlyRoots: true,
	})
	must(t, err)
	defer w.Close()
	for _, c := range w.Coverage() {
		if unseen := slices.Contains(c.Unseen, UnseenErrors); unseen != (c.Root == without) {
			t.Errorf("%s: %v", c.Root, c.Unseen)
		}
	}
	must(t, touch(dir+"/before"))
	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT, "abort"))
	must(t, touch(other+"/after"))
	w.Stop()
	got := map[string]event.Event{}
	for batch, err := range w.Events(t.Context()) {
		must(t, err)
		for _, e := range batch {
			got[e.Mask.String()+" "+e.Path] = e
		}
	}
	e, ok := got["fs_error "+dir]
	if !ok || e.FSError == nil || *e.FSError != (event.FSError{Errno: int32(unix.ESHUTDOWN), Count: 1}) ||
		e.PathState != event.PathExact || len(got) != 3 {
		t.Errorf("got %+v, in it %+v", got, e.FSError)
	}
}
