// Package mounts tells what is mounted, where a path leads to, and when that changes.
package mounts

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"fanlight/fanotify"
)

// Mount is one mount.
type Mount struct {
	ID     uint64 // see Table.Unique
	Parent uint64 // the mount that it is mounted on; may be one that is not in the table
	Device Device // of the filesystem; all mounts and subvolumes of it have the same
	Root   string // the directory of the filesystem that is mounted
	Point  string // where it is mounted
	FSType string // such as "ext4" or "fuse.sshfs"
}

// Device is a device number as mountinfo shows it.
type Device struct{ Major, Minor uint32 }

// Table is what is mounted in a mount namespace at one moment, or nearly so: what changes while it is read may be in it
// or not, and is told by Changes afterwards.
type Table struct {
	Mounts []Mount // in the order of mounting
	// Unique says that an ID is never used again before the next boot (statmount(2), since Linux 6.8). Otherwise the IDs
	// are those of proc_pid_mountinfo(5), of which an unmount sets one free.
	Unique bool

	on  map[onto]int // the mount on a directory of another mount
	ids map[uint64]int
}

type onto struct {
	parent uint64
	point  string
}

// Read returns the mounts of this mount namespace that can be reached from this process's root. It looks no path up, so
// that a filesystem that doesn't answer holds up nothing.
func Read() (*Table, error) {
	all, err := statmounts(fanotify.OwnNamespace)
	if err != nil {
		return ReadInfo() // an older kernel, or a sandbox without the system calls
	}
	return newTable(all, true), nil
}

// ReadInfo is Read on a kernel without statmount(2).
func ReadInfo() (*Table, error) {
	infos, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return newTable(fromInfo(infos), false), nil
}

func fromInfo(infos []*mountinfo.Info) []Mount {
	all := make([]Mount, len(infos))
	for i, info := range infos {
		all[i] = Mount{
			uint64(info.ID), uint64(info.Parent), Device{uint32(info.Major), uint32(info.Minor)}, info.Root, info.Mountpoint,
			info.FSType,
		}
	}
	return all
}

// statmounts lists the mounts of a namespace by their unique ids.
func statmounts(namespace uint64) ([]Mount, error) {
	var all []Mount
	for id, err := range fanotify.ListMounts(namespace, fanotify.WholeNamespace) {
		if err != nil {
			return nil, err
		}
		m, err := fanotify.StatMount(namespace, id)
		if errors.Is(err, unix.ENOENT) {
			continue // unmounted since
		}
		if err != nil {
			return nil, err
		}
		all = append(all, fromStat(m))
	}
	return all, nil
}

func fromStat(m fanotify.Mount) Mount {
	fsType := m.Type
	if m.Subtype != "" {
		fsType += "." + m.Subtype
	}
	return Mount{m.ID, m.Parent, Device(m.Device), m.Root, m.Point, fsType}
}

func newTable(all []Mount, unique bool) *Table {
	t := &Table{Mounts: all, Unique: unique, on: make(map[onto]int, len(all)), ids: make(map[uint64]int, len(all))}
	for i, m := range all {
		t.ids[m.ID] = i
	}
	for i, m := range all {
		if _, known := t.ids[m.Parent]; known && m.Parent != m.ID {
			t.on[onto{m.Parent, m.Point}] = i
		} else if m.Point == "/" {
			t.on[onto{0, "/"}] = i // the root of the process
		}
	}
	return t
}

// At returns the mount that a path leads to, which is absolute, clean and without symbolic links. The path need not
// exist: what counts is what is mounted on it and on the directories above it.
func (t *Table) At(path string) (Mount, bool) {
	i, ok := t.on[onto{0, "/"}]
	for end := 1; ok; {
		m := &t.Mounts[i]
		next := -1
		for ; ; end++ { // a mount nearer to the root covers those below it
			for end < len(path) && end > 1 && path[end] != '/' {
				end++
			}
			if c, covered := t.on[onto{m.ID, path[:end]}]; covered {
				next = c
				break
			}
			if end >= len(path) {
				return *m, true
			}
		}
		i = next
	}
	return Mount{}, false
}

// ByID returns the mount with that ID.
func (t *Table) ByID(id uint64) (Mount, bool) {
	i, ok := t.ids[id]
	if !ok {
		return Mount{}, false
	}
	return t.Mounts[i], true
}

// Visible reports whether the mount's point leads to it: nothing is mounted over it.
func (t *Table) Visible(m Mount) bool {
	at, ok := t.At(m.Point)
	return ok && at.ID == m.ID
}

// Below reports whether path is dir or below it. Both are absolute and clean.
func Below(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir) && path[len(dir)] == '/'
}

// Pseudo reports whether a filesystem of this type holds no files of users: the kernel makes up what is in it.
func Pseudo(fsType string) bool {
	switch fsType {
	case "autofs", "binder", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "cpuset", "debugfs", "devpts",
		"devtmpfs", "efivarfs", "fusectl", "hugetlbfs", "mqueue", "nfsd", "nsfs", "proc", "pstore", "resctrl",
		"rpc_pipefs", "securityfs", "selinuxfs", "smackfs", "sysfs", "tracefs":
		return true
	}
	return false
}
