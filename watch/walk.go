package watch

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/fanotify"
)

// foundFunc is told of a name that was found in a directory. It is sure when nothing that is still to be handled moves a
// directory.
type foundFunc func(dir *node, name string, isDir, sure bool)

// sight is where a directory was seen.
type sight struct {
	parent *node
	name   string
}

// walk is one walk from a directory down.
type walk struct {
	tree *tree
	in   *inodes
	// found is told of each name that had no event. It is nil in the first walk, and after a loss.
	found foundFunc
	later []fanotify.Handle // directories so deep that the descriptors above them are closed first
	err   error             // the first for which a directory isn't marked that could be
}

// maxOpenDirs is how many descriptors a walk holds at most.
const maxOpenDirs = 64

// follow marks a directory of the tree and all that is to be marked below it. A directory that isn't there any more is
// wanted: the records about it or those above it are in the queue. The error says that something which could be marked
// at another time is not.
func (t *tree) follow(in *inodes, h fanotify.Handle, n *node, found foundFunc) error {
	w := &walk{tree: t, in: in, found: found}
	w.start(h, n)
	for len(w.later) > 0 {
		h := w.later[len(w.later)-1]
		w.later = w.later[:len(w.later)-1]
		if n := t.nodes[h]; n != nil {
			w.start(h, n)
		}
	}
	return w.err
}

// start begins at a directory of the tree.
func (w *walk) start(h fanotify.Handle, n *node) {
	if _, postponed := w.tree.postponed[h]; !postponed && w.found != nil && w.tree.isListed(n) {
		delete(w.tree.wanted, h)
		return
	}
	fd, refused, err := w.tree.openNode(h, n)
	if err != nil {
		w.miss(h, n, err)
		return
	}
	defer unix.Close(fd)
	w.directory(fd, refused, h, n, 1)
}

// miss notes that a directory can't be marked, or listed.
func (w *walk) miss(h fanotify.Handle, n *node, err error) {
	switch {
	case errors.Is(err, errElsewhere):
		w.tree.want(h)
		return
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM):
		w.tree.postponed[h] = false
	}
	if n.missed {
		return
	}
	n.missed = true
	w.in.miss(err)
	if w.err == nil && !errors.Is(err, unix.EACCES) {
		w.err = err
	}
}

// missBelow notes that something in a directory can't be looked at.
func (w *walk) missBelow(h fanotify.Handle, n *node, err error) {
	w.miss(h, n, err)
	if _, ok := w.tree.postponed[h]; ok {
		w.tree.postponed[h] = true
	}
}

// directory marks an open directory, and then what is found in it.
func (w *walk) directory(fd int, refused error, h fanotify.Handle, n *node, depth int) {
	mask := w.tree.markMask(w.in, n)
	if mask == 0 {
		return
	}
	again := w.tree.postponed[h] // its names are told, but not all that is below them
	err := refused
	if err == nil {
		err = w.tree.mark(w.in, n, fd, mask)
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) {
		err = errElsewhere
	}
	if err != nil {
		w.miss(h, n, err)
	} else {
		delete(w.tree.wanted, h)
		delete(w.tree.postponed, h)
		if n.missed {
			n.missed = false
			w.in.missed.Add(-1)
		}
	}
	var entries []entry
	switch {
	case !w.tree.isInside(n):
		entries = leading(fd, n)
	case refused != nil, errors.Is(err, errBudget), errors.Is(err, unix.ENOSPC):
		return
	default:
		if entries, err = list(fd); err != nil {
			w.miss(h, n, err)
			return
		}
	}
	sure := false
	if w.found != nil {
		slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
		// What was listed and came after the mark has its record by now.
		sure = w.tree.pending.drain() && len(w.tree.pending.links) == 0
	}
	told := w.tree.told[n]
	delete(w.tree.told, n)
	n.listed = w.tree.stamp
	for _, e := range entries {
		if w.found != nil && w.tree.pending.brings(h, e.name) {
			continue
		}
		tell := func(isDir bool) {
			if w.found != nil && !again && !told[e.name] {
				w.found(n, e.name, isDir, sure)
			}
		}
		if e.isDir(fd) {
			w.entry(fd, h, n, e, depth, again, tell)
		} else {
			tell(false)
		}
	}
}

// entry marks a directory in an open one, if it is to be marked, and tells of it before what is below it.
func (w *walk) entry(dir int, h fanotify.Handle, n *node, e entry, depth int, again bool, tell func(isDir bool)) {
	t := w.tree
	fd, refused, err := openBelow(dir, e.name)
	if err != nil {
		if goneIf(err) != errElsewhere {
			w.missBelow(h, n, err)
			tell(true)
		} else if errors.Is(err, unix.EXDEV) {
			tell(true) // something is mounted there
		}
		return // what has gone has its record
	}
	defer unix.Close(fd)
	child, err := fanotify.HandleAt(fd, "")
	if err != nil {
		if goneIf(err) != errElsewhere {
			w.missBelow(h, n, err)
		}
		return
	}
	c := t.nodes[child]
	switch {
	case c == nil:
		c = t.add(child, n, e.name, event.PathExact)
	case c.parent == n && c.name == e.name:
	case !t.isInside(c) && c.point == "":
		state := event.PathExact
		if c.marked {
			state = event.PathCurrent // what is queued may be from before it came here
		}
		t.put(child, c, n, e.name, state)
		t.came(c)
	default:
		// It was moved here. A record that is still to be handled says that, and if there was no mark here yet, only that
		// it left where it was.
		t.sighted[child] = sight{n, e.name}
		return
	}
	if again && c.marked {
		return
	}
	tell(true)
	if w.found != nil && t.isListed(c) {
		return // it came in later than what it is in, and was met before
	}
	if depth >= maxOpenDirs {
		w.later = append(w.later, child)
		return
	}
	w.directory(fd, refused, child, c, depth+1)
}

// entry is a name in a directory that was listed.
type entry struct {
	name string
	kind uint8 // DT_DIR and so on
}

// isDir reports whether it is a directory, now.
func (e entry) isDir(dir int) bool {
	if e.kind != unix.DT_UNKNOWN {
		return e.kind == unix.DT_DIR
	}
	var st unix.Stat_t
	err := unix.Fstatat(dir, e.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// leading returns the names in an open directory that lead to what is watched.
func leading(fd int, n *node) []entry {
	var entries []entry
	for name := range n.leads {
		var st unix.Stat_t
		if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			entries = append(entries, entry{name, unix.DT_UNKNOWN})
		}
	}
	return entries
}

// list returns the names in an open directory.
func list(fd int) ([]entry, error) {
	var entries []entry
	var buf [32 << 10]byte
	for {
		n, err := unix.Getdents(fd, buf[:])
		if err != nil {
			return nil, goneIf(err)
		}
		if n == 0 {
			return entries, nil
		}
		for rest := buf[:n]; len(rest) > 0; {
			var e entry
			if e, rest = parseEntry(rest); e.name != "." && e.name != ".." && e.name != "" {
				entries = append(entries, e)
			}
		}
	}
}

// parseEntry parses the first struct linux_dirent64 (getdents(2)).
func parseEntry(b []byte) (entry, []byte) {
	const lengthAt, kindAt, nameAt = 16, 18, 19
	if len(b) < nameAt {
		return entry{}, nil
	}
	length := int(binary.NativeEndian.Uint16(b[lengthAt:]))
	if length < nameAt || length > len(b) {
		return entry{}, nil
	}
	name, _, _ := strings.Cut(string(b[nameAt:length]), "\x00")
	return entry{name, b[kindAt]}, b[length:]
}
