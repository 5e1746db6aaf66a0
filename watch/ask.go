package watch

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/mounts"
)

// filesystem is a watched filesystem, as the kernel is asked through it.
type filesystem struct {
	id     fanotify.FSID
	device mounts.Device
	ways   []mounts.Mount // to ask it through: the mounts that show most of it first
	// fd is a descriptor of the mount, -1 most of the time: it is open only for one question, because it would keep the
	// filesystem from being unmounted.
	fd    int
	whole bool // everything on it is watched

	subvolumes bool    // it is a btrfs, and mounts show its subvolumes
	inodes     *inodes // directory by directory; nil when it has one mark

	namespace uint64 // in which it is mounted, if it is not the own one
	via       string // what leads into that
}

// newFilesystem returns the filesystem of a place.
func newFilesystem(at place) *filesystem {
	return &filesystem{
		id: at.id(), device: at.mount.Device, ways: []mounts.Mount{at.mount}, fd: -1,
		namespace: at.namespace, via: at.reach(""),
	}
}

// open opens fd through the first mount that leads there.
func (fs *filesystem) open() error {
	err := error(errUnknownFilesystem)
	for _, way := range fs.ways {
		if err = fs.openBy(way); err == nil {
			return nil
		}
	}
	return err
}

// openBy opens fd through a mount.
func (fs *filesystem) openBy(way mounts.Mount) error {
	err := fs.openAt(way.Point)
	if err == nil {
		return nil
	}
	// A directory above it may have another name by now.
	if m, merr := fanotify.StatMount(fanotify.OwnNamespace, way.ID); merr == nil && m.Point != way.Point {
		err = fs.openAt(m.Point)
	}
	return err
}

// is reports whether the id, as statfs(2) tells it, is the filesystem's. Subvolumes of a btrfs have ids of their own,
// that differ in the bits of their number (btrfs_statfs in fs/btrfs/super.c).
func (fs *filesystem) is(id fanotify.FSID) bool {
	return id == fs.id || fs.subvolumes && sameBtrfs(id, fs.id)
}

// openAt opens fd at a mount point.
func (fs *filesystem) openAt(point string) error {
	fd, err := unix.Open(point, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// Something else may be mounted there by now, where the handles would mean something else.
	if h, err := fanotify.HandleAt(fd, ""); err != nil || !fs.is(h.FSID()) {
		unix.Close(fd)
		return errUnknownFilesystem
	}
	fs.fd = fd
	return nil
}

// uncover replaces fd by one of a mount of our own, on which nothing is mounted. It isn't attached anywhere and ends
// with fd.
func (fs *filesystem) uncover() error {
	tree, err := unix.OpenTree(fs.fd, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	fd, err := unix.Openat(tree, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	fs.close()
	fs.fd = fd
	return nil
}

// close closes fd.
func (fs *filesystem) close() {
	if fs.fd >= 0 {
		unix.Close(fs.fd)
		fs.fd = -1
	}
}

// resolve returns the node of a directory, nil when nobody knows where it is, or was.
func (t *tree) resolve(h fanotify.HandleBytes) *node {
	if t.last != nil && string(t.lastHandle) == string(h) {
		return t.last
	}
	n := t.nodes[fanotify.Handle(h)]
	if n == nil {
		if n = t.meet(fanotify.Handle(h)); n == nil {
			return nil
		}
	}
	if n.parent == nil && n.point == "" && n.arrivals != t.arrivals && !n.marked {
		t.meetAgain(fanotify.Handle(h), n)
	}
	t.last, t.lastHandle = n, append(t.lastHandle[:0], h...)
	return n
}

// meet finds out where a directory is that is not in the tree.
func (t *tree) meet(h fanotify.Handle) *node {
	if t.systems[h.FSID()] == nil || t.inodesOf(fanotify.HandleBytes(h)) != nil {
		return nil // it is watched no more, or where all directories that are watched are known
	}
	t.pending.index()
	n, found := t.fromPending(h)
	if _, gone := t.gone[h]; gone || found {
		return n
	}
	steps, err := t.ask(h)
	complete := t.pending.drain()
	if err != nil {
		n := t.removedMeanwhile(h, err)
		t.unasked = t.unasked || n == nil && !errors.Is(err, unix.ESTALE)
		return n
	}
	state := event.PathExact
	if !complete || t.pending.gap {
		state = event.PathCurrent // what happened since the event is not fully known
	}
	return t.addSteps(steps, state)
}

// meetAgain looks for a directory anew that could not be placed, and may have come in since.
func (t *tree) meetAgain(h fanotify.Handle, n *node) {
	n.arrivals = t.arrivals
	delete(t.nodes, h)
	found := t.meet(h)
	t.nodes[h] = n // what is below it hangs on this one
	if found != nil && found.parent != nil {
		t.put(h, n, found.parent, found.name, found.state)
	}
}

// removedMeanwhile finds a directory that was removed before we asked. The record of that is read by now or will be soon:
// the kernel removes first and tells then.
func (t *tree) removedMeanwhile(h fanotify.Handle, err error) *node {
	for _, wait := range [...]time.Duration{0, 50 * time.Microsecond, 500 * time.Microsecond} {
		if n, found := t.fromPending(h); found || !errors.Is(err, unix.ESTALE) {
			return n
		}
		time.Sleep(wait)
		t.pending.drain()
	}
	n, found := t.fromPending(h)
	if !found {
		t.noteGone(h) // another took its place, which is in no record of it
	}
	return n
}

// noteGone remembers that nothing more will be known of a directory, so that its late events don't cost a wait each.
func (t *tree) noteGone(h fanotify.Handle) {
	if len(t.gone) >= maxDead {
		clear(t.gone)
	}
	t.gone[h] = struct{}{}
}

// fromPending finds a directory by the first pending record that moves or removes it: there it still is. It reports
// whether there is one. The node is nil when nobody knows where the directory above is.
func (t *tree) fromPending(h fanotify.Handle) (n *node, found bool) {
	links := t.pending.links[h]
	if _, again := t.meeting[h]; again || len(links) == 0 {
		return nil, false // again: an answer from behind the records that are known contradicts them
	}
	t.meeting[h] = struct{}{}
	defer delete(t.meeting, h)
	at := links[0]
	parent := t.nodes[at.dir]
	if parent == nil {
		if parent = t.meet(at.dir); parent == nil {
			return nil, true
		}
	}
	return t.add(h, parent, at.name, event.PathExact), true
}

// step is a directory on the way up, as the kernel sees it now. The last one has no name: it is in the tree, or it
// is the topmost.
type step struct {
	handle fanotify.Handle
	name   string
}

// addSteps puts the directories of an answer into the tree. The answer is younger than the event: where a pending
// record says that a directory moves or goes only later, the record is right, and the steps above are not its own.
func (t *tree) addSteps(steps []step, state event.PathState) *node {
	h := steps[0].handle
	if n := t.nodes[h]; n != nil {
		return n
	}
	if n, found := t.fromPending(h); found {
		return n
	}
	if len(steps) == 1 {
		return t.add(h, nil, "", event.PathUnknown) // above what is watched
	}
	parent := t.addSteps(steps[1:], state)
	if parent == nil {
		return nil
	}
	return t.add(h, parent, steps[0].name, state)
}

// askAgain corrects the place of a directory that was in doubt. It reports whether there is nothing more to ask.
func (t *tree) askAgain(h fanotify.Handle, n *node) bool {
	if t.inodesOf(fanotify.HandleBytes(h)) != nil {
		return t.verify(h, n)
	}
	steps, err := t.ask(h)
	switch {
	case !t.pending.drain(), t.pending.gap:
		return false
	case err != nil, len(steps) < 2, len(t.pending.links[h]) > 0:
		return true // it is gone, or the next records say where it is
	}
	if parent := t.addSteps(steps[1:], event.PathExact); parent != nil {
		t.put(h, n, parent, steps[0].name, event.PathExact)
	}
	return true
}

// maxDepth bounds the way up, which renames could make longer and longer while it is walked.
const maxDepth = 1 << 14

// ask asks the kernel where a directory is now: the steps up to one that is in the tree. Each mount may show another
// part of the filesystem.
func (t *tree) ask(h fanotify.Handle) (steps []step, err error) {
	fs := t.systems[h.FSID()]
	if fs == nil {
		return nil, errUnknownFilesystem
	}
	err = errUnknownFilesystem
	for _, way := range fs.ways {
		found, refused := t.askThrough(fs, way, h)
		switch {
		case errors.Is(refused, unix.ESTALE):
			return nil, refused
		case refused == nil && (way.Root == "/" || t.nodes[found[len(found)-1].handle] != nil):
			return found, nil
		case refused == nil && steps == nil:
			steps, err = found, nil
		case steps == nil:
			err = refused
		}
	}
	return steps, err
}

// askThrough is ask through one mount.
func (t *tree) askThrough(fs *filesystem, way mounts.Mount, h fanotify.Handle) ([]step, error) {
	if err := fs.openBy(way); err != nil {
		return nil, err
	}
	defer fs.close()
	steps, err := t.walkUp(fs, h)
	if errors.Is(err, errCovered) {
		if err = fs.uncover(); err == nil {
			steps, err = t.walkUp(fs, h)
		}
	}
	return steps, err
}

// errCovered says that something is mounted on a directory on the way up.
var errCovered = errors.New("something is mounted on the directory above")

// walkUp asks the kernel for the steps from a directory up to one that is in the tree.
func (t *tree) walkUp(fs *filesystem, h fanotify.Handle) ([]step, error) {
	fd, err := h.Open(fs.fd, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer func() { unix.Close(fd) }()
	var steps []step
	var path string // of a directory below which all names are known
	for {
		up, err := unix.Openat2(fd, "..", &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_XDEV,
		})
		if errors.Is(err, unix.EXDEV) && !isMountRoot(fd) {
			return nil, errCovered
		}
		if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENOENT) {
			// The root of another mount of the filesystem, or outside of the part that our mount shows.
			return append(steps, step{handle: h}), nil
		}
		if err != nil {
			return nil, err
		}
		parent, err := handleOf(up, fs.id)
		if err == nil && parent == h {
			unix.Close(up)
			return append(steps, step{handle: h}), nil
		}
		var name string
		if err == nil {
			path, name, err = nameOf(fd, up, path)
		}
		awaitRecords(up)
		unix.Close(fd)
		fd = up
		if err != nil {
			return nil, err
		}
		steps = append(steps, step{h, name})
		if h = parent; t.nodes[h] != nil || len(steps) > maxDepth {
			return append(steps, step{handle: h}), nil
		}
	}
}

// isMountRoot reports whether an open directory is the root of its mount (statx(2), since Linux 5.8).
func isMountRoot(fd int) bool {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &st)
	return err != nil || st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// impossible is a name that no file can have: it is too long.
var impossible = strings.Repeat("-", 256)

// awaitRecords waits until whatever was done to the names in a directory before the call is in the queue. The kernel
// renames or removes first and tells then, but keeps the directory locked until it has told (fs/namei.c: vfs_rename,
// vfs_rmdir); to look for a name takes the same lock, when the answer is not cached, as for one that is too long.
func awaitRecords(dir int) {
	var st unix.Stat_t
	_ = unix.Fstatat(dir, impossible, &st, unix.AT_SYMLINK_NOFOLLOW) // ENAMETOOLONG
}

var errUnknownFilesystem = errors.New("event of a filesystem that is not watched")

// handleOf returns the handle of an open directory.
func handleOf(fd int, id fanotify.FSID) (fanotify.Handle, error) {
	h, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return "", err
	}
	return fanotify.NewHandle(id, h.Type(), h.Bytes()), nil
}

// nameOf returns the name of the directory fd in its parent up, and the parent's path for the next call. An empty path
// is asked of the kernel; one that is longer than PATH_MAX can't be, and then the name is looked for in the parent.
func nameOf(fd, up int, path string) (parentPath, name string, err error) {
	if path == "" {
		var buf [unix.PathMax]byte
		n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), buf[:])
		if errors.Is(err, unix.ENAMETOOLONG) {
			name, err = findName(fd, up)
			return "", name, err
		}
		if err != nil {
			return "", "", err
		}
		path = string(buf[:n])
		if strings.HasSuffix(path, " (deleted)") {
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil || st.Nlink == 0 {
				return "", "", unix.ESTALE
			}
		}
	}
	i := strings.LastIndexByte(path, '/')
	if i < 0 || i == len(path)-1 {
		return "", "", unix.ESTALE // the root of another mount
	}
	return path[:i], path[i+1:], nil
}

// findName looks for the name of the directory fd in its parent.
func findName(fd, up int) (string, error) {
	var want unix.Stat_t
	if err := unix.Fstat(fd, &want); err != nil {
		return "", err
	}
	dir, err := unix.Openat(up, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(dir)
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Getdents(dir, buf)
		if err != nil {
			return "", err
		}
		if n == 0 {
			return "", unix.ENOENT
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			var st unix.Stat_t
			if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Ino == want.Ino && st.Dev == want.Dev {
				return name, nil
			}
		}
	}
}
