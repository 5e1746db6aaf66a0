package mounts

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

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
func at(t *testing.T, point string) []Mount {
	t.Helper()
	all, err := List()
	must(t, err)
	return slices.DeleteFunc(all, func(m Mount) bool { return m.Point != point })
}

func TestList(t *testing.T) {
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

	first, bound := at(t, dir), at(t, store+"/other")
	if len(first) != 1 || len(bound) != 1 {
		t.Fatalf("%+v, %+v", first, bound)
	}
	if m := first[0]; m.Root != "/" || m.FSType != "tmpfs" {
		t.Errorf("%+v", m)
	}
	if m := bound[0]; m.Root != "/sub" || m.Device != first[0].Device || m.ID == first[0].ID {
		t.Errorf("%+v is bound from %+v", m, first[0])
	}
	var st unix.Stat_t
	must(t, unix.Stat(dir, &st))
	if d := (Device{int(unix.Major(st.Dev)), int(unix.Minor(st.Dev))}); d != first[0].Device {
		t.Errorf("device %v, stat says %v", first[0].Device, d)
	}

	must(t, unix.Mount("none", dir, "tmpfs", 0, ""))
	both := at(t, dir)
	if len(both) != 2 || both[0] != first[0] {
		t.Errorf("a mount over another: %+v", both)
	} else if id, err := IDAt(dir); err != nil || id != both[1].ID {
		t.Errorf("the path leads to mount %d, %v; the later is %d", id, err, both[1].ID)
	}
	must(t, unix.Unmount(dir, 0))
}

func TestIDAt(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	m := at(t, dir)[0]
	must(t, os.Mkdir(dir+"/d", 0o755))
	must(t, os.Symlink(dir+"/d", dir+"/link"))
	must(t, os.WriteFile(dir+"/f", nil, 0o644))
	for _, path := range []string{dir, dir + "/d", dir + "/link", dir + "/f"} {
		if id, err := IDAt(path); err != nil || id != m.ID {
			t.Errorf("%s: %d, %v; want %d", path, id, err, m.ID)
		}
	}
	if _, err := IDAt(dir + "/absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
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
