package process

import (
	"slices"

	"golang.org/x/sys/unix"

	"fanlight/event"
)

// lookup returns what is sure about the process that had pid at the event at hand; never nil.
func (h *history) lookup(pid int32) *event.Process {
	if t := h.last; t != nil && t.pid == pid && t.fresh && t.asked == h.round {
		return t.facts
	}
	if h.blind > h.idles {
		return &event.Process{PID: pid, UID: event.NoUID}
	}
	t := h.known[pid]
	if t == nil {
		t = h.add(pid)
	}
	h.last = t
	if t.fresh && t.asked == h.round {
		return t.facts
	}
	h.find(t)
	return t.facts
}

// acted notes that the process did something to a file that execve doesn't do: if it has no exec to show for the
// programs that it opened, it failed to execute them.
func (h *history) acted(pid int32) {
	if t := h.last; t != nil && t.pid == pid && len(t.records) > t.settled && t.threads == 1 && len(t.eras) == 1 {
		t.records, t.owed = t.records[:t.settled], 0
	}
}

// opened notes that the process opened a file to execute it.
func (h *history) opened(pid int32, r record) {
	t := h.known[pid]
	if t == nil {
		if h.blind > h.idles {
			return
		}
		t = h.add(pid)
	}
	t.opened(r)
}

// find makes the facts of a task.
func (h *history) find(t *task) {
	if t.asked != h.round {
		t.asked = h.round
		switch {
		case t.exited:
		case !t.read:
			h.read(t)
		case h.now.Sub(t.cwdTime) >= fullCheck:
			t.cwdTime = h.now
			if cwd := h.proc.link(t.pid, "cwd"); cwd != nil && string(cwd) != t.cwd {
				t.cwd, t.fresh = string(cwd), false
			}
		}
	}
	if t.fresh {
		return
	}
	t.fresh = true
	p := event.Process{PID: t.pid, UID: event.NoUID}
	if !t.contested {
		h.inherit(t)
		eras := t.candidates(h.marked, h.lossy > h.idles)
		exe := common(eras, &p)
		p.PPID, p.Ancestors, p.AncestorComms, p.Cwd = t.ppid, t.ancestors, t.comms, t.cwd
		if h.details {
			h.dress(t, exe, eras, &p)
		}
		switch {
		case t.exited:
			p.State = event.ProcessExited
		case t.read || t.ppid != 0:
			p.State = event.ProcessLive
		}
	}
	if t.facts == nil || !equal(t.facts, &p) {
		t.facts = &p
	}
}

// inherit finds out the program that the process was forked with, by its ancestors that have the same.
func (h *history) inherit(t *task) {
	first := &t.eras[0]
	for _, pid := range t.ancestors {
		a := h.known[pid]
		if first.pathKnown || a == nil || a.last().program != first.program {
			break
		}
		switch {
		case a.exited:
			a.candidates(h.marked, h.lossy > h.idles)
		case !a.read && a.asked != h.round:
			a.asked = h.round
			h.read(a)
		}
		if !a.inherits {
			break // it has called execve since
		}
	}
	if t.verify != (fileID{}) && !first.program.id.same(t.verify) {
		own := &program{id: t.verify}
		for i := range t.eras {
			t.eras[i].program = own
		}
	}
}

// dress adds the details, if they are of the program that the event is from.
func (h *history) dress(t *task, exe *program, eras []era, p *event.Process) {
	d := event.Details{GID: eras[0].gid, LoginUID: event.NoUID}
	for _, e := range eras {
		if e.gid != d.GID {
			d.GID = event.NoUID
		}
	}
	if t.details != nil {
		d.LoginUID, d.Start, d.Cgroup = t.details.LoginUID, t.details.Start, t.details.Cgroup
		if exe == t.dressed {
			d.Cmdline = t.details.Cmdline
		}
		p.Container = containerOf(d.Cgroup)
	}
	p.Details = &d
}

func equal(a, b *event.Process) bool {
	if (a.Details == nil) != (b.Details == nil) {
		return false
	}
	if d, e := a.Details, b.Details; d != nil && (d.GID != e.GID || d.LoginUID != e.LoginUID || d.Start != e.Start ||
		d.Cgroup != e.Cgroup || !slices.Equal(d.Cmdline, e.Cmdline)) {
		return false
	}
	return a.PID == b.PID && a.PPID == b.PPID && a.UID == b.UID && a.Comm == b.Comm && a.Exe == b.Exe && a.Cwd == b.Cwd &&
		a.State == b.State && a.Container == b.Container && slices.Equal(a.Ancestors, b.Ancestors) && slices.Equal(a.AncestorComms, b.AncestorComms)
}

// readTries is how often a process is read that changes meanwhile.
const readTries = 3

// read reads what /proc knows of a process that lives, into its last era. The messages are drained afterwards: what
// was read is of that era if none tells of another.
func (h *history) read(t *task) {
	for range readTries {
		seen := len(t.eras)
		newest := *t.last()
		exe := string(h.proc.link(t.pid, "exe"))
		var st unix.Stat_t
		if exe != "" && unix.Stat(string(h.proc.pathOf(t.pid, "exe")), &st) != nil {
			exe = ""
		}
		cwd := string(h.proc.link(t.pid, "cwd"))
		who, known := ids{newest.uid, newest.gid}, newest.uid != event.NoUID && newest.gid != event.NoUID
		if !known {
			who, known = h.proc.ids(t.pid)
		}
		s, ok := h.proc.stat(t.pid) // last, because it tells whether an execve is under way
		if !ok {
			h.drain() // its exit
			return
		}
		var details *event.Details
		if h.details {
			details = h.proc.details(t.pid, &s)
		}
		h.drain()
		if h.known[t.pid] != t || t.contested {
			return
		}
		if len(t.eras) != seen || *t.last() != newest || exe != "" && !s.loaded {
			continue
		}
		if exe == "" && !s.kernel {
			// It ends, or its first thread has ended, and with that the way to its program.
			if s.threads <= 1 {
				h.ends(t)
			}
			return
		}
		last := t.last()
		// What children share with it is filled in; what it shares itself may be another's, see endedAs.
		if !last.pathKnown || last.path != exe {
			if t.inherits || last.pathKnown {
				last.program = new(program)
			}
			*last.program = program{true, exe, fileID{st.Dev, st.Ino}}
		}
		if !last.nameKnown || last.name.text != s.comm {
			if t.inherits || last.nameKnown {
				last.name = new(name)
			}
			*last.name = name{true, s.comm}
		}
		if *last.ids != who && known {
			if t.inherits {
				last.ids = new(ids)
			}
			*last.ids = who
		}
		if t.ppid == 0 && s.ppid != 0 {
			t.ppid = s.ppid
			t.ancestors, t.comms = h.chain(s.ppid)
		}
		t.cwd, t.cwdTime, t.details, t.dressed = cwd, h.now, details, last.program
		t.read, t.fresh = true, false
		return
	}
}

// ends takes what is known of a process at its end before its exit is told.
func (h *history) ends(t *task) {
	h.readEndings()
	if i := h.findEnding(t.pid); i >= 0 {
		t.endedAs(&h.endings[i])
	}
	t.exited, t.ended, t.fresh = true, never, false // it stays until its exit is told
}
