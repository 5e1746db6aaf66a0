package conformance_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// withOverlay are the kinds of LTP and one more, whose marks of one inode are like everybody's.
var withOverlay = slices.Concat(allFilesystems, []string{fstest.Overlay})

// Events about directory entries and about the object itself: only handles can tell of them.
const inodeEvents = fanotify.Attrib | fanotify.Create | fanotify.Delete | fanotify.Move | fanotify.DeleteSelf | fanotify.MoveSelf

// What the rows of TestLTP14ErrorCodes mark.
const (
	aFile      = "file"
	aDirectory = "directory"
	aPipe      = "pipe"
)

// wholeFilesystem has what a group that reports handles gets for a mark of a mount or a filesystem, where that is
// refused: an overlay's handles can't be opened unless it is mounted for that, and FUSE has no id.
var wholeFilesystem = map[string]error{fstest.Overlay: unix.EOPNOTSUPP, fstest.FUSE: unix.ENODEV}

// TestLTP14ErrorCodes asks for what the kernel has to refuse, and has to say why.
func TestLTP14ErrorCodes(t *testing.T) {
	const (
		dfidFID = fanotify.ReportDirFID | fanotify.ReportFID
		dfid    = fanotify.ReportDFIDName
		target  = fanotify.ReportDFIDNameTarget

		permissionEvents = fanotify.OpenPerm | fanotify.AccessPerm
	)
	rows := []struct {
		class  fanotify.Class
		report fanotify.Report
		object string // "" where there is no group to begin with
		target fanotify.Target
		flags  fanotify.MarkFlags
		mask   fanotify.Mask
		want   unix.Errno
	}{
		0: {class: fanotify.ClassContent, report: fanotify.ReportFID, want: unix.EINVAL},
		1: {class: fanotify.ClassPreContent, report: fanotify.ReportFID, want: unix.EINVAL},
		2: {object: aDirectory, target: inode, mask: inodeEvents, want: unix.EINVAL},
		3: {report: fanotify.ReportFID, object: aDirectory, target: mount, mask: inodeEvents, want: unix.EINVAL},
		4: {report: fanotify.ReportName, want: unix.EINVAL},
		5: {report: fanotify.ReportName | fanotify.ReportFID, want: unix.EINVAL},
		6: {report: fanotify.ReportTargetFID | dfid, want: unix.EINVAL},
		7: {report: fanotify.ReportTargetFID | dfidFID, want: unix.EINVAL},
		8: {report: dfidFID, object: aDirectory, target: inode, mask: fanotify.Rename, want: unix.EINVAL},
		9: {object: aFile, target: inode, flags: fanotify.OnlyDir, mask: fanotify.Open, want: unix.ENOTDIR},

		10: {report: target, object: aFile, mask: fanotify.Delete, want: unix.ENOTDIR},
		11: {report: target, object: aFile, mask: fanotify.Rename, want: unix.ENOTDIR},
		12: {report: target, object: aFile, mask: fanotify.Open | fanotify.OnDir, want: unix.ENOTDIR},
		13: {report: target, object: aFile, mask: fanotify.Open | fanotify.EventOnChild, want: unix.ENOTDIR},

		14: {report: dfid, object: aFile, flags: fanotify.IgnoreSurv, mask: fanotify.Delete, want: unix.ENOTDIR},
		15: {report: dfid, object: aFile, flags: fanotify.IgnoreSurv, mask: fanotify.Rename, want: unix.ENOTDIR},
		16: {report: dfid, object: aFile, flags: fanotify.IgnoreSurv, mask: fanotify.Open | fanotify.OnDir, want: unix.ENOTDIR},
		17: {report: dfid, object: aFile, flags: fanotify.IgnoreSurv, mask: fanotify.Open | fanotify.EventOnChild, want: unix.ENOTDIR},

		18: {object: aDirectory, target: inode, flags: fanotify.Ignore, mask: fanotify.Open, want: unix.EISDIR},
		19: {object: aDirectory, target: mount, flags: fanotify.Ignore, mask: fanotify.Open, want: unix.EINVAL},
		20: {object: aDirectory, target: filesystem, flags: fanotify.Ignore, mask: fanotify.Open, want: unix.EINVAL},
		21: {object: aPipe, target: mount, mask: fanotify.Access, want: unix.EINVAL},
		22: {object: aPipe, target: filesystem, mask: fanotify.Access, want: unix.EINVAL},
		23: {object: aDirectory, target: inode, mask: permissionEvents, want: unix.EINVAL},
		24: {object: aDirectory, target: inode, mask: fanotify.PreAccess, want: unix.EINVAL},
		25: {class: fanotify.ClassContent, object: aDirectory, target: inode, mask: fanotify.PreAccess, want: unix.EINVAL},
	}
	onEach(t, withOverlay, func(t *testing.T, kind, dir string) {
		name := file(t, dir, "file")
		reader, writer, err := os.Pipe()
		check(t, err)
		defer reader.Close()
		defer writer.Close()
		paths := map[string]string{aFile: name, aDirectory: dir, aPipe: fmt.Sprintf("/proc/self/fd/%d", reader.Fd())}
		for number, row := range rows {
			t.Run(fmt.Sprint(number), func(t *testing.T) {
				config := fanotify.Config{Class: row.class, Report: row.report}
				if row.object == "" {
					g, err := fanotify.NewGroup(config)
					if err == nil {
						g.Close()
					}
					var refused *fanotify.InitError
					if !errors.As(err, &refused) || !errors.Is(err, row.want) || refused.Reason == "" {
						t.Errorf("got %v, want %v and a reason", err, row.want)
					}
					return
				}
				g := newGroup(t, config)
				err := g.Mark(row.target, paths[row.object], row.mask, row.flags)
				var refused *fanotify.MarkError
				if !errors.As(err, &refused) || !errors.Is(err, row.want) || refused.Reason == "" {
					t.Errorf("got %v, want %v and a reason", err, row.want)
				}
				if row.object != aFile {
					return
				}
				// What a file can't have, a directory can, and a filesystem that is named by a file.
				if err := g.Mark(row.target, dir, row.mask, row.flags); err != nil {
					t.Errorf("on a directory: %v", err)
				}
				if row.flags&fanotify.OnlyDir != 0 {
					return
				}
				if err := g.Mark(filesystem, name, row.mask, row.flags); !errors.Is(err, wholeFilesystem[kind]) {
					t.Errorf("on the filesystem: got %v, want %v", err, wholeFilesystem[kind])
				}
			})
		}
	})
}
