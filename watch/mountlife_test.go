package watch

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// The same live: what happens once a mount is told of is delivered, and nothing keeps it from being unmounted.
func TestMountsLive(t *testing.T) {
	for _, old := range []bool{false, true} {
		fstest.Each(t, func(t *testing.T, base string) {
			dir := ground(t, fstest.New(t, fstest.Tmpfs), "r")
			m := ground(t, dir, "m")
			w := live(t, dir, Config{Roots: []string{dir}, oldMounts: old})
			for range 5 {
				must(t, unix.Mount(base, m, "", unix.MS_BIND, ""))
				w.until(m)
				in(t, m, "mkdirs a/b\nmv a/b a/c\ntouch a/c/f\nmkdir end")
				var got []string
				for _, e := range w.until(m + "/end") {
					if e.PathState != event.PathExact || !strings.HasPrefix(e.Path, m+"/a") {
						got = append(got, tellOne(m, e))
					}
				}
				compare(t, nil, got)
				in(t, m, "rmtree a\nrmdir end")
				must(t, unix.Unmount(m, 0))
				for _, e := range w.until(m) {
					// The filesystem is mounted elsewhere, too: nobody knows what was before the unmount.
					if e.PathState == event.PathUnknown || !strings.HasPrefix(e.Path, m+"/") {
						t.Error(tellOne(m, e))
					}
				}
			}
		})
	}
}

// A thousand mounts in a moment are survived: each is told of, once, and what follows in each is seen.
func TestManyMounts(t *testing.T) {
	const n = 1000
	base := fstest.New(t, fstest.Tmpfs)
	source := ground(t, fstest.New(t, fstest.Tmpfs), "s")
	dir := ground(t, base, "r")
	for i := range n {
		in(t, dir, fmt.Sprint("mkdir ", i))
		in(t, source, fmt.Sprintf("mkdir %d", i))
	}
	w := live(t, dir, Config{Roots: []string{dir}})
	for i := range n {
		must(t, unix.Mount(fmt.Sprint(source, "/", i), fmt.Sprint(dir, "/", i), "", unix.MS_BIND, ""))
	}
	attached := map[string]int{}
	for len(attached) < n {
		for batch, err := range w.Events(t.Context()) {
			must(t, err)
			for _, e := range batch {
				if e.Mask == fanotify.MntAttach {
					attached[e.Path]++
				} else {
					t.Error(tellOne(dir, e))
				}
			}
			break
		}
	}
	for point, times := range attached {
		if times != 1 {
			t.Errorf("%s was told %d times", point, times)
		}
	}
	for i := range n {
		in(t, dir, fmt.Sprintf("touch %d/f", i))
	}
	in(t, dir, "mkdir 0/end")
	seen := map[string]bool{}
	for _, e := range w.until(dir + "/0/end") {
		seen[relative(dir, e.Path)] = true
	}
	for i := range n {
		if path := fmt.Sprintf("%d/f", i); !seen[path] {
			t.Fatalf("nothing of %s; %d others", path, len(seen))
		}
	}
	for i := range n {
		must(t, unix.Unmount(fmt.Sprint(dir, "/", i), 0))
	}
	detached := 0
	for detached < n {
		for batch, err := range w.Events(t.Context()) {
			must(t, err)
			for _, e := range batch {
				if e.Mask == fanotify.MntDetach {
					detached++
				}
			}
			break
		}
	}
	if s := w.Stats(); s.Replans == 0 {
		t.Errorf("%+v", s)
	} else {
		t.Logf("%d mounts and unmounts: looked %d times", 2*n, s.Replans)
	}
}

// What is mounted outside of the roots costs no look at the mounts.
func TestMountsElsewhere(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	in(t, dir, "mkdirs r/m\nmkdirs s/m")
	w := late(t, dir, Config{Roots: []string{dir + "/r"}})
	for range 20 {
		mountOps(t, dir, "tmpfs s/m\nbind s/m s\numount s\numount s/m")
		compare(t, nil, w.tell(w.step()))
	}
	if n := w.Stats().Replans; n != 0 {
		t.Errorf("looked %d times", n)
	}
}

// The device is free as soon as its filesystem was unmounted, whatever was read of it.
func TestDeviceIsFree(t *testing.T) {
	store := fstest.New(t, fstest.Tmpfs)
	shellOut(t, store, "truncate -s 16M image && mkfs.ext4 -q image && mkdir r r/m")
	w := live(t, store, Config{Roots: []string{store + "/r"}})
	for range 5 {
		shellOut(t, store, "losetup --find --show image > device && mount $(cat device) r/m")
		w.until(store + "/r/m")
		in(t, store, "mkdirs r/m/a/b\ntouch r/m/a/b/f\nrmtree r/m/a")
		shellOut(t, store, "umount r/m && losetup --detach $(cat device)")
		name, err := os.ReadFile(store + "/device")
		must(t, err)
		w.until(store + "/r/m")
		device := strings.TrimSpace(string(name))
		if file, err := os.ReadFile("/sys/block/" + filepath.Base(device) + "/loop/backing_file"); err == nil {
			t.Errorf("%s is in use: %s", device, file)
		}
	}
}

// Writers on other mounts of a filesystem, in another mount namespace too, don't keep one under a root from going, and
// the watch survives it whenever it happens.
func TestUnmountBesideAWriter(t *testing.T) {
	fstest.Each(t, func(t *testing.T, base string) {
		in(t, base, "mkdir flooded")
		defer flood(t, base+"/flooded")()
		dir := ground(t, fstest.New(t, fstest.Tmpfs), "r")
		m := ground(t, dir, "m")
		w := live(t, dir, Config{Roots: []string{dir}})
		busy := 0
		for range 20 {
			must(t, unix.Mount(base, m, "", unix.MS_BIND, ""))
			w.until(m)
			for unix.Unmount(m, 0) == unix.EBUSY {
				busy++
			}
			told := false
			for batch, err := range w.Events(t.Context()) {
				must(t, err)
				for _, e := range batch {
					told = told || e.Mask.Has(fanotify.MntDetach)
					if e.PathState != event.PathUnknown && e.Path != m && e.Path != m+"/flooded/flood" {
						t.Error(tellOne(dir, e))
					}
				}
				if told {
					break
				}
			}
		}
		t.Logf("busy %d times", busy)
	})
}

// What other mount namespaces do to a watched filesystem is seen, through whatever mount.
func TestOtherNamespaces(t *testing.T) {
	fstest.Each(t, func(t *testing.T, base string) {
		dir := ground(t, base, "r")
		private := t.TempDir()
		w := late(t, base, Config{Roots: []string{dir}})
		shellOut(t, dir, "unshare -m sh -ec 'mkdir m; mount --bind . "+private+"; mkdir "+private+"/d; : > "+private+"/d/f; "+
			"mount -t tmpfs none m; : > m/not-here'")
		compare(t, []string{"create|ondir r/m", "create|ondir r/d", "close_write|create r/d/f"}, w.tell(w.step()))
	})
}

// A filesystem that no root covers any more costs nothing, although it is mounted elsewhere.
func TestMarksEnd(t *testing.T) {
	for name, leave := range map[string]string{"unmounted": "umount r/m", "moved": "move r/m t"} {
		t.Run(name, func(t *testing.T) {
			dir := fstest.New(t, fstest.Tmpfs)
			mountOps(t, dir, "mkdirs r/m\nmkdir s\nmkdir t\ntmpfs s\nbind s r/m")
			w := late(t, dir, Config{Roots: []string{dir + "/r"}})
			mountOps(t, dir, "touch s/1\n"+leave)
			compare(t, []string{"close_write|create r/m/1 (current)", "mnt_detach r/m"}, w.tell(w.step()))
			before := w.Stats().Read
			mountOps(t, dir, "touch s/2\nmkdir s/d")
			compare(t, nil, w.tell(w.step()))
			if n := w.Stats().Read; n != before {
				t.Errorf("read %d events of what is watched no more", n-before)
			}
			must(t, unix.Unmount(dir+"/s", 0))
			if name == "moved" {
				must(t, unix.Unmount(dir+"/t", 0))
			}
		})
	}
}

// Coverage says what is watched now.
func TestCoverageFollows(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	overlay := fstest.New(t, fstest.Overlay)
	mountOps(t, dir, "mkdirs r/m\nmkdir r/n")
	w := late(t, dir, Config{Roots: []string{dir + "/r"}})
	look := func(want ...string) {
		t.Helper()
		w.step()
		var got []string
		for _, c := range w.Coverage() {
			got = append(got, fmt.Sprintf("%s on %s: %t", relative(dir, c.Root), relative(dir, c.MountPoint), c.Err == nil))
		}
		compare(t, want, got)
	}
	look("r on .: true")
	mountOps(t, dir, "tmpfs r/m")
	must(t, unix.Mount(overlay, dir+"/r/n", "", unix.MS_BIND, ""))
	look("r on .: true", "r/m on r/m: true", "r/n on r/n: true")
	mountOps(t, dir, "move r/m r/n")
	look("r on .: true", "r/n on r/n: true", "r/n on r/n: true") // what is covered stays
	mountOps(t, dir, "umount r/n\numount r/n")
	look("r on .: true")
}

// While mounts come, go, move and cover each other as fast as they can, no path is called exact that isn't, and the
// stream goes on.
func TestMountStorm(t *testing.T) {
	for _, old := range []bool{false, true} {
		base := fstest.New(t, fstest.Tmpfs)
		dir := ground(t, base, "r")
		points := []string{"r/p0", "r/p1", "r/p2", "o0", "o1"}
		for _, p := range points {
			ground(t, base, p)
		}
		w := live(t, base, Config{Roots: []string{dir}, oldMounts: old})
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		stack := map[string]int{} // mounts on each point
		name := 0
		write := func(p string) {
			name++
			must(t, unix.Mknod(fmt.Sprintf("%s/%s/%s.%d", base, p, strings.ReplaceAll(p, "/", "-"), name), unix.S_IFREG|0o644, 0))
		}
		for range 400 {
			from, to := points[r.IntN(len(points))], points[r.IntN(len(points))]
			switch r.IntN(5) {
			case 0:
				if stack[from] < 3 {
					mountOps(t, base, "tmpfs "+from)
					stack[from]++
				}
			case 1:
				if stack[from] > 0 && from != to {
					mountOps(t, base, "move "+from+" "+to)
					stack[from]--
					stack[to]++
				}
			case 2:
				if stack[from] > 0 {
					must(t, unix.Unmount(base+"/"+from, unix.MNT_DETACH))
					stack[from]--
				}
			}
			write(from)
			write(to)
		}
		for p, n := range stack {
			for range n {
				must(t, unix.Unmount(base+"/"+p, unix.MNT_DETACH))
			}
		}
		must(t, os.Mkdir(dir+"/end", 0o755))
		states := map[event.PathState]int{}
		for _, e := range w.until(dir + "/end") {
			if !e.Mask.Has(fanotify.Create) {
				continue
			}
			states[e.PathState]++
			point, _, _ := strings.Cut(filepath.Base(e.Path), ".")
			if e.PathState == event.PathExact && relative(base, filepath.Dir(e.Path)) != strings.ReplaceAll(point, "-", "/") {
				t.Errorf("%s, which is wrong", tellOne(base, e))
			}
		}
		t.Logf("old %t: %v of %d, %+v", old, states, name, w.Stats())
	}
}
