package watch

import (
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
func (r *reader) opened(e *fanotify.Event, dir *node, name []byte) {
	if e.PID == 0 {
		return
	}
	if e.Mask&^executes != 0 {
		r.processes.Blur(e.PID)
		return
	}
	start := len(r.out.text)
	if dir != nil {
		if r.tree.conclude(dir); dir.worst == event.PathExact {
			r.appendEntry(dir, name)
		}
	}
	path := r.out.text[start:]
	child := e.Object()
	p, met := r.programs[fanotify.Handle(child)]
	if !met {
		p.inode = r.tree.inode(child)
	}
	if p.path != string(path) || !met {
		p.path = string(path)
		if len(r.programs) >= maxPrograms {
			clear(r.programs)
		}
		r.programs[fanotify.Handle(child)] = p
	}
	r.out.text = r.out.text[:start]
	if fs := r.tree.systems[child.FSID()]; fs != nil {
		r.processes.Opened(e.PID, p.path, fs.device.Major, fs.device.Minor, p.inode)
	}
}

// inode returns the inode number of an object, 0 when it is gone.
func (t *tree) inode(h fanotify.HandleBytes) uint64 {
	fs := t.systems[h.FSID()]
	if fs == nil || fs.open() != nil {
		return 0
	}
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
