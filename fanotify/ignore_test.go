package fanotify

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// refusal is what Mark says of an ignore mask that the kernel only pretended to set.
const refusal = ": text file busy: the ignore mask isn't there: it doesn't hold while the file is open for writing, " +
	"and ends when it is modified: try again, or use ignored_surv_modify"

func openForWriting(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	check(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// TestIgnoreMaskOfOpenFile sets ignore masks on files that are open for writing, in groups that have marked much else:
// a file of another filesystem of the same kind too, which may have the same number and handle.
func TestIgnoreMaskOfOpenFile(t *testing.T) {
	fstest.NeedKernel(t, Supports(FeatureIgnore))
	kinds := []string{fstest.Tmpfs, fstest.Ext4, fstest.XFS, fstest.Btrfs, fstest.Subvolume, fstest.Overlay, fstest.FUSE}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			dirs := []string{fstest.New(t, kind), fstest.New(t, kind)}
			other, name := file(t, dirs[0], "f"), file(t, dirs[1], "f")
			neighbour := file(t, dirs[1], "neighbour")
			for _, config := range []Config{{Class: ClassContent}, {Report: ReportFID}} {
				if (kind == fstest.FUSE || kind == fstest.Subvolume) && config.Report != 0 {
					continue // such a group has one of them alone
				}
				g := newGroup(t, config)
				mark(t, g, TargetInode, other, Open|Access|Modify, Ignore)
				mark(t, g, TargetInode, neighbour, Open|Access|Modify, Ignore)
				writer := openForWriting(t, name)
				before := marks(t, g)
				for _, flags := range []MarkFlags{Ignore, IgnoredMask, Ignore | Evictable} {
					checkError(t, g.Mark(TargetInode, name, Open, flags), unix.ETXTBSY, "mark "+name+refusal)
				}
				check(t, g.Mark(TargetInode, name, Open, Ignore|Unverified))
				if got := marks(t, g); !slices.Equal(got, before) {
					t.Errorf("marked: %q", got)
				}
				mark(t, g, TargetInode, name, Access, 0) // a mark is there, its ignore mask isn't
				checkError(t, g.Mark(TargetInode, name, Open, Ignore), unix.ETXTBSY, "mark "+name+refusal)

				check(t, writer.Close())
				mark(t, g, TargetInode, name, Open, Ignore)
				writer = openForWriting(t, name)
				mark(t, g, TargetInode, name, Open, Ignore) // it is there already
				checkError(t, g.Mark(TargetInode, name, Open|Access, Ignore), unix.ETXTBSY, "mark "+name+refusal)
				_, err := writer.WriteString("modified")
				check(t, err)
				checkError(t, g.Mark(TargetInode, name, Open, Ignore), unix.ETXTBSY, "mark "+name+refusal)
				mark(t, g, TargetInode, name, Open, IgnoreSurv)
				check(t, writer.Close())
			}
		})
	}
}

// TestIgnoreMaskOfOtherObjects is not refused where the kernel doesn't count writers, and refused however the file is
// named.
func TestIgnoreMaskOfOtherObjects(t *testing.T) {
	dir := fstest.New(t, fstest.Subvolume)
	name, link, fifo := file(t, dir, "f"), filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	check(t, os.Symlink("f", link), unix.Mkfifo(fifo, 0o600))
	openForWriting(t, name)
	both, err := os.OpenFile(fifo, os.O_RDWR, 0)
	check(t, err)
	defer both.Close()
	d, err := os.Open(dir)
	check(t, err)
	defer d.Close()
	r, w, err := os.Pipe()
	check(t, err)
	defer r.Close()
	defer w.Close()
	memfd, err := unix.MemfdCreate("memfd", unix.MFD_CLOEXEC)
	check(t, err)
	defer unix.Close(memfd)
	inMemory := fmt.Sprintf("/proc/self/fd/%d", memfd)
	openForWriting(t, inMemory)
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	check(t, err)
	defer unix.Close(tree)
	detached, err := unix.Openat(tree, "f", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	check(t, err)
	defer unix.Close(detached)
	quiet := file(t, dir, "quiet")

	g := newGroup(t, Config{})
	for _, tt := range []struct {
		what    string
		dirfd   int
		path    string
		flags   MarkFlags
		refused string // what the error calls it
	}{
		{"a link to the file", unix.AT_FDCWD, link, 0, link},
		{"the link itself", unix.AT_FDCWD, link, DontFollow, ""},
		{"a name in a directory", int(d.Fd()), "f", 0, "f"},
		{"the directory", int(d.Fd()), "", OnlyDir, ""},
		{"a FIFO", unix.AT_FDCWD, fifo, 0, ""},
		{"a pipe", int(w.Fd()), "", 0, ""},
		{"a file in memory", memfd, "", 0, fmt.Sprintf("descriptor %d", memfd)},
		{"a file in memory by name", unix.AT_FDCWD, inMemory, 0, inMemory},
		{"a file in a mount of no namespace", detached, "", 0, fmt.Sprintf("descriptor %d", detached)},
		{"a name in a mount of no namespace", tree, "quiet", 0, ""},
		{"another name of it", unix.AT_FDCWD, quiet, 0, ""},
	} {
		err := g.MarkAt(TargetInode, tt.dirfd, tt.path, Open, IgnoredMask|tt.flags)
		switch {
		case tt.refused != "":
			checkError(t, err, unix.ETXTBSY, "mark "+tt.refused+refusal)
		case err != nil:
			t.Errorf("%s: %v", tt.what, err)
		}
	}
	if got := marks(t, g); len(got) != 5 || slices.Compact(got)[0] != "inode flags=0 mask=0 ignored=open" {
		t.Errorf("%q", got)
	}
}

// TestIgnoreMaskOfTwin has two files with the same inode number in one filesystem: those of two subvolumes.
func TestIgnoreMaskOfTwin(t *testing.T) {
	dir := fstest.New(t, fstest.Btrfs)
	var twins []string
	var stats [2]unix.Stat_t
	for i := range stats {
		subvolume := filepath.Join(dir, fmt.Sprint(i))
		if out, err := exec.Command("btrfs", "subvolume", "create", subvolume).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		name := file(t, subvolume, "f")
		check(t, unix.Stat(name, &stats[i]))
		twins = append(twins, name)
	}
	if stats[0].Ino != stats[1].Ino {
		t.Fatalf("inodes %d and %d", stats[0].Ino, stats[1].Ino)
	}
	g := newGroup(t, Config{})
	mark(t, g, TargetInode, twins[0], Open, IgnoredMask)
	openForWriting(t, twins[1])
	checkError(t, g.Mark(TargetInode, twins[1], Open, IgnoredMask), unix.ETXTBSY, "mark "+twins[1]+refusal)
}
