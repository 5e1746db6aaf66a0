package process

import (
	"slices"
	"strings"

	"fanlight/event"
)

// era is what a process was between two of its changes. What a fork inherits is shared with the parent, so that what is
// found out of one is known of the other.
type era struct {
	*program
	*name
	*ids
	exec  bool   // it began with execve
	stamp uint64 // idles when its beginning was told
}

// program is what a process executes.
type program struct {
	pathKnown bool
	path      string // empty for a kernel thread
	id        fileID // zero when unknown
}

// name is what a process is called.
type name struct {
	nameKnown bool
	text      string
}

// ids are a process's real user and group, event.NoUID when unknown.
type ids struct{ uid, gid uint32 }

// record is a file that a process opened to execute it: a program, a script, the interpreter of either.
type record struct {
	id     fileID
	path   string
	loader bool // the interpreter of programs, by its name
}

const (
	maxEras    = 32 // of one process; above, nothing is sure but the last
	maxRecords = 16
)

func unknownEra() era {
	return era{program: new(program), name: new(name), ids: &ids{event.NoUID, event.NoUID}}
}

func (t *task) last() *era { return &t.eras[len(t.eras)-1] }

// begin begins another era.
func (t *task) begin(next era) {
	if len(t.eras) == maxEras {
		t.eras = append(t.eras[:0], unknownEra(), *t.last())
		t.blurred = true
	}
	t.eras = append(t.eras, next)
}

// opened notes a file that the process opened to execute it.
func (t *task) opened(r record) {
	t.fresh = false
	if len(t.records) == maxRecords {
		t.blurred = true
		t.records, t.settled, t.owed = t.records[:0], 0, 0
	}
	t.records = append(t.records, r)
}

// settle says that no event is left from before what was told at stamp.
func (t *task) settle(stamp uint64) {
	first, execs, all := 0, 0, 0
	for i := 1; i < len(t.eras); i++ {
		if t.eras[i].exec {
			all++
		}
		if t.eras[i].stamp <= stamp {
			first, execs = i, all
		}
	}
	if first == 0 {
		return
	}
	settled := t.eras[first]
	t.eras = append(t.eras[:0], t.eras[first:]...)
	t.fresh = false
	if execs == 0 {
		return
	}
	// Which records belong to what is settled, and which to an execve that is yet to be told?
	t.blurred = false
	execs, all = execs+t.owed, all+t.owed
	i := t.match(settled.program)
	switch {
	case t.heads() <= execs:
		i = len(t.records)
	case i >= t.settled:
		i = t.behindLoaders(i + 1)
	case t.heads() == all: // one for each, so that each is known by its place
		i = t.behind(execs)
	default:
		t.owed = execs
		return
	}
	t.settled, t.owed = i, 0
}

// heads returns how many records may be of programs.
func (t *task) heads() int {
	n := 0
	for i := range t.records[t.settled:] {
		if !t.records[t.settled+i].loader {
			n++
		}
	}
	return n
}

// behind returns where the records go on behind those of n programs.
func (t *task) behind(n int) int {
	i := t.settled
	for ; n > 0; i++ {
		if !t.records[i].loader {
			n--
		}
	}
	return t.behindLoaders(i)
}

// behindLoaders returns where the records go on behind the interpreters that stand at i.
func (t *task) behindLoaders(i int) int {
	for i < len(t.records) && t.records[i].loader {
		i++
	}
	return i
}

// match returns the last record of a program, -1 without one.
func (t *task) match(p *program) int {
	for i := len(t.records) - 1; i >= 0; i-- {
		if r := &t.records[i]; p.id != (fileID{}) && r.id == p.id || p.path != "" && r.path == p.path {
			return i
		}
	}
	return -1
}

// candidates returns the eras that the event at hand may be from. The queue has a record of every program on a marked
// device, between what the process did before and after.
func (t *task) candidates(marked map[uint64]bool, lossy bool) []era {
	p := t.last().program
	i := t.match(p)
	if i >= 0 && !p.pathKnown && t.records[i].path != "" {
		p.pathKnown, p.path = true, t.records[i].path
	}
	execs, latest := 0, 0
	for i := 1; i < len(t.eras); i++ {
		if t.eras[i].exec {
			execs++
			latest = i
		}
	}
	if t.owed > 0 && t.heads() == t.owed+execs {
		t.settled, t.owed = t.behind(t.owed), 0
	}
	if execs == 0 || t.blurred || t.owed > 0 || lossy {
		return t.eras
	}
	if i < t.settled {
		unnamed := func(r record) bool { return r.id == fileID{} }
		if execs == 1 && marked[p.id.dev] && !slices.ContainsFunc(t.records[t.settled:], unnamed) {
			return t.eras[:latest] // it is yet to come
		}
		return t.eras
	}
	if execs == 1 {
		return t.eras[latest:] // what was opened behind it failed
	}
	// More than one, of which only the last is known: it is, if it is the last of as many.
	isProgram := func(r record) bool { return !r.loader }
	if slices.ContainsFunc(t.records[i+1:], isProgram) || t.heads() < execs {
		return t.eras
	}
	return t.eras[latest:]
}

// endedAs takes what the kernel says of the process at its end. It is right where what was inherited is not: a process
// may make one that counts as its parent's child (CLONE_PARENT).
func (t *task) endedAs(end *ending) {
	last := t.last()
	if t.inherits {
		t.verify = end.program
	} else if end.program != (fileID{}) && !last.program.id.same(end.program) {
		if last.program.id != (fileID{}) {
			last.program = new(program)
		}
		last.program.id = end.program
	}
	if !last.nameKnown || last.name.text != end.comm {
		if t.inherits || last.nameKnown {
			last.name = new(name)
		}
		*last.name = name{true, end.comm}
	}
	if last.uid == event.NoUID {
		if t.inherits {
			last.ids = new(ids)
		}
		*last.ids = ids{end.uid, end.gid}
	}
	if t.ppid == 0 {
		t.ppid = end.ppid
	}
}

// isLoader reports whether a file has the name of an interpreter of programs (ld.so(8)).
func isLoader(path string) bool {
	name := path[strings.LastIndexByte(path, '/')+1:]
	return strings.HasPrefix(name, "ld-") && strings.Contains(name, ".so") || strings.HasPrefix(name, "ld.so") ||
		strings.HasPrefix(name, "ld64.so")
}

// common returns what all eras that an event may be from have in common.
func common(eras []era, p *event.Process) (exe *program) {
	first := &eras[0]
	p.UID, p.Comm, p.Exe = first.uid, first.name.text, first.path
	exe = first.program
	for i := range eras {
		e := &eras[i]
		if e.uid != p.UID {
			p.UID = event.NoUID
		}
		if e.name != first.name && (!e.nameKnown || e.name.text != first.name.text) {
			p.Comm = ""
		}
		if e.program != first.program {
			exe = nil
			if !e.pathKnown || e.path != first.path {
				p.Exe = ""
			}
		}
	}
	return exe
}
