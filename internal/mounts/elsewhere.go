package mounts

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"

	"fanlight/fanotify"
)

// Namespace is another mount namespace than this process's.
type Namespace struct {
	*Table
	Number uint64   // the inode number of /proc/PID/ns/mnt
	Roots  []string // directories that lead into it, /proc/PID/root, as long as the process lives
	Link   string   // /proc/PID/ns/mnt of one of them
}

// Limits of Elsewhere.
const (
	maxNamespaces = 1024
	maxRoots      = 4 // of one namespace
)

// Elsewhere returns the other mount namespaces of the processes that /proc shows, the first 1,024 that it comes across.
// A namespace without a process is not found, and neither is one whose processes all have another root than its own.
// It looks at every process: some milliseconds for a thousand.
func Elsewhere() ([]Namespace, error) {
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil, err
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	names, err := proc.Readdirnames(-1)
	proc.Close()
	if err != nil {
		return nil, err
	}
	var all []Namespace
	at := map[string]int{own: -1}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		link := "/proc/" + name + "/ns/mnt"
		target, err := os.Readlink(link)
		if err != nil {
			continue // it ended, or may not be looked at
		}
		i, met := at[target]
		if met && (i < 0 || len(all[i].Roots) == maxRoots) || !met && len(all) == maxNamespaces {
			continue
		}
		root := "/proc/" + name + "/root"
		if dir, err := os.Readlink(root); err != nil || dir != "/" {
			continue
		}
		if !met {
			number, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(target, "mnt:["), "]"), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %q is no mount namespace", link, target)
			}
			table, err := readNamespace(pid, link)
			if err != nil {
				continue // it ended
			}
			i = len(all)
			at[target] = i
			all = append(all, Namespace{Table: table, Number: number, Link: link})
		}
		all[i].Roots = append(all[i].Roots, root)
	}
	return all, nil
}

// readNamespace returns the mounts in the namespace of a process.
func readNamespace(pid int, link string) (*Table, error) {
	if id, err := fanotify.MountNamespaceID(link); err == nil {
		if all, err := statmounts(id); err == nil {
			return newTable(all, true), nil
		}
	}
	file, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	infos, err := mountinfo.GetMountsFromReader(file, nil)
	if err != nil {
		return nil, err
	}
	return newTable(fromInfo(infos), false), nil
}

// Follow watches the mounts of another namespace, too, which link names (/proc/PID/ns/mnt), where there is a group.
func (c *Changes) Follow(link string) {
	if c.group != nil {
		_ = c.group.Mark(fanotify.TargetMountNamespace, link, fanotify.MntAttach|fanotify.MntDetach, 0) // it may have ended
	}
}
