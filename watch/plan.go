package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/mounts"
)

// root is what is asked to be watched.
type root struct {
	asked string
	path  string // absolute, without symbolic links
	isDir bool
}

// place is a directory or file on one mount from which on everything is watched.
type place struct {
	path  string // absolute, without symbolic links
	isDir bool
	mount mounts.Mount
	asked string // the root as it was asked for; empty when it was found

	// Of a filesystem that is mounted only in another mount namespace: its number, and what leads into it. All paths
	// are those in the namespace.
	namespace uint64
	via       []string

	unique bool // the mount's ID is

	// Known once it is watched.
	top    fanotify.Handle // the directory that is mounted
	handle fanotify.Handle // the place itself; empty for a file and what isn't there
	form   *form
}

// apart reports whether a place is watched by a reader of its own.
func (at place) apart() bool { return at.form != nil && at.form.part != nil }

// handleAt returns the handle of a path on the place's mount, as events tell it: from all subvolumes of a btrfs with
// the one id that was marked.
func (at place) handleAt(path string) (fanotify.Handle, error) {
	fd, err := at.open(path)
	if err != nil {
		return "", rootError(path, err)
	}
	defer unix.Close(fd)
	h, err := fanotify.HandleAt(fd, "")
	if err != nil {
		return "", rootError(path, err)
	}
	if at.form.kind == FormSubvolume && sameBtrfs(h.FSID(), at.form.id) {
		h = fanotify.NewHandle(at.form.id, h.Type(), h.Bytes())
	}
	return h, nil
}

// errMovedAway is told of a change that comes to be known next.
var errMovedAway = errors.New("mounted, moved or unmounted just now: try again")

// passing reports whether a place that refused may be tried again.
func passing(err error) bool {
	for _, reason := range []error{errMovedAway, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EINTR} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// open opens a path on the place's mount (O_PATH). What is mounted there since is not taken for it.
func (at place) open(path string) (int, error) {
	fd, err := unix.Open(at.reach(path), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	field := unix.STATX_MNT_ID
	if at.unique {
		field = unix.STATX_MNT_ID_UNIQUE
	}
	var st unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, field, &st)
	if err == nil && st.Mnt_id != at.mount.ID {
		err = errMovedAway
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// fdPath returns a path that leads to what is open.
func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// reach returns what leads to a path in the place's mount namespace.
func (at place) reach(path string) string {
	if len(at.via) == 0 {
		return path
	}
	return at.via[0] + path
}

// id returns the filesystem's id.
func (at place) id() fanotify.FSID { return at.top.FSID() }

// spot is what tells places apart: a path on a mount.
type spot struct {
	mount uint64
	path  string
}

func (at place) spot() spot { return spot{at.mount.ID, at.path} }

// inFS returns the place's path in its filesystem, whatever the mount.
func (at place) inFS() string {
	below, err := filepath.Rel(at.mount.Point, at.path)
	if err != nil {
		return at.mount.Root
	}
	return filepath.Join(at.mount.Root, below)
}

// movedTo returns the place with its mount as it is now.
func (at place) movedTo(m mounts.Mount) place {
	if below, err := filepath.Rel(at.mount.Point, at.path); err == nil {
		at.path = filepath.Join(m.Point, below)
	}
	at.mount = m
	return at
}

// findRoots finds what the roots mean.
func findRoots(asked []string) ([]root, error) {
	var roots []root
	for _, a := range asked {
		path, err := filepath.Abs(a)
		if err == nil {
			path, err = filepath.EvalSymlinks(path)
		}
		if err != nil {
			return nil, rootError(a, err)
		}
		roots = append(roots, root{a, path, isDir(path)})
	}
	return roots, nil
}

// rootError says what is wrong with a root, with the bare reason.
func rootError(root string, err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return fmt.Errorf("watch %s: %w", root, err)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// survey is what is mounted, here and, if that was asked for, in other mount namespaces.
type survey struct {
	*mounts.Table
	others []mounts.Namespace
}

// in returns the mounts of a namespace, 0 for the own one, and what leads into it.
func (s survey) in(namespace uint64) (*mounts.Table, []string) {
	if namespace == 0 {
		return s.Table, nil
	}
	i := slices.IndexFunc(s.others, func(n mounts.Namespace) bool { return n.Number == namespace })
	if i < 0 {
		return &mounts.Table{}, nil
	}
	return s.others[i].Table, s.others[i].Roots
}

// wanted returns the places that are to be watched with these mounts: those that are and are still there first, then
// those of the roots, then those below the roots in the order of mounting, then those of other mount namespaces.
func (p *plan) wanted(s survey) ([]place, error) {
	tops := p.tops()
	here := map[mounts.Device]bool{}
	for _, m := range s.Mounts {
		here[m.Device] = true
	}
	places := p.remaining(s, tops, here)
	known := map[spot]bool{}
	for _, at := range places {
		known[at.spot()] = true
	}
	if p.whole {
		return elsewhere(wholeMachine(places, s.Table), s, []string{"/"}, here), nil
	}
	for _, r := range p.roots {
		m, ok := s.At(r.path)
		if !ok && p.seen == nil {
			return nil, rootError(r.asked, errors.New("its mount is not in /proc/self/mountinfo: is this a chroot? mount something on its root"))
		}
		if at := (place{path: r.path, isDir: r.isDir, mount: m, asked: r.asked, unique: s.Unique}); ok && !known[at.spot()] {
			places = add(places, at)
			known[at.spot()] = true
		}
	}
	for _, m := range s.Mounts {
		at := place{path: m.Point, mount: m, unique: s.Unique}
		if mounts.Pseudo(m.FSType) || !below(m.Point, tops) || known[at.spot()] || !s.Visible(m) {
			continue
		}
		at.isDir = isDir(m.Point)
		places = add(places, at)
	}
	return elsewhere(places, s, tops, here), nil
}

// remaining returns the places that are watched and still there, as they are mounted now. What was covered meanwhile
// stays: what is open there goes on, and the cover may be taken away.
func (p *plan) remaining(s survey, tops []string, here map[mounts.Device]bool) []place {
	var places []place
	for _, at := range p.places {
		table, via := s.in(at.namespace)
		m, attached := mountOf(at, table)
		if !attached || at.namespace != 0 && here[at.mount.Device] {
			continue
		}
		at.via = via
		if !table.Unique && table.Visible(m) {
			top, err := at.handleAt(m.Point)
			if err != nil || top != at.top {
				continue // another one that got its id
			}
		}
		if at = at.movedTo(m); p.whole || below(at.path, tops) {
			places = append(places, at)
		}
	}
	return places
}

// elsewhere adds one mount of each filesystem that is mounted only in other mount namespaces, below one of the
// directories there.
func elsewhere(places []place, s survey, tops []string, here map[mounts.Device]bool) []place {
	best := map[mounts.Device]int{}
	for i, at := range places {
		best[at.mount.Device] = i
	}
	known := len(places)
	for _, n := range s.others {
		for _, m := range n.Mounts {
			i, met := best[m.Device]
			if here[m.Device] || mounts.Pseudo(m.FSType) || !below(m.Point, tops) || met && i < known || !n.Visible(m) {
				continue
			}
			at := place{path: m.Point, mount: m, namespace: n.Number, via: n.Roots, unique: n.Unique}
			at.isDir = isDir(at.reach(at.path))
			if !met {
				best[m.Device] = len(places)
				places = append(places, at)
			} else if at.isDir && (!places[i].isDir || showsMore(m, places[i].mount)) {
				places[i] = at
			}
		}
	}
	return places
}

// tops returns the directories whose mounts are to be found: the roots by their name, and where they were moved to.
func (p *plan) tops() []string {
	var tops []string
	for _, r := range p.roots {
		tops = append(tops, r.path)
	}
	for _, at := range p.places {
		if n := p.tree.nodes[at.handle]; at.asked != "" && !at.apart() && n != nil && p.tree.isInside(n) && n.worst != event.PathUnknown {
			tops = append(tops, string(n.appendPath(nil)))
		}
	}
	return tops
}

// mountOf returns the mount of a place as it is now, if it is still there.
func mountOf(at place, table *mounts.Table) (mounts.Mount, bool) {
	m, ok := table.ByID(at.mount.ID)
	if !ok || m.Device != at.mount.Device || m.Root != at.mount.Root {
		return at.mount, false
	}
	return m, true
}

// below reports whether path is one of the directories or below one.
func below(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return mounts.Below(path, dir) })
}

// add adds a place unless another covers it: the same directory of the same filesystem or one above.
func add(places []place, new place) []place {
	covers := func(old place) bool {
		return old.mount.Device == new.mount.Device && old.isDir && mounts.Below(new.inFS(), old.inFS()) &&
			!(new.asked != "" && old.mount.ID != new.mount.ID)
	}
	if slices.ContainsFunc(places, covers) {
		return places
	}
	return append(places, new)
}

// wholeMachine adds one mount of each filesystem that isn't the kernel's own and isn't there yet: the one that shows
// most of it.
func wholeMachine(places []place, table *mounts.Table) []place {
	best := map[mounts.Device]int{}
	for i, at := range places {
		best[at.mount.Device] = i
	}
	known := len(places)
	for _, m := range table.Mounts {
		if mounts.Pseudo(m.FSType) {
			continue
		}
		i, met := best[m.Device]
		if met && i < known || !table.Visible(m) {
			continue
		}
		at := place{path: m.Point, isDir: isDir(m.Point), mount: m, unique: table.Unique}
		switch {
		case !met:
			best[m.Device] = len(places)
			places = append(places, at)
		case at.isDir && !places[i].isDir, at.isDir == places[i].isDir && showsMore(m, places[i].mount):
			places[i] = at // a file that is bound on a file is better than nothing: its refusal is told
		}
	}
	return places
}

// showsMore reports whether mount a shows more of the filesystem than b, or the same nearer to the root.
func showsMore(a, b mounts.Mount) bool {
	if len(a.Root) != len(b.Root) {
		return len(a.Root) < len(b.Root)
	}
	return len(a.Point) < len(b.Point)
}

// scope returns the directory that has all places below it: where events are lost when the queue overflows.
func (p *plan) scope() string {
	if p.whole || len(p.roots) == 0 {
		return "/"
	}
	common := p.roots[0].path
	for _, r := range p.roots[1:] {
		for !mounts.Below(r.path, common) {
			common = common[:max(1, strings.LastIndexByte(common, '/'))]
		}
	}
	return common
}
