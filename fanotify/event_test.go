package fanotify

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// TestHandlesAndNames shows the records FID, DFID_NAME, OLD_DFID_NAME and NEW_DFID_NAME, and that HandleAt tells the
// same handles.
//
// Proves FAN_EVENT_INFO_TYPE_FID, FAN_EVENT_INFO_TYPE_DFID_NAME, FAN_EVENT_INFO_TYPE_OLD_DFID_NAME,
// FAN_EVENT_INFO_TYPE_NEW_DFID_NAME, name_to_handle_at.
func TestHandlesAndNames(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		from, to := mkdir(t, dir, "from"), mkdir(t, dir, "to")
		g := watched(t, dir, Create|Rename|Delete|DeleteSelf|Open|OnDir)
		name := file(t, from, "a")
		object := handleAt(t, name)
		check(t, os.Rename(name, filepath.Join(to, "b")))
		f, err := os.Open(to)
		check(t, err, f.Close(), os.Remove(filepath.Join(to, "b")))

		names := map[Handle]string{handleAt(t, dir): "/", handleAt(t, from): "from", handleAt(t, to): "to", object: "object"}
		place := func(e Entry, ok bool) string {
			if !ok {
				return "-"
			}
			return names[Handle(e.Dir)] + "/" + string(e.Name)
		}
		got := queued(t, g, func(e *Event) string {
			if e.PID != int32(os.Getpid()) {
				t.Errorf("%s has pid %d", e.Mask, e.PID)
			}
			return fmt.Sprintf("%s dir=%s old=%s new=%s object=%s",
				e.Mask, place(e.Dir()), place(e.Old()), place(e.New()), names[Handle(e.Object())])
		})
		want := []string{
			"open|create dir=from/a old=- new=- object=object",
			"rename dir=- old=from/a new=to/b object=object",
			"open|ondir dir=to/. old=- new=- object=",
			"delete_self dir=- old=- new=- object=object",
			"delete dir=to/b old=- new=- object=object",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestHandleOpens resolves what an event brought.
//
// Proves open_by_handle_at.
func TestHandleOpens(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		g := watched(t, dir, Create)
		name := file(t, dir, "f")
		var object Handle
		queued(t, g, func(e *Event) string { object = Handle(e.Object()); return "" })
		mount, err := os.Open(dir)
		check(t, err)
		defer mount.Close()

		fd, err := object.Open(int(mount.Fd()), unix.O_PATH)
		check(t, err)
		opened := os.NewFile(uintptr(fd), "object")
		defer opened.Close()
		if got, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); got != name {
			t.Errorf("the handle leads to %s (%v)", got, err)
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
			t.Error("not close-on-exec", err)
		}
		self, err := HandleAt(fd, "")
		check(t, err)
		if copied := NewHandle(object.FSID(), object.Type(), object.Bytes()); self != object || copied != object {
			t.Errorf("%s, %s and %s are one object", object, self, copied)
		}
		check(t, os.Remove(name))
		check(t, opened.Close()) // the last use
		if fd, err := object.Open(int(mount.Fd()), unix.O_PATH); err != unix.ESTALE {
			t.Error("a removed file:", fd, err)
		}
		if got := queued(t, g, nil); got != nil {
			t.Error("resolving made events:", got)
		}
	})
}

// TestHandlesThatOnlyIdentify are those of filesystems that can't open them.
//
// Proves AT_HANDLE_FID.
func TestHandlesThatOnlyIdentify(t *testing.T) {
	fstest.NeedKernel(t, Supports(FeatureIdentifyingHandles))
	for _, kind := range []string{fstest.Overlay, fstest.FUSE} {
		t.Run(kind, func(t *testing.T) {
			dir := fstest.New(t, kind)
			name := file(t, dir, "f")
			g := newGroup(t, Config{Report: ReportDFIDNameTarget})
			mark(t, g, TargetInode, dir, Open|EventOnChild, 0)
			f, err := os.Open(name)
			check(t, err, f.Close())
			want := handleAt(t, name)
			got := queued(t, g, func(e *Event) string { return string(e.Object()) })
			if len(got) != 1 || Handle(got[0]) != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if zero := want.FSID() == (FSID{}); zero != (kind == fstest.FUSE) {
				t.Errorf("filesystem id %s", want.FSID())
			}
		})
	}
	_, err := HandleAt(-1, "/proc/self/ns/mnt/nothing")
	if err == nil || !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
		t.Error(err)
	}
}

// TestReports shows which records each set of flags brings for a new file (kernel: fanotify_alloc_name_event and
// copy_info_records_to_user).
//
// Proves FAN_REPORT_FID, FAN_REPORT_DIR_FID, FAN_REPORT_NAME, FAN_REPORT_TARGET_FID, FAN_EVENT_INFO_TYPE_DFID,
// FAN_NOFD.
func TestReports(t *testing.T) {
	dir := fstest.New(t, fstest.Ext4)
	for _, tt := range []struct {
		report Report
		want   []RecordType
	}{
		{ReportFID, []RecordType{RecordFID}},
		{ReportDirFID, []RecordType{RecordDFID}},
		{ReportFID | ReportDirFID, []RecordType{RecordDFID}},
		{ReportDFIDName, []RecordType{RecordDFIDName}},
		{ReportDFIDName | ReportFID, []RecordType{RecordDFIDName}},
		{ReportDFIDNameTarget, []RecordType{RecordDFIDName, RecordFID}},
		{ReportDFIDNameTarget | ReportPIDFD, []RecordType{RecordDFIDName, RecordFID, RecordPIDFD}},
		{ReportFID | ReportTID, []RecordType{RecordFID}},
		{ReportFID | ReportFDError, []RecordType{RecordFID}},
	} {
		t.Run(tt.report.String(), func(t *testing.T) {
			g := newGroup(t, Config{Report: tt.report})
			mark(t, g, TargetFilesystem, dir, Create, 0)
			check(t, os.Remove(file(t, dir, "f")))
			var got []RecordType
			lines := queued(t, g, func(e *Event) string {
				for r := range e.Records() {
					got = append(got, r.Type)
				}
				if _, err := e.File(); err != ErrNoDescriptor {
					t.Error(err)
				}
				if e.PID <= 0 {
					t.Error("pid", e.PID)
				}
				return e.Mask.String()
			})
			if diff := cmp.Diff(tt.want, got); diff != "" || len(lines) != 1 {
				t.Error(lines, diff)
			}
		})
	}
}

// TestPIDFD shows a process that lives and one that is gone, with its records and descriptors in one read.
//
// Proves FAN_REPORT_PIDFD, FAN_EVENT_INFO_TYPE_PIDFD, FAN_NOPIDFD.
func TestPIDFD(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	for _, report := range []Report{ReportPIDFD, ReportPIDFD | ReportFDError, ReportPIDFD | ReportDFIDName} {
		t.Run(report.String(), func(t *testing.T) {
			g := newGroup(t, Config{Report: report})
			mark(t, g, TargetFilesystem, dir, CloseWrite, 0)
			mine := file(t, dir, "mine")
			check(t, exec.Command("sh", "-c", ": > "+filepath.Join(dir, "theirs")).Run())
			check(t, os.WriteFile(mine+"2", nil, 0o600))

			var b Batch
			check(t, g.Read(withPatience(t), &b))
			var got []string
			for e, err := range b.Events() {
				check(t, err)
				pidfd, err := e.PIDFD()
				switch {
				case err == nil:
					info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd.Fd()))
					if !strings.Contains(string(info), fmt.Sprintf("\nPid:\t%d\n", os.Getpid())) {
						t.Errorf("pidfd of another: %s %v", info, err)
					}
					if _, err := e.PIDFD(); err != ErrNoDescriptor {
						t.Error("the second time:", err)
					}
					check(t, pidfd.Close())
					got = append(got, "mine")
				case errors.Is(err, os.ErrProcessDone) && e.PID != int32(os.Getpid()):
					got = append(got, "gone")
				default:
					t.Error(err)
				}
				if f, err := e.File(); report&ReportDFIDName == 0 {
					check(t, err, f.Close())
				} else if err != ErrNoDescriptor {
					t.Error(err)
				}
			}
			if !slices.Equal(got, []string{"mine", "gone", "mine"}) {
				t.Error(got)
			}
		})
	}
}

// TestFileHasNoEvents uses an event's descriptor, which must not feed the group.
//
// Proves event_f_flags.
func TestFileHasNoEvents(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	name := file(t, dir, "f")
	g := newGroup(t, Config{EventFlags: unix.O_RDWR})
	mark(t, g, TargetMount, dir, AllEvents, 0)
	opened, err := os.Open(name)
	check(t, err)
	defer opened.Close()
	got := queued(t, g, func(e *Event) string {
		f, err := e.File()
		check(t, err)
		var content [7]byte
		if _, err := f.ReadAt(content[:], 0); err != nil || string(content[:]) != "content" {
			t.Errorf("read %q: %v", content, err)
		}
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
			t.Error("not close-on-exec", err)
		}
		if _, err := f.Write([]byte("CONTENT")); err != nil {
			t.Error(err)
		}
		check(t, f.Close())
		if _, err := e.File(); err != ErrNoDescriptor {
			t.Error("the second time:", err)
		}
		return e.Mask.String()
	})
	if !slices.Equal(got, []string{"open"}) || queued(t, g, nil) != nil {
		t.Error(got)
	}
}

// TestDescriptorThatCantBeOpened reads an event whose file the group may not open for writing.
//
// Proves FAN_REPORT_FD_ERROR.
func TestDescriptorThatCantBeOpened(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	name := file(t, dir, "f")
	check(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	fail := func(report Report) *Group {
		g := newGroup(t, Config{EventFlags: unix.O_RDWR, Report: report})
		mark(t, g, TargetMount, dir, Open, 0)
		f, err := os.Open(name)
		check(t, err, f.Close())
		return g
	}
	t.Run("without ReportFDError", func(t *testing.T) {
		g := fail(0)
		if n, err := g.TryRead(new(Batch)); n != 0 || !errors.Is(err, unix.EROFS) {
			t.Error(n, err)
		}
		if got := queued(t, g, nil); got != nil {
			t.Error("the event was not lost:", got)
		}
	})
	t.Run("with ReportFDError", func(t *testing.T) {
		fstest.NeedKernel(t, Supports(FeatureFDError))
		got := queued(t, fail(ReportFDError), func(e *Event) string {
			_, err := e.File()
			return fmt.Sprint(e.Mask, " ", err)
		})
		if !slices.Equal(got, []string{"open read-only file system"}) {
			t.Error(got)
		}
	})
}

// TestFSError stops an ext4 filesystem, the way its own errors do.
//
// Proves FAN_FS_ERROR, FAN_EVENT_INFO_TYPE_ERROR.
func TestFSError(t *testing.T) {
	fstest.NeedKernel(t, Supports(FeatureFSError))
	dir := fstest.New(t, fstest.Ext4)
	g := watched(t, dir, FSError)
	check(t, unix.Mount("", dir, "", unix.MS_REMOUNT, "abort"))
	got := queued(t, g, func(e *Event) string {
		errno, count, ok := e.FSError()
		return fmt.Sprintf("%s: %v, %d, %v, type %x, %d bytes", e.Mask, errno, count, ok,
			Handle(e.Object()).Type(), len(Handle(e.Object()).Bytes()))
	})
	want := []string{"fs_error: cannot send after transport endpoint shutdown, 1, true, type ff, 0 bytes"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestMountEvents watches the tests' own mount namespace.
//
// Proves FAN_REPORT_MNT, FAN_MARK_MNTNS, FAN_MNT_ATTACH, FAN_MNT_DETACH, FAN_EVENT_INFO_TYPE_MNT.
func TestMountEvents(t *testing.T) {
	fstest.NeedKernel(t, Supports(FeatureMnt))
	g := newGroup(t, Config{Report: ReportMnt})
	mark(t, g, TargetMountNamespace, "/proc/self/ns/mnt", MntAttach|MntDetach, 0)
	var id uint64
	t.Run("mount", func(t *testing.T) {
		var s unix.Statx_t
		dir := fstest.New(t, fstest.Tmpfs)
		check(t, unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_MNT_ID_UNIQUE, &s))
		id = s.Mnt_id
	})
	got := queued(t, g, func(e *Event) string {
		if got, ok := e.MountID(); got != id || !ok || id == 0 {
			t.Errorf("mount %d (%v), want %d", got, ok, id)
		}
		if _, err := e.File(); err != ErrNoDescriptor || e.PID != int32(os.Getpid()) {
			t.Error(err, e.PID)
		}
		return e.Mask.String()
	})
	if !slices.Equal(got, []string{"mnt_attach", "mnt_detach"}) {
		t.Error(got)
	}
}

// TestPermissionEventWithoutDescriptor is one whose descriptor the kernel could not open: it has denied it by itself.
func TestPermissionEventWithoutDescriptor(t *testing.T) {
	fstest.NeedKernel(t, Supports(FeatureFDError))
	dir := fstest.New(t, fstest.Tmpfs)
	name := file(t, dir, "f")
	check(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	g := newGroup(t, Config{Class: ClassContent, EventFlags: unix.O_RDWR, Report: ReportFDError})
	mark(t, g, TargetInode, name, OpenPerm, 0)
	got := answer(t, g, func() error {
		if _, err := os.Open(name); !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("the open ended with %w", err)
		}
		return nil
	}, func(e *Event) string {
		_, err := e.File()
		return fmt.Sprint(e.Mask, " ", err, "; ", e.Allow())
	})
	if !slices.Equal(got, []string{"open_perm read-only file system; " + ErrNotAsked.Error()}) {
		t.Error(got)
	}
}

// TestPreAccess shows the RANGE record.
//
// Proves FAN_PRE_ACCESS, FAN_EVENT_INFO_TYPE_RANGE.
func TestPreAccess(t *testing.T) {
	fstest.NeedKernel(t, Supports(FeaturePreAccess))
	dir := fstest.New(t, fstest.Ext4)
	name := file(t, dir, "f")
	g := newGroup(t, Config{Class: ClassPreContent})
	mark(t, g, TargetInode, name, PreAccess, 0)
	got := answer(t, g, func() error {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(make([]byte, 10), 9000)
		var b [10]byte
		_, rerr := f.ReadAt(b[:], 5000)
		return errors.Join(err, rerr, f.Close())
	}, func(e *Event) string {
		offset, count, ok := e.Range()
		return fmt.Sprint(e.Mask, " ", offset, " ", count, " ", ok)
	})
	if diff := cmp.Diff([]string{"pre_access 8192 4096 true", "pre_access 4096 4096 true"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestNames are names of every kind.
func TestNames(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		g := watched(t, dir, Create)
		var want []string
		for _, name := range []string{
			"a", "two\nlines", "\x1b[31mred\x07", "not \xff\xfe UTF-8", " ", "-", "...", "ünïcode ☃", "\x01", "\x7f",
			strings.Repeat("x", 255), strings.Repeat("\xff", 255), "abc", "abcd", "abcde", // every padding
		} {
			file(t, dir, name)
			want = append(want, "create "+name)
		}
		if diff := cmp.Diff(want, queued(t, g, nil)); diff != "" {
			t.Error(diff)
		}
	})
}
