package process

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"fanlight/event"
)

// history is what the kernel's messages tell of all processes, beside what /proc says of those that live.
//
// What is read from the queue of events has no time, and the messages are drained after it, so they are ahead of it: an
// event may be from before the last of them. So a process has eras, between the changes that its messages tell, and an
// event is from one of those that are not settled: which of them, the records of programs in the queue say where they
// can, see eras.go. What all eras in question have in common is sure; the rest is left out.
type history struct {
	connector  int // sockets; accounting is -1 without
	accounting int
	details    bool

	known map[int32]*task
	last  *task // what was looked up last: events come in runs

	idles   uint64 // how often everything that was queued had been handled
	round   uint64
	now     time.Time
	dirty   []change
	endings []ending // in the order of their arrival, of processes whose exit was not told yet
	blind   uint64   // until that many idles nothing is sure, because messages were lost
	lossy   uint64   // likewise the records of programs in the queue
	stats   Stats

	marked map[uint64]bool // devices whose programs are in the queue
	proc   reading
	buf    [accountingMessage]byte
}

// task is one process. Its messages and the records of its programs are what the facts are made of.
type task struct {
	pid, ppid int32
	ancestors []int32
	comms     []string // of ancestors, when it was made
	children  family   // what its children are made with
	threads   int32    // that live; 0 when they were not counted from the start
	exited    bool
	ended     uint64 // idles when the exit was told; never before that
	contested bool   // another process had the pid, and events may still be from it
	late      bool   // the exit of that one was not told yet
	leaderEnd bool   // the exit of its first thread was told, and not believed
	end       ending // of its first thread, when others go on
	replaced  bool   // a thread may have called execve, and the first thread have left an ending before its own

	inherits bool   // it has not called execve since its fork
	verify   fileID // then, its program at its end

	eras    []era // from oldest to newest, at least one
	inline  [2]era
	records []record // files that it opened to execute, in the order of the queue
	settled int      // of them, those of an execve that is settled
	owed    int      // execves that are settled, but not which records behind that are theirs
	blurred bool     // the records don't say which program was when

	facts   *event.Process
	fresh   bool   // the facts say all there is to say
	asked   uint64 // the round in which the facts were checked last
	read    bool   // /proc was read since the last execve
	cwd     string
	cwdTime time.Time
	details *event.Details
	dressed *program // the program that the details are of
}

// change is a task with something to settle: what was told when stamp idles had been counted.
type change struct {
	task  *task
	stamp uint64
}

// settledAfter is how many idles it takes until no event is left from before a message. The queue may have been emptied
// for the next one before the message came; for the one behind it, it was emptied afterwards.
const settledAfter = 2

// maxTasks bounds the processes that are known; above, all are forgotten.
const maxTasks = 1 << 16

const never = ^uint64(0) // no round

// drainLimit bounds what one call of drain takes, so that a flood of processes doesn't hold up their events.
const drainLimit = 1 << 16

// drain applies what the connector has told.
func (h *history) drain() {
	for range drainLimit {
		n, err := unix.Read(h.connector, h.buf[:connectorMessage])
		switch {
		case err == nil:
			h.stats.Messages++
			if m, ok := parseConnector(h.buf[:n]); ok {
				h.apply(&m)
			}
		case err == unix.EINTR:
		case err == unix.ENOBUFS:
			h.overrun()
			return
		default:
			return // EAGAIN
		}
	}
	h.overrun() // what is behind is not known
}

// overrun says that messages were lost. What still waits is from before the loss.
func (h *history) overrun() {
	for range drainLimit {
		if _, err := unix.Read(h.connector, h.buf[:]); err == unix.EAGAIN {
			break
		}
	}
	h.stats.Overruns++
	h.forget()
}

// forget forgets everything. Nothing is sure before all events from before are handled.
func (h *history) forget() {
	clear(h.known)
	h.last, h.dirty, h.endings = nil, nil, nil
	h.blind = h.idles + settledAfter
}

// apply applies one message.
func (h *history) apply(m *message) {
	if m.kind == kindFork {
		h.fork(m)
		return
	}
	if m.kind == kindAck || m.kind != kindExit && m.kind != kindExec && m.pid != m.tgid {
		return // of a thread
	}
	t := h.known[m.tgid]
	if t == nil {
		t = h.add(m.tgid)
	}
	last := *t.last()
	next := last
	switch m.kind {
	case kindExec:
		image := new(struct {
			program
			name
		})
		next.program, next.name, next.exec = &image.program, &image.name, true
		t.inherits, t.read, t.asked = false, false, never
		t.end, t.replaced = ending{}, t.replaced || t.threads != 1
	case kindUID:
		if last.uid == m.id {
			return
		}
		next.ids, next.exec = &ids{uid: m.id, gid: last.gid}, false
	case kindGID:
		if last.gid == m.id {
			return
		}
		next.ids, next.exec = &ids{uid: last.uid, gid: m.id}, false
	case kindComm:
		if last.nameKnown && last.name.text == string(m.comm) {
			return
		}
		next.name, next.exec = &name{true, string(m.comm)}, false
	case kindExit:
		h.exit(t, m)
		return
	default:
		return
	}
	next.stamp = h.idles
	t.begin(next)
	h.changed(t)
}

// changed says that a task's facts are to be made anew, and its changes to be settled.
func (h *history) changed(t *task) {
	t.fresh = false
	if n := len(h.dirty); n == 0 || h.dirty[n-1] != (change{t, h.idles}) {
		h.dirty = append(h.dirty, change{t, h.idles})
	}
}

// add takes a process that is older than what is known.
func (h *history) add(pid int32) *task {
	if len(h.known) >= maxTasks {
		h.stats.Overruns++
		h.forget()
	}
	t := &task{pid: pid, asked: never}
	t.eras = append(t.inline[:0], unknownEra())
	h.known[pid] = t
	return t
}

// fork takes a process that was made by another, with all that it inherits.
func (h *history) fork(m *message) {
	if m.pid != m.tgid {
		if t := h.known[m.tgid]; t != nil && t.threads > 0 {
			t.threads++
		}
		return
	}
	parent := h.known[m.parent]
	if parent == nil {
		parent = h.add(m.parent)
	}
	if parent.children.name != parent.last().name {
		h.beget(parent)
	}
	t := &task{pid: m.pid, ppid: m.parent, ancestors: parent.children.ancestors, comms: parent.children.comms, threads: 1, inherits: true, asked: never}
	t.eras = append(t.inline[:0], *parent.last())
	t.eras[0].stamp = h.idles
	if m.forker != m.parent {
		t.eras[0].name = new(name) // the name of a thread
	}
	if old := h.known[m.pid]; old != nil {
		// The kernel tells of an exit after the pid is free: that of the other one may come yet.
		t.contested, t.late = true, !old.exited && !old.leaderEnd
		h.changed(t)
	} else if len(h.known) >= maxTasks {
		h.stats.Overruns++
		h.forget()
		return
	}
	h.known[m.pid] = t
	if h.last != nil && h.last.pid == m.pid {
		h.last = nil
	}
}

// maxAncestors bounds the chain of parents.
const maxAncestors = 64

// family is what the children of a process have in common as long as it keeps its name.
type family struct {
	name      *name
	ancestors []int32
	comms     []string
}

// beget makes what the children of a process have in common.
func (h *history) beget(t *task) {
	comm := t.last().name.text
	if t.ancestors == nil && t.ppid == 0 || !t.last().nameKnown {
		s, _ := h.proc.stat(t.pid)
		if t.ancestors == nil && t.ppid == 0 {
			t.ppid = s.ppid
			t.ancestors, t.comms = h.chain(s.ppid)
		}
		if comm == "" {
			comm = s.comm
		}
	}
	t.children = family{
		t.last().name, append([]int32{t.pid}, t.ancestors...), append([]string{comm}, t.comms...),
	}
}

// chain returns a process, its parent and so on, with their names.
func (h *history) chain(pid int32) (chain []int32, comms []string) {
	for pid > 0 && len(chain) < maxAncestors {
		chain = append(chain, pid)
		s, _ := h.proc.stat(pid)
		comms = append(comms, s.comm)
		if t := h.known[pid]; t != nil && t.ancestors != nil {
			return append(chain, t.ancestors...), append(comms, t.comms...)
		}
		pid = s.ppid
	}
	return chain, comms
}

// exit notes that a thread ended, and with the last one the process.
func (h *history) exit(t *task, m *message) {
	leader := m.pid == m.tgid
	if leader {
		for end := h.ending(m.tgid); end.pid != 0; end, _ = h.takeEnding(m.tgid) {
			t.end = end
			if !t.replaced {
				break
			}
		}
	}
	switch {
	case t.late:
		t.late, t.end = false, ending{}
		return
	case t.threads > 1:
		t.threads--
		return
	case t.threads == 0:
		// Its threads were not counted. The first may have ended alone, or given its place to one that called execve.
		state, threads := h.proc.stateOf(t.pid)
		if !leader || state != 0 && state != 'Z' && state != 'X' {
			t.leaderEnd = leader
			return
		}
		if threads > 1 {
			t.threads = threads - 1
			return
		}
	}
	t.exited, t.threads, t.ended = true, 0, h.idles
	if t.end.pid != 0 {
		t.endedAs(&t.end)
	}
	h.changed(t)
}

// maxEndings bounds the endings that wait for their message.
const maxEndings = 4096

// ending returns the accounting record of a process whose exit was told, which the kernel sends before that.
func (h *history) ending(pid int32) ending {
	if e, ok := h.takeEnding(pid); ok {
		return e
	}
	h.readEndings()
	e, _ := h.takeEnding(pid)
	return e
}

func (h *history) takeEnding(pid int32) (ending, bool) {
	i := h.findEnding(pid)
	if i < 0 {
		return ending{}, false
	}
	e := h.endings[i]
	if i == 0 {
		h.endings = h.endings[1:]
	} else {
		h.endings = slices.Delete(h.endings, i, i+1)
	}
	return e, true
}

func (h *history) findEnding(pid int32) int {
	return slices.IndexFunc(h.endings, func(e ending) bool { return e.pid == pid })
}

// readEndings reads the accounting records that wait.
func (h *history) readEndings() {
	if h.accounting < 0 {
		return
	}
	for range drainLimit {
		n, err := unix.Read(h.accounting, h.buf[:])
		switch {
		case err == nil:
			if e, ok := parseEnding(h.buf[:n]); ok {
				h.endings = append(h.endings, e)
			}
		case err == unix.EINTR:
		case err == unix.ENOBUFS:
			h.stats.Overruns++ // whose record it was stays without a program, no more
		default:
			if n := len(h.endings) - maxEndings; n > 0 {
				h.endings = append(h.endings[:0], h.endings[n:]...)
			}
			return
		}
	}
}

// idle says that all events were handled that were queued when the last round began.
func (h *history) idle() {
	h.idles++
	n := 0
	for ; n < len(h.dirty) && h.dirty[n].stamp+settledAfter <= h.idles; n++ {
		t := h.dirty[n].task
		t.settle(h.dirty[n].stamp)
		switch {
		case h.known[t.pid] != t:
		case t.exited && h.dirty[n].stamp >= t.ended:
			t.candidates(h.marked, false) // its children may want to know its program
			delete(h.known, t.pid)
			if h.last == t {
				h.last = nil
			}
		default:
			t.contested, t.fresh = false, false
		}
		h.dirty[n] = change{}
	}
	h.dirty = h.dirty[n:]
}

func (h *history) close() {
	unix.Close(h.connector)
	if h.accounting >= 0 {
		unix.Close(h.accounting)
	}
}
