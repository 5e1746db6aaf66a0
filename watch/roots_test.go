package watch

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// However a root is spelled, and however often, its events come once and with absolute paths.
func TestSpellings(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		in(t, dir, "mkdirs r/a/b")
		must(t, os.Symlink("r/a", dir+"/link"))
		t.Chdir(dir + "/r")
		for name, roots := range map[string][]string{
			"absolute":        {dir + "/r"},
			"dot":             {"."},
			"trailing slash":  {dir + "/r/"},
			"not clean":       {dir + "//r/./a/.."},
			"twice":           {dir + "/r", "."},
			"nested":          {dir + "/r", dir + "/r/a", dir + "/r/a/b"},
			"inside out":      {dir + "/r/a/b", dir + "/r/a", dir + "/r"},
			"symlink":         {dir + "/link", dir + "/r"},
			"with file":       {dir + "/r/a/f", dir + "/r"},
			"the file behind": {dir + "/r", dir + "/r/a/f"},
		} {
			t.Run(name, func(t *testing.T) {
				in(t, dir, "write r/a/f")
				w := late(t, dir, Config{Roots: roots})
				in(t, dir, "touch x\nrm x\ntouch r/1\ntouch r/a/b/2\nrm r/1\nrm r/a/b/2\nwrite r/a/f\nrm r/a/f")
				w.expect("close_write|create|delete r/1", "close_write|create|delete r/a/b/2", "modify|close_write|delete r/a/f")
			})
		}
		t.Run("symlink alone", func(t *testing.T) {
			w := late(t, dir, Config{Roots: []string{dir + "/link"}})
			in(t, dir, "touch r/1\ntouch link/2")
			w.expect("close_write|create r/a/2")
		})
	})
}

// A root that is a file is watched by its name: an editor that saves by a rename doesn't end the watch.
func TestFileAsRoot(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		in(t, dir, "mkdir d\nwrite d/f\nwrite d/g")
		w := late(t, dir, Config{Roots: []string{dir + "/d/f"}})
		in(t, dir, `write d/f
			touch d/other
			write d/g
			mv d/f d/f~
			write d/f~
			write d/new
			mv d/new d/f
			chmod d/f
			mv d e
			rm e/f
			touch e/f
			touch e/x`)
		w.expect("modify|close_write d/f", "rename d/f -> -", "rename - -> d/f", "attrib|delete d/f", "close_write|create e/f")
	})
}

// Whatever becomes of the directories above a root, it is followed.
func TestAncestors(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		t.Run("renamed", func(t *testing.T) {
			in(t, dir, "mkdirs a/b/r/d\nmkdir z")
			w := late(t, dir, Config{Roots: []string{dir + "/a/b/r"}})
			in(t, dir, "touch a/b/r/1\nmv a/b a/c\ntouch a/c/r/d/2\nmv a z/a\ntouch z/a/c/r/3\ntouch z/a/c/4")
			w.expect("close_write|create a/b/r/1", "close_write|create a/c/r/d/2", "close_write|create z/a/c/r/3")
		})
		t.Run("removed", func(t *testing.T) {
			in(t, dir, "mkdirs p/q/r/d")
			w := late(t, dir, Config{Roots: []string{dir + "/p/q/r"}})
			in(t, dir, "touch p/q/r/1\nrmtree p\nmkdirs p/q/r/e\ntouch p/q/r/e/2\ntouch p/q/3")
			w.expect(
				"close_write|create|delete p/q/r/1", "delete|ondir p/q/r/d", "delete|ondir p/q/r",
				"create|ondir p/q/r", "create|ondir p/q/r/e", "close_write|create p/q/r/e/2",
			)
		})
	})
}

// A watch sees every filesystem below its roots, and several roots on several.
func TestFilesystems(t *testing.T) {
	one, two := fstest.New(t, fstest.Ext4), fstest.New(t, fstest.Tmpfs)
	in(t, one, "mkdirs r/m\nmkdirs src/d")
	in(t, two, "mkdir r")
	t.Run("two roots", func(t *testing.T) {
		t.Chdir(two) // which must not matter
		w := late(t, one, Config{Roots: []string{one + "/r", "r"}})
		in(t, one, "touch r/1\ntouch src/0\ntouch r/3")
		in(t, two, "touch r/1\ntouch 0")
		in(t, one, "mkdir r/4")
		w.expect(
			"close_write|create r/1", "close_write|create r/3", "close_write|create "+two+"/r/1", "create|ondir r/4",
		)
	})
	fstest.Bind(t, two, one+"/r/m")
	t.Run("a mount below a root", func(t *testing.T) {
		w := late(t, one, Config{Roots: []string{one + "/r"}})
		in(t, one, "touch r/m/1\nmkdir r/m/d")
		in(t, two, "touch d/2")
		w.expect("close_write|create r/m/1", "create|ondir r/m/d", "close_write|create r/m/d/2")
		if c := w.Coverage(); len(c) != 2 || c[0].FSType != "ext4" || c[1].FSType != "tmpfs" || c[1].MountPoint != one+"/r/m" {
			t.Errorf("coverage %+v", c)
		}
	})
	in(t, one, "mkdirs bound/d")
	fstest.Bind(t, one+"/src", one+"/bound")
	t.Run("a bind mount", func(t *testing.T) {
		w := late(t, one, Config{Roots: []string{one + "/bound"}})
		in(t, one, "touch src/d/1\ntouch bound/2\ntouch r/33\nmv src/d src/e\ntouch bound/e/4\nmv src/e r/e\ntouch r/e/5")
		w.expect(
			"close_write|create bound/d/1", "close_write|create bound/2", "rename|ondir bound/d -> bound/e",
			"close_write|create bound/e/4", "rename|ondir bound/e -> -",
		)
	})
	t.Run("a filesystem with its bind mount", func(t *testing.T) {
		w := late(t, one, Config{Roots: []string{one}})
		in(t, one, "touch src/5\ntouch bound/6")
		w.expect("close_write|create src/5", "close_write|create src/6")
	})
	t.Run("a file that is mounted", func(t *testing.T) {
		in(t, one, "write src/file\nwrite src/over\nwrite src/z")
		fstest.Bind(t, one+"/src/file", one+"/src/over")
		if _, err := New(Config{Roots: []string{one + "/src/over"}}); err == nil {
			t.Error("watches a file's mount, which has no directory")
		} else {
			t.Log(err)
		}
		w := late(t, one, Config{Roots: []string{one + "/src"}})
		in(t, one, "write src/over")
		w.expect("modify|close_write src/file")
	})
}

// A directory on a filesystem that is covered by another is not taken for one of that.
func TestMountedOver(t *testing.T) {
	store := fstest.New(t, fstest.Tmpfs)
	dir := ground(t, store, "m")
	// The other one is a copy, in which every handle leads to something.
	shellOut(t, store, `truncate -s 16M one && mkfs.ext4 -q one
		mount -o loop one m && mkdir -p m/right/place && umount m
		cp one two && tune2fs -U random two && mount -o loop two m && mv m/right m/wrong && umount m
		mount -o loop one m`)
	fd, err := unix.Open(dir+"/right/place", unix.O_PATH|unix.O_CLOEXEC, 0)
	must(t, err)
	w := late(t, dir, Config{Roots: []string{dir}})
	shellOut(t, store, "mount -o loop two m")
	makeAt(t, fd, "f")
	compare(t, []string{"close_write|create - (unknown)", "mnt_attach ."}, w.tell(w.step()))
	must(t, unix.Unmount(dir, 0))
	makeAt(t, fd, "g")
	compare(t, []string{"close_write|create right/place/g", "mnt_detach ."}, w.tell(w.step()))
	must(t, unix.Close(fd))
	must(t, unix.Unmount(dir, 0))
}

// makeAt makes a file in an open directory.
func makeAt(t *testing.T, dir int, name string) {
	t.Helper()
	f, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	must(t, err)
	must(t, unix.Close(f))
}
