package conformance_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// groupsPerClass is how many groups of a kind there are, of which none may hide anything from another.
const groupsPerClass = 3

// TestLTP06IgnoreOverPriorities writes to a file whose mount nine groups watch: those of the highest class hear of it,
// once, on an overlay too, where the write goes through to another file; those that ignore the file don't.
//
// Proves FAN_CLASS_NOTIF, FAN_CLASS_CONTENT, FAN_CLASS_PRE_CONTENT, FAN_MARK_MOUNT.
func TestLTP06IgnoreOverPriorities(t *testing.T) {
	for _, row := range []struct {
		name  string
		mount func(t *testing.T) string
	}{
		0: {"mount", func(t *testing.T) string { return fstest.New(t, fstest.Ext4) }},
		1: {"overlay", func(t *testing.T) string { return fstest.OverlayOn(t, fstest.New(t, fstest.Ext4)) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := file(t, row.mount(t), "file")
			type member struct {
				group *fanotify.Group
				class fanotify.Class
			}
			var members []member
			for _, class := range []fanotify.Class{fanotify.ClassPreContent, fanotify.ClassContent, fanotify.ClassNotif} {
				for range groupsPerClass {
					g := newGroup(t, fanotify.Config{Class: class})
					mark(t, g, mount, path, fanotify.Modify, 0)
					if class != fanotify.ClassPreContent {
						mark(t, g, inode, path, fanotify.Modify, fanotify.IgnoredMask|fanotify.IgnoredSurvModify)
					}
					members = append(members, member{g, class})
				}
			}
			f := openFile(t, path, os.O_WRONLY)
			writeSome(t, f)
			check(t, f.Close())
			for i, m := range members {
				var want []string
				if m.class == fanotify.ClassPreContent {
					want = []string{"modify file"}
				}
				after := fmt.Sprintf("write, group %d of %s", i, m.class)
				expect(t, after, queued(t, m.group, by(t, os.Getpid(), maskAndFile(t))), want...)
			}
		})
	}
}

// TestLTP09ParentAndMountMarks has a mark on a mount, or on what is opened, and another on the directory above. Only
// the first of three groups watches the directory's children, which must not make the others hear of them.
//
// Proves FAN_EVENT_ON_CHILD.
func TestLTP09ParentAndMountMarks(t *testing.T) {
	const (
		onDir   = fanotify.OnDir
		onChild = fanotify.EventOnChild
		surv    = fanotify.IgnoredMask | fanotify.IgnoredSurvModify
		ignore  = fanotify.IgnoreSurv
	)
	modify := []string{"modify"}
	both := []string{"modify", "close_nowrite"}
	close := []string{"close_nowrite"}
	rows := []struct {
		target  fanotify.Target
		path    string             // what is opened and closed; the file is written to in any case
		mask    fanotify.Mask      // beside CloseNowrite on target
		report  fanotify.Report    // of the first group
		ignore  fanotify.MarkFlags // how the others ignore CloseNowrite of the directory; 0 is not at all
		ignored fanotify.Mask      // beside CloseNowrite
		first   []string
		others  []string
	}{
		0:  {mount, "dir", 0, 0, 0, 0, modify, nil},
		1:  {mount, "dir", onDir, 0, 0, 0, both, nil},
		2:  {mount, ".", onDir, 0, 0, 0, both, nil},
		3:  {inode, "dir", onDir, 0, 0, 0, both, nil},
		4:  {mount, "file", 0, 0, 0, 0, both, close},
		5:  {mount, "file", 0, fanotify.ReportDFIDName, 0, 0, []string{"modify dir=./written", "close_nowrite dir=./file"}, close},
		6:  {mount, "dir", 0, 0, fanotify.IgnoredMask, 0, modify, nil},
		7:  {mount, "file", 0, 0, surv, 0, both, close},
		8:  {mount, ".", onDir, 0, ignore, 0, both, close},
		9:  {mount, ".", onDir, 0, ignore, onDir, both, nil},
		10: {mount, "file", 0, 0, ignore, 0, both, close},
		11: {mount, "file", 0, 0, ignore, onChild, both, nil},
		12: {mount, "dir", onDir, 0, ignore, onDir, both, close},
		13: {mount, "dir", onDir, 0, ignore, onChild, both, close},
		14: {mount, "dir", onDir, 0, ignore, onDir | onChild, both, nil},
	}
	fstest.Each(t, func(t *testing.T, dir string) {
		fstest.Bind(t, dir, dir) // so that the mount is not all of the filesystem
		file(t, dir, "written")
		file(t, dir, "file")
		mkdir(t, dir, "dir")
		names := objects{handleAt(t, dir): "."}
		for i, row := range rows {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				var groups []*fanotify.Group
				for n := range groupsPerClass {
					config, children, onDirs := fanotify.Config{}, fanotify.Mask(0), row.mask
					if n == 0 {
						config.Report, children = row.report, onChild
					}
					g := newGroup(t, config)
					if n > 0 && row.ignore == 0 {
						onDirs = 0 // only the first asks for directories
					}
					mark(t, g, row.target, filepath.Join(dir, row.path), fanotify.CloseNowrite|onDirs|children, 0)
					if n > 0 && row.ignore != 0 {
						mark(t, g, inode, dir, fanotify.CloseNowrite|row.ignored, row.ignore)
					} else {
						mark(t, g, inode, dir, fanotify.Modify|row.mask|children, 0)
					}
					groups = append(groups, g)
				}
				f := openFile(t, filepath.Join(dir, "written"), os.O_WRONLY)
				writeSome(t, f)
				check(t, f.Close())
				touch(t, filepath.Join(dir, row.path))
				for n, g := range groups {
					describe, want := maskOf, row.others
					if n == 0 {
						want = row.first
						if row.report != 0 {
							describe = names.describe
						}
					}
					expect(t, fmt.Sprint("writing and closing, group ", n), queued(t, g, by(t, os.Getpid(), describe)), want...)
				}
				if row.ignore != fanotify.IgnoredMask {
					return
				}
				// The write was to a child, so that the directory is ignored still, although it needn't survive one.
				for _, g := range groups[1:] {
					mark(t, g, mount, dir, fanotify.CloseNowrite|onDir, 0)
					touch(t, dir)
					expect(t, "closing the directory, ignored", queued(t, g, maskOf))
					unmark(t, g, inode, dir, fanotify.CloseNowrite, row.ignore)
					touch(t, dir)
					expect(t, "closing the directory", queued(t, g, maskOf), close...)
				}
			})
		}
	})
}
