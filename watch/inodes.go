package watch

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/fanotify"
)

// Where a filesystem can't be marked as a whole, each of its directories is. Handles can't be opened there, so that the
// tree has to know every directory: it is walked once, and each directory is marked before it is listed. What happens
// meanwhile is in the queue and handled then, in its order. A directory that is made or moved in later is marked and
// listed when its event is handled; what is found in it, and was there before the mark, had no event.

// inodes is a filesystem of which each directory is marked.
type inodes struct {
	group  *fanotify.Group
	mask   fanotify.Mask // of a watched directory
	budget *budget

	// What Coverage says:
	marked atomic.Int64          // directories
	missed atomic.Int64          // directories that should be marked, and can't be, or not be listed
	reason atomic.Pointer[error] // for the first of those
}

func (in *inodes) miss(err error) {
	in.missed.Add(1)
	in.reason.CompareAndSwap(nil, &err)
}

// budget is how many directories may be marked, by all readers of a Watcher.
type budget struct {
	limit int64
	used  atomic.Int64
}

// take takes one mark out of the budget.
func (b *budget) take() bool {
	if b.used.Add(1) <= b.limit {
		return true
	}
	b.used.Add(-1)
	return false
}

// onWay is the mask of a directory that only leads to what is watched.
const onWay = fanotify.Create | fanotify.Delete | fanotify.Rename | fanotify.DeleteSelf | fanotify.OnDir

// useInodes says that a filesystem is watched directory by directory.
func (t *tree) useInodes(fs *filesystem, in *inodes) {
	fs.inodes, t.hasInodes = in, true
	if t.pending.entries == nil {
		t.pending.entries = map[string]int{}
	}
}

// inodesOf returns how the directory's filesystem is watched directory by directory, nil when it isn't.
func (t *tree) inodesOf(h fanotify.HandleBytes) *inodes {
	if !t.hasInodes {
		return nil
	}
	if fs := t.systems[h.FSID()]; fs != nil {
		return fs.inodes
	}
	return nil
}

// markMask returns the mask that a directory is to have; 0 when nothing in it matters.
func (t *tree) markMask(in *inodes, n *node) fanotify.Mask {
	if t.isInside(n) {
		return in.mask
	}
	mask := fanotify.Mask(0)
	for _, l := range n.leads {
		mask |= onWay
		if l.watched {
			return in.mask // it may be a file, whose events come from here
		}
	}
	return mask
}

var errBudget = errors.New("the limit of marks is reached: raise MaxMarks or fs.fanotify.max_user_marks")

// mark marks an open directory.
func (t *tree) mark(in *inodes, n *node, fd int, mask fanotify.Mask) error {
	if !n.marked && !in.budget.take() {
		return errBudget
	}
	err := in.group.MarkAt(fanotify.TargetInode, fd, "", mask, 0)
	switch {
	case n.marked:
	case err != nil:
		in.budget.used.Add(-1)
	default:
		n.marked = true
		in.marked.Add(1)
	}
	return err
}

// unmarked notes that a directory's mark is gone, with the directory.
func (t *tree) unmarked(in *inodes, n *node) {
	if n.marked {
		n.marked = false
		in.budget.used.Add(-1)
		in.marked.Add(-1)
	}
}

// openNode opens a directory by its path in the tree, for reading, or as a path where that is refused, for the reason
// that comes along. The error is errElsewhere when it is not there now.
func (t *tree) openNode(h fanotify.Handle, n *node) (fd int, refused, err error) {
	var names []string
	for ; n.parent != nil; n = n.parent {
		names = append(names, n.name)
	}
	if n.point == "" {
		return -1, nil, errElsewhere
	}
	slices.Reverse(names)
	point := n.point
	if fs := t.systems[h.FSID()]; fs != nil {
		point = fs.via + point
	}
	fd, err = openDir(unix.AT_FDCWD, point, unix.O_PATH, 0)
	for err == nil {
		// As many names at a time as a path may have.
		path := "."
		for len(names) > 0 && len(path)+1+len(names[0]) < unix.PathMax {
			path += "/" + names[0]
			names = names[1:]
		}
		up := fd
		if last := len(names) == 0; last {
			fd, refused, err = openBelow(up, path)
			unix.Close(up)
			break
		}
		fd, err = openDir(up, path, unix.O_PATH, within)
		unix.Close(up)
	}
	if err != nil {
		return -1, nil, goneIf(err)
	}
	if now, err := fanotify.HandleAt(fd, ""); err != nil || now != h {
		unix.Close(fd)
		return -1, nil, errElsewhere
	}
	return fd, refused, nil
}

// within keeps the way to a directory on its mount, and off symbolic links that somebody put there.
const within = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS

// openBelow opens a directory below another for reading, or as a path where that is refused.
func openBelow(dir int, path string) (fd int, refused, err error) {
	if fd, err = openDir(dir, path, unix.O_RDONLY, within); errors.Is(err, unix.EACCES) {
		refused = err
		fd, err = openDir(dir, path, unix.O_PATH, within)
	}
	return fd, refused, err
}

func openDir(dirfd int, path string, flags, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: resolve}
	for {
		fd, err := unix.Openat2(dirfd, path, &how)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) { // EAGAIN: a rename on the way
			return fd, err
		}
	}
}

// errElsewhere says that a directory is not where it was.
var errElsewhere = errors.New("the directory is not there any more")

// goneIf tells errors that say so from others.
func goneIf(err error) error {
	for _, gone := range []unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EXDEV, unix.ESTALE, unix.ENOTCONN} {
		if errors.Is(err, gone) {
			return errElsewhere
		}
	}
	return err
}

// want notes a directory that was not where the tree has it. What is pending may say where it went; if that is itself,
// it is met again there.
func (t *tree) want(h fanotify.Handle) {
	t.pending.drain()
	if len(t.pending.links[h]) > 0 {
		return
	}
	tries := t.wanted[h]
	if len(t.pending.links) == 0 && !t.pending.gap {
		tries++
	}
	t.wanted[h] = tries
}

// isListed reports whether a directory is watched and was listed since it came in: what is in it was told.
func (t *tree) isListed(n *node) bool { return t.isInside(n) && n.listed >= n.since && n.listed > 0 }

// came notes that a directory that isn't listed came in.
func (t *tree) came(n *node) {
	t.stamp++
	t.gen++
	n.arrived = t.stamp
}

// tell notes that a name was told of whose directory will be listed yet, so that it is told of once.
func (t *tree) tell(e *fanotify.Event) {
	if at, ok := leavesName(e); ok {
		if n := t.nodes[fanotify.Handle(at.Dir)]; n != nil && t.told[n] != nil {
			delete(t.told[n], string(at.Name))
		}
	}
	at, ok := comes(e)
	if !ok || e.Mask.Has(fanotify.Delete) {
		return
	}
	n := t.nodes[fanotify.Handle(at.Dir)]
	if n == nil || !n.marked || !t.isInside(n) || t.isListed(n) {
		return
	}
	if t.told[n] == nil {
		t.told[n] = map[string]bool{}
	}
	t.told[n][string(at.Name)] = true
}

// maxWanted is how often a directory is looked for, with nothing pending, before it is given up: it was removed without
// a record. Each time it is missed, something else must have changed since the queue was empty.
const maxWanted = 8

// missing returns the directories to look for again: those below a directory that was just moved, or all.
func (t *tree) missing(below *node) []fanotify.Handle {
	var hs []fanotify.Handle
	for h := range t.wanted {
		n := t.nodes[h]
		switch {
		case n == nil || !t.isInside(n) && n.leads == nil || t.wanted[h] > maxWanted:
			delete(t.wanted, h)
		case below == nil || n.isBelow(below):
			hs = append(hs, h)
		}
	}
	if below == nil {
		for h := range t.postponed {
			if t.nodes[h] == nil {
				delete(t.postponed, h)
				continue
			}
			hs = append(hs, h)
		}
	}
	return hs
}

func (n *node) isBelow(top *node) bool {
	for ; n != nil; n = n.parent {
		if n == top {
			return true
		}
	}
	return false
}

// whereTo returns where a directory was seen after it left a place, nil if nowhere.
func (t *tree) whereTo(child fanotify.HandleBytes, from *node, old []byte) (to *node, name string) {
	h := fanotify.Handle(child)
	if n := t.nodes[h]; n == nil || n.parent != from || n.name != string(old) {
		return nil, ""
	}
	return t.sighted[h].parent, t.sighted[h].name
}

// movedMarked notes that a directory was renamed, where only one side may have a mark: to is nil when the new one has
// none. What is guessed is not sure. It reports whether all that is in the directory was told.
func (t *tree) movedMarked(child fanotify.HandleBytes, from *node, old []byte, to *node, name []byte, guessed bool) (known bool) {
	h := fanotify.Handle(child)
	n := t.nodes[h]
	if to == nil && (n == nil || n.parent != from || n.name != string(old)) {
		return true // it was found where it is now, later than this
	}
	again, was := false, sight{}
	if n != nil {
		again, was, known = n.renamed == t.round, sight{n.parent, n.name}, t.isListed(n)
	}
	delete(t.sighted, h)
	t.moved(child, to, name)
	switch {
	case n == nil:
		return false
	case again:
		t.sighted[h] = was // of renames that may have been merged, this may not be the last
	case guessed:
		t.put(h, n, to, string(name), event.PathCurrent)
	}
	if !t.isInside(n) {
		maps.DeleteFunc(t.told, func(dir *node, _ map[string]bool) bool { return dir.isBelow(n) }) // it is new when it comes back
	} else if !known {
		t.came(n)
	}
	return known
}

// verify makes a directory exact again if it is where the tree has it, or where it was seen besides. It reports whether
// there is nothing more to ask.
func (t *tree) verify(h fanotify.Handle, n *node) bool {
	places := []sight{{n.parent, n.name}}
	if at, ok := t.sighted[h]; ok {
		places = append(places, at)
	}
	for _, at := range places {
		fd, _, err := t.openNode(h, &node{parent: at.parent, name: at.name})
		if err != nil {
			continue
		}
		unix.Close(fd)
		if !t.pending.drain() || t.pending.gap || len(t.pending.links) > 0 {
			return false
		}
		t.put(h, n, at.parent, at.name, event.PathExact)
		break
	}
	return true
}

// walkAgain walks everything again when the queue is empty after a loss.
func (t *tree) walkAgain(places []place) {
	t.lossy = false
	for h, n := range t.nodes {
		if t.inodesOf(fanotify.HandleBytes(h)) != nil && n.point == "" {
			n.parent, n.name = nil, ""
		}
	}
	t.gen++
	for _, at := range places {
		if fs := t.systems[at.id()]; fs != nil && fs.inodes != nil {
			_ = t.plant(at, event.PathExact)
			_ = t.prime(at)
		}
	}
	for h, n := range t.nodes {
		if in := t.inodesOf(fanotify.HandleBytes(h)); in != nil && n.parent == nil && n.point == "" {
			t.unmarked(in, n)
			delete(t.nodes, h)
		}
	}
	t.last = nil
	t.gen++
}

// prime marks everything below a place that is in the tree, and the way to it. That the place itself can't be marked is
// an error; what can't be below it is counted, and what isn't there is watched when it is made.
func (t *tree) prime(at place) error {
	in := at.form.inodes
	failed := t.follow(in, at.top, t.nodes[at.top], nil)
	dir := at.path
	if !at.isDir {
		dir = filepath.Dir(dir)
	}
	h, err := at.handleAt(dir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	if n := t.nodes[h]; n == nil || !n.marked {
		if reason := in.reason.Load(); failed == nil && reason != nil {
			failed = *reason
		}
		if failed == nil {
			failed = errElsewhere
		}
		return rootError(at.path, failed)
	}
	return nil
}
