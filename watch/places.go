package watch

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/mounts"
)

// plan is what is watched: the places under the roots, each marked and in the tree.
type plan struct {
	group *fanotify.Group
	mask  fanotify.Mask
	tree  *tree
	read  func() (*mounts.Table, error)
	roots []root
	whole bool // the whole machine

	places  []place
	refused map[spot]error      // places that can't be watched
	seen    map[uint64]sighting // mounts of watched filesystems under the roots
	related map[uint64]bool     // all mounts: whether a change may change the plan

	coverage []coverage // never changed, only replaced

	budget *budget
	apart  func(at *place) error // watches the directories of a place with a reader of their own
}

// sighting is a mount that was told of.
type sighting struct {
	id    uint64 // unique, 0 when the kernel doesn't say
	point string
}

// newPlan returns a plan to watch nothing yet with a group.
func newPlan(config Config, group *fanotify.Group, t *tree) *plan {
	p := &plan{
		group: group, mask: config.Events&^mountEvents | needed, tree: t, read: mounts.Read, refused: map[spot]error{},
	}
	if config.oldMounts {
		p.read = mounts.ReadInfo
	}
	return p
}

// watch watches everything under the roots. Places that refuse are left out, with the reason in the coverage; one that
// was asked for is an error, and so is none left.
func (p *plan) watch(roots []string) error {
	p.whole = len(roots) == 0
	table, err := p.read()
	if err == nil {
		p.roots, err = findRoots(roots)
	}
	if err != nil {
		return err
	}
	wanted, err := p.wanted(table)
	if err != nil {
		return err
	}
	for _, at := range wanted {
		if err := p.take(at, event.PathExact); err != nil && at.asked != "" {
			return err
		}
	}
	if len(p.places) == 0 {
		for _, at := range wanted {
			return fmt.Errorf("no filesystem can be watched: %w", p.refused[at.spot()])
		}
		return errors.New("no filesystem to watch is mounted")
	}
	p.look(table)
	p.cover(wanted)
	return nil
}

// take begins to watch a place in the richest form that its filesystem allows: it marks it and puts it into the tree.
func (p *plan) take(at place, state event.PathState) error {
	at.form = &form{kind: FormFilesystem, unseen: unseenBehind(at.mount.FSType)}
	err := p.mark(&at)
	switch {
	case err == nil:
		if err = p.tree.plant(at, state); err != nil {
			p.unmark(at, at.path)
		}
	case needsInodes(err):
		at.form = &form{kind: FormInodes, reason: err, unseen: unseenByInodes(at, errors.Is(err, unix.EPERM))}
		err = p.markInodes(&at, state)
	}
	if err != nil {
		p.refused[at.spot()] = err
		return err
	}
	p.places = append(p.places, at)
	return nil
}

// mark marks the filesystem of a place, whole. To mark it again changes nothing; but one that is marked may have parts
// that refuse, the subvolumes of btrfs.
func (p *plan) mark(at *place) (err error) {
	if !at.isDir && at.path == at.mount.Point {
		return fmt.Errorf("watch %s: a single file is mounted there, without its directory: watch where it is from", at.path)
	}
	path := at.path
	if err = p.group.Mark(fanotify.TargetFilesystem, path, p.mask, 0); errors.Is(err, unix.ENOENT) {
		path = at.mount.Point // the root isn't there now
		err = p.group.Mark(fanotify.TargetFilesystem, path, p.mask, 0)
	}
	if errors.Is(err, unix.EXDEV) && at.mount.FSType == "btrfs" {
		err = p.markTop(at, err)
	}
	if err != nil {
		return err
	}
	if err := at.identify(); err != nil {
		p.unmark(*at, path)
		return err
	}
	// Handles of two filesystems with one id can't be told apart: a copy of an image, for example.
	if twin := p.twin(*at); twin != nil {
		p.unmark(*at, path)
		return fmt.Errorf("watch %s: it has the same filesystem id as %s: watch them apart, or give one a new UUID",
			at.path, twin.path)
	}
	return nil
}

// identify finds the handles of a place.
func (at *place) identify() (err error) {
	if at.top, err = at.handleAt(at.mount.Point); err != nil || !at.isDir {
		return err
	}
	if at.handle, err = at.handleAt(at.path); errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// twin returns a place in this group on another filesystem with the same id.
func (p *plan) twin(at place) *place {
	i := slices.IndexFunc(p.places, func(old place) bool {
		return !old.apart() && old.id() == at.id() && old.mount.Device != at.mount.Device
	})
	if i < 0 {
		return nil
	}
	return &p.places[i]
}

// unmark ends the mark of a place's filesystem, which path leads to, unless another place needs it.
func (p *plan) unmark(at place, path string) {
	if slices.ContainsFunc(p.places, func(other place) bool { return other.mount.Device == at.mount.Device }) {
		return
	}
	if err := p.group.Unmark(fanotify.TargetFilesystem, path, p.mask, 0); errors.Is(err, unix.EXDEV) {
		p.unmarkTop(at)
	}
}

// drop ends the mark of the filesystem of a place that is watched no more, if no other is on it and it can be reached.
func (p *plan) drop(at place, table *mounts.Table) {
	if at.apart() {
		at.form.end()
		return
	}
	for _, m := range table.Mounts {
		if m.Device == at.mount.Device && table.Visible(m) {
			p.unmark(at, m.Point)
			return
		}
	}
}

// remount is what a change of the mounts changes for the events behind it.
type remount struct {
	from, to []sighting      // mounts that came, went, or moved: by their index, one of both may be empty
	moved    []fanotify.FSID // whose paths are not sure before it
	left     []fanotify.FSID // that are watched no more
}

// replan brings the plan up to date with the mounts.
func (p *plan) replan() (remount, error) {
	table, err := p.read()
	if err != nil {
		return remount{}, err
	}
	wanted, err := p.wanted(table)
	if err != nil {
		return remount{}, err
	}
	var r remount
	old := make(map[uint64][]place, len(p.places)) // by mount
	marked := map[fanotify.FSID]bool{}
	for _, at := range p.places {
		old[at.mount.ID] = append(old[at.mount.ID], at)
		marked[at.id()] = marked[at.id()] || !at.apart()
	}
	p.places = p.places[:0:0]
	var taken []place
	for _, at := range wanted {
		if at.top == "" { // not watched yet
			taken = append(taken, at)
			continue
		}
		before := old[at.mount.ID]
		i := slices.IndexFunc(before, func(b place) bool { return b.top == at.top && b.handle == at.handle && b.inFS() == at.inFS() })
		if before[i].mount.Point != at.mount.Point && at.apart() {
			at.top, at.handle, at.form = "", "", nil // its reader begins anew
			taken = append(taken, at)
			continue
		}
		if before[i].mount.Point != at.mount.Point {
			p.tree.repoint(at.top, before[i].mount.Point, at.mount.Point)
			r.moved = append(r.moved, at.id())
		}
		old[at.mount.ID] = slices.Delete(before, i, i+1)
		p.places = append(p.places, at)
		if !table.Unique && at.form.kind == FormFilesystem {
			_ = p.group.Mark(fanotify.TargetFilesystem, at.mount.Point, p.mask, 0) // it may be a new one with the old id
		}
	}
	changed := map[fanotify.FSID]bool{}
	var dropped []place
	for _, left := range old {
		for _, at := range left {
			dropped = append(dropped, at)
			if !at.apart() {
				changed[at.id()] = true
			}
		}
	}
	if !table.Unique {
		clear(p.refused)
	}
	stillRefused := make(map[spot]error, len(p.refused))
	for _, at := range taken {
		if err, known := p.refused[at.spot()]; known {
			stillRefused[at.spot()] = err
			continue
		}
		if p.take(at, event.PathExact) != nil {
			stillRefused[at.spot()] = p.refused[at.spot()]
			continue
		}
		if new := p.places[len(p.places)-1]; marked[new.id()] && !new.apart() {
			changed[new.id()] = true
		}
	}
	p.refused = stillRefused
	for id := range changed {
		if p.has(id) {
			p.tree.replant(id, p.places)
			r.moved = append(r.moved, id)
		} else {
			r.left = append(r.left, id)
		}
	}
	for _, at := range dropped {
		p.drop(at, table)
	}
	r.from, r.to = p.look(table)
	p.cover(wanted)
	return r, nil
}

// look notes which mounts under the roots are there now, and returns those that came, went or moved since it last did.
func (p *plan) look(table *mounts.Table) (from, to []sighting) {
	tops := p.tops()
	devices, on := map[mounts.Device]bool{}, map[uint64]bool{}
	for _, at := range p.places {
		devices[at.mount.Device], on[at.mount.ID] = true, true
	}
	before, there := p.seen, p.related
	p.seen, p.related = map[uint64]sighting{}, map[uint64]bool{}
	for _, m := range table.Mounts {
		inside := p.whole || below(m.Point, tops)
		p.related[m.ID] = inside || slices.ContainsFunc(tops, func(top string) bool { return mounts.Below(top, m.Point) })
		_, known := before[m.ID]
		if !devices[m.Device] || !inside && !on[m.ID] || !known && !table.Visible(m) {
			continue
		}
		s := sighting{point: m.Point}
		if table.Unique {
			s.id = m.ID
		}
		p.seen[m.ID] = s
		if _, old := there[m.ID]; !known && (inside || !old) {
			from, to = append(from, sighting{}), append(to, s)
		} else if known && before[m.ID] != s {
			from, to = append(from, before[m.ID]), append(to, s)
		}
	}
	var gone []sighting
	for _, id := range slices.Sorted(maps.Keys(before)) {
		if _, still := p.seen[id]; !still {
			gone = append(gone, before[id])
		}
	}
	p.tree.reach(p.places, table)
	return append(gone, from...), append(make([]sighting, len(gone)), to...)
}

// has reports whether something of a filesystem is watched.
func (p *plan) has(id fanotify.FSID) bool {
	return slices.ContainsFunc(p.places, func(at place) bool { return !at.apart() && at.id() == id })
}

// concerns reports whether a change may change the plan.
func (p *plan) concerns(c mounts.Change) bool {
	if c.ID == 0 || p.related[c.ID] || p.whole && c.Mask.Has(fanotify.MntAttach) {
		return true
	}
	if !c.Mask.Has(fanotify.MntAttach) {
		return false
	}
	m, err := fanotify.StatMount(fanotify.OwnNamespace, c.ID)
	if errors.Is(err, unix.ENOENT) {
		return false // it came and went
	}
	tops := p.tops()
	return err != nil || below(m.Point, tops) || slices.ContainsFunc(tops, func(top string) bool { return mounts.Below(top, m.Point) })
}

// cover says what is watched of what is wanted, and why not.
func (p *plan) cover(wanted []place) {
	forms := map[spot]*form{}
	for _, at := range p.places {
		forms[at.spot()] = at.form
	}
	p.coverage = make([]coverage, 0, len(wanted))
	for _, at := range wanted {
		name := at.asked
		if name == "" {
			name = at.path
		}
		p.coverage = append(p.coverage, coverage{Coverage{
			Root: name, MountPoint: at.mount.Point, FSType: at.mount.FSType, Err: p.refused[at.spot()],
		}, forms[at.spot()]})
	}
}
