package conformance_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// The events of entries of directories, and those of a directory's own.
const (
	entryEvents = fanotify.Create | fanotify.Delete | fanotify.Move
	selfEvents  = fanotify.DeleteSelf | fanotify.MoveSelf
)

// TestLTP15EntryEvents makes, renames and removes a file and a directory in a group with handles alone, which reads at
// the end: events merge as far as they tell of the same object, but never those of files with those of directories.
//
// Proves FAN_CREATE, FAN_DELETE, FAN_MOVED_FROM, FAN_MOVED_TO, FAN_DELETE_SELF, FAN_MOVE_SELF, FAN_ONDIR,
// FAN_REPORT_FID.
func TestLTP15EntryEvents(t *testing.T) {
	onEach(t, withOverlay, func(t *testing.T, kind, root string) {
		for _, marks := range []string{"whole", "inodes"} {
			t.Run(marks, func(t *testing.T) {
				dir := mkdir(t, root, marks)
				const events = entryEvents | fanotify.Modify | fanotify.OnDir
				if marks == "whole" && wholeFilesystem[kind] != nil {
					refuseWhole(t, kind, dir, fanotify.ReportFID, events)
					return
				}
				g := newGroup(t, fanotify.Config{Report: fanotify.ReportFID})
				if marks == "whole" {
					mark(t, g, filesystem, dir, events|fanotify.DeleteSelf, 0)
				} else {
					mark(t, g, inode, dir, events|fanotify.EventOnChild, 0)
				}
				o := objects{handleAt(t, dir): "dir"}
				first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")

				f := openFile(t, first, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
				check(t, f.Close())
				o[handleAt(t, first)] = "file"
				if marks == "inodes" {
					mark(t, g, inode, first, fanotify.Modify|fanotify.DeleteSelf, 0)
				}
				check(t, os.Truncate(first, 1), os.Rename(first, second), os.Remove(second))

				check(t, os.Mkdir(first, 0o755))
				o[handleAt(t, first)] = "subdirectory"
				if marks == "inodes" {
					mark(t, g, inode, first, fanotify.DeleteSelf|fanotify.OnDir, 0)
				}
				check(t, os.Rename(first, second), os.Remove(second))

				expect(t, "it all", queued(t, g, by(t, os.Getpid(), o.describe)),
					"moved_from|moved_to|create|delete object=dir",
					"modify|delete_self object=file",
					"moved_from|moved_to|create|delete|ondir object=dir",
					"delete_self|ondir object=subdirectory")
			})
		}
	})
}

// TestLTP16Names works with a file and its directory in groups that report directories, names and children in every way
// that goes together, and reads twice: first what happened to the file, then what happened to the directory. LTP's even
// rows mark the filesystem and a mount of the directory, the odd ones the directory and the one above it.
//
// Proves FAN_RENAME, FAN_REPORT_DIR_FID, FAN_REPORT_NAME, FAN_REPORT_TARGET_FID, FAN_EVENT_INFO_TYPE_DFID_NAME,
// FAN_EVENT_INFO_TYPE_OLD_DFID_NAME, FAN_EVENT_INFO_TYPE_NEW_DFID_NAME.
func TestLTP16Names(t *testing.T) {
	const dfidFID = fanotify.ReportDirFID | fanotify.ReportFID
	rows := []struct {
		report  fanotify.Report
		rename  bool     // asks for Rename as well
		ignored bool     // goes through a directory whose marks ignore moves and renames
		want    []string // which begin with "whole: " or "inodes: " where the marks make a difference
	}{
		0: {report: fanotify.ReportDFIDName, want: []string{
			"create|ondir dir=root/dir1",
			"open|moved_from|create dir=dir/file1",
			"close_write|moved_to|delete dir=dir/file2",
			"close_nowrite|open|delete_self|move_self|ondir dir=dir/.",
			"moved_from|ondir dir=root/dir1",
			"moved_to|delete|ondir dir=root/dir2",
		}},
		1: {report: fanotify.ReportDirFID, want: []string{
			"create|ondir dir=root",
			"close_write|open|moved_from|moved_to|create|delete dir=dir",
			"close_nowrite|open|delete_self|move_self|ondir dir=dir",
			"moved_from|moved_to|delete|ondir dir=root",
		}},
		2: {report: dfidFID, want: []string{
			"create|ondir dir=root",
			"moved_from|moved_to|create|delete dir=dir",
			"close_write|open dir=dir object=file",
			"whole: delete_self|move_self object=file",
			"close_nowrite|open|delete_self|move_self|ondir dir=dir",
			"moved_from|moved_to|delete|ondir dir=root",
		}},
		3: {report: fanotify.ReportDFIDName | fanotify.ReportFID, want: []string{
			"create|ondir dir=root/dir1",
			"moved_from|create dir=dir/file1",
			"open dir=dir/file1 object=file",
			"moved_to|delete dir=dir/file2",
			"whole: delete_self|move_self object=file",
			"close_write dir=dir/file2 object=file",
			"close_nowrite|open|delete_self|move_self|ondir dir=dir/.",
			"moved_from|ondir dir=root/dir1",
			"moved_to|delete|ondir dir=root/dir2",
		}},
		4: {report: fanotify.ReportDFIDNameTarget, want: []string{
			"create|ondir dir=root/dir1 object=dir",
			"open|moved_from|create dir=dir/file1 object=file",
			"close_write|moved_to|delete dir=dir/file2 object=file",
			"whole: delete_self|move_self object=file",
			"close_nowrite|open|delete_self|move_self|ondir dir=dir/.",
			"moved_from|ondir dir=root/dir1 object=dir",
			"moved_to|delete|ondir dir=root/dir2 object=dir",
		}},
		5: {report: fanotify.ReportDFIDName | fanotify.ReportFID, rename: true, want: []string{
			"create|ondir dir=root/dir1",
			"moved_from|create dir=dir/file1",
			"open dir=dir/file1 object=file",
			"rename old=dir/file1 new=dir/file2",
			"moved_to|delete dir=dir/file2",
			"whole: delete_self|move_self object=file",
			"close_write dir=dir/file2 object=file",
			"close_nowrite|open|delete_self|move_self|ondir dir=dir/.",
			"whole: rename|ondir old=root/dir1 new=root/dir2",
			"inodes: rename|ondir old=root/dir1",
			"moved_from|ondir dir=root/dir1",
			"inodes: rename|ondir new=root/dir2",
			"moved_to|delete|ondir dir=root/dir2",
		}},
		6: {report: fanotify.ReportDFIDNameTarget, rename: true, want: []string{
			"create|ondir dir=root/dir1 object=dir",
			"open|moved_from|create dir=dir/file1 object=file",
			"rename old=dir/file1 new=dir/file2 object=file",
			"close_write|moved_to|delete dir=dir/file2 object=file",
			"whole: delete_self|move_self object=file",
			"close_nowrite|open|delete_self|move_self|ondir dir=dir/.",
			"whole: rename|ondir old=root/dir1 new=root/dir2 object=dir",
			"inodes: rename|ondir old=root/dir1 object=dir",
			"moved_from|ondir dir=root/dir1 object=dir",
			"inodes: rename|ondir new=root/dir2 object=dir",
			"moved_to|delete|ondir dir=root/dir2 object=dir",
		}},
		7: {report: fanotify.ReportDFIDName | fanotify.ReportFID, rename: true, ignored: true, want: []string{
			"create|ondir dir=root/dir1",
			"moved_from|create dir=dir/file1",
			"open dir=dir/file1 object=file",
			"rename old=dir/file1 new=dir/file2",
			"moved_to|delete dir=dir/file2",
			"whole: delete_self|move_self object=file",
			"close_write dir=dir/file2 object=file",
			"close_nowrite|open|delete_self|move_self|ondir dir=dir/.",
			// What ignores a rename on one side ignores all of it; moves are the directories' own.
			"moved_from|ondir dir=root/dir1",
			"moved_to|delete|ondir dir=root/dir2",
		}},
	}
	onEach(t, withOverlay, func(t *testing.T, kind, dir string) {
		for number, row := range rows {
			for i, marks := range []string{"whole", "inodes"} {
				var want []string
				for _, line := range row.want {
					only, rest, found := strings.Cut(line, ": ")
					if !found {
						want = append(want, line)
					} else if only == marks {
						want = append(want, rest)
					}
				}
				name := fmt.Sprint(2*number+i, "_", marks)
				t.Run(name, func(t *testing.T) {
					root := mkdir(t, dir, name)
					if marks == "whole" && wholeFilesystem[kind] != nil {
						refuseWhole(t, kind, root, row.report, entryEvents|selfEvents|fanotify.OnDir)
						return
					}
					n := named{root: root, report: row.report, whole: marks == "whole", rename: row.rename, ignored: row.ignored}
					expect(t, "it all", n.events(t), want...)
				})
			}
		}
	})
}

// refuseWhole wants a mark of the whole filesystem to be refused as it is on this kind.
func refuseWhole(t *testing.T, kind, dir string, report fanotify.Report, mask fanotify.Mask) {
	t.Helper()
	err := newGroup(t, fanotify.Config{Report: report}).Mark(filesystem, dir, mask, 0)
	if !errors.Is(err, wholeFilesystem[kind]) {
		t.Errorf("got %v, want %v", err, wholeFilesystem[kind])
	}
}

// named is a row of TestLTP16Names on the filesystem that is mounted on root.
type named struct {
	root                   string
	report                 fanotify.Report
	whole, rename, ignored bool
}

// events works with a file and its directory and returns what the row's group says of it.
func (n named) events(t *testing.T) []string {
	entries, opened := entryEvents|fanotify.OnDir, fanotify.Open|fanotify.Close|fanotify.OnDir
	if n.rename {
		entries |= fanotify.Rename
	}
	g := newGroup(t, fanotify.Config{Report: n.report})
	temporary := mkdir(t, n.root, "temporary")
	o := objects{handleAt(t, n.root): "root", handleAt(t, temporary): "temporary"}
	if n.whole {
		mark(t, g, filesystem, n.root, entries|selfEvents, 0)
	} else {
		mark(t, g, inode, n.root, entries, 0)
	}
	if n.ignored {
		mark(t, g, inode, temporary, fanotify.Move|fanotify.Rename|fanotify.OnDir, fanotify.IgnoreSurv)
	}

	dir := mkdir(t, n.root, "dir1")
	o[handleAt(t, dir)] = "dir"
	var files []string
	// The directory is a mount for as long as there is a file in it: what is mounted on can't be renamed.
	t.Run("file", func(t *testing.T) {
		fstest.Bind(t, dir, dir)
		if n.whole {
			mark(t, g, mount, dir, opened, 0)
		} else {
			mark(t, g, inode, dir, entries|selfEvents|opened|fanotify.EventOnChild, 0)
		}
		first, second := filepath.Join(dir, "file1"), filepath.Join(dir, "file2")
		f := openFile(t, first, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
		o[handleAt(t, first)] = "file"
		writeSome(t, f)
		check(t, os.Rename(first, second), f.Close(), os.Remove(second))
		files = queued(t, g, by(t, os.Getpid(), o.describe))
		touch(t, dir)
	})

	renamed := filepath.Join(n.root, "dir2")
	if n.whole && !n.ignored {
		check(t, os.Rename(dir, renamed))
	} else {
		between := filepath.Join(temporary, "dir2")
		check(t, os.Rename(dir, between), os.Rename(between, renamed))
	}
	check(t, os.Remove(renamed))
	return append(files, queued(t, g, by(t, os.Getpid(), o.describe))...)
}
