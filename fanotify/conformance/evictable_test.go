package conformance_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// TestLTP23Evictable lets the kernel forget an inode together with its mark, on ext2, whose inodes go at once.
//
// Proves FAN_MARK_EVICTABLE.
func TestLTP23Evictable(t *testing.T) {
	fstest.NeedKernel(t, fanotify.Supports(fanotify.FeatureEvictable))
	dir := fstest.New(t, fstest.Ext2)
	name := file(t, dir, "file")
	g := newGroup(t, fanotify.Config{Report: fanotify.ReportFID})
	o := objects{handleAt(t, name): "file"}
	gone := func() bool {
		err := g.Unmark(inode, name, fanotify.Access, 0) // which the mark hasn't
		if err != nil && !errors.Is(err, unix.ENOENT) {
			t.Fatal(err)
		}
		return err != nil
	}

	mark(t, g, inode, name, fanotify.Access, fanotify.Evictable)
	mark(t, g, inode, name, fanotify.Access, 0)
	if err := g.Mark(inode, name, fanotify.Access, fanotify.Evictable); !errors.Is(err, unix.EEXIST) {
		t.Errorf("a mark became evictable again: got %v, want %v", err, unix.EEXIST)
	}
	unmark(t, g, inode, name, fanotify.Access, 0)
	if !gone() {
		t.Error("the mark is still there without a bit")
	}

	chmod := func(after string, want ...string) {
		t.Helper()
		check(t, os.Chmod(name, 0o600))
		expect(t, after, queued(t, g, by(t, os.Getpid(), o.describe)), want...)
	}
	mark(t, g, filesystem, dir, fanotify.Attrib, 0)
	chmod("marking the filesystem", "attrib object=file")
	mark(t, g, inode, name, fanotify.Attrib, fanotify.Evictable|fanotify.IgnoredMask|fanotify.IgnoredSurvModify)
	chmod("ignoring the file")
	if gone() { // not even when somebody else drops caches: chmod made the inode dirty
		t.Error("the ignore mask is gone before its time")
	}

	f := openFile(t, name, os.O_RDONLY)
	check(t, f.Sync(), f.Close()) // a dirty inode stays
	deadline := time.Now().Add(patience)
	for !gone() {
		if time.Now().After(deadline) {
			t.Fatalf("the mark is still there after %v of dropped caches", patience)
		}
		// The first time only takes away the second chance that a used inode has. Looking for the mark uses it again.
		for range 2 {
			check(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0))
		}
	}
	chmod("dropping the caches", "attrib object=file")
}
