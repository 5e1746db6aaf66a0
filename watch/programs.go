package watch

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/fanotify"
)

// program is a file that was executed.
type program struct {
	inode uint64
	path  string // when it was met last
}

// maxPrograms bounds the programs that are remembered.
const maxPrograms = 4096

// executes is all that execve does to a program.
const executes = fanotify.OpenExec | fanotify.Open | fanotify.Access | fanotify.CloseNowrite

// opened tells the table of processes that a file was opened to execute it.
func (r *reader) opened(e *fanotify.Event, at fanotify.Entry, dir *node) {
	if e.PID == 0 {
		return
	}
	if e.Mask&^executes != 0 {
		r.processes.Blur(e.PID)
		return
	}
	child := e.Object()
	fs := r.tree.systems[child.FSID()]
	if fs == nil {
		if fs = r.unplanned[child.FSID()]; fs == nil {
			return
		}
	}
	if fs.inodes != nil {
		return // the table knows of filesystems of which everything comes
	}
	r.path = r.programPath(fs, r.path[:0], at.Dir, dir, at.Name)
	p, met := r.programs[fanotify.Handle(child)]
	if !met || p.path != string(r.path) {
		if !met {
			p.inode = fs.inode(child)
		}
		p.path = string(r.path)
		if len(r.programs) >= maxPrograms {
			clear(r.programs)
		}
		r.programs[fanotify.Handle(child)] = p
	}
	r.processes.Opened(e.PID, p.path, fs.device.Major, fs.device.Minor, p.inode)
}

// programPath appends the path of a program, nothing when it is not sure.
func (r *reader) programPath(fs *filesystem, b []byte, h fanotify.HandleBytes, dir *node, name []byte) []byte {
	switch {
	case r.unplanned[fs.id] == fs:
		// Nobody tells of renames there. What the kernel says now is what it would say of the process.
		start := len(b)
		if b = fs.appendPath(b, h); len(b) > start {
			b = appendName(b, name)
		}
	case dir != nil:
		if r.tree.conclude(dir); dir.worst == event.PathExact {
			b = appendName(dir.appendPath(b), name)
		}
	}
	return b
}

// appendPath appends the path that a directory has now, nothing when it is gone.
func (fs *filesystem) appendPath(b []byte, dir fanotify.HandleBytes) []byte {
	if fs.open() != nil {
		return b
	}
	defer fs.close()
	fd, err := fanotify.Handle(dir).Open(fs.fd, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return b
	}
	defer unix.Close(fd)
	var path [unix.PathMax]byte
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), path[:])
	if err != nil || n == len(path) || bytes.HasSuffix(path[:n], []byte(" (deleted)")) {
		return b
	}
	return append(b, path[:n]...)
}

// others returns the filesystems that are not in the plan and may hold programs.
func (p *plan) others() []place {
	table, err := p.read()
	if err != nil {
		return nil
	}
	all := wholeMachine(slices.Clone(p.places), table)[len(p.places):]
	return slices.DeleteFunc(all, func(at place) bool {
		return !at.isDir || at.mount.Root != "/" || mayHang(at.mount.FSType)
	})
}

// markPrograms marks filesystems for what is executed there, so that the queue has it between what a process did before
// and after. One that refuses is left out: then that is not sure.
func (r *reader) markPrograms(places []place) {
	for _, at := range places {
		var err error
		if at.top, err = fanotify.HandleAt(unix.AT_FDCWD, at.path); err != nil {
			continue
		}
		if r.tree.systems[at.id()] != nil || r.unplanned[at.id()] != nil {
			continue // handles of two filesystems with one id can't be told apart
		}
		if r.group.Mark(fanotify.TargetFilesystem, at.path, fanotify.OpenExec, 0) != nil {
			continue
		}
		r.unplanned[at.id()] = newFilesystem(at)
		r.processes.Marked(at.mount.Device.Major, at.mount.Device.Minor)
	}
}

// markedPrograms tells the table of processes of which filesystems the queue has what is executed.
func (r *reader) markedPrograms() {
	for _, at := range r.plan.places {
		if at.form.kind == FormInodes {
			continue // only of its watched directories
		}
		r.processes.Marked(at.mount.Device.Major, at.mount.Device.Minor)
	}
}

// mayHang reports whether a filesystem answers only as long as another program or machine does.
func mayHang(fsType string) bool {
	switch fsType {
	case "9p", "afs", "ceph", "cifs", "nfs", "nfs4", "smb3", "virtiofs":
		return true
	}
	return strings.HasPrefix(fsType, "fuse")
}

// inode returns the inode number of an object, 0 when it is gone.
func (fs *filesystem) inode(h fanotify.HandleBytes) uint64 {
	if fs.open() != nil {
		return 0
	}
	defer fs.close()
	fd, err := fanotify.Handle(h).Open(fs.fd, unix.O_PATH)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Ino
}
