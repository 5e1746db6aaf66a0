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
	// errors hears of errors of the filesystems; nil when they are of no interest.
	errors *fsErrors
	tree   *tree
	read   func() (*mounts.Table, error)
	// follow watches the mounts of another namespace, too; nil when other namespaces are of no interest.
	follow func(link string)
	roots  []root
	whole  bool // the whole machine

	places  []place
	refused map[spot]error         // places that can't be watched
	seen    map[uint64]sighting    // mounts of watched filesystems under the roots
	related map[uint64]bool        // all mounts: whether a change may change the plan
	bears   map[fanotify.FSID]bool // filesystems that have mounts on their directories

	coverage []coverage // never changed, only replaced

	budget *budget
	apart  func(at *place) error // watches the directories of a place with a reader of their own
}

// sighting is a mount that was told of.
type sighting struct {
	id        uint64 // unique, 0 when the kernel doesn't say
	point     string
	namespace uint64
}

// newPlan returns a plan to watch nothing yet with a group.
func newPlan(config Config, group *fanotify.Group, t *tree) *plan {
	p := &plan{
		group: group, mask: config.Events&^(mountEvents|fanotify.FSError) | needed, tree: t, read: mounts.Read, refused: map[spot]error{},
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
	s, err := p.survey()
	if err == nil {
		p.roots, err = findRoots(roots)
	}
	if err != nil {
		return err
	}
	wanted, err := p.wanted(s)
	if err != nil {
		return err
	}
	for _, at := range wanted {
		if err := p.take(at); err != nil && at.asked != "" {
			return err
		}
	}
	if len(p.places) == 0 {
		for _, at := range wanted {
			return fmt.Errorf("no filesystem can be watched: %w", p.refused[at.spot()])
		}
		return errors.New("no filesystem to watch is mounted")
	}
	p.look(s)
	p.cover(wanted)
	return nil
}

// survey finds out what is mounted.
func (p *plan) survey() (survey, error) {
	table, err := p.read()
	if err != nil || p.follow == nil {
		return survey{Table: table}, err
	}
	others, err := mounts.Elsewhere()
	for _, n := range others {
		p.follow(n.Link)
	}
	return survey{table, others}, err
}

// take begins to watch a place in the richest form that its filesystem allows: it marks it and puts it into the tree.
func (p *plan) take(at place) error {
	at.form = &form{kind: FormFilesystem, unseen: unseenBehind(at.mount.FSType)}
	err := p.mark(&at)
	switch {
	case err == nil:
		if err = p.tree.plant(at, p.stateOf()); err != nil {
			p.drop(at, survey{Table: &mounts.Table{Mounts: []mounts.Mount{at.mount}}})
		}
	case needsInodes(err):
		at.form = &form{kind: FormInodes, reason: err, unseen: unseenByInodes(at, errors.Is(err, unix.EPERM))}
		if p.errors != nil {
			at.form.unseen = append(at.form.unseen, UnseenErrors)
		}
		err = p.markInodes(&at)
	}
	if err != nil {
		p.refused[at.spot()] = err
		return err
	}
	p.places = append(p.places, at)
	return nil
}

// stateOf returns the state of paths in a place that is new.
func (p *plan) stateOf() event.PathState {
	if p.seen != nil {
		return event.PathCurrent // what was before may be in the queue yet, of a mark that could not be removed, too
	}
	return event.PathExact
}

// mark marks the filesystem of a place, whole. To mark it again changes nothing; but one that is marked may have parts
// that refuse, the subvolumes of btrfs.
func (p *plan) mark(at *place) error {
	if !at.isDir && at.path == at.mount.Point {
		return fmt.Errorf("watch %s: a single file is mounted there, without its directory: watch where it is from", at.path)
	}
	fd, err := at.open(at.path)
	if errors.Is(err, unix.ENOENT) {
		fd, err = at.open(at.mount.Point) // the root isn't there now
	}
	if err != nil {
		return rootError(at.path, err)
	}
	defer unix.Close(fd)
	path := fdPath(fd)
	if err = p.group.Mark(fanotify.TargetFilesystem, path, p.mask, 0); err != nil {
		var refused *fanotify.MarkError
		if errors.As(err, &refused) {
			refused.Path = at.path
		}
		if errors.Is(err, unix.EXDEV) && at.mount.FSType == "btrfs" {
			err = p.markTop(at, err)
		}
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
	p.errors.mark(at, path)
	return nil
}

// unmark ends the mark of a place's filesystem, which path leads to, unless another place needs it.
func (p *plan) unmark(at place, path string) {
	if slices.ContainsFunc(p.places, func(other place) bool { return other.mount.Device == at.mount.Device }) {
		return
	}
	p.errors.unmark(at, path)
	if err := p.group.Unmark(fanotify.TargetFilesystem, path, p.mask, 0); errors.Is(err, unix.EXDEV) {
		p.unmarkTop(at)
	}
}

// drop ends the mark of the filesystem of a place that is watched no more, if no other is on it. It reports whether the
// filesystem is still mounted; where that can't be reached, the mark stays.
func (p *plan) drop(at place, s survey) (mounted bool) {
	another := func(other place) bool { return other.mount.Device == at.mount.Device && other.id() != at.id() }
	if slices.ContainsFunc(p.places, another) {
		return false // that has its device number now
	}
	try := func(table *mounts.Table, via []string) (done bool) {
		for _, m := range table.Mounts {
			if m.Device != at.mount.Device {
				continue
			}
			mounted = true
			way := place{mount: m, via: via, unique: table.Unique}
			if fd, err := way.open(m.Point); err == nil {
				p.unmark(at, fdPath(fd))
				unix.Close(fd)
				return true
			}
		}
		return false
	}
	done := try(s.Table, nil)
	for i := 0; i < len(s.others) && !done; i++ {
		done = try(s.others[i].Table, s.others[i].Roots)
	}
	return mounted
}

// remount is what a change of the mounts changes for the events behind it.
type remount struct {
	from, to []sighting      // mounts that came, went, or moved: of each index, one may be empty
	unsure   []fanotify.FSID // whose paths are not sure before it
	left     []place         // that are watched no more
	again    bool            // something may be possible later
}

// replan brings the plan up to date with the mounts after some changes, all that are in the survey at least. Some may be
// undone by now.
func (p *plan) replan(s survey, changes []mounts.Change) (remount, error) {
	moved := map[uint64]bool{} // perhaps there and back, or moved and gone
	for _, c := range changes {
		moved[c.ID] = moved[c.ID] || c.ID == 0 || c.Mask.Has(fanotify.MntAttach)
	}
	wanted, err := p.wanted(s)
	if err != nil {
		return remount{}, err
	}
	var r remount
	before := make(map[uint64][]place, len(p.places)) // by mount
	marked := map[fanotify.FSID]bool{}
	for _, at := range p.places {
		before[at.mount.ID] = append(before[at.mount.ID], at)
		marked[at.id()] = marked[at.id()] || !at.apart()
	}
	p.places = nil
	p.tree.arrivals++ // what could not be placed may have a place now
	p.tree.last = nil
	kept := map[fanotify.FSID]bool{}
	for _, at := range wanted {
		if at.top == "" {
			continue // it is new
		}
		here := before[at.mount.ID]
		i := slices.IndexFunc(here, func(old place) bool { return old.inFS() == at.inFS() })
		if old := here[i].mount.Point; at.apart() {
			if old != at.mount.Point {
				at.form.part.moveTo(at.mount.Point)
			}
		} else if old != at.mount.Point || moved[at.mount.ID] || moved[0] {
			p.tree.repoint(at.top, old, at.mount.Point, event.PathCurrent)
			r.unsure = append(r.unsure, at.id())
		}
		before[at.mount.ID] = slices.Delete(here, i, i+1)
		kept[at.id()] = kept[at.id()] || !at.apart()
		p.places = append(p.places, at)
		if !at.unique && at.form.kind != FormInodes {
			_ = p.mark(&at) // perhaps it is another one that has its id
		}
	}
	again := map[fanotify.FSID]bool{} // filesystems that went and came
	refused := make(map[spot]error, len(p.refused))
	for _, at := range wanted {
		if at.top != "" {
			continue
		}
		if err, known := p.refused[at.spot()]; known && at.unique && !passing(err) {
			refused[at.spot()] = err
			continue
		}
		if err := p.take(at); err != nil {
			refused[at.spot()] = err
			r.again = r.again || passing(err)
		} else if new := p.places[len(p.places)-1]; !new.apart() {
			again[new.id()] = marked[new.id()] && !kept[new.id()]
			r.unsure = append(r.unsure, new.id())
		}
	}
	p.refused = refused
	for id, came := range again {
		if came {
			p.tree.replant(id, p.places)
		}
	}
	for _, here := range before {
		for _, at := range here {
			if p.leave(at, s, kept[at.id()], moved[at.mount.ID] || moved[0]) {
				r.unsure = append(r.unsure, at.id())
			}
			r.left = append(r.left, at)
		}
	}
	r.unsure = append(r.unsure, p.repoint()...)
	r.from, r.to = p.look(s)
	p.cover(wanted)
	return r, nil
}

// repoint gives mounted directories the points that they have by now, and returns the filesystems on which they had
// others.
func (p *plan) repoint() (unsure []fanotify.FSID) {
	for _, at := range p.places {
		if at.apart() {
			continue
		}
		point := p.tree.pointOf(at.top)
		here := func(other place) bool { return !other.apart() && other.top == at.top && other.mount.Point == point }
		if point != "" && !slices.ContainsFunc(p.places, here) {
			p.tree.repoint(at.top, point, at.mount.Point, event.PathCurrent)
			unsure = append(unsure, at.id())
		}
	}
	return unsure
}

// leave begins to end the watch of a place, and reports whether paths on its filesystem are not sure meanwhile. It ends
// with left, when the events before are handled.
func (p *plan) leave(at place, s survey, kept, moved bool) (unsure bool) {
	if at.apart() {
		return false
	}
	switch mounted := p.drop(at, s); {
	case kept && at.path != at.mount.Point:
		p.tree.replant(at.id(), p.places)
	case kept, moved, mounted:
		p.tree.repoint(at.top, at.mount.Point, at.mount.Point, event.PathCurrent)
	default:
		return false // whatever happened was before
	}
	return true
}

// left ends the watch of a place.
func (p *plan) left(at place) {
	switch {
	case at.apart():
		at.form.part.end()
	case !p.has(at.id()):
		p.tree.forget(at.id())
	case !slices.ContainsFunc(p.places, func(other place) bool { return !other.apart() && other.top == at.top }):
		root := slices.ContainsFunc(p.places, func(other place) bool { return !other.apart() && other.handle == at.top })
		p.tree.uproot(at, root)
		for _, other := range p.places { // that were below it
			if !other.apart() && other.id() == at.id() {
				_ = p.tree.plant(other, event.PathExact) // what can't be reached now is found when it is met
			}
		}
	}
}

// renamed notes that a directory has another name, with the mounts below it.
func (p *plan) renamed(namespace uint64, old, new string) {
	for i := range p.places {
		at := &p.places[i]
		if m := at.mount; at.namespace == namespace && mounts.Below(m.Point, old) {
			m.Point = new + m.Point[len(old):]
			if at.apart() {
				at.form.part.moveTo(m.Point)
			} else {
				p.tree.repoint(at.top, at.mount.Point, m.Point, event.PathExact)
			}
			*at = at.movedTo(m)
		}
	}
	for id, s := range p.seen {
		if s.namespace == namespace && mounts.Below(s.point, old) {
			s.point = new + s.point[len(old):]
			p.seen[id] = s
		}
	}
}

// look notes which mounts under the roots are there now, and returns those that came, went or moved since it last did.
func (p *plan) look(in survey) (from, to []sighting) {
	table := in.Table
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
	for _, at := range p.places {
		if at.namespace == 0 {
			continue
		}
		s := sighting{point: at.mount.Point, namespace: at.namespace}
		if at.unique {
			s.id = at.mount.ID
		}
		p.seen[at.mount.ID], p.related[at.mount.ID] = s, true
		if _, known := before[at.mount.ID]; !known {
			from, to = append(from, sighting{}), append(to, s)
		}
	}
	var gone []sighting
	for _, id := range slices.Sorted(maps.Keys(before)) {
		if _, still := p.seen[id]; !still {
			gone = append(gone, before[id])
		}
	}
	p.bears = map[fanotify.FSID]bool{}
	bearers := map[mounts.Device]bool{}
	for _, m := range table.Mounts {
		if on, ok := table.ByID(m.Parent); ok && on.ID != m.ID {
			bearers[on.Device] = true
		}
	}
	for _, at := range p.places {
		p.bears[at.id()] = bearers[at.mount.Device]
	}
	p.tree.reach(p.places, table)
	return append(gone, from...), append(make([]sighting, len(gone)), to...)
}

// has reports whether something of a filesystem is watched.
func (p *plan) has(id fanotify.FSID) bool {
	return slices.ContainsFunc(p.places, func(at place) bool { return !at.apart() && at.id() == id })
}

// namespaceOf returns the mount namespace in which the paths of an event are such, 0 for the own one.
func (p *plan) namespaceOf(e *fanotify.Event) uint64 {
	if p.follow == nil {
		return 0
	}
	h := e.Object()
	if at, ok := e.Dir(); ok {
		h = at.Dir
	}
	if h == nil {
		return 0
	}
	if fs := p.tree.systems[h.FSID()]; fs != nil {
		return fs.namespace
	}
	return 0
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
		return p.follow != nil // it came and went, or is in another namespace
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
			Root: name, MountPoint: at.mount.Point, FSType: at.mount.FSType, Namespace: at.namespace,
			Err: p.refused[at.spot()],
		}, forms[at.spot()]})
	}
}
