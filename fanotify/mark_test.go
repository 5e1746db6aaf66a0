package fanotify

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// marks returns the group's marks as the kernel shows them: kind, flags, mask and ignore mask.
func marks(t *testing.T, g *Group) []string {
	t.Helper()
	info, err := g.Info()
	check(t, err)
	var lines []string
	for _, m := range info.Marks {
		lines = append(lines, fmt.Sprintf("%s flags=%s mask=%s ignored=%s", m.Target, m.Flags, m.Mask, m.Ignored))
	}
	slices.Sort(lines)
	return lines
}

// TestMarks puts a mark on each target with each flag, looks at it, and takes it away in both ways. The kernel itself
// adds event_on_child where names are reported.
//
// Proves FAN_MARK_ADD, FAN_MARK_REMOVE, FAN_MARK_FLUSH, FAN_MARK_INODE, FAN_MARK_MOUNT, FAN_MARK_FILESYSTEM,
// FAN_MARK_MNTNS, FAN_MARK_DONT_FOLLOW, FAN_MARK_ONLYDIR, FAN_MARK_EVICTABLE.
func TestMarks(t *testing.T) {
	fstest.NeedKernel(t, Supports(FeatureEvictable))
	fstest.NeedKernel(t, Supports(FeatureIgnore))
	fstest.NeedKernel(t, Supports(FeatureMnt))
	dir := fstest.New(t, fstest.Tmpfs)
	sub, name, link := mkdir(t, dir, "sub"), file(t, dir, "f"), filepath.Join(dir, "link")
	check(t, os.Symlink("f", link))
	const namespace = "/proc/self/ns/mnt"
	handles, mounts := Config{Report: ReportDFIDName}, Config{Report: ReportMnt}
	for _, tt := range []struct {
		config Config
		target Target
		path   string
		mask   Mask
		flags  MarkFlags
		want   string
	}{
		{handles, TargetInode, name, Open, 0, "inode flags=0 mask=open|event_on_child ignored=0"},
		{handles, TargetInode, sub, Create | OnDir | EventOnChild, OnlyDir, "inode flags=0 mask=create|event_on_child|ondir ignored=0"},
		{handles, TargetInode, link, Attrib, DontFollow, "inode flags=0 mask=attrib|event_on_child ignored=0"},
		{handles, TargetInode, name, Open, Evictable, "inode flags=evictable mask=open|event_on_child ignored=0"},
		{handles, TargetInode, name, Open, Ignore, "inode flags=ignore mask=0 ignored=open"},
		{handles, TargetInode, sub, Open, IgnoreSurv, "inode flags=ignored_surv_modify|ignore mask=0 ignored=open"},
		{handles, TargetInode, name, Open, IgnoredMask, "inode flags=0 mask=0 ignored=open"},
		{handles, TargetInode, name, Open, IgnoredMask | IgnoredSurvModify, "inode flags=ignored_surv_modify mask=0 ignored=open"},
		{handles, TargetInode, sub, Open, IgnoreSurv | Evictable | OnlyDir | DontFollow, "inode flags=ignored_surv_modify|evictable|ignore mask=0 ignored=open"},
		{Config{}, TargetMount, name, Open, 0, "mount flags=0 mask=open ignored=0"},
		{Config{}, TargetMount, sub, Open, IgnoreSurv | OnlyDir, "mount flags=ignored_surv_modify|ignore mask=0 ignored=open"},
		{Config{}, TargetFilesystem, name, Open | OpenExec, 0, "filesystem flags=0 mask=open|open_exec ignored=0"},
		{Config{}, TargetFilesystem, name, Open, IgnoredMask, "filesystem flags=0 mask=0 ignored=open"},
		{handles, TargetFilesystem, name, FSError | Rename, 0, "filesystem flags=0 mask=fs_error|event_on_child|rename ignored=0"},
		{mounts, TargetMountNamespace, namespace, MntAttach, 0, "mntns flags=0 mask=mnt_attach ignored=0"},
	} {
		t.Run(tt.target.String()+" "+tt.flags.String(), func(t *testing.T) {
			g := newGroup(t, tt.config)
			mark(t, g, tt.target, tt.path, tt.mask, tt.flags)
			if diff := cmp.Diff([]string{tt.want}, marks(t, g)); diff != "" {
				t.Error(diff)
			}
			check(t, g.Unmark(tt.target, tt.path, tt.mask, tt.flags&^Evictable))
			if got := marks(t, g); got != nil {
				t.Error("after Unmark:", got)
			}
			if err := g.Unmark(tt.target, tt.path, tt.mask, tt.flags&^Evictable); !errors.Is(err, unix.ENOENT) {
				t.Error("Unmark twice:", err)
			}
			mark(t, g, tt.target, tt.path, tt.mask, tt.flags)
			check(t, g.Flush(tt.target))
			if got := marks(t, g); got != nil {
				t.Error("after Flush:", got)
			}
		})
	}
}

// TestMarkAt marks relative to a directory, and a descriptor itself.
func TestMarkAt(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	name := file(t, dir, "f")
	g := newGroup(t, Config{})
	d, err := os.Open(dir)
	check(t, err)
	defer d.Close()
	f, err := os.Open(name)
	check(t, err)
	defer f.Close()
	check(t, g.MarkAt(TargetInode, int(d.Fd()), "f", Open, 0), g.MarkAt(TargetInode, int(f.Fd()), "", CloseNowrite, 0))
	if got := marks(t, g); !slices.Equal(got, []string{"inode flags=0 mask=close_nowrite|open ignored=0"}) {
		t.Error(got)
	}
	check(t, g.UnmarkAt(TargetInode, int(d.Fd()), "f", CloseNowrite, 0), g.UnmarkAt(TargetInode, int(f.Fd()), "", Open, 0))
	if got := marks(t, g); got != nil {
		t.Error(got)
	}
}

// TestFlushIsForOneTarget keeps the marks of the other targets.
func TestFlushIsForOneTarget(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	g := newGroup(t, Config{})
	targets := []Target{TargetInode, TargetMount, TargetFilesystem}
	for _, target := range targets {
		mark(t, g, target, dir, Open|OnDir, 0)
	}
	f, err := os.Open(dir)
	check(t, err, f.Close())
	for i, target := range targets {
		check(t, g.Flush(target))
		if got := marks(t, g); len(got) != len(targets)-1-i {
			t.Errorf("after the flush of %s: %q", target, got)
		}
	}
	if got := queued(t, g, nil); !slices.Equal(got, []string{"open"}) {
		t.Error("a flush lost what was queued:", got)
	}
}

// TestIgnoreMasks shows how both kinds of ignore mask differ (kernel: fsnotify_effective_ignore_mask).
//
// Proves FAN_MARK_IGNORE, FAN_MARK_IGNORED_MASK, FAN_MARK_IGNORED_SURV_MODIFY.
func TestIgnoreMasks(t *testing.T) {
	fstest.NeedKernel(t, Supports(FeatureIgnore))
	modify := func(name string) error { return os.WriteFile(name, []byte("more"), 0) }
	opens := func(name string) error {
		f, err := os.Open(name)
		return errors.Join(err, f.Close())
	}
	for _, tt := range []struct {
		name  string
		on    string // what has the ignore mask, below the directory
		mask  Mask
		flags MarkFlags
		want  []string // the opens seen: of the directory, of the file, of the file after it was modified
	}{
		{"ignored_mask ends with modification", "f", Open, IgnoredMask, []string{"dir", "after"}},
		{"ignore ends with modification", "f", Open, Ignore, []string{"dir", "after"}},
		{"ignored_mask survives", "f", Open, IgnoredMask | IgnoredSurvModify, []string{"dir"}},
		{"ignore survives", "f", Open, IgnoreSurv, []string{"dir"}},
		{"ignored_mask is for directories, not for children", ".", Open, IgnoredMask | IgnoredSurvModify, []string{"file", "after"}},
		{"ignore without ondir is not for directories", ".", Open, IgnoreSurv, []string{"dir", "file", "after"}},
		{"ignore with ondir is for the directory", ".", Open | OnDir, IgnoreSurv, []string{"file", "after"}},
		{"ignore with event_on_child is for children", ".", Open | EventOnChild, IgnoreSurv, []string{"dir"}},
		{"ignore with both", ".", Open | OnDir | EventOnChild, IgnoreSurv, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := fstest.New(t, fstest.Tmpfs)
			name := file(t, dir, "f")
			g := newGroup(t, Config{Report: ReportDFIDName})
			mark(t, g, TargetFilesystem, dir, Open|OnDir, 0)
			mark(t, g, TargetInode, filepath.Join(dir, tt.on), tt.mask, tt.flags)
			var got []string
			for _, step := range []struct {
				what string
				path string
			}{{"dir", dir}, {"file", name}, {"after", name}} {
				if step.what == "after" {
					check(t, modify(name))
					queued(t, g, nil)
				}
				check(t, opens(step.path))
				if lines := queued(t, g, nil); len(lines) > 0 {
					got = append(got, step.what)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
