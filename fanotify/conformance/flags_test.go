package conformance_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// TestLTP04MarkFlags marks with OnlyDir and DontFollow, and flushes.
//
// Proves FAN_MARK_ONLYDIR, FAN_MARK_DONT_FOLLOW, FAN_MARK_FLUSH.
func TestLTP04MarkFlags(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		path, d, link := file(t, dir, "file"), mkdir(t, dir, "dir"), filepath.Join(dir, "link")
		check(t, os.Symlink("file", link))
		for _, row := range []struct {
			name, path string
			flags      fanotify.MarkFlags
			refused    error
			opened     []string // what opening path then says
		}{
			{"onlydir_directory", d, fanotify.OnlyDir, nil, nil}, // without OnDir there are no events of directories
			{"onlydir_file", path, fanotify.OnlyDir, unix.ENOTDIR, nil},
			{"dont_follow_link", link, fanotify.DontFollow, nil, nil},
			{"follow_link", link, 0, nil, []string{"open regular file"}},
		} {
			t.Run(row.name, func(t *testing.T) {
				g := newGroup(t, fanotify.Config{})
				if err := g.Mark(inode, row.path, fanotify.Open, row.flags); !errors.Is(err, row.refused) {
					t.Fatalf("mark: %v, want %v", err, row.refused)
				}
				touch(t, row.path)
				expect(t, "open", queued(t, g, by(t, os.Getpid(), maskAndType(t))), row.opened...)
				if row.refused == nil {
					unmark(t, g, inode, row.path, fanotify.Open, row.flags)
					touch(t, row.path)
					expect(t, "open without the mark", queued(t, g, maskOf))
				}
			})
		}
		t.Run("flush", func(t *testing.T) {
			g := newGroup(t, fanotify.Config{})
			mark(t, g, inode, path, fanotify.Open, 0)
			mark(t, g, inode, d, fanotify.Open|fanotify.OnDir, 0)
			touch(t, path)
			touch(t, d)
			expect(t, "open", queued(t, g, by(t, os.Getpid(), maskAndType(t))), "open regular file", "open directory")
			check(t, g.Flush(inode))
			touch(t, path)
			touch(t, d)
			expect(t, "flush", queued(t, g, maskOf))
		})
	})
}

// maskAndType returns a describe for queued: the mask and the type of what the event's descriptor leads to.
func maskAndType(t *testing.T) func(e *fanotify.Event) string {
	return func(e *fanotify.Event) string {
		t.Helper()
		f, err := e.File()
		check(t, err)
		defer f.Close()
		info, err := f.Stat()
		check(t, err)
		switch info.Mode().Type() {
		case 0:
			return e.Mask.String() + " regular file"
		case os.ModeDir:
			return e.Mask.String() + " directory"
		}
		return e.Mask.String() + " " + info.Mode().String()
	}
}

// TestLTP08CloseOnExec looks at a group's descriptor from outside. LTP asks with and without FAN_CLOEXEC; here it is
// always set, so that no program that is executed ever holds a group.
//
// Proves FAN_CLOEXEC.
func TestLTP08CloseOnExec(t *testing.T) {
	before := groupDescriptors(t)
	newGroup(t, fanotify.Config{})
	after := groupDescriptors(t)
	if len(after) != len(before)+1 {
		t.Fatalf("groups before: %v, after: %v", before, after)
	}
	flagsLine := regexp.MustCompile(`(?m)^flags:\s+([0-7]+)$`)
	for _, fd := range after {
		info, err := os.ReadFile("/proc/self/fdinfo/" + fd)
		check(t, err)
		match := flagsLine.FindSubmatch(info)
		if match == nil {
			t.Fatalf("no flags in %q", info)
		}
		flags, err := strconv.ParseUint(string(match[1]), 8, 32)
		check(t, err)
		if flags&unix.O_CLOEXEC == 0 {
			t.Errorf("descriptor %s has the flags %#o", fd, flags)
		}
	}
}

// groupDescriptors returns the numbers of this process's descriptors that are groups.
func groupDescriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	var groups []string
	for _, entry := range entries {
		target, err := os.Readlink("/proc/self/fd/" + entry.Name())
		if errors.Is(err, os.ErrNotExist) {
			continue // the descriptor of the listing itself
		}
		check(t, err)
		if strings.Contains(target, "[fanotify]") {
			groups = append(groups, entry.Name())
		}
	}
	return groups
}
