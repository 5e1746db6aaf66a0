package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/moby/sys/mountinfo"

	"fanlight/internal/mounts"
)

// mount is a mount that is to be tried.
type mount struct {
	*mountinfo.Info
	path   string // where it is tried: the mount point, or a directory of it that was asked for
	asked  string // the path that was asked for; empty when the mount was found
	alsoAt []string
	stuck  bool // the path could not be looked up in time
}

func (m mount) device() string { return fmt.Sprintf("%d:%d", m.Major, m.Minor) }

// table is what is mounted in this namespace.
type table []*mountinfo.Info

func readTable() (table, error) {
	infos, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("read /proc/self/mountinfo: %w", err)
	}
	return infos, nil
}

// visible returns those mounts whose mount point leads to them: nothing is mounted over them or over a directory above.
// No path is looked up, so a filesystem that doesn't answer holds up nothing.
func (t table) visible() table {
	byID := map[int]*mountinfo.Info{}
	children := map[int][]*mountinfo.Info{}
	for _, m := range t {
		byID[m.ID] = m
		if m.Parent != m.ID {
			children[m.Parent] = append(children[m.Parent], m)
		}
	}
	covered := func(m *mountinfo.Info) bool {
		return slices.ContainsFunc(children[m.ID], func(c *mountinfo.Info) bool { return c.Mountpoint == m.Mountpoint })
	}
	var reached func(m *mountinfo.Info) bool // the mount, or what covers it
	reached = func(m *mountinfo.Info) bool {
		parent := byID[m.Parent]
		if parent == nil || parent == m {
			return true // the root
		}
		above := func(s *mountinfo.Info) bool {
			return s.Mountpoint != m.Mountpoint && mounts.Below(m.Mountpoint, s.Mountpoint)
		}
		switch {
		case m.Mountpoint == parent.Mountpoint:
		case covered(parent), slices.ContainsFunc(children[parent.ID], above):
			return false
		}
		return reached(parent)
	}
	return slices.DeleteFunc(slices.Clone(t), func(m *mountinfo.Info) bool { return covered(m) || !reached(m) })
}

// choose returns the mounts to try: those at and below the paths, or without any path one for each filesystem, as
// fanlight watch takes them. The kernel's own pseudo filesystems are left out unless they are asked for.
func (t table) choose(paths []string, patience time.Duration) ([]mount, error) {
	visible := t.visible()
	var chosen []mount
	if len(paths) == 0 {
		return visible.add(nil, "/"), nil
	}
	var dirs []string
	for _, path := range paths {
		m, dir, err := visible.at(path, patience)
		if err != nil {
			return nil, err
		}
		chosen, dirs = append(chosen, m), append(dirs, dir)
	}
	for _, dir := range dirs {
		chosen = visible.add(chosen, dir)
	}
	return chosen, nil
}

// add adds the mounts at and below dir, one for each filesystem: the one that shows most of it.
func (t table) add(chosen []mount, dir string) []mount {
	found := map[string][]*mountinfo.Info{}
	var devices []string
	for _, info := range t {
		if !mounts.Below(info.Mountpoint, dir) || mounts.Pseudo(info.FSType) {
			continue
		}
		device := mount{Info: info}.device()
		if found[device] == nil {
			devices = append(devices, device)
		}
		found[device] = append(found[device], info)
	}
	for _, device := range devices {
		infos := found[device]
		slices.SortStableFunc(infos, func(a, b *mountinfo.Info) int {
			return cmp.Or(cmp.Compare(len(a.Root), len(b.Root)), cmp.Compare(len(a.Mountpoint), len(b.Mountpoint)))
		})
		i := slices.IndexFunc(chosen, func(m mount) bool { return m.device() == device })
		if i < 0 {
			chosen = append(chosen, mount{Info: infos[0], path: infos[0].Mountpoint})
			i = len(chosen) - 1
		}
		for _, info := range infos {
			also := info.Mountpoint
			if also != chosen[i].Mountpoint && !slices.Contains(chosen[i].alsoAt, also) {
				chosen[i].alsoAt = append(chosen[i].alsoAt, also)
			}
		}
	}
	return chosen
}

// at returns the mount that a path leads to, and the path as the kernel spells it. On a filesystem that doesn't answer
// in time it is taken as it was written.
func (t table) at(path string, patience time.Duration) (m mount, dir string, err error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return mount{}, "", fmt.Errorf("%s: %w", path, err)
	}
	type place struct {
		path  string
		isDir bool
		err   error
	}
	looked, inTime := within(patience, func() (p place) {
		var info fs.FileInfo
		if p.path, p.err = filepath.EvalSymlinks(absolute); p.err == nil {
			info, p.err = os.Lstat(p.path)
		}
		p.isDir = p.err == nil && info.IsDir()
		return p
	})
	if !inTime {
		looked = place{path: absolute, isDir: true}
	}
	if looked.err != nil {
		if pathErr, ok := errors.AsType[*fs.PathError](looked.err); ok {
			looked.err = pathErr.Err
		}
		return mount{}, "", fmt.Errorf("%s: %w", path, looked.err)
	}
	m = mount{path: looked.path, asked: path, stuck: !inTime}
	for _, info := range t {
		if mounts.Below(looked.path, info.Mountpoint) && (m.Info == nil || len(info.Mountpoint) > len(m.Mountpoint)) {
			m.Info = info
		}
	}
	if m.Info == nil {
		return mount{}, "", fmt.Errorf("%s: its mount is not in /proc/self/mountinfo", path)
	}
	if !looked.isDir && looked.path != m.Mountpoint {
		m.path = filepath.Dir(looked.path)
	}
	return m, looked.path, nil
}
