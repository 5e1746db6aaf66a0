package fstest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// magics are what statfs(2) says of each kind.
var magics = map[string]int64{
	Tmpfs:         unix.TMPFS_MAGIC,
	Ext2:          unix.EXT2_SUPER_MAGIC,
	Ext3:          unix.EXT3_SUPER_MAGIC,
	Ext4:          unix.EXT4_SUPER_MAGIC,
	XFS:           unix.XFS_SUPER_MAGIC,
	Btrfs:         unix.BTRFS_SUPER_MAGIC,
	Subvolume:     unix.BTRFS_SUPER_MAGIC,
	Overlay:       unix.OVERLAYFS_SUPER_MAGIC,
	OverlayExport: unix.OVERLAYFS_SUPER_MAGIC,
	FUSE:          unix.FUSE_SUPER_MAGIC,
}

func TestNew(t *testing.T) {
	for kind, magic := range magics {
		t.Run(kind, func(t *testing.T) {
			var dir string
			var image *unix.LoopInfo64
			if !t.Run("mounted", func(t *testing.T) {
				dir = New(t, kind)
				var s unix.Statfs_t
				if err := unix.Statfs(dir, &s); err != nil {
					t.Fatal(err)
				}
				if int64(s.Type) != magic {
					t.Errorf("filesystem %#x, want %#x", s.Type, magic)
				}
				info := mountOf(t, dir)
				if info == nil {
					t.Fatalf("%s is not in the mount table", dir)
				}
				if strings.HasPrefix(info.Source, "/dev/loop") {
					image = loopInfo(t, info.Source)
				}
				if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
					t.Errorf("a new filesystem holds %v, %v", entries, err)
				}
				if fi, err := os.Stat(dir); err != nil || fi.Mode() != os.ModeDir|0o755 {
					t.Errorf("the mode is %v, %v", fi.Mode(), err)
				}
				if err := os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o600); err != nil {
					t.Error(err)
				}
			}) {
				return
			}
			if info := mountOf(t, dir); info != nil {
				t.Errorf("still mounted: %+v", info)
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is still there: %v", dir, err)
			}
			if image == nil {
				return
			}
			after := loopInfo(t, fmt.Sprintf("/dev/loop%d", image.Number))
			if after != nil && after.Device == image.Device && after.Inode == image.Inode {
				t.Errorf("/dev/loop%d still holds the image", image.Number)
			}
		})
	}
}

func TestNewTwice(t *testing.T) {
	for kind := range magics {
		a, b := New(t, kind), New(t, kind)
		if err := os.Mkdir(filepath.Join(a, "d"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(b, "d")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: two filesystems are one: %v", kind, err)
		}
	}
}

// mountOf returns what is mounted on dir, or nil.
func mountOf(t *testing.T, dir string) *mountinfo.Info {
	t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	if err != nil {
		t.Fatal(err)
	}
	if len(mounts) == 0 {
		return nil
	}
	return mounts[0]
}

// loopInfo returns what a loop device is attached to, or nil if it is free.
func loopInfo(t *testing.T, name string) *unix.LoopInfo64 {
	t.Helper()
	device, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	info, err := unix.IoctlLoopGetStatus64(int(device.Fd()))
	if errors.Is(err, unix.ENXIO) {
		return nil
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return info
}

func TestNewOptions(t *testing.T) {
	var s unix.Statfs_t
	if err := unix.Statfs(New(t, Tmpfs, "size=1m", "nr_inodes=100"), &s); err != nil {
		t.Fatal(err)
	}
	if size := int64(s.Blocks) * int64(s.Bsize); size != 1<<20 || s.Files != 100 {
		t.Errorf("%d bytes and %d inodes, want 1 MiB and 100", size, s.Files)
	}
	for _, kind := range []string{Ext4, Subvolume, Overlay, FUSE} {
		if mountOf(t, New(t, kind, "ro")) == nil {
			t.Errorf("%s is not mounted", kind)
		}
	}
}

func TestSubvolume(t *testing.T) {
	info := mountOf(t, New(t, Subvolume))
	if info.Root != "/subvolume" {
		t.Errorf("the root of the mount is %q", info.Root)
	}
}

// TestType asks the mount table, which tells ext2, ext3 and ext4 apart.
func TestType(t *testing.T) {
	for _, kind := range []string{Ext2, Ext3, Ext4} {
		if info := mountOf(t, New(t, kind)); info.FSType != kind {
			t.Errorf("%s is mounted as %s", kind, info.FSType)
		}
	}
}

func TestOverlayOn(t *testing.T) {
	base := New(t, Ext4)
	lower, upper := filepath.Join(base, "lower"), filepath.Join(base, "upper")
	if err := errors.Join(os.Mkdir(lower, 0o755), os.WriteFile(filepath.Join(lower, "old"), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	dir := OverlayOn(t, base)
	if text, err := os.ReadFile(filepath.Join(dir, "old")); err != nil || string(text) != "x" {
		t.Errorf("what is in lower reads %q, %v", text, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), []byte("y"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(upper, "new")); err != nil || string(text) != "y" {
		t.Errorf("upper holds %q, %v", text, err)
	}
}

// TestOverlayExport asks for handles that can be opened, which Overlay has none of.
func TestOverlayExport(t *testing.T) {
	for kind, want := range map[string]error{Overlay: unix.EOPNOTSUPP, OverlayExport: nil} {
		_, _, err := unix.NameToHandleAt(unix.AT_FDCWD, New(t, kind), 0)
		if err != want {
			t.Errorf("%s: a handle to open: %v, want %v", kind, err, want)
		}
	}
}

func TestEach(t *testing.T) {
	var ran []string
	Each(t, func(t *testing.T, dir string) {
		ran = append(ran, strings.TrimPrefix(t.Name(), "TestEach/")+" "+mountOf(t, dir).FSType)
	})
	if got, want := strings.Join(ran, ", "), "tmpfs tmpfs, ext4 ext4, xfs xfs, btrfs btrfs"; got != want {
		t.Errorf("ran on %s, want %s", got, want)
	}
}

func TestBind(t *testing.T) {
	dir := New(t, Tmpfs)
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	if err := errors.Join(os.WriteFile(from, []byte("x"), 0o600), os.WriteFile(to, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Run("bound", func(t *testing.T) {
		Bind(t, from, to)
		if text, err := os.ReadFile(to); err != nil || string(text) != "x" {
			t.Errorf("%q, %v", text, err)
		}
	})
	if text, err := os.ReadFile(to); err != nil || len(text) != 0 {
		t.Errorf("after the test: %q, %v", text, err)
	}
}

// recorder is a test that is going on, whose outcome is looked at by another.
type recorder struct {
	testing.TB
	cleanups []func()
	outcome  []string
}

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Errorf(format string, args ...any) {
	r.outcome = append(r.outcome, "error: "+fmt.Sprintf(format, args...))
}

func (r *recorder) Fatal(args ...any) {
	r.outcome = append(r.outcome, "fatal: "+fmt.Sprint(args...))
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) { r.Fatal(fmt.Sprintf(format, args...)) }

func (r *recorder) Skipf(format string, args ...any) {
	r.outcome = append(r.outcome, "skip: "+fmt.Sprintf(format, args...))
	runtime.Goexit()
}

// record runs test with a recorder and returns the outcome, a line for each call.
func record(t *testing.T, test func(t testing.TB)) string {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(r)
	}()
	<-done
	for i := range r.cleanups {
		r.cleanups[len(r.cleanups)-1-i]()
	}
	return strings.Join(r.outcome, "\n")
}

func TestBusy(t *testing.T) {
	var dir string
	var left *os.File
	outcome := record(t, func(t testing.TB) {
		dir = New(t, Ext4)
		var err error
		if left, err = os.Create(filepath.Join(dir, "file")); err != nil {
			t.Fatal(err)
		}
	})
	defer left.Close()
	if !strings.HasPrefix(outcome, "error: unmount "+dir+": device or resource busy") || strings.Contains(outcome, "\n") {
		t.Errorf("the outcome is %q", outcome)
	}
	if info := mountOf(t, dir); info != nil {
		t.Errorf("still mounted: %+v", info)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name, outcome string
		test          func(t testing.TB)
	}{
		{"no such kind", `fatal: fstest knows no filesystem "ext5"`, func(t testing.TB) { New(t, "ext5") }},
		{"bad option", "fatal: mount tmpfs (tmpfs) on ", func(t testing.TB) { New(t, Tmpfs, "nonsense=1") }},
		{"bad option for bindfs", "fatal: mount bindfs on ", func(t testing.TB) { New(t, FUSE, "nonsense=1") }},
		{"no tool", `fatal: make a device with ext4: exec: "mkfs.ext4": executable file not found in $PATH (make test `, func(tb testing.TB) {
			t.Setenv("PATH", "/nonexistent")
			New(tb, Ext4)
		}},
		{"not by Main", "fatal: not in a mount namespace of its own", func(tb testing.TB) {
			t.Setenv(outsideVariable, "")
			New(tb, Tmpfs)
		}},
	} {
		if got := record(t, c.test); !strings.HasPrefix(got, c.outcome) {
			t.Errorf("%s: the outcome is %q, want %q", c.name, got, c.outcome)
		}
	}
}

func TestNeedKernel(t *testing.T) {
	tooOld := fmt.Errorf("FAN_NEW_THING: %w", errors.ErrUnsupported)
	for _, c := range []struct {
		ci      string
		err     error
		outcome string
	}{
		{"", nil, ""},
		{"true", nil, ""},
		{"", tooOld, "skip: the kernel is too old: FAN_NEW_THING: unsupported operation"},
		{"true", tooOld, "fatal: with CI set no test is skipped: FAN_NEW_THING: unsupported operation"},
		{"", unix.EPERM, "fatal: asked whether the kernel can do it: operation not permitted"},
	} {
		t.Setenv("CI", c.ci)
		if got := record(t, func(t testing.TB) { NeedKernel(t, c.err) }); got != c.outcome {
			t.Errorf("CI=%q, %v: the outcome is %q, want %q", c.ci, c.err, got, c.outcome)
		}
	}
}
