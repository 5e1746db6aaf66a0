package conformance_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// usesContent is the role of useContent.
const usesContent = "uses content"

// TestLTP24PreContent asks before a process comes to what is in a file and in a program, each time with the pages, and
// denies some of it with an errno.
//
// Proves FAN_PRE_ACCESS, FAN_EVENT_INFO_TYPE_RANGE, FAN_ERRNO_SHIFT.
func TestLTP24PreContent(t *testing.T) {
	fstest.NeedKernel(t, fanotify.Supports(fanotify.FeaturePreAccess))
	const (
		open   = fanotify.OpenPerm
		access = fanotify.PreAccess
		exec   = fanotify.OpenExecPerm

		on = fanotify.EventOnChild

		idle, writing = "idle", "writing" // whether the program is open for writing when it is executed
	)
	allow, deny := fanotify.Response{}, fanotify.Response{Deny: true}
	denyWith := func(errno unix.Errno) fanotify.Response { return fanotify.Response{Deny: true, Errno: errno} }
	type answer struct {
		event    string
		response fanotify.Response
	}
	opened := []answer{
		{"open_perm file", allow},
		{"pre_access file, 2 pages at 100", allow},
		{"pre_access file, 1 pages at 1", allow},
		{"pre_access file, 1 pages at 2", denyWith(unix.EIO)},
		{"open_perm program", denyWith(unix.EBUSY)},
	}
	executed := []answer{
		{"pre_access file, 2 pages at 100", allow},
		{"pre_access file, 1 pages at 1", deny},
		{"pre_access file, 1 pages at 2", denyWith(unix.EIO)},
		{"open_exec_perm program", denyWith(unix.EBUSY)},
	}
	plain := slices.Clone(executed) // without errnos
	plain[2].response, plain[3].response = deny, deny
	allowed := []answer{
		{"pre_access file, 2 pages at 100", allow},
		{"pre_access file, 1 pages at 1", allow},
		{"pre_access file, 1 pages at 2", allow},
	}
	openedOutcome := []string{"open", "mmap", "write", "read EIO", "close", "execute EBUSY"}
	executedOutcome := []string{"open", "mmap", "write EPERM", "read EIO", "close", "execute EBUSY"}
	rows := []struct {
		name    string
		target  fanotify.Target
		parent  bool // mark the directory, not what is in it
		mask    fanotify.Mask
		answers []answer
		rest    bool // allows any number of events of the program after these
		program string
		outcome []string
	}{
		0: {name: "inode_open", target: inode, mask: open | access, answers: opened, program: idle, outcome: openedOutcome},
		1: {name: "inode_open_exec", target: inode, mask: access | exec, answers: executed, program: idle, outcome: executedOutcome},
		2: {name: "mount_open", target: mount, mask: open | access, answers: opened, program: idle, outcome: openedOutcome},
		3: {name: "mount_open_exec", target: mount, mask: access | exec, answers: executed, program: idle, outcome: executedOutcome},
		4: {name: "filesystem_open", target: filesystem, mask: open | access, answers: opened, program: idle, outcome: openedOutcome},
		5: {name: "filesystem_open_exec", target: filesystem, mask: access | exec, answers: executed, program: idle, outcome: executedOutcome},
		6: {name: "parent_watching_children", target: inode, parent: true, mask: access | exec | on, answers: plain, program: idle,
			outcome: []string{"open", "mmap", "write EPERM", "read EPERM", "close", "execute EPERM"}},
		7: {name: "parent", target: inode, parent: true, mask: access | exec, program: writing,
			outcome: []string{"open", "mmap", "write", "read", "close", "execute ETXTBSY"}},
		// With pre-content events on it, a program may be executed while it is open for writing: whoever fills files in
		// on demand writes to it then.
		8: {name: "inode_allowed", target: inode, mask: access, answers: allowed, rest: true, program: writing,
			outcome: []string{"open", "mmap", "write", "read", "close"}},
	}
	onEach(t, withOverlay, func(t *testing.T, kind, dir string) {
		page := os.Getpagesize()
		path, executable := filepath.Join(dir, "file"), program(t, dir, "program")
		check(t, os.WriteFile(path, make([]byte, 102*page), 0o644))
		if kind == fstest.Tmpfs || kind == fstest.FUSE || kind == fstest.Overlay {
			g := newGroup(t, fanotify.Config{Class: fanotify.ClassPreContent})
			if err := g.Mark(inode, path, access, 0); !errors.Is(err, unix.EOPNOTSUPP) {
				t.Errorf("got %v, want %v", err, unix.EOPNOTSUPP)
			}
			return
		}
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				g := newGroup(t, fanotify.Config{Class: fanotify.ClassPreContent})
				marked := []string{path, executable}
				if row.parent {
					marked = []string{dir}
				}
				for _, m := range marked {
					mark(t, g, row.target, m, row.mask, 0)
				}

				child := actor(usesContent, path, executable, row.program)
				n, outcome := answerAll(t, g, child, func(n int, e *fanotify.Event) fanotify.Response {
					got := by(t, child.Process.Pid, maskFileAndPages(t))(e)
					want := answer{event: "none"}
					switch {
					case n < len(row.answers):
						want = row.answers[n]
					case row.rest && strings.HasPrefix(got, "pre_access program, "):
						want.event = got
					}
					if got != want.event {
						t.Errorf("event %d is %q, want %q", n, got, want.event)
					}
					// Reading here asks nobody.
					if _, err := unix.Pread(e.FD(), make([]byte, 1), int64(3*page)); err != nil {
						t.Errorf("reading by the descriptor of %q: %v", got, err)
					}
					return want.response
				})
				if n < len(row.answers) || row.rest && n == len(row.answers) {
					t.Errorf("%d events are too few", n)
				}
				expect(t, "the process has ended", outcome, row.outcome...)
			})
		}
	})
}

// TestReportsOfRequests asks for everything that a group with descriptors can report of who waits for an answer, and
// lets the kernel fail to open a descriptor: then it has denied the request itself.
func TestReportsOfRequests(t *testing.T) {
	fstest.NeedKernel(t, fanotify.Supports(fanotify.FeatureFDError))
	dir := fstest.New(t, fstest.Ext4)
	path := file(t, dir, "file")
	readOnly := file(t, t.TempDir(), "file")
	fstest.Bind(t, path, readOnly)
	check(t, unix.Mount("", readOnly, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))

	for _, class := range []fanotify.Class{fanotify.ClassContent, fanotify.ClassPreContent} {
		for _, report := range []fanotify.Report{fanotify.ReportTID, fanotify.ReportPIDFD} {
			t.Run(fmt.Sprint(class, " ", report), func(t *testing.T) {
				g := newGroup(t, fanotify.Config{Class: class, Report: report | fanotify.ReportFDError, EventFlags: unix.O_RDWR})
				closeIfStuck(t, g)
				mark(t, g, inode, path, fanotify.OpenPerm, 0)
				for _, tt := range []struct {
					path               string
					descriptor, answer error
					outcome            error
				}{
					{path, nil, nil, nil},
					{readOnly, unix.EROFS, fanotify.ErrNotAsked, unix.EPERM},
				} {
					id, outcome := openInThread(tt.path)
					if report&fanotify.ReportTID == 0 {
						id = os.Getpid()
					}
					for e, err := range g.Events(t.Context()) {
						check(t, err)
						by(t, id, maskOf)(e)
						if report&fanotify.ReportPIDFD != 0 {
							pidfd, err := e.PIDFD()
							check(t, err, pidfd.Close())
						}
						f, err := e.File()
						if err == nil {
							f.Close()
						}
						if err != tt.descriptor {
							t.Errorf("the descriptor: got %v, want %v", err, tt.descriptor)
						}
						if err := e.Allow(); err != tt.answer {
							t.Errorf("the answer: got %v, want %v", err, tt.answer)
						}
						break
					}
					if err := <-outcome; err != tt.outcome {
						t.Errorf("opening %s: got %v, want %v", tt.path, err, tt.outcome)
					}
				}
			})
		}
	}
}

// openInThread opens and closes a file in a thread of its own and returns the thread's id at once and what came of it
// later.
func openInThread(path string) (int, <-chan error) {
	thread, outcome := make(chan int), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine
		thread <- unix.Gettid()
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Close(fd)
		}
		outcome <- err
	}()
	return <-thread, outcome
}

// maskFileAndPages returns maskAndFile that also tells the range of an event, in pages.
func maskFileAndPages(t testing.TB) func(e *fanotify.Event) string {
	maskAndFile, page := maskAndFile(t), uint64(os.Getpagesize())
	return func(e *fanotify.Event) string {
		t.Helper()
		offset, count, ok := e.Range()
		if !ok {
			return maskAndFile(e)
		}
		if offset%page != 0 || count%page != 0 {
			t.Errorf("%d bytes at %d are no pages", count, offset)
		}
		return fmt.Sprintf("%s, %d pages at %d", maskAndFile(e), count/page, offset/page)
	}
}

// useContent opens, maps, writes, reads and closes a file and executes a program in its own place, while that is open
// for writing or not. It says what came of each, a line for each call.
func useContent(path, program, how string) {
	page := os.Getpagesize()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	say("open", err)
	_, err = unix.Mmap(fd, int64(100*page), 2*page, unix.PROT_READ, unix.MAP_PRIVATE)
	say("mmap", err)
	_, err = unix.Pwrite(fd, []byte("1"), int64(page))
	say("write", err)
	_, err = unix.Pread(fd, make([]byte, 256), int64(2*page))
	say("read", err)
	say("close", unix.Close(fd))
	if how == "writing" {
		// Closed by the kernel once the program is executed.
		if _, err := unix.Open(program, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			say("open for writing", err)
		}
	}
	say("execute", unix.Exec(program, []string{"true"}, nil))
}
