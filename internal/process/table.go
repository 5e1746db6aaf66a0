// Package process knows facts about processes: who it is that did something to a file.
//
// A process that lives a millisecond is gone from /proc before its event is read. So, where the kernel allows it, a
// Table is told of every fork, exec, change of user or name, and exit (the process connector), and of what a process
// was at its end (task accounting); and whoever reads the events tells it the programs that are opened to be executed,
// in the order of the queue. It shows what these and /proc agree on, and leaves out what is not sure: see history and
// eras.go.
//
// # From /proc alone
//
// Without the kernel's messages, what was read once is kept as long as it is sure to be that process, never for another
// one that got the same pid: an open directory /proc/PID stays with its process, and ends with it. What a process may
// change while it lives (the program, the name, the working directory, the user) is asked again: the name in every round
// of events, because a new program brings a new one, the rest when the name changed and every few milliseconds.
//
// A pid that is met for the first time is looked up after its event. If its process was gone by then, and another one
// had taken the pid already, nothing in /proc tells.
//
// A Table belongs to one goroutine.
package process

import (
	"bytes"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"fanlight/event"
)

// fullCheck is how long facts hold that did not show in a new name.
const fullCheck = 10 * time.Millisecond

// MaxProcesses is how many processes a table knows at most; each that lives holds two descriptors.
const MaxProcesses = 256

// Table is what is known about processes. The zero value is ready for use, from /proc alone.
type Table struct {
	// Details asks for the facts of event.Details, and for containers: more files of /proc for each process.
	Details bool

	history *history // nil from /proc alone
	reading reading

	known map[int32]*entry
	round uint64
	now   time.Time // when the round began
	path  [32]byte
	buf   [4096]byte
}

// entry is one process.
type entry struct {
	facts *event.Process
	round uint64 // when the facts were last checked
	gone  uint64 // the round in which it was found gone, or its pid another's; 0 is never
	dir   int    // /proc/PID, which stays the process's when it is gone; -1 when nothing is known
	comm  int    // /proc/PID/comm, likewise
	full  time.Time
	euid  uint32 // what the owner of /proc/PID was when the facts were read
}

// NextRound says that what follows happened later: facts are checked again before they are used.
func (t *Table) NextRound() {
	t.round++
	t.now = time.Now()
	if h := t.history; h != nil {
		h.round, h.now = t.round, t.now
	}
}

// Idle says that this round had all events that were queued when it began. Processes that were found gone before it
// are forgotten then: what comes now with their pid is another process's.
func (t *Table) Idle() {
	if t.history != nil {
		t.history.idle()
		return
	}
	for pid, e := range t.known {
		if e.facts.State != event.ProcessLive && e.gone < t.round {
			e.close()
			delete(t.known, pid)
		}
	}
}

// Close releases the descriptors and forgets everything.
func (t *Table) Close() {
	if t.history != nil {
		t.history.close()
		t.history = nil
	}
	t.forgetAll()
}

func (t *Table) forgetAll() {
	for _, e := range t.known {
		e.close()
	}
	t.known = nil
}

// Lookup returns what is known about the process that had pid when the event at hand happened; never nil. The result
// is shared and must not be changed; equal facts are the same pointer. No system call is made for a process that was
// looked up in this round.
func (t *Table) Lookup(pid int32) *event.Process {
	if t.history != nil {
		return t.history.lookup(pid)
	}
	e := t.known[pid]
	if e == nil {
		return t.meet(pid)
	}
	if e.round == t.round {
		return e.facts
	}
	e.round = t.round
	switch {
	case e.facts.State == event.ProcessLive:
		t.check(e)
	case e.facts.State == event.ProcessExited && t.reused(e):
		t.forget(e)
	case e.facts.State == event.ProcessUnknown && e.gone == 0:
		t.read(pid, e)
	}
	return e.facts
}

// meet takes a process into the table.
func (t *Table) meet(pid int32) *event.Process {
	if len(t.known) >= MaxProcesses {
		t.evict()
	}
	if t.known == nil {
		t.known = make(map[int32]*entry)
	}
	e := &entry{round: t.round, dir: -1, comm: -1}
	t.known[pid] = e
	t.read(pid, e)
	return e.facts
}

// evict forgets the processes that this round has not seen; all of them when it has seen too many.
func (t *Table) evict() {
	for pid, e := range t.known {
		if e.round != t.round {
			e.close()
			delete(t.known, pid)
		}
	}
	if len(t.known) >= MaxProcesses {
		t.forgetAll()
	}
}

func (e *entry) close() {
	if e.dir >= 0 {
		unix.Close(e.dir)
		unix.Close(e.comm)
	}
	e.dir, e.comm = -1, -1
}

// read reads all facts about the process that has pid now.
func (t *Table) read(pid int32, e *entry) {
	e.facts = &event.Process{PID: pid, UID: event.NoUID, State: event.ProcessUnknown}
	path := append(strconv.AppendInt(append(t.path[:0], "/proc/"...), int64(pid), 10), 0)
	dir, err := unix.Open(string(path[:len(path)-1]), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	comm, err := unix.Openat(dir, "comm", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(dir)
		return
	}
	e.dir, e.comm = dir, comm
	if facts, ok := t.facts(pid, e); ok {
		e.facts = facts
	} else {
		e.close()
	}
}

// facts reads every fact through the process's own directory, which fails once the process is gone.
func (t *Table) facts(pid int32, e *entry) (*event.Process, bool) {
	p := &event.Process{PID: pid, UID: event.NoUID, State: event.ProcessLive}
	var st unix.Stat_t
	if err := unix.Fstat(e.dir, &st); err != nil {
		return nil, false
	}
	e.euid = st.Uid
	status := t.file(e.dir, "status")
	if status == nil {
		return nil, false
	}
	if ppid, ok := field(status, "PPid:"); ok {
		p.PPID = int32(ppid)
	}
	if uid, ok := field(status, "Uid:"); ok {
		p.UID = uint32(uid)
	}
	if state, ok := statusLine(status, "State:"); ok && len(state) > 0 && (state[0] == 'Z' || state[0] == 'X') {
		p.State = event.ProcessExited
	}
	p.Exe = string(t.link(e.dir, "exe"))
	p.Cwd = string(t.link(e.dir, "cwd"))
	comm := t.readComm(e)
	if comm == nil {
		return nil, false // gone while we read: what came before may be half of a process
	}
	p.Comm = string(comm)
	p.Ancestors, p.AncestorComms = t.ancestors(p.PPID)
	if t.Details {
		gid, known := field(status, "Gid:")
		st, _ := t.reading.stat(pid)
		p.Details = t.reading.details(pid, &st)
		if known {
			p.Details.GID = uint32(gid)
		}
		p.Container = containerOf(p.Details.Cgroup)
		if t.readComm(e) == nil {
			return nil, false
		}
	}
	return p, true
}

// ancestors returns ppid, its parent and so on, with their names.
func (t *Table) ancestors(ppid int32) (pids []int32, comms []string) {
	for ppid > 0 && len(pids) < maxAncestors {
		pids = append(pids, ppid)
		if e := t.known[ppid]; e != nil && e.round == t.round && e.facts.State == event.ProcessLive {
			return append(pids, e.facts.Ancestors...), append(append(comms, e.facts.Comm), e.facts.AncestorComms...)
		}
		s, _ := t.reading.stat(ppid)
		ppid, comms = s.ppid, append(comms, s.comm)
	}
	return pids, comms
}

// check finds out whether the process still lives, and what it changed.
func (t *Table) check(e *entry) {
	var st unix.Stat_t
	comm := t.readComm(e)
	if comm == nil {
		t.exited(e)
		return
	}
	same := string(comm) == e.facts.Comm
	if same && t.now.Sub(e.full) < fullCheck {
		return
	}
	e.full = t.now
	exe := t.link(e.dir, "exe")
	if exe == nil && e.facts.Exe != "" { // a zombie has no program any more
		t.exited(e)
		return
	}
	same = same && string(exe) == e.facts.Exe
	same = same && string(t.link(e.dir, "cwd")) == e.facts.Cwd
	same = same && unix.Fstat(e.dir, &st) == nil && st.Uid == e.euid
	if same {
		return
	}
	if facts, ok := t.facts(e.facts.PID, e); ok {
		e.facts = facts
		return
	}
	t.exited(e)
}

// exited keeps what was known about a process that is gone.
func (t *Table) exited(e *entry) {
	if t.reused(e) {
		t.forget(e)
		return
	}
	e.gone = t.round
	facts := *e.facts
	facts.State = event.ProcessExited
	e.facts = &facts
}

// forget says that another process has the pid of one that is gone. Nobody knows which of both an event is from, until
// those that were queued are handled: Idle lets the table meet the new one.
func (t *Table) forget(e *entry) {
	e.close()
	e.gone = t.round
	e.facts = &event.Process{PID: e.facts.PID, UID: event.NoUID}
}

// reused reports whether another process has the pid by now. The directory of a process that still has its pid, alive
// or not, is the one that is open.
func (t *Table) reused(e *entry) bool {
	var now, then unix.Stat_t
	if unix.Stat("/proc/"+strconv.Itoa(int(e.facts.PID)), &now) != nil {
		return false
	}
	return unix.Fstat(e.dir, &then) != nil || now.Ino != then.Ino
}

// readComm returns the process's name, nil when it is gone.
func (t *Table) readComm(e *entry) []byte {
	n, err := unix.Pread(e.comm, t.buf[:], 0)
	if err != nil || n == 0 {
		return nil
	}
	return bytes.TrimSuffix(t.buf[:n], []byte{'\n'})
}

// link returns where a symbolic link leads, nil when it can't be read.
func (t *Table) link(dir int, name string) []byte {
	n, err := unix.Readlinkat(dir, name, t.buf[:])
	if err != nil || n == len(t.buf) {
		return nil
	}
	return t.buf[:n]
}

// file returns the beginning of a small file, nil when it can't be read.
func (t *Table) file(dir int, name string) []byte {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, t.buf[:])
	if err != nil {
		return nil
	}
	return slices.Clone(t.buf[:n])
}

// statusLine returns what stands behind key in a file like /proc/PID/status.
func statusLine(status []byte, key string) ([]byte, bool) {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(key)); ok {
			return bytes.TrimSpace(rest), true
		}
	}
	return nil, false
}

// field returns the first number behind key.
func field(status []byte, key string) (uint64, bool) {
	line, ok := statusLine(status, key)
	if !ok {
		return 0, false
	}
	first, _, _ := bytes.Cut(line, []byte{'\t'})
	n, err := strconv.ParseUint(string(first), 10, 32)
	return n, err == nil
}
