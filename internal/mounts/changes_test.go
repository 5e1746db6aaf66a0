package mounts

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// Every change wakes, once it was asked for what was before; the group says which mounts, and who.
func TestChanges(t *testing.T) {
	for name, watch := range map[string]func(func()) (*Changes, error){"group": WatchChanges, "mountinfo": PollChanges} {
		t.Run(name, func(t *testing.T) {
			if name == "group" {
				fstest.NeedKernel(t, fanotify.Supports(fanotify.FeatureMnt))
			}
			dir := fstest.New(t, fstest.Tmpfs)
			must(t, os.Mkdir(dir+"/from", 0o755))
			must(t, os.Mkdir(dir+"/to", 0o755))
			woken := make(chan struct{}, 1)
			c, err := watch(func() {
				select {
				case woken <- struct{}{}:
				default:
				}
			})
			must(t, err)
			defer c.Close()
			c.Take(nil) // what was before
			var id uint64
			for _, step := range []struct {
				do   func() error
				want fanotify.Mask
			}{
				{func() error { return unix.Mount("none", dir+"/from", "tmpfs", 0, "") }, fanotify.MntAttach},
				{func() error { return unix.Mount(dir+"/from", dir+"/to", "", unix.MS_MOVE, "") }, fanotify.MntAttach | fanotify.MntDetach},
				{func() error { return unix.Unmount(dir+"/to", 0) }, fanotify.MntDetach},
			} {
				if got := c.Take(nil); len(got) != 0 {
					t.Errorf("before anything happens: %+v", got)
				}
				must(t, step.do())
				<-woken
				if got, err := fanotify.MountIDAt(unix.AT_FDCWD, dir+"/from"); err == nil && step.want == fanotify.MntAttach {
					id = got
				}
				got := c.Take(nil)
				want := Change{id, step.want, int32(os.Getpid())}
				if name == "mountinfo" {
					want = Change{}
				}
				if len(got) != 1 || got[0] != want {
					t.Errorf("%+v, want %+v", got, want)
				}
				select {
				case <-woken: // without reason, which may be
				default:
				}
			}
		})
	}
}

// It can be closed while something waits to be taken.
func TestCloseChanges(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	for _, watch := range []func(func()) (*Changes, error){WatchChanges, PollChanges} {
		woken := make(chan struct{}, 100)
		c, err := watch(func() { woken <- struct{}{} })
		must(t, err)
		must(t, unix.Mount("none", dir, "tmpfs", 0, ""))
		must(t, unix.Unmount(dir, 0))
		<-woken
		c.Close()
		c, err = watch(func() {})
		must(t, err)
		c.Close()
	}
}
