package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

func TestVisible(t *testing.T) {
	table := table{
		{ID: 1, Parent: 0, Mountpoint: "/"},
		{ID: 2, Parent: 1, Mountpoint: "/a"},
		{ID: 3, Parent: 2, Mountpoint: "/a/b"},
		{ID: 4, Parent: 1, Mountpoint: "/c"},
		{ID: 5, Parent: 4, Mountpoint: "/c"},   // over 4
		{ID: 6, Parent: 4, Mountpoint: "/c/d"}, // on 4, which 5 hides
		{ID: 7, Parent: 5, Mountpoint: "/c/d"},
		{ID: 8, Parent: 1, Mountpoint: "/e/f"}, // on the root, before 9 came over the directory above
		{ID: 9, Parent: 1, Mountpoint: "/e"},
		{ID: 10, Parent: 1, Mountpoint: "/ef"},
	}
	var got []int
	for _, m := range table.visible() {
		got = append(got, m.ID)
	}
	if diff := cmp.Diff([]int{1, 2, 3, 5, 7, 9, 10}, got); diff != "" {
		t.Errorf("visible (-want +got):\n%s", diff)
	}
}

// What the table says of each mount is what a look at its mount point says.
func TestVisibleAsTheKernelSees(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	below := filepath.Join(dir, "below")
	check(t, os.Mkdir(below, 0o755))
	fstest.Bind(t, fstest.New(t, fstest.Tmpfs), below)
	fstest.Bind(t, fstest.New(t, fstest.Tmpfs), dir) // hides both
	mounted, err := readTable()
	check(t, err)
	visible := mounted.visible()
	hidden := 0
	for _, m := range mounted {
		var st unix.Statx_t
		leads := unix.Statx(unix.AT_FDCWD, m.Mountpoint, 0, unix.STATX_MNT_ID, &st) == nil && int(st.Mnt_id) == m.ID
		says := slices.Contains(visible, m)
		if leads != says {
			t.Errorf("%s (mount %d) visible: %v, want %v", m.Mountpoint, m.ID, says, leads)
		}
		if !says {
			hidden++
		}
	}
	if hidden < 2 {
		t.Errorf("%d hidden mounts, want 2 at least", hidden)
	}
}

// One row stands for a filesystem: its mount that shows most of it.
func TestChooseOneMountOfAFilesystem(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	from := fstest.New(t, fstest.Tmpfs)
	for _, name := range []string{filepath.Join(from, "sub"), filepath.Join(dir, "part"), filepath.Join(dir, "whole")} {
		check(t, os.Mkdir(name, 0o755))
	}
	fstest.Bind(t, filepath.Join(from, "sub"), filepath.Join(dir, "part"))
	fstest.Bind(t, from, filepath.Join(dir, "whole"))
	mounted, err := readTable()
	check(t, err)
	chosen, err := mounted.choose([]string{dir}, DefaultPatience)
	check(t, err)
	var got [][]string
	for _, m := range chosen {
		got = append(got, append([]string{m.Mountpoint}, m.alsoAt...))
	}
	want := [][]string{{dir}, {filepath.Join(dir, "whole"), filepath.Join(dir, "part")}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("chosen (-want +got):\n%s", diff)
	}
}

// Without a path the kernel's own filesystems are left out, one that is asked for is not.
func TestChoosePseudoOnlyIfAsked(t *testing.T) {
	mounted, err := readTable()
	check(t, err)
	isProc := func(m mount) bool { return m.FSType == "proc" }
	all, err := mounted.choose(nil, DefaultPatience)
	check(t, err)
	if len(all) == 0 || slices.ContainsFunc(all, isProc) {
		t.Errorf("without a path: %d mounts, with proc: %v", len(all), slices.ContainsFunc(all, isProc))
	}
	asked, err := mounted.choose([]string{"/proc/self"}, DefaultPatience)
	check(t, err)
	if !slices.ContainsFunc(asked, isProc) {
		t.Error("proc was asked for and is not there")
	}
}

func TestHiddenProcesses(t *testing.T) {
	for _, c := range []struct {
		options string
		hidden  bool
	}{{"rw", false}, {"rw,hidepid=invisible", true}, {"rw,gid=4,hidepid=2", true}, {"rw,hidepid=0", false}} {
		table := table{{Mountpoint: "/proc", FSType: "proc", VFSOptions: c.options}}
		if got := table.hiddenProcesses(); got != c.hidden {
			t.Errorf("%s: %v", c.options, got)
		}
	}
	if (table{&mountinfo.Info{Mountpoint: "/", FSType: "ext4"}}).hiddenProcesses() {
		t.Error("no /proc")
	}
}
