package watch

import (
	"errors"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/fanotify"
)

// tree is what is known of the directories: where each is at the event being handled.
type tree struct {
	nodes   map[fanotify.Handle]*node
	systems map[fanotify.FSID]*filesystem
	places  []place
	pending *pending
	max     int

	// gen rises whenever a directory moves or comes in doubt: what nodes concluded from their ancestors is void.
	gen  uint32
	dead []fanotify.Handle // removed directories, whose late events can still be named; oldest first
	// round numbers the backlogs: equal renames in one of them may have been merged by the kernel.
	round uint32
	doubt []fanotify.Handle // directories to ask for again when this backlog is handled
}

// node is a directory.
type node struct {
	parent *node
	name   string
	point  string              // the absolute path of the root of a mount, which has no parent
	only   map[string]struct{} // names in it that are watched although it is not
	root   bool                // it is watched, and all below it
	state  event.PathState     // of its own link to the parent

	gen    uint32 // of the two below
	inside bool   // it or an ancestor is watched
	worst  event.PathState

	renamed uint32 // the last round in which it was renamed
}

// newTree returns a tree with the places of the plan.
func newTree(p *plan, pend *pending, maxDirs int) (*tree, error) {
	t := &tree{
		nodes: map[fanotify.Handle]*node{}, systems: map[fanotify.FSID]*filesystem{}, places: p.places, pending: pend,
		max: maxDirs, gen: 1, round: 1, // the zero of nodes is before
	}
	for _, at := range t.places {
		if err := t.plant(at); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// forget forgets every directory but the watched ones and those on the way to them. The others are asked for again
// when they are met.
func (t *tree) forget() {
	keep := map[*node]bool{}
	for _, n := range t.nodes {
		if n.root || n.only != nil {
			for ; n != nil && !keep[n]; n = n.parent {
				keep[n] = true
			}
		}
	}
	for h, n := range t.nodes {
		if !keep[n] && n.point == "" {
			delete(t.nodes, h)
		}
	}
	t.dead = nil
}

// rebuild asks for every watched directory again, because changes of the tree were lost.
func (t *tree) rebuild() {
	lost := t.nodes
	t.nodes = make(map[fanotify.Handle]*node)
	t.dead, t.doubt = nil, nil
	t.gen++
	for h, n := range lost {
		if n.point != "" {
			t.nodes[h] = n
		}
	}
	for h, old := range lost {
		if !old.root && old.only == nil {
			continue
		}
		if n := t.resolve(fanotify.HandleBytes(h)); n != nil {
			n.root, n.only = old.root, old.only
		}
	}
	for _, at := range t.places {
		_ = t.plant(at) // one that can't be reached now is found when it is met
	}
	t.gen++
}

// plant puts a watched place and the directories above it, up to the root of the mount, into the tree.
func (t *tree) plant(at place) error {
	below, err := filepath.Rel(at.mount.Point, at.path)
	if err != nil {
		return rootError(at.path, err)
	}
	handle, err := fanotify.HandleAt(unix.AT_FDCWD, at.mount.Point)
	if err != nil {
		return rootError(at.mount.Point, err)
	}
	if t.systems[handle.FSID()] == nil {
		t.systems[handle.FSID()] = &filesystem{id: handle.FSID(), point: at.mount.Point, fd: -1}
	}
	n := t.nodes[handle]
	if n == nil {
		n = &node{point: at.mount.Point, state: event.PathExact}
		t.nodes[handle] = n
	}
	if below == "." {
		n.root = true
		return nil
	}
	path := at.mount.Point
	names := strings.Split(below, "/")
	for i, name := range names {
		last := i == len(names)-1
		if last {
			n.watchOnly(name)
			if !at.isDir {
				return nil
			}
		}
		path = filepath.Join(path, name)
		if handle, err = fanotify.HandleAt(unix.AT_FDCWD, path); errors.Is(err, unix.ENOENT) {
			return nil // removed since; it is watched again when it is made again
		} else if err != nil {
			return rootError(path, err)
		}
		n = t.add(handle, n, name, event.PathExact)
	}
	return nil
}

func (n *node) watchOnly(name string) {
	if n.only == nil {
		n.only = map[string]struct{}{}
	}
	n.only[name] = struct{}{}
}

// add puts a directory at its place. It becomes a root where one is expected.
func (t *tree) add(h fanotify.Handle, parent *node, name string, state event.PathState) *node {
	n := t.nodes[h]
	if n == nil {
		n = &node{}
		t.nodes[h] = n
	}
	t.put(n, parent, name, state)
	return n
}

func (t *tree) put(n, parent *node, name string, state event.PathState) {
	n.parent, n.name, n.state, n.gen = parent, name, state, 0
	if parent != nil {
		if _, ok := parent.only[name]; ok {
			n.root = true
		}
	}
}

// made notes that a directory was made.
func (t *tree) made(child fanotify.HandleBytes, parent *node, name []byte) {
	if parent != nil && t.nodes[fanotify.Handle(child)] == nil {
		t.add(fanotify.Handle(child), parent, string(name), event.PathExact)
	}
}

// removed notes that a directory was removed. Its node stays for a while: the kernel may have put the removal before
// events that came earlier, and open files in it go on.
func (t *tree) removed(child fanotify.HandleBytes) {
	if n := t.nodes[fanotify.Handle(child)]; n != nil && n.point == "" {
		t.dead = append(t.dead, fanotify.Handle(child))
	}
}

// moved notes that a directory was renamed; parent is nil when the new place is not known.
func (t *tree) moved(child fanotify.HandleBytes, parent *node, name []byte) {
	n := t.nodes[fanotify.Handle(child)]
	if n == nil {
		if parent != nil {
			n = t.add(fanotify.Handle(child), parent, string(name), event.PathExact)
			n.renamed = t.round
		}
		return
	}
	if n.point != "" {
		return // the root of a mount has no name in its filesystem
	}
	state := event.PathExact
	if n.renamed == t.round {
		// Renamed twice in one backlog: there and back may have been merged, and this may not be the last.
		state = event.PathCurrent
		t.doubt = append(t.doubt, fanotify.Handle(child))
	}
	t.put(n, parent, string(name), state)
	n.renamed = t.round
	t.gen++
}

// conclude brings what a node knows from its ancestors up to date.
func (t *tree) conclude(n *node) {
	if n.gen == t.gen {
		return
	}
	n.gen = t.gen
	switch {
	case n.point != "":
		n.inside, n.worst = n.root, n.state
	case n.parent == nil:
		n.inside, n.worst = n.root, event.PathUnknown
	default:
		t.conclude(n.parent)
		n.inside, n.worst = n.root || n.parent.inside, worse(n.state, n.parent.worst)
	}
}

// worse returns the less certain of two states.
func worse(a, b event.PathState) event.PathState {
	if a == event.PathUnknown || b == event.PathUnknown {
		return event.PathUnknown
	}
	return max(a, b)
}

// watched reports whether what happens to name in the directory is to be reported.
func (t *tree) watched(n *node, name []byte) bool {
	t.conclude(n)
	if n.inside || n.only == nil {
		return n.inside
	}
	_, ok := n.only[string(name)]
	return ok
}

// isRoot reports whether a directory is a root, which is followed wherever it is moved to.
func (t *tree) isRoot(h fanotify.HandleBytes) bool {
	n := t.nodes[fanotify.Handle(h)]
	return n != nil && n.root
}

// appendPath appends the directory's path.
func (n *node) appendPath(b []byte) []byte {
	if n.parent == nil {
		return append(b, n.point...)
	}
	return appendName(n.parent.appendPath(b), n.name)
}

// appendName appends a name to the path of its directory.
func appendName[T string | []byte](path []byte, name T) []byte {
	if len(path) > 0 && path[len(path)-1] != '/' {
		path = append(path, '/')
	}
	return append(path, name...)
}

// maxDead is how many removed directories are remembered for late events.
const maxDead = 1024

// settle ends a backlog: everything that was queued when it was read is handled.
func (t *tree) settle() {
	t.round++
	if n := len(t.dead) - maxDead; n > 0 {
		for _, h := range t.dead[:n] {
			delete(t.nodes, h)
		}
		t.dead = append(t.dead[:0], t.dead[n:]...)
	}
	for len(t.doubt) > 0 {
		h := t.doubt[len(t.doubt)-1]
		t.doubt = t.doubt[:len(t.doubt)-1]
		if old := t.nodes[h]; old != nil {
			t.askAgain(h, old)
		}
	}
}
