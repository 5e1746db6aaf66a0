package conformance_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// TestLTP05Overflow opens one file more than the queue holds, and all of them again, while nobody reads.
//
// Proves FAN_Q_OVERFLOW, FAN_UNLIMITED_QUEUE.
func TestLTP05Overflow(t *testing.T) {
	limits, err := fanotify.ReadLimits()
	check(t, err)
	files := limits.MaxQueuedEvents + 1
	for _, row := range []struct {
		name   string
		config fanotify.Config
	}{
		0: {"limited_queue", fanotify.Config{}},
		1: {"unlimited_queue", fanotify.Config{UnlimitedQueue: true}},
		2: {"limited_queue_fd_error", fanotify.Config{Report: fanotify.ReportFDError}},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := fstest.New(t, fstest.Tmpfs, "nr_inodes=0")
			g := newGroup(t, row.config)
			mark(t, g, mount, dir, fanotify.Open, 0)
			for range 2 {
				for i := range files {
					fd, err := unix.Open(filepath.Join(dir, fmt.Sprint(i)), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
					check(t, err, unix.Close(fd))
				}
			}
			n, overflows := 0, 0
			open := by(t, os.Getpid(), maskAndFile(t))
			queued(t, g, func(e *fanotify.Event) string {
				switch {
				case e.Mask == fanotify.Overflow:
					overflows++
					if _, err := e.File(); err != fanotify.ErrNoDescriptor || e.FD() != -1 || e.PID != 0 {
						t.Errorf("overflow with a file, %v, descriptor %d, or a process, %d", err, e.FD(), e.PID)
					}
				case overflows > 0:
					t.Errorf("%s after an overflow", e.Mask)
				case n < files:
					if got, want := open(e), fmt.Sprint("open ", n); got != want {
						t.Fatalf("event %d is %q, want %q", n, got, want)
					}
				case e.Mask != fanotify.Open: // again; some merge with the first, as the kernel doesn't search long
					t.Errorf("%s for an open", e.Mask)
				}
				n++
				return ""
			})
			if row.config.UnlimitedQueue {
				if overflows != 0 || n < files {
					t.Errorf("%d events and %d overflows, want at least %d and none", n, overflows, files)
				}
			} else if overflows != 1 || n != files {
				t.Errorf("%d events and %d overflows, want %d with the overflow and one", n, overflows, files)
			}
		})
	}
}
