package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// operate does what makes every event of files once in dir, which prepareToOperate has filled.
func operate(t testing.TB, dir string) {
	t.Helper()
	path := func(name string) string { return filepath.Join(dir, name) }
	f := openFile(t, path("read"), os.O_RDONLY)
	readSome(t, f)
	check(t, f.Close())
	f = openFile(t, path("written"), os.O_WRONLY)
	writeSome(t, f)
	check(t, f.Close())
	check(t, os.Chmod(path("changed"), 0o600))
	check(t, os.Rename(path("old"), path("new")))
	check(t, os.Mkdir(path("made"), 0o755))
	check(t, os.Symlink("nowhere", path("link")))
	check(t, os.Remove(path("removed")))
	touch(t, path("directory"))
	_, err := execute(t, path("program"))
	check(t, err)
}

func prepareToOperate(t testing.TB) (dir string) {
	t.Helper()
	dir = fstest.New(t, fstest.Ext4)
	for _, name := range []string{"read", "written", "changed", "old", "removed"} {
		file(t, dir, name)
	}
	mkdir(t, dir, "directory")
	program(t, dir, "program")
	return dir
}

// TestEveryEvent marks one event alone, does everything, and gets that event of those files where it happened.
//
// Proves FAN_ACCESS, FAN_MODIFY, FAN_ATTRIB, FAN_CLOSE_WRITE, FAN_CLOSE_NOWRITE, FAN_OPEN, FAN_MOVED_FROM,
// FAN_MOVED_TO, FAN_CREATE, FAN_DELETE, FAN_DELETE_SELF, FAN_MOVE_SELF, FAN_OPEN_EXEC, FAN_RENAME, FAN_ONDIR,
// FAN_EVENT_ON_CHILD.
func TestEveryEvent(t *testing.T) {
	for _, row := range []struct {
		mask fanotify.Mask
		want []string
	}{
		{fanotify.Access, []string{"access read", "access program"}},
		{fanotify.Modify, []string{"modify written"}},
		{fanotify.Attrib, []string{"attrib changed", "attrib"}}, // the second one is of the removed file: its number of links
		{fanotify.CloseWrite, []string{"close_write written"}},
		{fanotify.CloseNowrite, []string{"close_nowrite read", "close_nowrite program"}},
		{fanotify.Open, []string{"open read", "open written", "open program"}},
		{fanotify.MovedFrom, []string{"moved_from old"}},
		{fanotify.MovedTo, []string{"moved_to new"}},
		{fanotify.Create, []string{"create link"}},
		{fanotify.Delete, []string{"delete removed"}},
		{fanotify.DeleteSelf, []string{"delete_self"}},
		{fanotify.MoveSelf, []string{"move_self"}},
		{fanotify.OpenExec, []string{"open_exec program"}},
		{fanotify.Rename, []string{"rename old new"}},
		{fanotify.Open | fanotify.OnDir, []string{"open read", "open written", "open|ondir .", "open program"}},
		{fanotify.Create | fanotify.OnDir, []string{"create|ondir made", "create link"}},
	} {
		t.Run(row.mask.String(), func(t *testing.T) {
			dir := prepareToOperate(t)
			g := newGroup(t, fanotify.Config{Report: fanotify.ReportDFIDName | fanotify.ReportFID})
			mark(t, g, filesystem, dir, row.mask, 0)
			operate(t, dir)
			if diff := cmp.Diff(row.want, queued(t, g, maskAndNames)); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("event_on_child", func(t *testing.T) {
		dir := prepareToOperate(t)
		g := newGroup(t, fanotify.Config{})
		mark(t, g, inode, dir, fanotify.OpenExec, 0)
		operate(t, dir)
		expect(t, "without it", queued(t, g, maskAndFile(t)))
		mark(t, g, inode, dir, fanotify.EventOnChild, 0)
		touch(t, filepath.Join(dir, "program"))
		_, err := execute(t, filepath.Join(dir, "program"))
		check(t, err)
		expect(t, "with it", queued(t, g, maskAndFile(t)), "open_exec program")
	})
}

// maskAndNames is a describe for queued: the mask and the names that the event has.
func maskAndNames(e *fanotify.Event) string {
	text := e.Mask.String()
	for _, place := range []func() (fanotify.Entry, bool){e.Dir, e.Old, e.New} {
		if entry, ok := place(); ok {
			text += " " + string(entry.Name)
		}
	}
	return text
}

// TestEveryPermissionEvent marks one permission event alone, does everything, and is asked for those files that it is
// about, each time it happens.
//
// Proves FAN_OPEN_PERM, FAN_ACCESS_PERM, FAN_OPEN_EXEC_PERM, FAN_PRE_ACCESS, FAN_CLASS_CONTENT, FAN_CLASS_PRE_CONTENT,
// FAN_ALLOW.
func TestEveryPermissionEvent(t *testing.T) {
	for _, row := range []struct {
		class fanotify.Class
		mask  fanotify.Mask
		want  []string
	}{
		{fanotify.ClassContent, fanotify.OpenPerm, []string{"open_perm read", "open_perm written", "open_perm program"}},
		{fanotify.ClassContent, fanotify.AccessPerm, []string{"access_perm read", "access_perm program"}},
		{fanotify.ClassContent, fanotify.OpenExecPerm, []string{"open_exec_perm program"}},
		{fanotify.ClassPreContent, fanotify.PreAccess, []string{"pre_access read", "pre_access written", "pre_access program"}},
	} {
		t.Run(row.mask.String(), func(t *testing.T) {
			dir := prepareToOperate(t)
			g := newGroup(t, fanotify.Config{Class: row.class})
			mark(t, g, filesystem, dir, row.mask, 0)
			watchdog := time.AfterFunc(patience, func() { g.Close() }) // which allows
			defer watchdog.Stop()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var got []string
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				for e := range g.Events(ctx) {
					path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", e.FD()))
					line := e.Mask.String() + " " + filepath.Base(path)
					if err = errors.Join(err, e.Allow()); err != nil {
						line += ": " + err.Error()
					}
					if len(got) == 0 || got[len(got)-1] != line { // how often a program is read is the kernel's affair
						got = append(got, line)
					}
				}
			}()
			operate(t, dir)
			cancel()
			<-answered
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
