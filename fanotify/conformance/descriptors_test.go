package conformance_test

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// TestPIDFDThatCantBeOpened reads an event when the process has no descriptor left for it.
//
// Proves FAN_EPIDFD, FAN_REPORT_PIDFD, FAN_REPORT_FD_ERROR.
func TestPIDFDThatCantBeOpened(t *testing.T) {
	fstest.NeedKernel(t, fanotify.Supports(fanotify.FeatureFDError))
	path := file(t, fstest.New(t, fstest.Tmpfs), "file")
	for _, row := range []struct {
		report fanotify.Report
		want   error // nil: only that there was one, and that it is none of those that have a meaning
	}{
		{fanotify.ReportPIDFD, nil},
		{fanotify.ReportPIDFD | fanotify.ReportFDError, unix.EMFILE},
	} {
		t.Run(row.report.String(), func(t *testing.T) {
			g := newGroup(t, fanotify.Config{Report: row.report | fanotify.ReportFID})
			mark(t, g, inode, path, fanotify.Open, 0)
			touch(t, path)
			var old unix.Rlimit
			next, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
			check(t, err, unix.Close(next), unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
			check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(next), Max: old.Max}))
			var b fanotify.Batch
			defer b.Close()
			_, err = g.TryRead(&b)
			check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old), err)
			events := 0
			for e, err := range b.Events() {
				check(t, err)
				events++
				_, err := e.PIDFD()
				meant := errors.Is(err, os.ErrProcessDone) || errors.Is(err, fanotify.ErrNoDescriptor)
				if err == nil || meant || row.want != nil && !errors.Is(err, row.want) {
					t.Errorf("got %v, want %v", err, row.want)
				}
			}
			if events != 1 {
				t.Errorf("%d events", events)
			}
		})
	}
}
