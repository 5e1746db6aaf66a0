package fstest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The kinds of filesystem that [New] makes.
const (
	Tmpfs         = "tmpfs"
	Ext2          = "ext2"
	Ext3          = "ext3"
	Ext4          = "ext4"
	XFS           = "xfs"
	Btrfs         = "btrfs"           // the top level
	Subvolume     = "btrfs-subvolume" // a btrfs subvolume, mounted by itself
	Overlay       = "overlay"         // on tmpfs, with an empty lower directory
	OverlayExport = "overlay-export"  // likewise, with handles that can be opened (index=on, nfs_export=on)
	FUSE          = "fuse"            // bindfs on tmpfs
)

// Kinds are the filesystems that everything has to work on.
var Kinds = []string{Tmpfs, Ext4, XFS, Btrfs}

// Each runs test once on each of [Kinds], in subtests of that name, with the directory that [New] returns.
func Each(t *testing.T, test func(t *testing.T, dir string)) {
	t.Helper()
	for _, kind := range Kinds {
		t.Run(kind, func(t *testing.T) { test(t, New(t, kind)) })
	}
}

// New mounts a fresh, empty filesystem of a kind and returns the directory that it is mounted on, as the kernel spells
// it. It belongs to root, and everybody may search the way to it. Options are those of mount(8) that the filesystem
// itself understands, such as "size=1m" for tmpfs.
//
// The filesystem is unmounted when the test ends. If it is busy then, because the test left something open on it, the
// test fails.
func New(t testing.TB, kind string, options ...string) string {
	t.Helper()
	needNamespace(t)
	dir := newDir(t)
	switch kind {
	case Tmpfs:
		mount(t, "tmpfs", dir, "tmpfs", slices.Concat([]string{"mode=755"}, options)...)
	case Ext2, Ext3, Ext4, XFS, Btrfs:
		newOnDevice(t, kind, dir, options)
	case Subvolume:
		newSubvolume(t, dir, options)
	case Overlay:
		newOverlay(t, New(t, Tmpfs), dir, options)
	case OverlayExport:
		newOverlay(t, New(t, Tmpfs), dir, slices.Concat([]string{"index=on", "nfs_export=on"}, options))
	case FUSE:
		newFUSE(t, dir, options)
	default:
		t.Fatalf("fstest knows no filesystem %q", kind)
	}
	return dir
}

// OverlayOn mounts an overlay filesystem on a new directory, which it returns, until the test ends. Its layers are the
// directories lower, upper and work in base, which are made unless they are there.
func OverlayOn(t testing.TB, base string, options ...string) string {
	t.Helper()
	needNamespace(t)
	dir := newDir(t)
	newOverlay(t, base, dir, options)
	return dir
}

// Bind mounts the file or directory from on the existing one to as well, until the test ends.
func Bind(t testing.TB, from, to string) {
	t.Helper()
	needNamespace(t)
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("bind %s to %s: %v", from, to, err)
	}
	t.Cleanup(func() { unmount(t, to) })
}

// NeedKernel skips the test if err says that the running kernel is too old for it, which is: if err, the answer of a
// probe, is [errors.ErrUnsupported]. Any other error fails the test. With CI in the environment, nothing is skipped:
// the kernel that this is built on has to have it all.
func NeedKernel(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case !errors.Is(err, errors.ErrUnsupported):
		t.Fatalf("asked whether the kernel can do it: %v", err)
	case os.Getenv("CI") != "":
		t.Fatalf("with CI set no test is skipped: %v", err)
	default:
		t.Skipf("the kernel is too old: %v", err)
	}
}

// needNamespace fails the test when it may not mount anything here.
func needNamespace(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to mount filesystems: run as root (make test does)")
	}
	if !inOwnNamespace() {
		t.Fatal("not in a mount namespace of its own: TestMain has to call fstest.Main")
	}
}

// newDir returns an empty directory that everybody may read, by its real name.
func newDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// The testing package makes the directory above for its owner alone.
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func newOnDevice(t testing.TB, kind, dir string, options []string) {
	t.Helper()
	device, err := newDevice(kind)
	if err != nil {
		t.Fatalf("make a device with %s: %v", kind, err)
	}
	defer device.Close()
	mount(t, device.Name(), dir, kind, options...)
	err = os.Remove(filepath.Join(dir, "lost+found")) // which mkfs makes for ext2 and its successors
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EROFS) {
		t.Fatal(err)
	}
}

func newSubvolume(t testing.TB, dir string, options []string) {
	t.Helper()
	device, err := newDevice(Btrfs)
	if err != nil {
		t.Fatalf("make a device with btrfs: %v", err)
	}
	defer device.Close()
	top := newDir(t)
	if err := unix.Mount(device.Name(), top, "btrfs", 0, ""); err != nil {
		t.Fatalf("mount %s on %s: %v", device.Name(), top, err)
	}
	err = run("btrfs", "subvolume", "create", filepath.Join(top, "subvolume"))
	unmount(t, top)
	if err != nil {
		t.Fatal(err)
	}
	mount(t, device.Name(), dir, "btrfs", slices.Concat([]string{"subvol=subvolume"}, options)...)
}

func newOverlay(t testing.TB, base, dir string, options []string) {
	t.Helper()
	var layers []string
	for _, layer := range []string{"lower", "upper", "work"} {
		path := filepath.Join(base, layer)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		layers = append(layers, layer+"dir="+path)
	}
	mount(t, "overlay", dir, "overlay", slices.Concat(layers, options)...)
}

// mount mounts a filesystem until the test ends.
func mount(t testing.TB, source, dir, fstype string, options ...string) {
	t.Helper()
	if err := unix.Mount(source, dir, fstype, 0, strings.Join(options, ",")); err != nil {
		t.Fatalf("mount %s (%s) on %s with %q: %v", source, fstype, dir, options, err)
	}
	t.Cleanup(func() { unmount(t, dir) })
}

// unmount takes away what is mounted on dir. If that is in use the test fails and the mount goes as soon as it can.
func unmount(t testing.TB, dir string) {
	t.Helper()
	if err := unix.Unmount(dir, 0); err != nil {
		t.Errorf("unmount %s: %v: did the test leave something open there?", dir, err)
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s lazily: %v", dir, err)
		}
	}
}
