package conformance_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// prepareNobody makes a directory with a file that everybody may read and write.
func prepareNobody(t *testing.T) string {
	fstest.NeedKernel(t, fanotify.Supports(fanotify.FeatureUnprivileged))
	dir := fstest.New(t, fstest.Ext4)
	check(t, os.Chmod(file(t, dir, "file"), 0o666))
	return dir
}

// TestLTP18Forbidden asks for what a user without privilege must not have.
func TestLTP18Forbidden(t *testing.T) {
	fstest.Unprivileged(t, prepareNobody, func(t *testing.T, dir string) {
		const events = fanotify.Access | fanotify.Modify | fanotify.Close | fanotify.Open
		allowed := fanotify.Config{Report: fanotify.ReportFID}
		for number, row := range []struct {
			config fanotify.Config
			target fanotify.Target
			init   error
			mark   error
		}{
			0: {config: fanotify.Config{}, init: unix.EPERM},
			1: {config: fanotify.Config{Report: fanotify.ReportFID, Class: fanotify.ClassContent}, init: unix.EPERM},
			2: {config: fanotify.Config{Report: fanotify.ReportFID, Class: fanotify.ClassPreContent}, init: unix.EPERM},
			3: {config: fanotify.Config{Report: fanotify.ReportFID, UnlimitedQueue: true}, init: unix.EPERM},
			4: {config: fanotify.Config{Report: fanotify.ReportFID, UnlimitedMarks: true}, init: unix.EPERM},
			5: {config: fanotify.Config{Report: fanotify.ReportFID | fanotify.ReportTID}, init: unix.EPERM},
			6: {config: allowed, target: mount, mark: unix.EPERM},
			7: {config: allowed, target: filesystem, mark: unix.EPERM},
			8: {config: allowed, target: inode},
		} {
			t.Run(fmt.Sprint(number), func(t *testing.T) {
				g, err := fanotify.NewGroup(row.config)
				var init *fanotify.InitError
				if !errors.Is(err, row.init) || err != nil && (!errors.As(err, &init) || init.Reason == "") {
					t.Errorf("the group: got %v, want %v and a reason", err, row.init)
				}
				if err != nil {
					return
				}
				defer g.Close()
				err = g.Mark(row.target, filepath.Join(dir, "file"), events, 0)
				var refused *fanotify.MarkError
				if !errors.Is(err, row.mark) || err != nil && (!errors.As(err, &refused) || refused.Reason == "") {
					t.Errorf("the mark: got %v, want %v and a reason", err, row.mark)
				}
			})
		}
	})
}

// TestLTP19Unprivileged wants an unprivileged group to tell which process did something only when it was its own.
func TestLTP19Unprivileged(t *testing.T) {
	t.Run("for good", func(t *testing.T) {
		fstest.Unprivileged(t, prepareNobody, func(t *testing.T, dir string) {
			name := filepath.Join(dir, "file")
			t.Run("0 by itself", func(t *testing.T) {
				g := hiddenGroup(t, name)
				work(t, name)
				expectHidden(t, g, os.Getpid())
			})
			t.Run("1 by a child", func(t *testing.T) {
				g := hiddenGroup(t, name)
				check(t, exec.Command("sh", "-c", workInShell, "sh", name).Run())
				expectHidden(t, g, 0)
			})
		})
	})
	// A group is what its maker was: the same when root reads.
	t.Run("for a while", func(t *testing.T) {
		name := filepath.Join(prepareNobody(t), "file")
		t.Run("2 by itself", func(t *testing.T) {
			var g *fanotify.Group
			asNobody(t, func() {
				g = hiddenGroup(t, name)
				work(t, name)
			})
			expectHidden(t, g, os.Getpid())
		})
		t.Run("3 by a child", func(t *testing.T) {
			var g *fanotify.Group
			asNobody(t, func() { g = hiddenGroup(t, name) })
			check(t, exec.Command("sh", "-c", workInShell, "sh", name).Run())
			expectHidden(t, g, 0)
		})
	})
}

// asNobody runs do on a thread with the effective user nobody, without effective capabilities. User ids belong to
// threads; only the C library and package syscall make them the whole process's.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	const keep = ^uintptr(0)
	runtime.LockOSThread()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, fstest.Nobody, keep); errno != 0 {
		t.Fatal(errno)
	}
	defer func() {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, 0, keep); errno != 0 {
			t.Error(errno) // and the thread ends with its goroutine, because it stays locked
			return
		}
		runtime.UnlockOSThread()
	}()
	if _, err := fanotify.NewGroup(fanotify.Config{}); !errors.Is(err, unix.EPERM) {
		t.Fatalf("nobody may do it: %v", err)
	}
	do()
}

func hiddenGroup(t *testing.T, name string) *fanotify.Group {
	t.Helper()
	g := newGroup(t, fanotify.Config{Report: fanotify.ReportFID})
	mark(t, g, inode, name, fanotify.Open|fanotify.Access|fanotify.Modify|fanotify.Close, 0)
	return g
}

// work opens, reads, writes and closes a file.
func work(t *testing.T, name string) {
	t.Helper()
	f := openFile(t, name, os.O_RDWR)
	readSome(t, f)
	writeSome(t, f)
	check(t, f.Close())
}

// workInShell does the same with the file $1 in one process: read and printf are the shell's own.
const workInShell = `exec 3<>"$1" && { read -r line <&3 || true; } && printf 1 >&3`

// expectHidden wants the events of work by process pid, or 0, without descriptors.
func expectHidden(t *testing.T, g *fanotify.Group, pid int) {
	t.Helper()
	got := queued(t, g, by(t, pid, func(e *fanotify.Event) string {
		if _, err := e.File(); err != fanotify.ErrNoDescriptor {
			t.Errorf("a descriptor: %v", err)
		}
		return e.Mask.String()
	}))
	expect(t, "opening, reading, writing and closing", got, "access|modify|close_write|open")
}
