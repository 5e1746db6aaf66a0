package watch

import (
	"errors"
	"maps"
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
	pending *pending
	max     int                          // directories
	full    int                          // the number of directories at which some are forgotten
	meeting map[fanotify.Handle]struct{} // directories that are being placed by pending records
	gone    map[fanotify.Handle]struct{} // directories of which nothing will be known

	// arrivals counts the directories that came in from outside. What is below one may have been met before, when it
	// could not be placed.
	arrivals uint32
	unasked  bool // the kernel couldn't be asked for a directory in this round

	last       *node // what resolve returned, nil once directories were forgotten: events come in runs
	lastHandle []byte

	// gen rises whenever a directory moves or comes in doubt: what nodes concluded from their ancestors is void.
	gen  uint32
	dead []fanotify.Handle // removed directories, whose late events can still be named; oldest first
	// round numbers the backlogs: equal renames in one of them may have been merged by the kernel.
	round uint32
	doubt []fanotify.Handle // directories to ask for again when this backlog is handled
	lossy bool              // records of this backlog are missing: nothing in it is exact

	// Of directories that have marks of their own (inodes.go):
	hasInodes bool                      // there are such
	wanted    map[fanotify.Handle]int   // those that were not where they should be, and how often
	postponed map[fanotify.Handle]bool  // those that can't be marked for the moment, and whether they were listed
	sighted   map[fanotify.Handle]sight // where else one was seen
	stamp     uint32                    // rises with each that comes in
	told      map[*node]map[string]bool // names in those that are not listed since they came in, whose events came
}

// node is a directory.
type node struct {
	parent *node
	name   string
	point  string           // the absolute path of the root of a mount, which has no parent
	leads  map[string]*lead // names in it that are watched, or lead to what is, although it is not
	root   bool             // it is watched, and all below it
	state  event.PathState  // of its own link to the parent
	marked bool             // it has a mark of its own
	missed bool             // it should have one, or one of its directories

	arrived uint32 // tree.stamp when it came in from where nobody looks, with a mark or not
	joined  uint32 // tree.stamp when it came into its parent
	listed  uint32 // tree.stamp when it was last listed
	since   uint32 // when it came in, alone or with an ancestor; of the same gen as inside

	gen    uint32 // of the two below, 0 before the node has a place
	inside bool   // it or an ancestor is watched
	worst  event.PathState

	renamed  uint32 // the last round in which it was renamed
	arrivals uint32 // tree.arrivals when nobody could say where it is
}

// lead is a name on the way to something watched. It holds for whatever gets that name.
type lead struct {
	watched bool
	next    map[string]*lead
}

// newTree returns an empty tree, in which places are planted.
func newTree(pend *pending, maxDirs int) *tree {
	return &tree{
		nodes: map[fanotify.Handle]*node{}, systems: map[fanotify.FSID]*filesystem{}, pending: pend,
		max: maxDirs, full: maxDirs, meeting: map[fanotify.Handle]struct{}{},
		gone: map[fanotify.Handle]struct{}{}, gen: 2, round: 1, // the zero of nodes is before
		wanted: map[fanotify.Handle]int{}, postponed: map[fanotify.Handle]bool{}, sighted: map[fanotify.Handle]sight{},
		told: map[*node]map[string]bool{}, stamp: 1,
	}
}

// makeRoom forgets directories when there are too many: all that can be asked for again when they are met. What stays
// is watched, or was removed or renamed in this backlog, and what is on the way to those.
func (t *tree) makeRoom() {
	if len(t.nodes) < t.full {
		return
	}
	keep := map[*node]bool{}
	keepWay := func(n *node) {
		for ; n != nil && !keep[n]; n = n.parent {
			keep[n] = true
		}
	}
	for _, n := range t.nodes {
		if n.root || n.leads != nil || n.point != "" || n.renamed == t.round || n.marked {
			keepWay(n)
		}
	}
	for _, h := range t.dead {
		keepWay(t.nodes[h])
	}
	t.last = nil
	maps.DeleteFunc(t.nodes, func(_ fanotify.Handle, n *node) bool { return !keep[n] })
	t.full = max(t.max, 2*len(t.nodes)) // so that this is rare even when most of them have to stay
}

// rebuild asks for every watched directory again, because changes of the tree were lost. The kernel has one overflow in
// its queue at most: when it is read, more may be missing behind it. So nothing is sure before the queue was empty.
func (t *tree) rebuild(places []place) {
	t.lossy = true
	t.last = nil
	lost := t.nodes
	t.nodes = make(map[fanotify.Handle]*node)
	t.dead, t.doubt = nil, nil
	t.gen++
	for h, n := range lost {
		if n.point != "" || n.marked {
			t.nodes[h] = n // one with a mark can't be asked for: everything is walked again
		}
		if n.marked && n.point == "" {
			n.state = event.PathCurrent
		}
	}
	for h, old := range lost {
		if !old.root && old.leads == nil || old.marked {
			continue
		}
		if n := t.resolve(fanotify.HandleBytes(h)); n != nil {
			n.root, n.leads = old.root, old.leads
		}
	}
	for _, at := range places {
		_ = t.plant(at, event.PathExact) // one that can't be reached now is found when it is met
	}
	t.gen++
}

// plant puts a watched place and the directories above it, up to the root of the mount, into the tree.
func (t *tree) plant(at place, state event.PathState) error {
	below, err := filepath.Rel(at.mount.Point, at.path)
	if err != nil {
		return rootError(at.path, err)
	}
	fs := t.systems[at.id()]
	if fs == nil {
		fs = newFilesystem(at)
		t.systems[at.id()] = fs
	}
	fs.subvolumes = fs.subvolumes || at.form.kind == FormSubvolume
	if at.form.inodes != nil {
		t.useInodes(fs, at.form.inodes)
	}
	n := t.nodes[at.top]
	if n == nil {
		n = new(node)
		t.nodes[at.top] = n
	}
	if n.point == "" && !t.isInside(n.parent) {
		// Where another mount shows it nobody wants to know.
		n.point, n.parent, n.name = at.mount.Point, nil, ""
		n.state = event.PathExact
		t.gen++
	}
	if n.point != "" && state != event.PathExact {
		n.state = state
		t.gen++
	}
	if below == "." {
		n.root = true
		t.gen++
		fs.whole = fs.whole || at.mount.Root == "/"
		return nil
	}
	names := strings.Split(below, "/")
	n.lead(names)
	if !at.isDir {
		names = names[:len(names)-1]
	}
	path := at.mount.Point
	for _, name := range names {
		path = filepath.Join(path, name)
		handle, err := at.handleAt(path)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, errMovedAway), err == nil && handle.FSID() != at.id():
			return nil // removed since, or covered by a mount; it is watched when it is met
		case err != nil:
			return err
		}
		n = t.add(handle, n, name, event.PathExact)
	}
	return nil
}

// lead notes that what the names lead to, one below the other, is watched.
func (n *node) lead(names []string) {
	leads := &n.leads
	for i, name := range names {
		if *leads == nil {
			*leads = map[string]*lead{}
		}
		l := (*leads)[name]
		if l == nil {
			l = new(lead)
			(*leads)[name] = l
		}
		l.watched = l.watched || i == len(names)-1
		leads = &l.next
	}
}

// add puts a directory at its place. It becomes a root where one is expected.
func (t *tree) add(h fanotify.Handle, parent *node, name string, state event.PathState) *node {
	n := t.nodes[h]
	if n == nil {
		n = new(node)
		t.nodes[h] = n
	}
	t.put(h, n, parent, name, state)
	return n
}

// put puts a node at a place; without a parent nobody knows where it is.
func (t *tree) put(h fanotify.Handle, n, parent *node, name string, state event.PathState) {
	if n.gen != 0 { // it is not new: those below it move along
		t.gen++
		for up := parent; up != nil; up = up.parent {
			if up == n {
				parent = nil // below itself: only answers that aren't exact can say such a thing
				break
			}
		}
	}
	switch {
	case parent == nil:
		state = event.PathUnknown
	case t.lossy:
		state = event.PathCurrent
	}
	if state != event.PathExact {
		t.doubt = append(t.doubt, h)
	}
	if n.parent != parent {
		n.joined = t.stamp
	}
	n.parent, n.name, n.state, n.gen, n.arrivals = parent, name, state, t.gen-1, t.arrivals
	if parent == nil {
		return
	}
	if l := parent.leads[name]; l != nil {
		n.root = n.root || l.watched
		n.leads = l.next
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
func (t *tree) removed(child fanotify.HandleBytes, parent *node, name []byte) {
	t.made(child, parent, name)
	if n := t.nodes[fanotify.Handle(child)]; n != nil && n.point == "" {
		t.dead = append(t.dead, fanotify.Handle(child))
		if n.marked {
			t.unmarked(t.inodesOf(child), n)
		}
	}
}

// ended notes that a directory is gone, however that came: one that a rename replaces is in no other record.
func (t *tree) ended(h fanotify.HandleBytes) {
	if n := t.nodes[fanotify.Handle(h)]; n != nil && n.marked {
		t.unmarked(t.inodesOf(h), n)
		t.dead = append(t.dead, fanotify.Handle(h))
	}
}

// moved notes that a directory was renamed; parent is nil when the new place is not known.
func (t *tree) moved(child fanotify.HandleBytes, parent *node, name []byte) {
	h := fanotify.Handle(child)
	n := t.nodes[h]
	if t.isInside(parent) && !t.isInside(n) {
		t.arrivals++
		t.last = nil
	}
	switch {
	case n == nil && parent == nil:
		return
	case n == nil:
		n = t.add(h, parent, string(name), event.PathExact)
	case n.point != "":
		return // the root of a mount has no name in its filesystem
	case n.renamed == t.round:
		// Renamed twice in one backlog: there and back may have been merged, and this may not be the last.
		t.put(h, n, parent, string(name), event.PathCurrent)
	default:
		t.put(h, n, parent, string(name), event.PathExact)
	}
	n.renamed = t.round
}

// conclude brings what a node knows from its ancestors up to date.
func (t *tree) conclude(n *node) {
	if n.gen == t.gen {
		return
	}
	n.gen = t.gen
	switch {
	case n.point != "":
		n.inside, n.worst, n.since = n.root, n.state, n.arrived
	case n.parent == nil:
		n.inside, n.worst, n.since = n.root, event.PathUnknown, n.arrived
	default:
		t.conclude(n.parent)
		n.inside, n.worst = n.root || n.parent.inside, worse(n.state, n.parent.worst)
		if n.since = n.arrived; n.parent.since > n.joined {
			n.since = max(n.arrived, n.parent.since)
		}
	}
}

// isInside reports whether everything in the directory is to be reported.
func (t *tree) isInside(n *node) bool {
	if n == nil {
		return false
	}
	t.conclude(n)
	return n.inside
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
	if n.inside || n.leads == nil {
		return n.inside
	}
	l := n.leads[string(name)]
	return l != nil && l.watched
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
	t.lossy = false
	if n := len(t.dead) - maxDead; n > 0 {
		t.last = nil
		for _, h := range t.dead[:n] {
			delete(t.nodes, h)
		}
		t.dead = append(t.dead[:0], t.dead[n:]...)
	}
	for len(t.doubt) > 0 {
		h := t.doubt[len(t.doubt)-1]
		t.doubt = t.doubt[:len(t.doubt)-1]
		if n := t.nodes[h]; n != nil && n.state != event.PathExact && !t.askAgain(h, n) {
			t.doubt = append(t.doubt, h)
			return // until what was read meanwhile is handled
		}
	}
}
