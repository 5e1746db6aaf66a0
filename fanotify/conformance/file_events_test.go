package conformance_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// TestLTP01FileEventsAndIgnoreMasks opens, reads, writes and closes a file, then does so with parts of it ignored.
//
// Proves FAN_ACCESS, FAN_MODIFY, FAN_OPEN, FAN_CLOSE_WRITE, FAN_CLOSE_NOWRITE, FAN_MARK_IGNORED_MASK,
// FAN_MARK_IGNORED_SURV_MODIFY.
func TestLTP01FileEventsAndIgnoreMasks(t *testing.T) {
	const events = fanotify.Access | fanotify.Modify | fanotify.Close | fanotify.Open
	onEach(t, allFilesystems, func(t *testing.T, kind, dir string) {
		other := fstest.New(t, fstest.Tmpfs)
		for i, row := range []struct {
			name   string
			target fanotify.Target
			report fanotify.Report
		}{
			0: {"inode_mark_fd", inode, 0},
			1: {"inode_mark_fid", inode, fanotify.ReportFID},
			2: {"mount_mark_fd", mount, 0},
			3: {"mount_mark_fid", mount, fanotify.ReportFID},
			4: {"filesystem_mark_fd", filesystem, 0},
			5: {"filesystem_mark_fid", filesystem, fanotify.ReportFID},
		} {
			t.Run(row.name, func(t *testing.T) {
				path := file(t, dir, fmt.Sprint("file", i))
				g := newGroup(t, fanotify.Config{Report: row.report})
				handles := row.report != 0
				// FUSE has no filesystem id, so that its handles don't say on which filesystem an object is.
				weak := handles && kind == fstest.FUSE
				if weak && row.target != inode {
					if err := g.Mark(row.target, path, events, 0); !errors.Is(err, unix.ENODEV) {
						t.Errorf("mark: %v, want %v", err, unix.ENODEV)
					}
					return
				}
				mark(t, g, row.target, path, events, 0)

				content := fmt.Sprint("file", i)
				describe := by(t, os.Getpid(), func(e *fanotify.Event) string {
					if handles {
						return objects{handleAt(t, path): "file"}.describe(e)
					}
					if text := contentOf(t, e); text != content {
						t.Errorf("the descriptor of %s reads %q, want %q", e.Mask, text, content)
					}
					return e.Mask.String()
				})
				var f *os.File
				open := func(flags int) func() {
					return func() { f = openFile(t, path, flags) }
				}
				read := func() { readSome(t, f) }
				write := func() {
					_, err := f.WriteAt([]byte(content), 0)
					check(t, err)
				}
				shut := func() { check(t, f.Close()) }
				const survive = fanotify.IgnoredMask | fanotify.IgnoredSurvModify
				for _, step := range []struct {
					what string
					do   func()
					want fanotify.Mask // 0 is no event
				}{
					{"open to read", open(os.O_RDONLY), fanotify.Open},
					{"read", read, fanotify.Access},
					{"close", shut, fanotify.CloseNowrite},
					{"open to write", open(os.O_RDWR | os.O_CREATE), fanotify.Open},
					{"write", write, fanotify.Modify},
					{"close", shut, fanotify.CloseWrite},

					{"ignore access", func() { mark(t, g, row.target, path, fanotify.Access, fanotify.IgnoredMask) }, 0},
					{"open", open(os.O_RDWR), fanotify.Open},
					{"read, ignored", read, 0},
					{"write, which ends ignoring", write, fanotify.Modify},
					{"seek", func() { _, err := f.Seek(0, 0); check(t, err) }, 0},
					{"read", read, fanotify.Access},
					{"close", shut, fanotify.CloseWrite},

					{"ignore open and close", func() { mark(t, g, row.target, path, fanotify.Open|fanotify.Close, survive) }, 0},
					{"open, ignored", open(os.O_RDWR), 0},
					{"write", write, fanotify.Modify},
					{"close, ignored", shut, 0},
					{"open, still ignored", open(os.O_RDWR), 0},
					{"ignore no more", func() {
						unmark(t, g, row.target, path, fanotify.Open|fanotify.Close, fanotify.IgnoredMask)
					}, 0},
					{"close", shut, fanotify.CloseWrite},
				} {
					step.do()
					var want []string
					switch {
					case step.want == 0:
					case handles:
						want = []string{step.want.String() + " object=file"}
					default:
						want = []string{step.want.String()}
					}
					expect(t, step.what, queued(t, g, describe), want...)
				}

				// A group with handles can't tell a filesystem without an id from another.
				var want error
				if weak {
					want = unix.EXDEV
				}
				if err := g.Mark(inode, other, fanotify.CloseWrite, 0); !errors.Is(err, want) {
					t.Errorf("mark on another filesystem: %v, want %v", err, want)
				}
			})
		}
	})
}

// TestLTP02Children watches the files in a directory, then only the directory.
//
// Proves FAN_EVENT_ON_CHILD.
func TestLTP02Children(t *testing.T) {
	const events = fanotify.Access | fanotify.Modify | fanotify.Close | fanotify.Open
	fstest.Each(t, func(t *testing.T, dir string) {
		d := mkdir(t, dir, "dir")
		g := newGroup(t, fanotify.Config{})
		mark(t, g, inode, d, events|fanotify.EventOnChild|fanotify.OnDir, 0)
		describe := by(t, os.Getpid(), maskAndFile(t))
		var f *os.File
		for _, step := range []struct {
			what string
			do   func()
			want []string
		}{
			{"create a file", func() { f = openFile(t, d+"/file", os.O_CREATE|os.O_RDWR) }, []string{"open file"}},
			{"write", func() { writeSome(t, f) }, []string{"modify file"}},
			{"close", func() { check(t, f.Close()) }, []string{"close_write file"}},
			{"open", func() { f = openFile(t, d+"/file", os.O_RDONLY) }, []string{"open file"}},
			{"read", func() { readSome(t, f) }, []string{"access file"}},
			{"close", func() { check(t, f.Close()) }, []string{"close_nowrite file"}},
			{"watch children no more", func() { unmark(t, g, inode, d, fanotify.EventOnChild, 0) }, nil},
			{"open and close the file", func() { touch(t, d+"/file") }, nil},
			{"open the directory", func() { f = openFile(t, d, os.O_RDONLY) }, []string{"open dir"}},
			{"close the directory", func() { check(t, f.Close()) }, []string{"close_nowrite dir"}},
		} {
			step.do()
			expect(t, step.what, queued(t, g, describe), step.want...)
		}
	})
}

// TestLTP11ThreadID lets a thread write that is not the process's first, whose id is the process's.
//
// Proves FAN_REPORT_TID.
func TestLTP11ThreadID(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		for _, row := range []struct {
			name   string
			report fanotify.Report
			id     func() int
		}{
			{"process", 0, os.Getpid},
			{"thread", fanotify.ReportTID, unix.Gettid},
		} {
			t.Run(row.name, func(t *testing.T) {
				f := openFile(t, file(t, dir, row.name), os.O_WRONLY)
				defer f.Close()
				g := newGroup(t, fanotify.Config{Report: row.report})
				mark(t, g, inode, f.Name(), fanotify.Modify, 0)
				var id int
				var err error
				onOtherThread(func() {
					id = row.id()
					_, err = f.WriteString("1")
				})
				check(t, err)
				expect(t, "write", queued(t, g, by(t, id, maskOf)), "modify")
			})
		}
	})
}

// onOtherThread runs do on a thread that is not the process's first.
func onOtherThread(do func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Gettid() != os.Getpid() {
		do()
		return
	}
	var other sync.WaitGroup
	other.Go(func() {
		runtime.LockOSThread() // this goroutine holds the first one meanwhile
		defer runtime.UnlockOSThread()
		do()
	})
	other.Wait()
}
