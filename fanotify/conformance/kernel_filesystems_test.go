package conformance_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// TestFilesystemTable tries every kind of mark on every kind of filesystem and compares docs/kernel.md with what the
// kernel says; with -update it writes it.
func TestFilesystemTable(t *testing.T) {
	for _, feature := range []fanotify.Feature{
		fanotify.FeatureIdentifyingHandles, fanotify.FeaturePreAccess, fanotify.FeatureFSError, fanotify.FeatureFilesystemMark,
	} {
		fstest.NeedKernel(t, fanotify.Supports(feature))
	}
	byHandle := fanotify.Config{Report: fanotify.ReportFID}
	var b strings.Builder
	b.WriteString("| filesystem | handles | inode, with handles | mount, with handles | filesystem, with handles | without handles |" +
		" permission | pre-content | errors |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, fs := range []struct {
		name string
		dir  string
	}{
		{"tmpfs", fstest.New(t, fstest.Tmpfs)},
		{"ext2", fstest.New(t, fstest.Ext2)},
		{"ext3", fstest.New(t, fstest.Ext3)},
		{"ext4", fstest.New(t, fstest.Ext4)},
		{"xfs", fstest.New(t, fstest.XFS)},
		{"btrfs, top level", fstest.New(t, fstest.Btrfs)},
		{"btrfs, subvolume", fstest.New(t, fstest.Subvolume)},
		{"overlayfs", fstest.New(t, fstest.Overlay)},
		{"overlayfs, `index=on,nfs_export=on`", fstest.New(t, fstest.OverlayExport)},
		{"FUSE (bindfs)", fstest.New(t, fstest.FUSE)},
		{"proc", mountKernels(t, "proc")},
		{"sysfs", mountKernels(t, "sysfs")},
		{"cgroup2", mountKernels(t, "cgroup2")},
		{"devpts", mountKernels(t, "devpts")},
		{"ramfs", mountKernels(t, "ramfs")},
	} {
		cells := []string{
			fs.name,
			handlesOf(fs.dir),
			taken(byHandle, fs.dir, fanotify.Open|fanotify.Create, fanotify.TargetInode),
			taken(byHandle, fs.dir, fanotify.Open, fanotify.TargetMount),
			taken(byHandle, fs.dir, fanotify.Open|fanotify.Create, fanotify.TargetFilesystem),
			taken(fanotify.Config{}, fs.dir, fanotify.Open, fanotify.TargetInode, fanotify.TargetMount, fanotify.TargetFilesystem),
			// Without OnDir and EventOnChild nobody is asked anything.
			taken(fanotify.Config{Class: fanotify.ClassContent}, fs.dir, fanotify.OpenPerm, fanotify.TargetInode),
			taken(fanotify.Config{Class: fanotify.ClassPreContent}, fs.dir, fanotify.PreAccess, fanotify.TargetInode),
			errorsOf(t, fs.dir), // the last one: it may end the filesystem
		}
		if slices.Contains(cells, "") {
			t.Errorf("an empty cell: %q", cells)
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	comparePart(t, "filesystems", b.String()+"\n")
}

// mountKernels mounts a filesystem of the kernel's own on a new directory.
func mountKernels(t *testing.T, fstype string) (dir string) {
	t.Helper()
	dir = mkdir(t, fstest.New(t, fstest.Tmpfs), fstype)
	check(t, unix.Mount(fstype, dir, fstype, 0, ""))
	t.Cleanup(func() { check(t, unix.Unmount(dir, 0)) })
	return dir
}

// taken says whether a directory takes marks: "yes", or the errnos.
func taken(config fanotify.Config, dir string, mask fanotify.Mask, targets ...fanotify.Target) string {
	g, err := fanotify.NewGroup(config)
	if err != nil {
		return err.Error()
	}
	defer g.Close()
	var refused []string
	for _, target := range targets {
		if err := g.Mark(target, dir, mask, 0); err != nil {
			refused = append(refused, errnoName(err))
		}
	}
	if refused == nil {
		return "yes"
	}
	return strings.Join(refused, ", ")
}

func errnoName(err error) string {
	var errno unix.Errno
	errors.As(err, &errno)
	if errno == unix.EOPNOTSUPP {
		return "EOPNOTSUPP" // ErrnoName has the other name of the number
	}
	return unix.ErrnoName(errno)
}

// handlesOf says what the handle of a directory is good for.
func handlesOf(dir string) string {
	h, err := fanotify.HandleAt(-1, dir)
	if err != nil {
		return errnoName(err)
	}
	mount, err := os.Open(dir)
	if err != nil {
		return err.Error()
	}
	defer mount.Close()
	fd, err := h.Open(int(mount.Fd()), unix.O_PATH)
	if err != nil {
		return "identify"
	}
	unix.Close(fd)
	return "open"
}

// errorsOf says what becomes of the errors of a filesystem. Those of ext2, ext3, ext4 and xfs are made.
func errorsOf(t *testing.T, dir string) string {
	t.Helper()
	g, err := fanotify.NewGroup(fanotify.Config{Report: fanotify.ReportFID})
	check(t, err)
	defer g.Close()
	if err := g.Mark(fanotify.TargetFilesystem, dir, fanotify.FSError, 0); err != nil {
		return errnoName(err)
	}
	var fs unix.Statfs_t
	check(t, unix.Statfs(dir, &fs))
	switch fs.Type {
	case unix.EXT4_SUPER_MAGIC: // and its predecessors
		check(t, unix.Mount("", dir, "", unix.MS_REMOUNT, "abort"))
	case unix.XFS_SUPER_MAGIC:
		const shutDown = 0x8004587d // XFS_IOC_GOINGDOWN
		d := openFile(t, dir, os.O_RDONLY)
		check(t, unix.IoctlSetPointerInt(int(d.Fd()), shutDown, 2), d.Close())
	}
	if slices.Contains(queued(t, g, maskOf), "fs_error") {
		return "reported"
	}
	return "accepted"
}
