package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// asksPermission is the role of askPermission, reads that of readOnAndOn.
const (
	asksPermission = "asks permission"
	reads          = "reads"
)

// TestLTP03PermissionEvents asks for each of what a process does with a file and a program, and denies some of it.
//
// Proves FAN_OPEN_PERM, FAN_ACCESS_PERM, FAN_OPEN_EXEC_PERM, FAN_DENY.
func TestLTP03PermissionEvents(t *testing.T) {
	const (
		open   = fanotify.OpenPerm
		access = fanotify.AccessPerm
		exec   = fanotify.OpenExecPerm

		on = fanotify.EventOnChild
	)
	type answer struct {
		event string
		deny  bool
	}
	opened := []answer{{"open_perm file", false}, {"access_perm file", true}, {"open_perm program", true}}
	executed := []answer{{"access_perm file", true}, {"open_exec_perm program", true}}
	denied := []string{"open", "write", "read EPERM", "close", "execute EPERM"}
	allowed := []string{"open", "write", "read", "close"} // and executed, after which nothing is said
	rows := []struct {
		name    string
		target  fanotify.Target
		parent  bool // mark the directory, not what is in it
		mask    fanotify.Mask
		answers []answer
		outcome []string
	}{
		0: {"inode_open", inode, false, open | access, opened, denied},
		1: {"inode_open_exec", inode, false, access | exec, executed, denied},
		2: {"mount_open", mount, false, open | access, opened, denied},
		3: {"mount_open_exec", mount, false, access | exec, executed, denied},
		4: {"filesystem_open", filesystem, false, open | access, opened, denied},
		5: {"filesystem_open_exec", filesystem, false, access | exec, executed, denied},
		6: {"parent_watching_children", inode, true, access | exec | on, executed, denied},
		7: {"parent", inode, true, access | exec, nil, allowed},
	}
	kinds := slices.Concat(fstest.Kinds, []string{fstest.Overlay, fstest.FUSE})
	onEach(t, kinds, func(t *testing.T, _, dir string) {
		path, executable := file(t, dir, "file"), program(t, dir, "program")
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				g := newGroup(t, fanotify.Config{Class: fanotify.ClassContent})
				marked := []string{path, executable}
				if row.parent {
					marked = []string{dir}
				}
				for _, m := range marked {
					mark(t, g, row.target, m, row.mask, 0)
				}

				child := actor(asksPermission, path, executable)
				n, outcome := answerAll(t, g, child, func(n int, e *fanotify.Event) fanotify.Response {
					got := by(t, child.Process.Pid, maskAndFile(t))(e)
					if n >= len(row.answers) {
						t.Errorf("event %d is %q, want none", n, got)
						return fanotify.Response{}
					}
					if want := row.answers[n]; got != want.event {
						t.Errorf("event %d is %q, want %q", n, got, want.event)
					}
					return fanotify.Response{Deny: row.answers[n].deny}
				})
				if n < len(row.answers) {
					t.Errorf("%d events, want %d", n, len(row.answers))
				}
				expect(t, "the process has ended", outcome, row.outcome...)
			})
		}
	})
}

// answerAll runs a process, answers each of its requests as answer says, which is told how many there were before, and
// returns how many there were and the lines that the process said.
func answerAll(t *testing.T, g *fanotify.Group, child *exec.Cmd, answer func(n int, e *fanotify.Event) fanotify.Response) (int, []string) {
	t.Helper()
	closeIfStuck(t, g)
	var said strings.Builder
	child.Stdout, child.Stderr = &said, &said
	check(t, child.Start())
	ctx, ended := context.WithCancel(t.Context())
	var end error
	go func() {
		defer ended()
		end = child.Wait()
	}()
	n := 0
	for e, err := range g.Events(ctx) {
		if err != nil {
			t.Error(err)
			break
		}
		if err := e.Respond(answer(n, e)); err != nil {
			t.Error(err)
		}
		n++
	}
	<-ctx.Done()
	check(t, end)
	expect(t, "the process has ended", queued(t, g, maskOf))
	return n, strings.Split(strings.TrimSpace(said.String()), "\n")
}

// closeIfStuck closes the group, and so lets everybody go on who waits for its answer, when a test takes too long.
func closeIfStuck(t *testing.T, g *fanotify.Group) {
	stuck := time.AfterFunc(patience, func() {
		t.Error("stuck: the group is closed")
		g.Close()
	})
	t.Cleanup(func() { stuck.Stop() })
}

// askPermission opens, writes, reads and closes a file and executes a program in its own place. It says what came of
// each, a line for each call.
func askPermission(path, program string) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o700)
	say("open", err)
	_, err = unix.Write(fd, []byte("1"))
	say("write", err)
	_, err = unix.Pread(fd, make([]byte, 256), 0)
	say("read", err)
	say("close", unix.Close(fd))
	say("execute", unix.Exec(program, []string{"true"}, nil))
}

// say writes what came of a call to the standard output.
func say(call string, err error) {
	var errno unix.Errno
	if errors.As(err, &errno) {
		call += " " + unix.ErrnoName(errno)
	} else if err != nil {
		call += " " + err.Error()
	}
	fmt.Println(call)
}

// TestLTP07CloseWithPendingRequests closes a group that many processes wait for: some of their requests were read and
// not answered, others never read. All of them have to go on, and another group must not be held up meanwhile.
func TestLTP07CloseWithPendingRequests(t *testing.T) {
	const (
		children   = 16
		oneIn      = 20 // requests is not answered
		unanswered = 4  // after so many nobody reads any more
	)
	path := file(t, fstest.New(t, fstest.Tmpfs), "file")
	newAsking := func() *fanotify.Group {
		g := newGroup(t, fanotify.Config{Class: fanotify.ClassContent})
		mark(t, g, inode, path, fanotify.AccessPerm, 0)
		return g
	}
	g := newAsking()
	closeIfStuck(t, g)

	silent := map[int32]bool{} // the processes that have not asked yet
	var running []*exec.Cmd
	var stop []io.Closer
	for range children {
		child := actor(reads, path)
		child.Stderr = os.Stderr
		stdin, err := child.StdinPipe()
		check(t, err, child.Start())
		running, stop = append(running, child), append(stop, stdin)
		silent[int32(child.Process.Pid)] = true
	}
	ours := maps.Clone(silent)

	// The types don't let an event's descriptor be closed without an answer, as LTP does: the event is kept.
	var kept []*fanotify.Event
	n := 0
	for e, err := range g.Events(t.Context()) {
		check(t, err)
		if e.Mask != fanotify.AccessPerm || !ours[e.PID] {
			t.Errorf("%s by %d", e.Mask, e.PID)
		}
		delete(silent, e.PID)
		if n++; n%oneIn != 0 || len(silent) > 0 {
			check(t, e.Allow())
			continue
		}
		if kept = append(kept, e.Detach()); len(kept) == unanswered {
			break
		}
	}
	check(t, g.Wait(t.Context())) // until another has asked, whom nobody reads

	check(t, newAsking().Close(), g.Close())
	for _, e := range kept {
		if err := e.Allow(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("answer after the group was closed: %v, want %v", err, os.ErrClosed)
		}
		e.Close()
	}
	for i, child := range running {
		check(t, stop[i].Close())
		if err := child.Wait(); err != nil { // it ends by itself, once its read has returned
			t.Errorf("process %d: %v", i, err)
		}
	}
}

// readOnAndOn reads a file again and again until the standard input ends.
func readOnAndOn(path string) {
	var stop atomic.Bool
	go func() {
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // The end, however it comes.
		stop.Store(true)
	}()
	f, err := os.Open(path)
	for b := make([]byte, 1); err == nil && !stop.Load(); {
		_, err = f.ReadAt(b, 0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
