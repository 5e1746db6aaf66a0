package watch

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// Each filesystem is watched in the richest form that it allows, named as a root or mounted below one, and Coverage says
// which that is, why it is no richer, and what it can't see.
func TestForms(t *testing.T) {
	byInodes := []Unseen{UnseenNew, UnseenBorder, UnseenSelf, UnseenBehind}
	for kind, want := range map[string]struct {
		form   Form
		reason error
		unseen []Unseen
	}{
		fstest.Tmpfs:     {FormFilesystem, nil, nil},
		fstest.Btrfs:     {FormFilesystem, nil, nil},
		fstest.Subvolume: {FormSubvolume, unix.EXDEV, nil},
		fstest.Overlay:   {FormInodes, unix.EOPNOTSUPP, byInodes},
		fstest.FUSE:      {FormInodes, unix.ENODEV, byInodes},
	} {
		t.Run(kind, func(t *testing.T) {
			dir, above := fstest.New(t, kind), fstest.New(t, fstest.Ext4)
			below := ground(t, above, "below")
			fstest.Bind(t, dir, below)
			for _, root := range []string{dir, above} {
				w := late(t, above, Config{Roots: []string{root}})
				all := w.Coverage()
				c := all[len(all)-1]
				if c.Err != nil || c.Form != want.form || !errors.Is(c.Reason, want.reason) || !slices.Equal(c.Unseen, want.unseen) ||
					c.Marked != map[Form]int{FormInodes: 1}[want.form] || c.Missed != 0 {
					t.Errorf("%+v", c)
				}
				in(t, below, "touch f\nrm f")
				got := w.tell(w.stop())
				name := "below/f"
				if root == dir {
					name = dir + "/f"
				}
				compare(t, []string{"close_write|create|delete " + name}, got)
			}
		})
	}
}

// The kernel's own filesystems are watched when they are asked for, those without handles that can be opened too.
func TestProcLike(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Mount("none", dir, "ramfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	w := late(t, dir, Config{Roots: []string{dir, "/proc/sys/fs/fanotify"}, Events: Changes | fanotify.Open})
	in(t, dir, "mkdirs a/b\ntouch a/b/f")
	_, err := os.ReadFile("/proc/sys/fs/fanotify/max_user_marks")
	must(t, err)
	got := w.tell(w.stop())
	want := []string{"create|ondir a", "found create|ondir a/b", "found create a/b/f", "open /proc/sys/fs/fanotify/max_user_marks"}
	got = slices.DeleteFunc(got, func(line string) bool { return strings.HasPrefix(line, "open|ondir") }) // the walk's own
	compare(t, slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got)))
}

// Without privilege the directories are marked that the user may read, on every filesystem; the rest is counted.
func TestUnprivileged(t *testing.T) {
	for _, kind := range []string{fstest.Tmpfs, fstest.Btrfs, fstest.Subvolume, fstest.Overlay, fstest.FUSE} {
		t.Run(kind, func(t *testing.T) {
			fstest.Unprivileged(t, func(t *testing.T) string {
				options := map[string][]string{fstest.FUSE: {"allow_other"}}[kind]
				dir := fstest.New(t, kind, options...)
				in(t, dir, "mkdirs way/home/a/secret\nmkdirs way/home/b")
				must(t, os.Chmod(dir+"/way", 0o711)) // not to be read by others
				must(t, os.Chmod(dir+"/way/home", 0o777))
				must(t, os.Chmod(dir+"/way/home/a", 0o777))
				must(t, os.Chmod(dir+"/way/home/a/secret", 0o700))
				return dir
			}, func(t *testing.T, dir string) {
				home := dir + "/way/home"
				w := late(t, home, Config{Roots: []string{home}})
				c := w.Coverage()[0]
				want := []Unseen{UnseenNew, UnseenBorder, UnseenSelf, UnseenProcesses}
				if kind == fstest.Overlay || kind == fstest.FUSE {
					want = append(want, UnseenBehind)
				}
				if c.Form != FormInodes || !errors.Is(c.Reason, unix.EPERM) || !cmp.Equal(c.Unseen, want) || c.Marked != 4 ||
					c.Missed != 2 || !errors.Is(c.MissedReason, unix.EACCES) {
					t.Errorf("%+v", c)
				}
				in(t, home, "mkdirs c/d\ntouch c/d/f\nmv c e\ntouch e/d/g\nmkdir e/h\nmv e/h h\ntouch h/i")
				events := w.stop()
				compare(t, []string{
					"create|ondir c", "rename|ondir c -> e", "found create|ondir e/d", "found create e/d/f",
					"found create e/d/g", "rename|ondir - -> h", "found create h/i",
				}, w.tell(events))
				for _, e := range events {
					if (e.PID == int32(os.Getpid())) == e.Found {
						t.Errorf("%+v", e)
					}
				}
			})
		})
	}
}

// A root that can't be marked is an error.
func TestUnreadableRoot(t *testing.T) {
	fstest.Unprivileged(t, func(t *testing.T) string {
		dir := fstest.New(t, fstest.Tmpfs)
		in(t, dir, "mkdir secret")
		must(t, os.Chmod(dir+"/secret", 0o711))
		return dir
	}, func(t *testing.T, dir string) {
		if err := refused(t, Config{Roots: []string{dir + "/secret"}}); !errors.Is(err, unix.EACCES) {
			t.Error(err)
		}
	})
}

// What is mounted later is watched in its form, its paths follow the mount, and an unmount is not refused.
func TestFormsMountedLater(t *testing.T) {
	for _, kind := range []string{fstest.Subvolume, fstest.Overlay, fstest.FUSE} {
		t.Run(kind, func(t *testing.T) {
			dir, above := fstest.New(t, kind), fstest.New(t, fstest.Tmpfs)
			in(t, dir, "mkdirs d/e")
			in(t, above, "mkdirs x/m\nmkdir z")
			w := late(t, above, Config{Roots: []string{above}, Events: Changes | mountEvents})
			steps := []struct {
				do   func()
				want []string
			}{
				{func() { must(t, unix.Mount(dir, above+"/x/m", "", unix.MS_BIND, "")) }, []string{"mnt_attach x/m"}},
				{func() { in(t, above, "touch x/m/f\ntouch x/m/d/e/f") }, []string{"close_write|create x/m/d/e/f", "close_write|create x/m/f"}},
				{func() { in(t, above, "mv x y") }, []string{"mnt_attach|mnt_detach x/m", "rename|ondir x -> y"}},
				{func() { in(t, above, "touch y/m/d/g") }, []string{"close_write|create y/m/d/g"}},
				{func() { must(t, unix.Mount(above+"/y/m", above+"/z", "", unix.MS_MOVE, "")) }, []string{"mnt_attach|mnt_detach y/m > z"}},
				{func() { in(t, above, "rm z/d/g\nmv z/d z/c") }, []string{"delete z/d/g", "rename|ondir z/d -> z/c"}},
				{func() {
					in(t, above, "touch z/c/e/last")
					must(t, unix.Unmount(above+"/z", 0))
				}, []string{"close_write|create z/c/e/last", "mnt_detach z"}},
				{func() { in(t, dir, "touch c/unseen") }, nil},
			}
			for i, s := range steps {
				if i == len(steps)-1 && kind == fstest.FUSE {
					break // its reader would have ended, if it ran
				}
				s.do()
				got := w.tell(w.step())
				slices.Sort(got)
				for i := range got { // another group can't tell what was before a move
					got[i] = strings.TrimSuffix(got[i], " (current)")
				}
				if i == 2 { // the rename of a directory above a mount may be told by itself
					got = slices.DeleteFunc(got, func(line string) bool { return strings.HasPrefix(line, "mnt_") })
					s.want = s.want[1:]
				}
				compare(t, s.want, got)
			}
			if all := w.Coverage(); len(all) != 1 {
				t.Errorf("%+v", all)
			}
			w.stop()
		})
	}
}
