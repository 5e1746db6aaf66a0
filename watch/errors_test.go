package watch

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// refused returns the error of a watch that must not start, after looking at its form.
func refused(t *testing.T, config Config) error {
	t.Helper()
	w, err := New(config)
	if err == nil {
		w.Close()
		t.Fatalf("watches %q", config.Roots)
	}
	if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "failed to") || len(err.Error()) > 400 {
		t.Errorf("not one good line: %q", err)
	}
	t.Log(err)
	return err
}

func TestNoSuchRoot(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	for _, root := range []string{dir + "/absent", dir + "/absent/", ""} {
		if root == "" {
			continue
		}
		if err := refused(t, Config{Roots: []string{dir, root}}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), root) {
			t.Error(err)
		}
	}
	in(t, dir, "write f")
	if err := refused(t, Config{Roots: []string{dir + "/f/g"}}); !errors.Is(err, unix.ENOTDIR) {
		t.Error(err)
	}
}

// Without privilege the whole machine can't be watched.
func TestWholeMachineUnprivileged(t *testing.T) {
	fstest.Unprivileged(t, nil, func(t *testing.T, _ string) {
		if err := refused(t, Config{}); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_SYS_ADMIN") {
			t.Error(err)
		}
	})
}

// A filesystem of which a single file is mounted, and nothing else, can't be watched, and Coverage says so.
func TestWholeMachineTellsOfSingleFiles(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	other := ground(t, dir, "other")
	must(t, unix.Mount("none", other, "tmpfs", 0, ""))
	in(t, dir, "touch other/f\ntouch f")
	fstest.Bind(t, other+"/f", dir+"/f")
	must(t, unix.Unmount(other, 0))
	w := live(t, dir, Config{})
	for _, c := range w.Coverage() {
		if c.MountPoint == dir+"/f" {
			if c.Err == nil {
				t.Error("watched")
			}
			return
		}
	}
	t.Error("the filesystem of the file is left out in silence")
}

// Without a root every filesystem is watched, in its form.
func TestWholeMachine(t *testing.T) {
	one, two, overlay := fstest.New(t, fstest.Ext4), fstest.New(t, fstest.Tmpfs), fstest.New(t, fstest.Overlay)
	w := live(t, one, Config{})
	points := map[string]error{}
	forms := map[string]Form{}
	for _, c := range w.Coverage() {
		points[c.MountPoint], forms[c.MountPoint] = c.Err, c.Form
		if c.FSType == "proc" || c.FSType == "sysfs" {
			t.Errorf("%+v", c)
		}
	}
	for _, dir := range []string{one, two, overlay} {
		if err, ok := points[dir]; err != nil || !ok {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if forms[one] != FormFilesystem || forms[overlay] != FormInodes {
		t.Errorf("%q", forms)
	}
	in(t, one, "mkdirs a/b")
	in(t, two, "mkdir end")
	var got []string
	for _, e := range w.until(two + "/end") {
		if strings.HasPrefix(e.Path, one+"/") {
			got = append(got, tellOne(one, e))
		}
	}
	compare(t, []string{"create|ondir a", "create|ondir a/b"}, got)
}

// Two copies of one image have one filesystem id, and handles that can't be told apart.
func TestTwins(t *testing.T) {
	store := fstest.New(t, fstest.Tmpfs)
	shellOut(t, store, "truncate -s 16M one && mkfs.ext4 -q one && cp one two && mkdir a b")
	for _, m := range [][2]string{{"one", "a"}, {"two", "b"}} {
		shellOut(t, store, "mount -o loop "+m[0]+" "+m[1])
		t.Cleanup(func() { must(t, unix.Unmount(store+"/"+m[1], 0)) })
	}
	err := refused(t, Config{Roots: []string{store + "/a", store + "/b"}})
	if !strings.Contains(err.Error(), "same filesystem id as "+store+"/a") {
		t.Error(err)
	}
	w := late(t, store, Config{Roots: []string{store}})
	in(t, store, "touch a/f\ntouch b/g\ntouch h")
	w.expect("close_write|create a/f", "close_write|create h")
	w = late(t, store, Config{Roots: []string{store + "/b"}})
	in(t, store, "touch a/g\ntouch b/f")
	w.expect("close_write|create b/f")
}

// shellOut runs a line that must succeed.
func shellOut(t *testing.T, dir, line string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", line)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// The top of a btrfs is watched with its subvolumes; one that is mounted by itself has ids of its own.
func TestSubvolumes(t *testing.T) {
	dir := fstest.New(t, fstest.Btrfs)
	shellOut(t, dir, "mkdir d && btrfs -q subvolume create sub && btrfs -q subvolume create d/sub && mkdir sub/x d/sub/y")
	w := late(t, dir, Config{Roots: []string{dir}})
	in(t, dir, "touch sub/x/1\ntouch d/sub/y/2\nmkdir sub/z\nmv sub/z sub/zz\ntouch sub/zz/3")
	w.expect(
		"close_write|create sub/x/1", "close_write|create d/sub/y/2", "create|ondir sub/z",
		"rename|ondir sub/z -> sub/zz", "close_write|create sub/zz/3",
	)
	device := deviceOf(t, dir)
	mountSubvolume := func(name string) string {
		point := t.TempDir()
		must(t, unix.Mount(device, point, "btrfs", 0, "subvol="+name))
		t.Cleanup(func() { must(t, unix.Unmount(point, 0)) })
		return point
	}
	sub, other := mountSubvolume("sub"), mountSubvolume("d/sub")
	// Two subvolumes, each under its own mount; what the other mount, or none, shows is not below a root.
	w = late(t, sub, Config{Roots: []string{sub, other}})
	in(t, sub, "touch x/4\nmkdir 5\nmv 5 6\nrm x/4\nrmtree x\ntouch 6/7")
	in(t, dir, "touch f\ntouch d/g\ntouch d/sub/8\nmv d/sub/8 d/sub/y/9\ntouch sub/10\nrm sub/10")
	w.base = "/"
	w.expect(
		"close_write|create|delete "+sub+"/x/4", "create|ondir "+sub+"/5", "rename|ondir "+sub+"/5 -> "+sub+"/6",
		"delete "+sub+"/x/1", "delete|ondir "+sub+"/x", "close_write|create "+sub+"/6/7",
		"close_write|create "+other+"/8", "rename "+other+"/8 -> "+other+"/y/9",
		"close_write|create|delete "+sub+"/10",
	)
	// Below the top, or beside it, as one that is nested.
	for _, roots := range [][]string{{dir + "/d", sub}, {sub, dir + "/d"}, {dir + "/d/sub/y", sub}} {
		w = late(t, dir, Config{Roots: roots})
		in(t, dir, "touch d/sub/y/f\nrm d/sub/y/f\ntouch sub/f\nrm sub/f\ntouch h\nrm h")
		w.expect("close_write|create|delete d/sub/y/f", "close_write|create|delete "+sub+"/f")
	}
}

func deviceOf(t *testing.T, point string) string {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	for line := range strings.Lines(string(table)) {
		if words := strings.Fields(line); words[1] == point {
			return words[0]
		}
	}
	t.Fatalf("%s is not mounted", point)
	return ""
}
