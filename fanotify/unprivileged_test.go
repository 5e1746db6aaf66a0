package fanotify

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// prepareUnprivileged makes a directory that everybody may write to, with a file of root.
func prepareUnprivileged(t *testing.T) string {
	fstest.NeedKernel(t, Supports(FeatureUnprivileged))
	dir := fstest.New(t, fstest.Tmpfs)
	secret := file(t, dir, "secret")
	check(t, os.Chmod(dir, 0o777), os.Chmod(secret, 0o600))
	return dir
}

// TestUnprivilegedGroups says which groups need no privilege, and why the others do.
func TestUnprivilegedGroups(t *testing.T) {
	fstest.Unprivileged(t, prepareUnprivileged, func(t *testing.T, _ string) {
		for _, config := range []Config{
			{Report: ReportFID},
			{Report: ReportDirFID},
			{Report: ReportFID | ReportDirFID},
			{Report: ReportDFIDName},
			{Report: ReportDFIDName | ReportFID},
			{Report: ReportDFIDNameTarget},
			{Report: ReportMnt},
		} {
			newGroup(t, config)
		}
		const wayOut = ": without it, groups that report handles may mark files and directories"
		for _, tt := range []struct {
			config Config
			reason string
		}{
			{Config{}, "CAP_SYS_ADMIN in the initial user namespace for events without handles" + wayOut},
			{Config{Class: ClassContent}, "CAP_SYS_ADMIN in the initial user namespace for class_content, events without handles" + wayOut},
			{Config{Report: ReportFID, UnlimitedQueue: true, UnlimitedMarks: true}, "CAP_SYS_ADMIN in the initial user namespace for unlimited_queue, unlimited_marks" + wayOut},
			{Config{Report: ReportFID | ReportPIDFD}, "CAP_SYS_ADMIN in the initial user namespace for report_pidfd" + wayOut},
			{Config{Report: ReportFID | ReportTID | ReportFDError}, "CAP_SYS_ADMIN in the initial user namespace for report_tid, report_fd_error" + wayOut},
			{Config{Report: ReportFID, Audit: true}, "CAP_AUDIT_WRITE for audit"},
			{Config{Audit: true}, "CAP_SYS_ADMIN in the initial user namespace for events without handles, and CAP_AUDIT_WRITE for audit" + wayOut},
		} {
			_, err := NewGroup(tt.config)
			checkError(t, err, unix.EPERM, "fanotify_init: operation not permitted: needs "+tt.reason)
		}
	})
}

func TestUnprivilegedMarks(t *testing.T) {
	fstest.Unprivileged(t, prepareUnprivileged, func(t *testing.T, dir string) {
		g := newGroup(t, Config{Report: ReportDFIDNameTarget})
		mark(t, g, TargetInode, dir, Create|Delete|Rename|CloseWrite|OnDir|EventOnChild, Evictable)
		secret := filepath.Join(dir, "secret")
		err := g.Mark(TargetInode, secret, Open, 0)
		checkError(t, err, unix.EACCES, "mark "+secret+": permission denied: a mark needs permission to read the object and to search the way to it")
		for _, target := range []Target{TargetMount, TargetFilesystem} {
			line := dir + ": operation not permitted: a " + target.String() + " mark needs CAP_SYS_ADMIN in the user namespace that owns it: inode marks do without"
			checkError(t, g.Mark(target, dir, Open, 0), unix.EPERM, "mark "+line)
			checkError(t, g.Unmark(target, dir, Open, 0), unix.EPERM, "unmark "+line)
			if err := g.Flush(target); !errors.Is(err, unix.EPERM) {
				t.Error(err)
			}
		}

		name := file(t, dir, "mine")
		check(t, exec.Command("sh", "-c", ": > "+filepath.Join(dir, "child")).Run())
		check(t, os.Rename(name, name+"2"))
		handle := handleAt(t, name+"2")
		pids := map[int32]string{int32(os.Getpid()): "mine", 0: "hidden"}
		got := queued(t, g, func(e *Event) string {
			if _, err := e.File(); err != ErrNoDescriptor {
				t.Error(err)
			}
			if e.Mask == Rename && Handle(e.Object()) != handle {
				t.Errorf("%s is not %s", e.Object(), handle)
			}
			return describeNames(e) + " " + pids[e.PID]
		})
		want := []string{"close_write|create mine mine", "close_write|create child hidden", "rename mine->mine2 mine"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		d, err := os.Open(dir)
		check(t, err)
		defer d.Close()
		if fd, err := handle.Open(int(d.Fd()), unix.O_PATH); err != unix.EPERM {
			t.Error("opened a handle:", fd, err)
		}
	})
}

// TestUnprivilegedProbes asks for the features without privilege: what can't be tried is inconclusive, never missing.
func TestUnprivilegedProbes(t *testing.T) {
	fstest.Unprivileged(t, nil, func(t *testing.T, _ string) {
		var known []Feature
		for _, f := range Features() {
			err := Supports(f)
			switch {
			case err == nil:
				known = append(known, f)
			case errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, unix.EPERM):
				t.Errorf("%s: %v", f, err)
			}
		}
		want := []Feature{FeatureAuditRule, FeatureEvictable, FeatureIdentifyingHandles, FeatureIgnore, FeatureRename, FeatureDirFID, FeatureFID,
			FeatureName, FeatureTargetFID, FeatureStatMount, FeatureUnprivileged}
		if diff := cmp.Diff(want, known); diff != "" {
			t.Error(diff)
		}
		if _, err := ReadLimits(); err != nil {
			t.Error(err)
		}
	})
}
