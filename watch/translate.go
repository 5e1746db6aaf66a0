package watch

import (
	"bytes"

	"fanlight/event"
	"fanlight/fanotify"
)

// handle takes one event of the kernel: it keeps the tree, and reports what is asked for.
func (r *reader) handle(e *fanotify.Event) {
	r.tree.makeRoom()
	r.pending.handle(e)
	if r.tree.hasInodes {
		r.tree.tell(e)
	}
	if e.PID == r.self && !r.config.OwnEvents && !changesTree(e) {
		return // before any lookup: lookups make events
	}
	switch {
	case e.Mask.Has(fanotify.Overflow):
		r.overflow()
	case e.Mask.Has(fanotify.Rename):
		r.rename(e)
	default:
		if at, ok := e.Dir(); ok {
			r.entry(e, at)
		} else {
			r.selfEvent(e)
		}
	}
}

// changesTree reports whether an event says that a directory was made, renamed or removed.
func changesTree(e *fanotify.Event) bool {
	return e.Mask.Has(fanotify.OnDir) && e.Mask&(fanotify.Create|fanotify.Delete|fanotify.Rename|fanotify.DeleteSelf) != 0
}

// shown returns what of an event's mask is to be reported, 0 for nothing.
func (r *reader) shown(e *fanotify.Event) fanotify.Mask {
	if e.PID == r.self && !r.config.OwnEvents {
		return 0
	}
	m := e.Mask & r.config.Events &^ fanotify.OnDir
	if m == 0 {
		return 0
	}
	return m | e.Mask&fanotify.OnDir
}

// entry handles an event on a name in a directory, or on the directory itself.
func (r *reader) entry(e *fanotify.Event, at fanotify.Entry) {
	m := r.shown(e)
	execs := e.Mask.Has(fanotify.OpenExec) && r.processes.Connected()
	if m == 0 && !execs && !changesTree(e) {
		return
	}
	if execs && r.tree.systems[at.Dir.FSID()] == nil && r.unplanned[at.Dir.FSID()] != nil {
		r.opened(e, at, nil)
		return
	}
	dir := r.tree.resolve(at.Dir)
	if e.Mask.Has(fanotify.OnDir) {
		if child := e.Object(); child != nil {
			if e.Mask.Has(fanotify.Create) {
				r.tree.made(child, dir, at.Name)
			}
			if e.Mask.Has(fanotify.Delete) {
				r.tree.removed(child, dir, at.Name)
			} else if e.Mask.Has(fanotify.Create) {
				defer r.follow(child)
			}
		} else if e.Mask.Has(fanotify.DeleteSelf) {
			r.tree.ended(at.Dir)
		}
	}
	if execs {
		defer r.opened(e, at, dir) // what the process did before is the program's that it was
	}
	switch {
	case m == 0:
	case dir == nil && string(at.Name) == "." && e.Mask&^(fanotify.Attrib|fanotify.DeleteSelf|fanotify.OnDir) == 0:
		// A directory that a rename replaced: like the self events of files.
	case dir == nil:
		r.unplaced(e, m, at.Dir)
	default:
		r.reportAt(e, m, dir, at.Name)
	}
}

// rename handles a rename of a file or directory, within, into or out of what is watched.
func (r *reader) rename(e *fanotify.Event) {
	m := r.shown(e)
	if m == 0 && !changesTree(e) && !r.config.Events.Has(fanotify.MoveSelf) {
		return
	}
	old, hasOld := e.Old()
	new, hasNew := e.New()
	var from, to *node
	if hasOld {
		from = r.tree.resolve(old.Dir)
	}
	if hasNew {
		to = r.tree.resolve(new.Dir)
	}
	guessed := false
	if hasOld && !hasNew && e.Object() != nil {
		var name string
		if to, name = r.tree.whereTo(e.Object(), from, old.Name); to != nil {
			new.Name, guessed = []byte(name), true
		}
	}
	state := event.PathExact
	if guessed {
		state = event.PathCurrent
	}
	if hasOld && from == nil || hasNew && to == nil {
		state = event.PathUnknown
	}
	p := paths{start: uint32(len(r.out.text))}
	seen := false
	if m != 0 && from != nil && r.tree.watched(from, old.Name) {
		seen, state = true, worse(state, from.worst)
		r.appendEntry(from, old.Name)
	}
	p.middle = uint32(len(r.out.text))
	if m != 0 && to != nil && (r.tree.watched(to, new.Name) || r.tree.isRoot(e.Object())) {
		seen, state = true, worse(state, to.worst)
		r.appendEntry(to, new.Name)
	}
	p.end = uint32(len(r.out.text))
	if child := e.Object(); child != nil {
		if e.Mask.Has(fanotify.OnDir) && r.tree.inodesOf(child) != nil {
			known := r.tree.movedMarked(child, from, old.Name, to, new.Name, guessed)
			defer r.followMoved(child, known)
		} else if e.Mask.Has(fanotify.OnDir) {
			r.tree.moved(child, to, new.Name)
			r.carried(child, from, old.Name, to, new.Name)
		} else if r.config.Events.Has(fanotify.MoveSelf) && to != nil {
			r.moves[r.nmove%len(r.moves)] = move{fanotify.Handle(child), fanotify.Handle(new.Dir), string(new.Name)}
			r.nmove++
		}
	}
	switch {
	case seen:
		r.report(e, m, state, p)
	case m != 0 && from == nil && to == nil && e.Object() != nil:
		r.unplaced(e, m, e.Object())
	}
}

// move is a rename of a file, kept for the self event behind it.
type move struct {
	child fanotify.Handle
	dir   fanotify.Handle
	name  string
}

// selfEvent handles an event that has no directory, a self event of a file. What the kernel says of its name stands in the
// event of the directory: behind it for a removal, before it for a rename. That event says the same unless self events
// were asked for, so others than those are left out.
func (r *reader) selfEvent(e *fanotify.Event) {
	m := r.shown(e)
	child := e.Object()
	if m == 0 || child == nil {
		return
	}
	const self = fanotify.DeleteSelf | fanotify.MoveSelf
	if m&self == 0 {
		if e.Mask&^(fanotify.Attrib|self) != 0 {
			r.unplaced(e, m, child) // opened by its handle: no name ever
		}
		return
	}
	if e.Mask.Has(fanotify.MoveSelf) {
		for i := range min(r.nmove, len(r.moves)) {
			at := &r.moves[(r.nmove-1-i)%len(r.moves)]
			if at.child != fanotify.Handle(child) {
				continue
			}
			if dir := r.tree.resolve(fanotify.HandleBytes(at.dir)); dir != nil {
				r.reportAt(e, m, dir, []byte(at.name))
			}
			return
		}
	}
	if e.Mask.Has(fanotify.DeleteSelf) {
		r.deletedAhead(e, m, child)
	}
}

// aheadLimit is how many events behind a self event are searched for the removal of its name.
const aheadLimit = 16

// deletedAhead reports the end of a file at the name whose removal comes next in the queue.
func (r *reader) deletedAhead(e *fanotify.Event, m fanotify.Mask, child fanotify.HandleBytes) {
	n := 0
	for i := 0; i < len(r.pending.batches); i++ {
		for next := range r.pending.batches[i].Ahead(&r.pending.scratch) {
			if n++; n > aheadLimit {
				return
			}
			at, ok := next.Dir()
			if !ok || !next.Mask.Has(fanotify.Delete) || string(next.Object()) != string(child) {
				continue
			}
			// Looking for the directory may use the scratch event.
			name := bytes.Clone(at.Name)
			if dir := r.tree.resolve(bytes.Clone(at.Dir)); dir != nil {
				r.reportAt(e, m, dir, name)
			}
			return
		}
		if i == len(r.pending.batches)-1 {
			_, _ = r.pending.read() // an error shows again
		}
	}
}

// reportAt reports an event at a name, if that is watched.
func (r *reader) reportAt(e *fanotify.Event, m fanotify.Mask, dir *node, name []byte) {
	if !r.tree.watched(dir, name) {
		return
	}
	start := uint32(len(r.out.text))
	r.appendEntry(dir, name)
	end := uint32(len(r.out.text))
	r.report(e, m, dir.worst, paths{start, end, end})
}

// appendEntry appends the path of a name in a directory to the batch's text, nothing when it is not known.
func (r *reader) appendEntry(dir *node, name []byte) {
	if dir.worst == event.PathUnknown {
		return
	}
	r.out.text = dir.appendPath(r.out.text)
	if string(name) != "." {
		r.out.text = appendName(r.out.text, name)
	}
}

// unplaced reports an event whose place nobody knows. Only where everything is watched is it sure to be of interest;
// elsewhere it may be, when the kernel couldn't be asked, and then the round ends with a record of that.
func (r *reader) unplaced(e *fanotify.Event, m fanotify.Mask, h fanotify.HandleBytes) {
	fs := r.tree.systems[h.FSID()]
	if fs == nil {
		return // it is watched no more
	}
	if r.plan.whole || fs.whole {
		end := uint32(len(r.out.text))
		r.report(e, m, event.PathUnknown, paths{end, end, end})
		return
	}
	r.missed = r.missed || r.tree.unasked
}

// report emits an event with its process.
func (r *reader) report(e *fanotify.Event, m fanotify.Mask, state event.PathState, p paths) {
	out := r.emit(m, p)
	out.PID, out.PathState, out.Namespace = e.PID, state, r.plan.namespaceOf(e)
	if e.PID != 0 && !r.config.NoProcesses {
		out.Process = r.processes.Lookup(e.PID)
		if e.Mask&^executes != 0 {
			r.processes.Acted(e.PID)
		}
	}
}
