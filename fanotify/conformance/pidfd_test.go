package conformance_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// TestLTP20Combinations asks for pidfds together with other reports. Threads have had pidfds in events since Linux 7.2.
func TestLTP20Combinations(t *testing.T) {
	t.Run("0", func(t *testing.T) {
		g, err := fanotify.NewGroup(fanotify.Config{Report: fanotify.ReportPIDFD | fanotify.ReportTID})
		if err == nil {
			g.Close()
		}
		has := fanotify.Supports(fanotify.FeatureThreadPIDFD)
		var refused *fanotify.InitError
		switch {
		case has == nil && err != nil:
			t.Errorf("the kernel has pidfds of threads, but: %v", err)
		case has != nil && (!errors.Is(has, errors.ErrUnsupported) || !errors.Is(err, unix.EINVAL)):
			t.Errorf("got %v, want %v, because %v", err, unix.EINVAL, has)
		case has != nil && (!errors.As(err, &refused) || refused.Reason == ""):
			t.Errorf("no reason: %v", err)
		}
	})
	t.Run("1", func(t *testing.T) {
		newGroup(t, fanotify.Config{Report: fanotify.ReportPIDFD | fanotify.ReportFID | fanotify.ReportDFIDName})
	})
}

// TestLTP21PIDFD looks at the pidfds of events and at descriptors that can't be opened, in groups that tell why and in
// groups that don't.
//
// Proves FAN_REPORT_PIDFD, FAN_EVENT_INFO_TYPE_PIDFD, FAN_NOPIDFD, FAN_REPORT_FD_ERROR.
func TestLTP21PIDFD(t *testing.T) {
	own, err := unix.PidfdOpen(os.Getpid(), 0)
	check(t, err)
	defer unix.Close(own)
	ownInfo := fdinfo(t, own)

	// What stands in a record for a process that is gone.
	for report, gone := range map[fanotify.Report]int32{
		fanotify.ReportPIDFD:                          unix.FAN_NOPIDFD,
		fanotify.ReportPIDFD | fanotify.ReportFDError: -int32(unix.ESRCH),
	} {
		config := fanotify.Config{Report: report, EventFlags: unix.O_RDWR}
		t.Run(report.String(), func(t *testing.T) {
			onEach(t, withOverlay, func(t *testing.T, kind, dir string) {
				name := file(t, dir, "file")
				opened := func(t *testing.T) *fanotify.Group {
					g := newGroup(t, config)
					mark(t, g, inode, name, fanotify.Open, 0)
					return g
				}
				t.Run("0 self", func(t *testing.T) {
					g := opened(t)
					touch(t, name)
					expect(t, "opening", queued(t, g, by(t, os.Getpid(), func(e *fanotify.Event) string {
						pidfdRecord(t, e)
						pidfd, err := e.PIDFD()
						check(t, err)
						defer pidfd.Close()
						if diff := cmp.Diff(ownInfo, fdinfo(t, int(pidfd.Fd()))); diff != "" {
							t.Errorf("not what pidfd_open(2) gives (-want +got):\n%s", diff)
						}
						return e.Mask.String()
					})), "open")
				})
				t.Run("1 terminated child", func(t *testing.T) {
					g := opened(t)
					child := exec.Command("sh", "-c", `: < "$1"`, "sh", name)
					check(t, child.Run())
					expect(t, "opening", queued(t, g, by(t, child.Process.Pid, func(e *fanotify.Event) string {
						if got := pidfdRecord(t, e); got != gone {
							t.Errorf("the pidfd is %d, want %d", got, gone)
						}
						if _, err := e.PIDFD(); err != os.ErrProcessDone {
							t.Errorf("got %v, want %v", err, os.ErrProcessDone)
						}
						return e.Mask.String()
					})), "open")
				})
				t.Run("2 read-only mount", func(t *testing.T) {
					g := opened(t)
					readOnly := filepath.Join(t.TempDir(), "file")
					check(t, os.WriteFile(readOnly, nil, 0o644))
					fstest.Bind(t, name, readOnly)
					check(t, unix.Mount("", readOnly, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
					touch(t, readOnly)
					if report&fanotify.ReportFDError == 0 {
						var b fanotify.Batch
						defer b.Close()
						if n, err := g.TryRead(&b); !errors.Is(err, unix.EROFS) {
							t.Errorf("read %d bytes, %v, want %v", n, err, unix.EROFS)
						}
						expect(t, "the error", queued(t, g, maskOf)) // the event is lost
						return
					}
					expect(t, "opening", queued(t, g, by(t, os.Getpid(), func(e *fanotify.Event) string {
						if _, err := e.File(); err != unix.EROFS {
							t.Errorf("the descriptor: got %v, want %v", err, unix.EROFS)
						}
						return e.Mask.String()
					})), "open")
				})
			})
		})
	}
}

// fdinfo returns what the kernel says of a descriptor of this process.
func fdinfo(t *testing.T, fd int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	check(t, err)
	return string(text)
}

// pidfdRecord wants the event to have one record, of a pidfd, and returns what stands in it.
func pidfdRecord(t *testing.T, e *fanotify.Event) int32 {
	t.Helper()
	n, pidfd := 0, int32(0)
	for r := range e.Records() {
		n++
		if r.Type != fanotify.RecordPIDFD || len(r.Data) != 8 {
			t.Fatalf("record of type %d with %d bytes, want %d with 8", r.Type, len(r.Data), fanotify.RecordPIDFD)
		}
		pidfd = int32(binary.NativeEndian.Uint32(r.Data[4:]))
	}
	if n != 1 {
		t.Fatalf("%d records, want one", n)
	}
	return pidfd
}
