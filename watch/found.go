package watch

import (
	"bytes"

	"fanlight/event"
	"fanlight/fanotify"
)

// follow marks a directory that was made, where each has a mark of its own, and reports what is found in it.
func (r *reader) follow(child fanotify.HandleBytes) {
	in := r.tree.inodesOf(child)
	if in == nil {
		return
	}
	h := fanotify.Handle(child)
	n := r.tree.nodes[h]
	if n == nil || n.marked || r.tree.markMask(in, n) == 0 {
		return
	}
	if err := r.tree.follow(in, h, n, r.found); err != nil {
		r.missed = true
	}
}

// followMoved marks a directory that was renamed, if what is in it is not known, and those below it that were missed
// where it was.
func (r *reader) followMoved(child fanotify.HandleBytes, known bool) {
	h := fanotify.Handle(bytes.Clone(child))
	n := r.tree.nodes[h]
	if n == nil {
		return
	}
	if !known && (r.tree.isInside(n) || n.leads != nil) {
		if err := r.tree.follow(r.tree.inodesOf(child), h, n, r.found); err != nil {
			r.missed = true
		}
	} else {
		r.follow(child)
	}
	r.followMissing(n)
}

// followMissing looks again for the directories below one, or all, that were not where they were expected.
func (r *reader) followMissing(below *node) {
	if len(r.tree.wanted) == 0 && len(r.tree.postponed) == 0 {
		return
	}
	for _, h := range r.tree.missing(below) {
		n := r.tree.nodes[h]
		if n == nil {
			continue
		}
		if err := r.tree.follow(r.tree.inodesOf(fanotify.HandleBytes(h)), h, n, r.found); err != nil {
			r.missed = true
		}
	}
}

// found reports a name that was found in a directory.
func (r *reader) found(dir *node, name string, isDir, sure bool) {
	if !r.config.Events.Has(fanotify.Create) || !r.tree.watched(dir, []byte(name)) {
		return
	}
	p := paths{start: uint32(len(r.out.text))}
	r.appendEntry(dir, []byte(name))
	p.middle = uint32(len(r.out.text))
	p.end = p.middle
	mask := fanotify.Create
	if isDir {
		mask |= fanotify.OnDir
	}
	state := dir.worst
	if !sure {
		state = worse(state, event.PathCurrent)
	}
	e := r.emit(mask, p)
	e.PathState, e.Found = state, true
}
