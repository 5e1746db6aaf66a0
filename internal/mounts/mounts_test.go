package mounts

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

func TestMain(m *testing.M) { fstest.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// at returns the mounts at a point, in their order.
func at(t *testing.T, table *Table, point string) []Mount {
	t.Helper()
	return slices.DeleteFunc(slices.Clone(table.Mounts), func(m Mount) bool { return m.Point != point })
}

// readers are the two ways to know the mounts.
var readers = map[string]func() (*Table, error){"statmount": Read, "mountinfo": ReadInfo}

func TestRead(t *testing.T) {
	_, err := fanotify.StatMount(fanotify.OwnNamespace, 1)
	if errors.Is(err, errors.ErrUnsupported) {
		fstest.NeedKernel(t, err)
	}
	for name, read := range readers {
		t.Run(name, func(t *testing.T) {
			store := fstest.New(t, fstest.Tmpfs)
			dir := store + "/a b\nc\\d\t\xff" // mountinfo has escapes for these
			for _, d := range []string{dir, dir + "/sub", store + "/other"} {
				must(t, os.Mkdir(d, 0o755))
			}
			must(t, unix.Mount("none", dir, "tmpfs", 0, ""))
			defer func() { must(t, unix.Unmount(dir, 0)) }()
			must(t, os.Mkdir(dir+"/sub", 0o755))
			must(t, unix.Mount(dir+"/sub", store+"/other", "", unix.MS_BIND, ""))
			defer func() { must(t, unix.Unmount(store+"/other", 0)) }()

			table, err := read()
			must(t, err)
			if unique := name == "statmount"; table.Unique != unique {
				t.Errorf("unique ids: %t", table.Unique)
			}
			first, bound := at(t, table, dir), at(t, table, store+"/other")
			if len(first) != 1 || len(bound) != 1 {
				t.Fatalf("%+v, %+v", first, bound)
			}
			if m := first[0]; m.Root != "/" || m.FSType != "tmpfs" || m.Parent != at(t, table, store)[0].ID {
				t.Errorf("%+v", m)
			}
			if m := bound[0]; m.Root != "/sub" || m.Device != first[0].Device || m.ID == first[0].ID {
				t.Errorf("%+v is bound from %+v", m, first[0])
			}
			var st unix.Stat_t
			must(t, unix.Stat(dir, &st))
			if d := (Device{unix.Major(st.Dev), unix.Minor(st.Dev)}); d != first[0].Device {
				t.Errorf("device %v, stat says %v", first[0].Device, d)
			}
		})
	}
}

// Both ways to know the mounts say the same, but for the ids.
func TestReadersAgree(t *testing.T) {
	fstest.New(t, fstest.FUSE)
	fstest.New(t, fstest.Subvolume)
	one, err := Read()
	must(t, err)
	two, err := ReadInfo()
	must(t, err)
	if len(one.Mounts) != len(two.Mounts) {
		t.Fatalf("%d and %d mounts", len(one.Mounts), len(two.Mounts))
	}
	for i, a := range one.Mounts {
		b := two.Mounts[i]
		if one.Visible(a) != two.Visible(b) {
			t.Errorf("visible: %t, %t: %+v", one.Visible(a), two.Visible(b), a)
		}
		a.ID, a.Parent, b.ID, b.Parent = 0, 0, 0, 0
		if a != b {
			t.Errorf("%+v, %+v", a, b)
		}
	}
}

// The table knows what a path leads to as the kernel does, whatever covers what.
func TestAt(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	for _, d := range []string{"/a/b/c", "/ab", "/d"} {
		must(t, os.MkdirAll(dir+d, 0o755))
	}
	check := func() {
		t.Helper()
		table, err := Read()
		must(t, err)
		for _, path := range []string{"/", "/proc", dir, dir + "/a", dir + "/a/b", dir + "/a/b/c", dir + "/ab", dir + "/d"} {
			want, err := fanotify.MountIDAt(unix.AT_FDCWD, path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			must(t, err)
			if got, ok := table.At(path); !ok || got.ID != want {
				t.Errorf("%s leads to %+v, the kernel says %d", path, got, want)
			}
			got, _ := table.At(path)
			if !table.Visible(got) {
				t.Errorf("%+v is not visible", got)
			}
		}
	}
	check()
	for _, point := range []string{"/a/b/c", "/a/b/c", "/a/b", "/a", "/ab", "", "/a", "/a"} {
		if err := os.MkdirAll(dir+point, 0o755); err != nil {
			t.Fatal(err)
		}
		must(t, unix.Mount("none", dir+point, "tmpfs", 0, ""))
		defer func() { must(t, unix.Unmount(dir+point, 0)) }()
		check()
	}
	table, err := Read()
	must(t, err)
	visible := 0
	for _, m := range table.Mounts {
		if Below(m.Point, dir) && table.Visible(m) {
			visible++
		}
	}
	if visible != 2 { // the last on dir and on a
		t.Errorf("%d mounts are visible", visible)
	}
}

func TestBelow(t *testing.T) {
	for _, c := range []struct {
		path, dir string
		want      bool
	}{
		{"/", "/", true},
		{"/a", "/", true},
		{"/a", "/a", true},
		{"/a/b", "/a", true},
		{"/ab", "/a", false},
		{"/a", "/a/b", false},
		{"/", "/a", false},
		{"/b/a", "/a", false},
	} {
		if got := Below(c.path, c.dir); got != c.want {
			t.Errorf("Below(%q, %q) = %t", c.path, c.dir, got)
		}
	}
}

// What is mounted on every machine is known for what it is.
func TestPseudo(t *testing.T) {
	for _, kind := range []string{"proc", "sysfs", "devpts", "cgroup2", "tracefs", "mqueue"} {
		if !Pseudo(kind) {
			t.Errorf("%s holds files of users", kind)
		}
	}
	for _, kind := range []string{"ext4", "xfs", "btrfs", "tmpfs", "overlay", "fuse.sshfs", "nfs4", "vfat", "squashfs", "9p", "virtiofs"} {
		if Pseudo(kind) {
			t.Errorf("%s holds no files of users", kind)
		}
	}
}
