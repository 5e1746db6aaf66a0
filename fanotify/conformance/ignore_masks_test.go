package conformance_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// ignoreRow is a row of TestLTP10IgnoreAcrossMarks. The paths are those of two mounts of one filesystem. Where there is
// a * in the path that is ignored, the row is about many files and marks that the kernel may drop.
type ignoreRow struct {
	target       fanotify.Target
	path         string
	ignoreTarget fanotify.Target
	ignorePath   string
	ignoreFlags  fanotify.Mask // what goes with Open into the ignore mask
	event        string        // what is opened, or executed if without has OpenExec
	without      fanotify.Mask // the event of the groups that don't ignore
	with         fanotify.Mask // and of those that do; 0 is none
}

// many is how many files a * stands for.
const many = 16

// TestLTP10IgnoreAcrossMarks ignores opening with another mark than the one that asks for it, of every combination that
// matters. Twelve groups have the same mark; all but those of the highest class have the same ignore mask.
func TestLTP10IgnoreAcrossMarks(t *testing.T) {
	const (
		open    = fanotify.Open
		exec    = fanotify.Open | fanotify.OpenExec
		dirOpen = fanotify.Open | fanotify.OnDir
		onChild = fanotify.EventOnChild
		onDir   = fanotify.OnDir
	)
	rows := []ignoreRow{
		0: {mount, "mnt1", inode, "mnt2/dir/file", 0, "mnt1/dir/file", open, 0},
		1: {mount, "mnt1", inode, "mnt2/program", 0, "mnt1/program", exec, fanotify.OpenExec},
		2: {mount, "mnt1", inode, "mnt1/dir/file", 0, "mnt1/dir/file2", open, open},
		3: {mount, "mnt1", inode, "mnt1/program", 0, "mnt1/program2", exec, exec},

		4: {inode, "mnt1/dir/file", mount, "mnt2", 0, "mnt2/dir/file", open, 0},
		5: {inode, "mnt1/program", mount, "mnt2", 0, "mnt2/program", exec, fanotify.OpenExec},
		6: {inode, "mnt2/dir/file", mount, "mnt2", 0, "mnt1/dir/file", open, open},
		7: {inode, "mnt2/program", mount, "mnt2", 0, "mnt1/program", exec, exec},

		8:  {filesystem, "mnt1", inode, "mnt1/dir/file", 0, "mnt1/dir/file", open, 0},
		9:  {filesystem, "mnt1", inode, "mnt1/program", 0, "mnt1/program", exec, fanotify.OpenExec},
		10: {filesystem, "mnt1", inode, "mnt1/dir/file", 0, "mnt1/dir/file2", open, open},
		11: {filesystem, "mnt1", inode, "mnt1/program", 0, "mnt1/program2", exec, exec},
		12: {filesystem, "mnt1", mount, "mnt2", 0, "mnt2/dir/file", open, 0},
		13: {filesystem, "mnt1", mount, "mnt2", 0, "mnt2/program", exec, fanotify.OpenExec},
		14: {filesystem, "mnt1", mount, "mnt2", 0, "mnt1/dir/file", open, open},
		15: {filesystem, "mnt1", mount, "mnt2", 0, "mnt1/program", exec, exec},

		16: {inode, "mnt1", mount, "mnt1", 0, "mnt1/program", exec, fanotify.OpenExec},
		17: {inode, "mnt1/dir", inode, "mnt1/dir", onChild, "mnt1/dir/file", open, 0},
		18: {inode, "mnt1/dir/file", inode, "mnt1/dir", onChild, "mnt1/dir/file", open, 0},
		19: {inode, "mnt1/dir/file", inode, "mnt1/dir", 0, "mnt1/dir/file", open, open},
		20: {mount, "mnt1/dir/file", inode, "mnt1/dir", onChild, "mnt1/dir/file", open, 0},
		21: {mount, "mnt1/dir/file", inode, "mnt1/dir", 0, "mnt1/dir/file", open, open},
		22: {filesystem, "mnt1/dir/file", inode, "mnt1/dir", onChild, "mnt1/dir/file", open, 0},
		23: {filesystem, "mnt1/dir/file", inode, "mnt1/dir", 0, "mnt1/dir/file", open, open},

		24: {mount, "mnt1", inode, "mnt1/dir/file*", 0, "mnt1/dir/file*", open, open},
		25: {filesystem, "mnt1", inode, "mnt1/dir/file*", 0, "mnt1/dir/file*", open, open},
		26: {mount, "mnt1", inode, "mnt1/dir*", onChild, "mnt1/dir*/file", open, open},
		27: {filesystem, "mnt1", inode, "mnt1/dir*", onChild, "mnt1/dir*/file", open, open},

		28: {inode, "mnt1/dir/subdir", inode, "mnt1/dir", onChild | onDir, "mnt1/dir/subdir", dirOpen, 0},
		29: {inode, "mnt1/dir/subdir", inode, "mnt1/dir", onDir, "mnt1/dir/subdir", dirOpen, dirOpen},
		30: {inode, "mnt1/dir/subdir", inode, "mnt1/dir", onChild, "mnt1/dir/subdir", dirOpen, dirOpen},
	}
	const oldIgnore = fanotify.IgnoredMask | fanotify.IgnoredSurvModify
	variants := []struct {
		name  string
		flags fanotify.MarkFlags
	}{{"ignored_mask", oldIgnore}, {"ignore", fanotify.IgnoreSurv}}
	onEach(t, []string{fstest.Tmpfs, fstest.Ext2, fstest.Ext4, fstest.XFS, fstest.Btrfs}, func(t *testing.T, kind, dir string) {
		base := fstest.New(t, fstest.Tmpfs)
		for _, name := range []string{"mnt1", "mnt2"} {
			fstest.Bind(t, dir, mkdir(t, base, name))
		}
		program(t, dir, "program")
		program(t, dir, "program2")
		d := mkdir(t, dir, "dir")
		mkdir(t, d, "subdir")
		file(t, d, "file")
		file(t, d, "file2")
		for i := range many {
			file(t, d, fmt.Sprint("file-", i))
			file(t, mkdir(t, dir, fmt.Sprint("dir-", i)), "file")
		}
		groups := ignoringGroups(t)
		for i, row := range rows {
			for _, variant := range variants {
				dropped := strings.Contains(row.ignorePath, "*")
				switch {
				case row.without == dirOpen && variant.flags == oldIgnore:
					continue // these rows are about modifiers, which the old ignore masks don't take
				case dropped && kind == fstest.Tmpfs:
					continue // its inodes are nowhere but in memory: none is ever dropped
				}
				t.Run(fmt.Sprintf("%d_%s", i, variant.name), func(t *testing.T) {
					if dropped {
						row.testDropped(t, groups, base, variant.flags)
					} else {
						row.test(t, groups, base, variant.flags)
					}
				})
			}
		}
	})
}

// ignoringGroup is one of the groups that each row uses.
type ignoringGroup struct {
	*fanotify.Group
	name    string
	ignores bool
	fid     bool // reports handles, and so directories
}

// ignoringGroups returns the groups. They are flushed after each row, as to make new ones would take longer than all
// else. The first class doesn't ignore.
func ignoringGroups(t *testing.T) []ignoringGroup {
	t.Helper()
	var groups []ignoringGroup
	for i, config := range []fanotify.Config{
		{Class: fanotify.ClassPreContent},
		{Class: fanotify.ClassContent},
		{Class: fanotify.ClassNotif},
		{Report: fanotify.ReportDFIDName | fanotify.ReportFID},
	} {
		for n := range groupsPerClass {
			groups = append(groups, ignoringGroup{
				Group:   newGroup(t, config),
				name:    fmt.Sprintf("group %d of %s %s", n, config.Class, config.Report),
				ignores: i > 0,
				fid:     config.Report != 0,
			})
		}
	}
	return groups
}

// mark sets the mark of all groups, until the test ends.
func (r ignoreRow) mark(t *testing.T, groups []ignoringGroup, base string) {
	t.Helper()
	for _, g := range groups {
		mark(t, g.Group, r.target, filepath.Join(base, r.path), r.without|fanotify.EventOnChild|fanotify.OnDir, 0)
		t.Cleanup(func() { check(t, g.Flush(inode), g.Flush(mount), g.Flush(filesystem)) })
	}
}

// ignore sets the ignore mask of a group, with evictable for flags where the kernel may drop it.
func (r ignoreRow) ignore(t *testing.T, g *fanotify.Group, path string, flags, evictable fanotify.MarkFlags) {
	t.Helper()
	mark(t, g, r.ignoreTarget, path, fanotify.Open|r.ignoreFlags, flags|evictable)
	onChild := r.ignoreFlags.Has(fanotify.EventOnChild)
	switch {
	case flags&fanotify.Ignore == 0:
		// The old ignore mask holds for children if the mark asks for their events.
		if onChild {
			mark(t, g, r.ignoreTarget, path, fanotify.Open|r.ignoreFlags, evictable)
		}

	// The new one heeds only its own modifiers: the mark has the opposite, for events that don't happen there.
	case evictable != 0, r.ignoreTarget != inode, r.path == r.ignorePath, filepath.Dir(r.event) != r.ignorePath:
	case !onChild:
		mark(t, g, inode, path, fanotify.CloseWrite|fanotify.EventOnChild|fanotify.OnDir, 0)
	case r.ignoreFlags.Has(fanotify.OnDir):
		mark(t, g, inode, path, fanotify.Close|fanotify.EventOnChild, 0)
	default:
		mark(t, g, inode, path, fanotify.Close|fanotify.OnDir, 0)
	}
}

// cause opens or executes what a row says and returns the process that did.
func (r ignoreRow) cause(t *testing.T, path string) int {
	t.Helper()
	if r.without.Has(fanotify.OpenExec) {
		pid, err := execute(t, path)
		check(t, err)
		return pid
	}
	touch(t, path)
	return os.Getpid()
}

// expect compares the queue of a group with the one event that it has to hold.
func (r ignoreRow) expect(t *testing.T, g ignoringGroup, pid int, event fanotify.Mask) {
	t.Helper()
	if !g.fid {
		event &^= fanotify.OnDir
	}
	var want []string
	if event != 0 {
		want = []string{event.String()}
	}
	expect(t, g.name+": "+r.event, queued(t, g.Group, by(t, pid, maskOf)), want...)
}

func (r ignoreRow) test(t *testing.T, groups []ignoringGroup, base string, flags fanotify.MarkFlags) {
	r.mark(t, groups, base)
	for _, g := range groups {
		if g.ignores {
			r.ignore(t, g.Group, filepath.Join(base, r.ignorePath), flags, 0)
		}
	}
	pid := r.cause(t, filepath.Join(base, r.event))
	for _, g := range groups {
		want := r.without
		if g.ignores {
			want = r.with
		}
		r.expect(t, g, pid, want)
	}
}

// testDropped ignores many files by marks that the kernel may drop and makes it do so: at least half of them.
func (r ignoreRow) testDropped(t *testing.T, groups []ignoringGroup, base string, flags fanotify.MarkFlags) {
	root := openFile(t, filepath.Join(base, "mnt1"), os.O_RDONLY) // before there are groups that would hear of it
	defer root.Close()
	r.mark(t, groups, base)
	each := func(path string, i int) string {
		return filepath.Join(base, strings.Replace(path, "*", fmt.Sprint("-", i), 1))
	}
	for _, g := range groups {
		for i := range many {
			if g.ignores {
				r.ignore(t, g.Group, each(r.ignorePath, i), flags, fanotify.Evictable)
			}
		}
	}
	dropCaches(t, root)

	survivors := 0
	for i := range many {
		path := each(r.ignorePath, i)
		// While it is open the mark stays as it is. With O_PATH, opening makes no event.
		held, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		check(t, err)
		want := map[string]fanotify.Mask{}
		for _, g := range groups {
			// To take away what a mark doesn't have changes nothing and says whether it is there.
			err := g.Unmark(r.ignoreTarget, path, fanotify.Access, flags)
			switch {
			case err != nil && !errors.Is(err, unix.ENOENT):
				t.Fatal(err)
			case err != nil:
				want[g.name] = r.without
			case !g.ignores:
				t.Errorf("%s has a mark on %s", g.name, path)
			default:
				survivors++
			}
		}
		pid := r.cause(t, each(r.event, i))
		for _, g := range groups {
			r.expect(t, g, pid, want[g.name])
		}
		check(t, unix.Close(held))
	}
	if ignoring := len(groups) - groupsPerClass; survivors > ignoring*many/2 {
		t.Errorf("%d of %d marks were not dropped", survivors, ignoring*many)
	}
}

// dropCaches writes back the filesystem that f is on and drops the inodes that nobody uses, of all filesystems: three
// times, as a directory goes only after what is in it.
func dropCaches(t *testing.T, f *os.File) {
	t.Helper()
	check(t, unix.Syncfs(int(f.Fd())))
	for range 3 {
		check(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0))
	}
}
