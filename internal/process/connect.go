package process

import (
	"golang.org/x/sys/unix"
)

// Sources says where facts come from beside /proc, and why not: nil where the kernel tells.
type Sources struct {
	Connector  error // of forks, programs, users, names, exits; without it, nothing else is asked for
	Accounting error // of what a process was at its end
}

// Stats counts what the kernel told.
type Stats struct {
	Messages uint64 // of the process connector
	Overruns uint64 // how often messages were lost, because nobody had read them in time
}

// Connect asks the kernel to tell of all processes from now on. It needs CAP_NET_ADMIN in the initial namespaces of
// users, pids and networks. Where the kernel refuses, the table goes on with what it has; Close ends the rest.
//
// From then on, Drain is called after every read of the queue of events, before they are looked up.
func (t *Table) Connect() Sources { return t.connect(connectorBuffer) }

func (t *Table) connect(bufferSize int) (s Sources) {
	h := &history{details: t.Details, known: map[int32]*task{}, marked: map[uint64]bool{}, accounting: -1}
	h.round, h.now = t.round, t.now
	if h.connector, s.Connector = openConnector(bufferSize); s.Connector != nil {
		s.Accounting = s.Connector
		return s
	}
	h.accounting, s.Accounting = openAccounting(bufferSize)
	t.forgetAll()
	t.history = h
	return s
}

// Connected reports whether the kernel tells of processes.
func (t *Table) Connected() bool { return t.history != nil }

// Stats returns counters since Connect.
func (t *Table) Stats() Stats {
	if t.history == nil {
		return Stats{}
	}
	return t.history.stats
}

// Drain takes what the kernel has told. What the queue of events had before the call is not from after it.
func (t *Table) Drain() {
	if t.history != nil {
		t.history.drain()
	}
}

// Marked says that the queue has a record of every file that is opened on a filesystem to be executed, by the device
// number that mountinfo shows.
func (t *Table) Marked(major, minor uint32) {
	if t.history != nil {
		t.history.marked[unix.Mkdev(major, minor)] = true
	}
}

// Opened says that the event at hand is of a file that the process opened to execute it: its path as of the event,
// empty when that is not sure, the device of its filesystem as in Marked, and its inode, 0 when that is not known.
func (t *Table) Opened(pid int32, path string, major, minor uint32, inode uint64) {
	if t.history == nil {
		return
	}
	r := record{path: path, loader: isLoader(path)}
	if inode != 0 {
		r.id = fileID{unix.Mkdev(major, minor), inode}
	}
	t.history.opened(pid, r)
}

// Blur says that the process opened files to execute them, but nobody knows when: the kernel has merged that with what
// it did to the file before.
func (t *Table) Blur(pid int32) {
	if t.history == nil {
		return
	}
	if task := t.history.known[pid]; task != nil {
		task.blurred, task.fresh = true, false
	}
}

// Acted says that the event at hand, of a process that was just looked up, is more than what execve does to a file.
func (t *Table) Acted(pid int32) {
	if t.history != nil {
		t.history.acted(pid)
	}
}

// Lost says that records of the queue of events were lost.
func (t *Table) Lost() {
	if h := t.history; h != nil {
		h.lossy = h.idles + settledAfter
		for _, task := range h.known {
			task.blurred = task.blurred || len(task.records) > 0 || len(task.eras) > 1
			task.records, task.settled, task.fresh = task.records[:0], 0, false
		}
	}
}
