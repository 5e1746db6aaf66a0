package watch

import (
	"cmp"
	"maps"
	"slices"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/mounts"
)

// maxWays is how many mounts of a filesystem are tried when it has to be asked.
const maxWays = 8

// reach notes through which mounts each filesystem can be asked: any that is visible, those that show most of it first.
func (t *tree) reach(places []place, table *mounts.Table) {
	visible := map[mounts.Device][]mounts.Mount{}
	own := map[uint64]bool{}
	for _, at := range places {
		visible[at.mount.Device], own[at.mount.ID] = nil, true
	}
	for _, m := range table.Mounts {
		if list, watched := visible[m.Device]; watched && table.Visible(m) {
			visible[m.Device] = append(list, m)
		}
	}
	for device, list := range visible {
		slices.SortStableFunc(list, func(a, b mounts.Mount) int {
			if c := cmp.Compare(len(a.Root), len(b.Root)); c != 0 || own[a.ID] == own[b.ID] {
				return c
			} else if own[a.ID] {
				return -1
			}
			return 1
		})
		visible[device] = list[:min(len(list), maxWays)]
	}
	for _, at := range places {
		if at.apart() {
			continue
		}
		list := visible[at.mount.Device]
		for _, root := range at.via {
			way := at.mount
			way.Point = root + way.Point
			list = append(list, way)
		}
		if len(list) > 0 {
			t.systems[at.id()].ways, t.systems[at.id()].via = list, at.reach("")
		}
	}
}

// pointOf returns where a directory is mounted, "" if it is not known to be.
func (t *tree) pointOf(top fanotify.Handle) string {
	if n := t.nodes[top]; n != nil {
		return n.point
	}
	return ""
}

// repoint notes that a mount is somewhere else.
func (t *tree) repoint(top fanotify.Handle, old, new string, state event.PathState) {
	if n := t.nodes[top]; n != nil && n.point == old {
		n.point, n.state = new, state
		t.gen++
	}
}

// uproot notes that a place is watched no more, and its directory no root unless it is one by itself. If its path was that
// of the mount, it is asked for when it is met.
func (t *tree) uproot(at place, root bool) {
	n := t.nodes[at.top]
	if n == nil || at.path != at.mount.Point {
		return
	}
	n.root = root
	if n.point == at.mount.Point {
		n.point, n.parent, n.arrivals = "", nil, t.arrivals-1
	}
	t.last = nil
	t.gen++
}

// settled notes that all events are handled that were before a change of the filesystem's places.
func (t *tree) settled(id fanotify.FSID, places []place) {
	for _, at := range places {
		if n := t.nodes[at.top]; at.id() == id && n != nil && n.point != "" {
			n.state = event.PathExact
		}
	}
	t.gen++
}

// forget forgets a filesystem.
func (t *tree) forget(id fanotify.FSID) {
	var in *inodes
	if fs := t.systems[id]; fs != nil {
		in = fs.inodes
	}
	delete(t.systems, id)
	maps.DeleteFunc(t.nodes, func(h fanotify.Handle, n *node) bool {
		if h.FSID() == id && n.marked {
			t.unmarked(in, n)
		}
		return h.FSID() == id
	})
	clear(t.gone)
	t.last = nil
	t.gen++
}

// replant begins anew with the places of a filesystem. Until settled, nothing in them is exact.
func (t *tree) replant(id fanotify.FSID, places []place) {
	t.forget(id)
	var own []place
	for _, at := range places {
		if !at.apart() && at.id() == id {
			own = append(own, at)
			_ = t.plant(at, event.PathCurrent) // what can't be reached now is found when it is met
			if at.form.kind == FormInodes {
				_ = t.prime(at)
			}
		}
	}
	for _, at := range own { // roots that have another name by now
		if at.handle == "" {
			continue
		}
		if n := t.resolve(fanotify.HandleBytes(at.handle)); n != nil && !n.root {
			n.root = true
			t.gen++
		}
	}
}
