package conformance_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// errCorrupted is what ext4 calls EFSCORRUPTED.
const errCorrupted = unix.EUCLEAN

// fileidInvalid is the type of the handle in an error that is about no object (FILEID_INVALID).
const fileidInvalid = 0xff

// damaged is an ext4 image with a directory whose inode has a mode that no file can have, and with a name in a sound
// directory that leads to an inode which isn't a file's. Their handles must not be resolved: that would be another
// error.
type damaged struct {
	image, dir string
	parent     fanotify.Handle // of the directory with the bad name in it
	bad        fanotify.Handle // of the directory with the bad mode
	fsid       fanotify.FSID
}

func newDamaged(t *testing.T) damaged {
	t.Helper()
	d := damaged{image: filepath.Join(t.TempDir(), "image"), dir: t.TempDir()}
	check(t, os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, 16<<20))
	command(t, "mkfs.ext4", "-q", "-F", d.image)
	t.Run("sound", func(t *testing.T) {
		d.mount(t)
		parent := mkdir(t, d.dir, "parent")
		bad := mkdir(t, parent, "bad")
		d.parent, d.bad = handleAt(t, parent), handleAt(t, bad)
		d.fsid = d.parent.FSID()
	})
	command(t, "debugfs", "-w", "-R", "set_inode_field parent/bad mode 0xff", d.image)
	command(t, "debugfs", "-w", "-R", "link <1> parent/link", d.image)
	return d
}

// mount mounts the image, which goes on after errors, until the test ends.
func (d damaged) mount(t *testing.T) {
	t.Helper()
	command(t, "mount", "-t", "ext4", "-o", "loop,errors=continue", d.image, d.dir)
	t.Cleanup(func() { check(t, unix.Unmount(d.dir, 0)) })
}

// abort lets the filesystem shut down as after an error of its journal.
func (d damaged) abort(t *testing.T) {
	t.Helper()
	check(t, unix.Mount("", d.dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "abort"))
}

// look opens what is damaged.
func (d damaged) look(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(filepath.Join(d.dir, "parent", name))
	if err == nil {
		f.Close()
	}
	if !errors.Is(err, errCorrupted) {
		t.Fatalf("opening parent/%s: got %v, want %v", name, err, errCorrupted)
	}
}

// command runs a command, which has to succeed.
func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// TestLTP22FilesystemErrors lets ext4 find damage. Errors of one process merge while they wait: the first one is told,
// and how many there were.
//
// Proves FAN_FS_ERROR, FAN_EVENT_INFO_TYPE_ERROR.
func TestLTP22FilesystemErrors(t *testing.T) {
	fstest.NeedKernel(t, fanotify.Supports(fanotify.FeatureFSError))
	d := newDamaged(t)
	none := fanotify.NewHandle(d.fsid, fileidInvalid, nil)
	for number, row := range []struct {
		find   func(t *testing.T)
		object fanotify.Handle
		errno  unix.Errno
		count  uint32
	}{
		0: {func(t *testing.T) { d.abort(t) }, none, unix.ESHUTDOWN, 1},
		1: {func(t *testing.T) { d.look(t, "bad") }, d.bad, errCorrupted, 1},
		2: {func(t *testing.T) { d.look(t, "link"); d.look(t, "bad") }, d.parent, errCorrupted, 2},
		3: {func(t *testing.T) { d.look(t, "bad"); d.abort(t) }, d.bad, errCorrupted, 2},
	} {
		t.Run(fmt.Sprint(number), func(t *testing.T) {
			d.mount(t)
			g := newGroup(t, fanotify.Config{Report: fanotify.ReportFID})
			mark(t, g, filesystem, d.dir, fanotify.FSError, 0)
			row.find(t)
			o := objects{d.parent: "parent", d.bad: "bad", none: "none"}
			expect(t, "finding the damage", queued(t, g, by(t, os.Getpid(), func(e *fanotify.Event) string {
				errno, count, ok := e.FSError()
				return fmt.Sprint(o.describe(e), " ", errno, " ", count, " ", ok)
			})), fmt.Sprintf("fs_error object=%s %v %d true", o[row.object], row.errno, row.count))
		})
	}
}
