package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/mounts"
)

// plan is what is watched: the places under the roots, each marked and in the tree.
type plan struct {
	group *fanotify.Group
	mask  fanotify.Mask
	tree  *tree
	whole bool // the whole machine

	places   []place
	coverage []*Coverage
	ids      map[fanotify.FSID]place // of the marked filesystems

	budget *budget
	apart  func(at place, c *Coverage) error // watches the directories of a place in a group of its own
}

// place is a directory or file on one mount from which on everything is watched.
type place struct {
	path  string // absolute, without symbolic links
	isDir bool
	mount mounts.Mount
	asked string // the root as it was asked for; empty when it was found

	id     fanotify.FSID // of the filesystem in events, once it is marked
	inodes *inodes       // directory by directory; nil when the filesystem has one mark
}

// handleAt returns the handle of a path on the place's mount as events tell it.
func (p place) handleAt(path string) (fanotify.Handle, error) {
	h, err := fanotify.HandleAt(unix.AT_FDCWD, path)
	if err != nil {
		return "", rootError(path, err)
	}
	return fanotify.NewHandle(p.id, h.Type(), h.Bytes()), nil
}

// watch watches everything under the roots. Places that refuse are left out, with the reason in the coverage; one that
// was asked for is an error, and so is none left.
func (p *plan) watch(roots []string) error {
	p.whole = len(roots) == 0
	wanted, err := find(roots)
	if err != nil {
		return err
	}
	var refusal error
	watched := false
	for _, at := range wanted {
		err := p.take(at)
		if err != nil && at.asked != "" {
			return err
		}
		watched = watched || err == nil
		if refusal == nil {
			refusal = err
		}
	}
	switch {
	case watched:
		return nil
	case refusal != nil:
		return fmt.Errorf("no filesystem can be watched: %w", refusal)
	}
	return errors.New("no filesystem to watch is mounted")
}

// take begins to watch a place in the richest form that its filesystem allows: it marks it and puts it into the tree.
// The coverage says how, or why it could not.
func (p *plan) take(at place) error {
	c := at.coverage()
	p.coverage = append(p.coverage, c)
	c.Err = p.takeAs(at, c)
	return c.Err
}

// takeAs is take with the coverage to fill in.
func (p *plan) takeAs(at place, c *Coverage) error {
	if !at.isDir && at.path == at.mount.Point {
		return fmt.Errorf("watch %s: a single file is mounted there, without its directory: watch where it is from", at.path)
	}
	err := p.mark(&at, c)
	switch {
	case err == nil:
		if err = p.tree.plant(at); err != nil {
			p.unmark(at)
			return err
		}
		p.places = append(p.places, at)
		return nil
	case !needsInodes(err):
		return err
	}
	c.Form, c.Reason = FormInodes, err
	c.Unseen = unseenByInodes(at, errors.Is(err, unix.EPERM))
	return p.markInodes(at, c)
}

// mark marks the filesystem of a place, whole. To mark it again changes nothing; but one that is marked may have parts that
// refuse, the subvolumes of btrfs.
func (p *plan) mark(at *place, c *Coverage) error {
	c.Form = FormFilesystem
	err := p.group.Mark(fanotify.TargetFilesystem, at.path, p.mask, 0)
	if errors.Is(err, unix.EXDEV) && at.mount.FSType == "btrfs" {
		c.Form, c.Reason = FormSubvolume, err
		at.id, err = p.markTop(*at, err)
	} else if err == nil {
		at.id, err = idOf(at.path)
	}
	if err != nil {
		return err
	}
	// Handles of two filesystems with one id can't be told apart: a copy of an image, for example.
	if twin, met := p.ids[at.id]; met && twin.mount.Device != at.mount.Device {
		p.unmark(*at)
		return fmt.Errorf("watch %s: it has the same filesystem id as %s: watch them apart, or give one a new UUID",
			at.path, twin.path)
	}
	p.ids[at.id] = *at
	return nil
}

// idOf returns the id that statfs(2) tells of the filesystem that path is on.
func idOf(path string) (fanotify.FSID, error) {
	h, err := fanotify.HandleAt(unix.AT_FDCWD, path)
	if err != nil {
		return fanotify.FSID{}, rootError(path, err)
	}
	return h.FSID(), nil
}

// unmark ends the mark of a place's filesystem, unless another place needs it.
func (p *plan) unmark(at place) {
	if slices.ContainsFunc(p.places, func(other place) bool { return other.mount.Device == at.mount.Device }) {
		return
	}
	err := p.group.Unmark(fanotify.TargetFilesystem, at.path, p.mask, 0)
	if errors.Is(err, unix.EXDEV) {
		p.unmarkTop(at)
	}
}

// find returns the places under the roots, in the order of the roots and then of mounting.
func find(roots []string) ([]place, error) {
	all, err := mounts.List()
	if err != nil {
		return nil, err
	}
	if len(roots) == 0 {
		return wholeMachine(all), nil
	}
	var places []place
	for _, root := range roots {
		at, err := placeOf(root, all)
		if err != nil {
			return nil, err
		}
		places = add(places, at)
	}
	for _, above := range slices.Clone(places) {
		if !above.isDir {
			continue
		}
		for _, m := range all {
			if m.Point != above.mount.Point && mounts.Below(m.Point, above.path) && visible(m) && !mounts.Pseudo(m.FSType) {
				places = add(places, place{path: m.Point, isDir: isDir(m.Point), mount: m})
			}
		}
	}
	return places, nil
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

// inFS returns the place's path in its filesystem, whatever the mount.
func (p place) inFS() string {
	below, err := filepath.Rel(p.mount.Point, p.path)
	if err != nil {
		return p.mount.Root
	}
	return filepath.Join(p.mount.Root, below)
}

// placeOf finds what a root means.
func placeOf(root string, all []mounts.Mount) (place, error) {
	path, err := filepath.Abs(root)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return place{}, rootError(root, err)
	}
	id, err := mounts.IDAt(path)
	if err != nil {
		return place{}, rootError(root, err)
	}
	i := slices.IndexFunc(all, func(m mounts.Mount) bool { return m.ID == id })
	if i < 0 {
		return place{}, rootError(root, errors.New("its mount is not in /proc/self/mountinfo: mounted or unmounted just now, try again"))
	}
	return place{path: path, isDir: isDir(path), mount: all[i], asked: root}, nil
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

// wholeMachine returns one mount of each filesystem that isn't the kernel's own: the one that shows most of it.
func wholeMachine(all []mounts.Mount) []place {
	best := map[mounts.Device]int{}
	var places []place
	for _, m := range all {
		if mounts.Pseudo(m.FSType) || !visible(m) {
			continue
		}
		p := place{path: m.Point, isDir: isDir(m.Point), mount: m}
		i, met := best[m.Device]
		switch {
		case !met:
			best[m.Device] = len(places)
			places = append(places, p)
		case p.isDir && !places[i].isDir, p.isDir == places[i].isDir && showsMore(m, places[i].mount):
			places[i] = p // a file that is bound on a file is better than nothing: its refusal is told
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

// visible reports whether the mount's point leads to it: nothing is mounted over it.
func visible(m mounts.Mount) bool {
	id, err := mounts.IDAt(m.Point)
	return err == nil && id == m.ID
}

// scope returns the directory that has all places below it: where events are lost when the queue overflows.
func (p *plan) scope() string {
	if p.whole || len(p.places) == 0 {
		return "/"
	}
	common := p.places[0].path
	for _, at := range p.places[1:] {
		for !mounts.Below(at.path, common) {
			common = common[:max(1, strings.LastIndexByte(common, '/'))]
		}
	}
	return common
}
