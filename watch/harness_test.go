package watch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

func TestMain(m *testing.M) { fstest.Main(m) }

// eachMarked runs test on each kind of filesystem that gets a filesystem mark.
func eachMarked(t *testing.T, test func(t *testing.T, dir string)) {
	t.Helper()
	eachOf(t, append(slices.Clone(fstest.Kinds), fstest.Subvolume), test)
}

// eachOf runs test once on a filesystem of each kind, in subtests.
func eachOf(t *testing.T, kinds []string, test func(t *testing.T, dir string)) {
	t.Helper()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) { test(t, fstest.New(t, kind)) })
	}
}

// everything is all that a filesystem mark reports.
const everything = Changes | fanotify.Open | fanotify.Access | fanotify.CloseNowrite | fanotify.OpenExec |
	fanotify.MovedFrom | fanotify.MovedTo | fanotify.DeleteSelf | fanotify.MoveSelf

// watching is a Watcher in a test. Its events are told as text, with paths relative to base.
type watching struct {
	*Watcher
	t    *testing.T
	base string
	held bool // until it is started
}

// late starts a watch, of this process's events too, that reads nothing before it is stopped: meanwhile the kernel
// merges, and its queue is all there is to know.
func late(t *testing.T, base string, config Config) *watching {
	t.Helper()
	config.OwnEvents, config.OnlyRoots = true, true
	watcher, err := prepare(config)
	must(t, err)
	w := &watching{watcher, t, base, true}
	w.closeAtEnd()
	return w
}

// live starts a watch, of this process's events too, that reads what comes as soon as it can.
func live(t *testing.T, base string, config Config) *watching {
	t.Helper()
	config.Latency = -1
	config.OwnEvents = true
	return start(t, base, config)
}

func start(t *testing.T, base string, config Config) *watching {
	t.Helper()
	config.OnlyRoots = true // a test's marks are on its own filesystems
	watcher, err := New(config)
	must(t, err)
	w := &watching{Watcher: watcher, t: t, base: base}
	w.closeAtEnd()
	return w
}

func (w *watching) closeAtEnd() {
	w.t.Cleanup(func() {
		w.release()
		if err := w.Close(); err != nil {
			w.t.Error(err)
		}
	})
}

// release starts the reader of a late watch.
func (w *watching) release() {
	if w.held {
		w.start()
		w.held = false
	}
}

// step has the reader of a late watch handle what is queued, and returns the events.
func (w *watching) step() []event.Event {
	w.t.Helper()
	return w.stepWith(func() {})
}

// stepWith is step with something that happens after each read, before what was read is handled.
func (w *watching) stepWith(meanwhile func()) []event.Event {
	w.t.Helper()
	for _, r := range w.readers {
		for {
			n, err := r.pending.read()
			must(w.t, err)
			if n == 0 && len(r.pending.batches) == 0 {
				break
			}
			meanwhile()
			must(w.t, r.handleAll())
		}
	}
	_, err := w.main.turn() // tells of mounts, too
	must(w.t, err)
	var events []event.Event
	for {
		b, err := w.queue.tryPop()
		must(w.t, err)
		if b == nil {
			return events
		}
		events = append(events, b.events...)
	}
}

// stop stops the watch and returns the rest of its events.
func (w *watching) stop() []event.Event {
	w.t.Helper()
	w.release()
	w.Stop()
	var events []event.Event
	for batch, err := range w.Events(w.t.Context()) {
		if err != nil {
			w.t.Fatal(err)
		}
		events = append(events, batch...)
	}
	return events
}

// expect stops the watch and compares the rest of its events, in order.
func (w *watching) expect(want ...string) {
	w.t.Helper()
	compare(w.t, want, w.tell(w.stop()))
}

// until returns the events up to the first with that path, which is not among them.
func (w *watching) until(sentinel string) []event.Event {
	w.t.Helper()
	var events []event.Event
	for batch, err := range w.Events(w.t.Context()) {
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range batch {
			if e.Path == sentinel {
				return events
			}
			events = append(events, e)
		}
	}
	w.t.Fatalf("the stream ended before an event of %s; there were %q", sentinel, w.tell(events))
	return nil
}

// tell describes events as text: the bits, the path, the new path of a rename, and what is not exact about them.
func (w *watching) tell(events []event.Event) []string {
	return tell(w.base, events)
}

func tell(base string, events []event.Event) []string {
	var lines []string
	for _, e := range events {
		lines = append(lines, tellOne(base, e))
	}
	return lines
}

func tellOne(base string, e event.Event) string {
	switch {
	case e.Lost > 0:
		return fmt.Sprintf("lost %d", e.Lost)
	case e.Mask == fanotify.Overflow:
		return "overflow " + relative(base, e.Scope)
	}
	text := e.Mask.String() + " " + relative(base, e.Path)
	if e.Found {
		text = "found " + text
	}
	if e.Mask.Has(fanotify.Rename) {
		text += " -> " + relative(base, e.NewPath)
	} else if e.NewPath != "" {
		text += " > " + relative(base, e.NewPath)
	}
	switch e.PathState {
	case event.PathCurrent:
		text += " (current)"
	case event.PathUnknown:
		text += " (unknown)"
	}
	return text
}

// relative returns path as seen from base, "-" for none.
func relative(base, path string) string {
	switch {
	case path == "":
		return "-"
	case path == base:
		return "."
	}
	return strings.TrimPrefix(path, base+"/")
}

func compare(t *testing.T, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// ground returns a directory of the given name below dir.
func ground(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	must(t, os.MkdirAll(path, 0o755))
	return path
}

// in does operations, one a line, in a directory: "mkdir d", "mkdirs d/e", "touch f" (make it), "write f text",
// "mv a b", "rm f", "rmdir d", "ln a b", "chmod f",
// "exchange a b", "rmtree d". They are system calls of this process, so that all of them are
// one process's and nothing else happens.
func in(t *testing.T, dir, operations string) {
	t.Helper()
	for line := range strings.Lines(operations) {
		if words := strings.Fields(line); len(words) > 0 {
			if err := operate(dir, words); err != nil {
				t.Fatalf("%s: %v", strings.TrimSpace(line), err)
			}
		}
	}
}

func operate(dir string, words []string) error {
	at := func(i int) string { return dir + "/" + words[i] }
	switch words[0] {
	case "mkdir":
		return os.Mkdir(at(1), 0o755)
	case "mkdirs":
		return os.MkdirAll(at(1), 0o755)
	case "touch":
		return touch(at(1))
	case "write":
		return os.WriteFile(at(1), []byte("text"), 0o644)
	case "mv":
		return unix.Rename(at(1), at(2)) // os.Rename refuses what the kernel doesn't
	case "exchange":
		return unix.Renameat2(unix.AT_FDCWD, at(1), unix.AT_FDCWD, at(2), unix.RENAME_EXCHANGE)
	case "rm", "rmdir":
		return os.Remove(at(1))
	case "rmtree":
		return os.RemoveAll(at(1))
	case "ln":
		return os.Link(at(1), at(2))
	case "chmod":
		return os.Chmod(at(1), 0o700)
	}
	return errors.New("unknown operation")
}

// touch makes a file: CREATE and CLOSE_WRITE.
func touch(path string) error {
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
