package fanotify

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// TestManyEventsInOneRead delivers each event of a read once, in order.
func TestManyEventsInOneRead(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		g := watched(t, dir, Create|Delete)
		for i := range 20 {
			file(t, dir, fmt.Sprintf("%0*d", 1+i*12, i)) // of every length
		}
		var b Batch
		check(t, g.Read(withPatience(t), &b))
		i := 0
		for e, err := range b.Events() {
			check(t, err)
			if entry, _ := e.Dir(); string(entry.Name) != fmt.Sprintf("%0*d", 1+i*12, i) || e.Mask != Create {
				t.Errorf("event %d: %s", i, describeNames(e))
			}
			i++
		}
		if i != 20 {
			t.Errorf("%d events of 20", i)
		}
	})
}

// TestReaderStandsStill makes 20,000 files while nobody reads: with an unlimited queue each has its event, with a
// limited one the events that fit are followed by exactly one that says so, and by nothing stale.
//
// Proves FAN_Q_OVERFLOW, FAN_UNLIMITED_QUEUE.
func TestReaderStandsStill(t *testing.T) {
	limits, err := ReadLimits()
	check(t, err)
	files := max(20_000, limits.MaxQueuedEvents+1)
	for _, tt := range []struct {
		name   string
		config Config
		event  Mask
	}{
		{"handles", Config{Report: ReportDFIDNameTarget}, Create},
		{"handles, unlimited", Config{Report: ReportDFIDNameTarget, UnlimitedQueue: true}, Create},
		{"descriptors", Config{}, Open},
		{"descriptors, unlimited", Config{UnlimitedQueue: true}, Open},
		{"pidfds", Config{Report: ReportPIDFD}, Open},
		{"errors", Config{Report: ReportPIDFD | ReportFDError}, Open},
		{"handles and pidfds", Config{Report: ReportDFIDName | ReportPIDFD}, Create},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := fstest.New(t, fstest.Tmpfs)
			g := newGroup(t, tt.config)
			mark(t, g, TargetFilesystem, dir, tt.event, 0)
			for i := range files {
				fd, err := unix.Open(filepath.Join(dir, fmt.Sprint(i)), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
				check(t, err, unix.Close(fd))
			}
			want := limits.MaxQueuedEvents
			if tt.config.UnlimitedQueue {
				want = files
			}
			events, overflows := 0, 0
			queued(t, g, func(e *Event) string {
				if e.Mask == Overflow {
					overflows++
					checkOverflow(t, e, tt.config)
					return ""
				}
				if overflows > 0 || e.Mask != tt.event {
					t.Fatalf("event %d is %s, after %d overflows", events, e.Mask, overflows)
				}
				if name, want := nameOf(t, e), fmt.Sprint(events); name != want {
					t.Fatalf("event %d is of %q", events, name)
				}
				events++
				return ""
			})
			if events != want || (overflows == 1) == tt.config.UnlimitedQueue || overflows > 1 {
				t.Errorf("%d events of %d, %d overflows", events, want, overflows)
			}
			file(t, dir, "afterwards")
			if got := queued(t, g, nil); len(got) != 1 {
				t.Errorf("after the overflow: %q", got)
			}
		})
	}
}

// checkOverflow wants an overflow that says nothing of any file or process.
func checkOverflow(t *testing.T, e *Event, config Config) {
	t.Helper()
	_, hasDir := e.Dir()
	if hasDir || e.Object() != nil || e.PID != 0 {
		t.Errorf("overflow of %s, pid %d", describeNames(e), e.PID)
	}
	if _, err := e.File(); err != ErrNoDescriptor {
		t.Error("overflow with a file:", err)
	}
	want := ErrNoDescriptor
	if config.Report&ReportPIDFD != 0 {
		want = os.ErrProcessDone
	}
	if _, err := e.PIDFD(); err != want {
		t.Errorf("overflow with a pidfd: %v, want %v", err, want)
	}
}

// nameOf returns the name of the file that e is of, from its record or its descriptor.
func nameOf(t *testing.T, e *Event) string {
	t.Helper()
	if entry, ok := e.Dir(); ok {
		return string(entry.Name)
	}
	f, err := e.File()
	check(t, err)
	defer f.Close()
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	check(t, err)
	return filepath.Base(path)
}
