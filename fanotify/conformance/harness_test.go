// Package conformance_test holds the cases of the kernel's own test suite for fanotify (LTP, fanotify01 to 24) as this
// binding sees them: each test has the number of LTP's program in its name, each row of its tables is a row here, on
// the filesystems that LTP runs it on. It uses only what package fanotify exports.
//
// LTP reads at the end and allows for events that the kernel merged meanwhile. Here the queue is read after each step,
// so that nothing merges, except where merging is what the case is about (15, 16, 22); and what came has to be exactly
// what was expected, in order.
//
// Beside them stand the tests that make and check docs/kernel.md.
package conformance_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// patience is how long a test waits for what must come. It is there to fail, not to measure.
const patience = 20 * time.Second

// Shorter names, for the tables.
const (
	inode      = fanotify.TargetInode
	mount      = fanotify.TargetMount
	filesystem = fanotify.TargetFilesystem
)

// allFilesystems are the kinds that LTP's "all filesystems" comes to here.
var allFilesystems = []string{
	fstest.Tmpfs, fstest.Ext2, fstest.Ext3, fstest.Ext4, fstest.XFS, fstest.Btrfs, fstest.FUSE,
}

// onEach runs test on a fresh filesystem of each kind, in subtests of that name.
func onEach(t *testing.T, kinds []string, test func(t *testing.T, kind, dir string)) {
	t.Helper()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) { test(t, kind, fstest.New(t, kind)) })
	}
}

func newGroup(t testing.TB, config fanotify.Config) *fanotify.Group {
	t.Helper()
	g, err := fanotify.NewGroup(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func mark(t testing.TB, g *fanotify.Group, target fanotify.Target, path string, mask fanotify.Mask, flags fanotify.MarkFlags) {
	t.Helper()
	check(t, g.Mark(target, path, mask, flags))
}

func unmark(t testing.TB, g *fanotify.Group, target fanotify.Target, path string, mask fanotify.Mask, flags fanotify.MarkFlags) {
	t.Helper()
	check(t, g.Unmark(target, path, mask, flags))
}

// check fails the test at the first error.
func check(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// file makes a file whose content is its name and returns its path.
func file(t testing.TB, elements ...string) string {
	t.Helper()
	path := filepath.Join(elements...)
	check(t, os.WriteFile(path, []byte(filepath.Base(path)), 0o644))
	return path
}

func mkdir(t testing.TB, elements ...string) string {
	t.Helper()
	path := filepath.Join(elements...)
	check(t, os.Mkdir(path, 0o755))
	return path
}

// program makes a copy of true(1) and returns its path. It opens nothing that lies on its filesystem.
func program(t testing.TB, elements ...string) string {
	t.Helper()
	source, err := exec.LookPath("true")
	check(t, err)
	code, err := os.ReadFile(source)
	check(t, err)
	path := filepath.Join(elements...)
	check(t, os.WriteFile(path, code, 0o755))
	return path
}

// execute runs a program to its end and returns the process id that it had, 0 when it could not be executed.
//
// A shell does the execve: this process must not wait for it, because it may be the one that has to allow it. While Go
// starts a process, a thread waits for the execve and holds up the garbage collector, and with that everything.
func execute(t testing.TB, path string) (int, error) {
	t.Helper()
	cmd := exec.Command("bash", "-c", `exec -a true "$0"`, path) // for a true that is one of many in one program
	err := cmd.Run()
	if cmd.Process == nil {
		return 0, err
	}
	return cmd.Process.Pid, err
}

func openFile(t testing.TB, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0o644)
	check(t, err)
	return f
}

// touch opens a file or directory to read and closes it.
func touch(t testing.TB, path string) {
	t.Helper()
	check(t, openFile(t, path, os.O_RDONLY).Close())
}

// readSome reads what there is at the file's offset, which has to be something, with one read(2).
func readSome(t testing.TB, f *os.File) {
	t.Helper()
	_, err := f.Read(make([]byte, 256))
	check(t, err)
}

// writeSome writes a byte at the file's offset.
func writeSome(t testing.TB, f *os.File) {
	t.Helper()
	_, err := f.Write([]byte("1"))
	check(t, err)
}

// handleAt returns the handle of path, as events tell it.
func handleAt(t testing.TB, path string) fanotify.Handle {
	t.Helper()
	h, err := fanotify.HandleAt(-1, path)
	check(t, err)
	return h
}

// queued reads what is queued and returns what describe says of each event, in order. The process that events are by
// is for describe to check: see by.
func queued(t testing.TB, g *fanotify.Group, describe func(e *fanotify.Event) string) []string {
	t.Helper()
	var lines []string
	var b fanotify.Batch
	defer b.Close()
	for {
		n, err := g.TryRead(&b)
		check(t, err)
		if n == 0 {
			return lines
		}
		for e, err := range b.Events() {
			check(t, err)
			lines = append(lines, describe(e))
		}
	}
}

// by returns a describe for queued that wants each event to be by process pid and leaves the rest to describe.
func by(t testing.TB, pid int, describe func(e *fanotify.Event) string) func(e *fanotify.Event) string {
	return func(e *fanotify.Event) string {
		t.Helper()
		if int(e.PID) != pid {
			t.Errorf("event %s is by %d, want %d", e.Mask, e.PID, pid)
		}
		return describe(e)
	}
}

// maskOf is a describe for queued: the mask.
func maskOf(e *fanotify.Event) string { return e.Mask.String() }

// objects are the names that a test gives to the handles of its files and directories.
type objects map[fanotify.Handle]string

func (o objects) name(handle fanotify.HandleBytes) string {
	if name, ok := o[fanotify.Handle(handle)]; ok {
		return name
	}
	return "unknown " + fanotify.Handle(handle).String()
}

// describe is a describe for queued: the mask and each record with a handle, as "mask dir=d/name object=f",
// "mask old=d/a new=d/b". An event that brings a descriptor too says so.
func (o objects) describe(e *fanotify.Event) string {
	words := []string{e.Mask.String()}
	entry := func(what string, place fanotify.Entry, ok bool) {
		if !ok {
			return
		}
		word := what + "=" + o.name(place.Dir)
		if len(place.Name) > 0 {
			word += "/" + string(place.Name)
		}
		words = append(words, word)
	}
	place, ok := e.Dir()
	entry("dir", place, ok)
	place, ok = e.Old()
	entry("old", place, ok)
	place, ok = e.New()
	entry("new", place, ok)
	if object := e.Object(); object != nil {
		words = append(words, "object="+o.name(object))
	}
	if e.FD() >= 0 {
		words = append(words, "with a descriptor")
	}
	return strings.Join(words, " ")
}

// maskAndFile returns a describe for queued in groups whose events carry descriptors: the mask and the name of the file
// that the descriptor leads to.
func maskAndFile(t testing.TB) func(e *fanotify.Event) string {
	return func(e *fanotify.Event) string {
		t.Helper()
		path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", e.FD()))
		check(t, err)
		return e.Mask.String() + " " + filepath.Base(path)
	}
}

// contentOf returns what is in the file that an event's descriptor leads to.
func contentOf(t testing.TB, e *fanotify.Event) string {
	t.Helper()
	f, err := e.File()
	check(t, err)
	defer f.Close()
	text, err := io.ReadAll(f)
	check(t, err)
	return string(text)
}

// expect compares lines with what they have to be, after the step of the test that it names.
func expect(t testing.TB, after string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
		t.Errorf("after %s (-want +got):\n%s", after, diff)
	}
}
