package watch

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/mounts"
)

// mountEvents are those that come from the plan, not from the group.
const mountEvents = fanotify.MntAttach | fanotify.MntDetach

// mountWatch is what the reader knows of the mounts' changes.
//
// They come from another queue than the events, and the kernel gives no order between the two. So the reader looks for
// them after each read and before it handles what was read: without one, everything that was read happened under the
// mounts that are known. With one, the plan is made anew at once, so that new mounts are watched as early as can be, but
// the record of it has its place behind everything that was queued then. What was watched all the time has its paths as
// they were up to there; where they may have changed by a move, they are current, not exact, up to there.
type mountWatch struct {
	changes *mounts.Changes
	list    []mounts.Change
	due     []dueRemount
	next    uint64 // the number of read events at which the first of them is due
	force   bool   // to look again, when there is something to read: nothing will tell of it
	soon    bool   // to look again at once

	scan  atomic.Bool // it is time to look for other mount namespaces
	timer *time.Timer // that says so, nil if they are of no interest

	mu     sync.Mutex
	cancel context.CancelFunc // ends a wait of the reader
}

// dueRemount is a remount that takes effect when a number of events was handled.
type dueRemount struct {
	remount
	at     uint64
	actors map[uint64]actor
}

// actor is the process that changed a mount.
type actor struct {
	pid     int32
	process *event.Process
}

const never = math.MaxUint64

// scanEvery is how often other mount namespaces are looked for. Nothing tells of a new one.
const scanEvery = 5 * time.Second

// newMountWatch begins to watch the mounts. What changed before the plan is made may be told, too.
func newMountWatch(config Config) (*mountWatch, error) {
	w := &mountWatch{next: never, cancel: func() {}}
	watch := mounts.WatchChanges
	if config.oldMounts {
		watch = mounts.PollChanges
	}
	var err error
	w.changes, err = watch(w.wake)
	if err == nil && config.AllNamespaces {
		w.timer = time.AfterFunc(scanEvery, func() {
			w.scan.Store(true)
			w.wake()
		})
	}
	return w, err
}

// wake ends a wait of the reader.
func (w *mountWatch) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancel()
}

// until returns a context that is done when there are changes to take, too. What changed before may not be noticed.
func (w *mountWatch) until(ctx context.Context) context.Context {
	wake, cancel := context.WithCancel(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancel()
	w.cancel = cancel
	return wake
}

// close ends it; the reader must have ended.
func (w *mountWatch) close() {
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.changes != nil {
		w.changes.Close()
	}
	w.cancel()
}

// lookAtMounts brings the plan up to date if something was mounted or unmounted under the roots.
func (r *reader) lookAtMounts() {
	w := r.mounts
	if w.changes == nil {
		r.followMove() // the main reader tells
		return
	}
	w.list = w.changes.Take(w.list[:0])
	concerned := w.force || w.soon || len(w.list) > maxChanges || w.timer != nil && w.scan.Load()
	for i := 0; i < len(w.list) && !concerned; i++ {
		concerned = r.plan.concerns(w.list[i])
	}
	if !concerned {
		return
	}
	r.counts.replans.Add(1)
	s, err := r.plan.survey()
	taken := len(w.list)
	w.list = w.changes.Take(w.list) // what is in the survey already has to be known as a change
	var change remount
	if err == nil {
		change, err = r.plan.replan(s, w.list)
	}
	w.force, w.soon = err != nil || change.again, len(w.list) > taken
	if w.timer != nil && w.scan.Swap(false) {
		w.timer.Reset(scanEvery)
	}
	if err != nil {
		return
	}
	due := dueRemount{remount: change, actors: map[uint64]actor{}}
	for _, c := range w.list {
		if c.PID != 0 && len(due.actors) < maxChanges {
			due.actors[c.ID] = actor{pid: c.PID}
		}
	}
	r.coverage.Store(&r.plan.coverage)
	r.markedPrograms()
	due.at = r.counts.read.Load() + r.waiting()
	if !r.config.NoProcesses {
		for id, a := range due.actors {
			due.actors[id] = actor{a.pid, r.processes.Lookup(a.pid)}
		}
	}
	if w.due = append(w.due, due); len(w.due) == 1 {
		w.next = due.at
	}
}

// maxChanges is how many changes at once are looked at one by one.
const maxChanges = 64

// remounted tells of the changes of the mounts that are due when that many events were handled.
func (r *reader) remounted(handled uint64) {
	w := r.mounts
	for len(w.due) > 0 && w.due[0].at <= handled {
		due := w.due[0]
		if w.due = w.due[1:]; len(w.due) == 0 {
			w.due = nil
		}
		for _, id := range due.unsure {
			later := func(d dueRemount) bool { return slices.Contains(d.unsure, id) }
			if !slices.ContainsFunc(w.due, later) {
				r.tree.settled(id, r.plan.places)
			}
		}
		for _, at := range due.left {
			r.plan.left(at)
		}
		for i := range due.from {
			r.tellMount(due.from[i], due.to[i], due.actors)
		}
	}
	w.next = never
	if len(w.due) > 0 {
		w.next = w.due[0].at
	}
}

// hurry makes every change of the mounts due, because events were lost that would have been counted.
func (w *mountWatch) hurry() {
	for i := range w.due {
		w.due[i].at, w.next = 0, 0
	}
}

// tellMount reports that a mount came, went or moved.
func (r *reader) tellMount(from, to sighting, actors map[uint64]actor) {
	var m fanotify.Mask
	p := paths{start: uint32(len(r.out.text))}
	if from.point != "" {
		m |= fanotify.MntDetach
		r.out.text = append(r.out.text, from.point...)
	}
	p.middle = uint32(len(r.out.text))
	if to.point != "" {
		m |= fanotify.MntAttach
		r.out.text = append(r.out.text, to.point...)
		if from.point == "" {
			p.middle = uint32(len(r.out.text))
		}
	}
	p.end = uint32(len(r.out.text))
	if m&r.config.Events == 0 {
		r.out.text = r.out.text[:p.start]
		return
	}
	e := r.emit(m, p)
	e.MountID, e.Namespace = max(from.id, to.id), max(from.namespace, to.namespace)
	e.PathState = event.PathExact
	e.PID, e.Process = actors[e.MountID].pid, actors[e.MountID].process
}

// tellIdle tells what is left to tell when everything that was read is handled and the queue is empty: what came to it
// since it was read is still to be waited for.
func (r *reader) tellIdle() {
	if len(r.mounts.due) == 0 {
		return
	}
	handled := r.counts.read.Load()
	if backlog, err := r.group.Backlog(); backlog == 0 || err != nil {
		handled = never
	}
	r.now = time.Now()
	r.remounted(handled)
	r.flush()
}

// carried notes that a directory was renamed, with whatever is mounted below it.
func (r *reader) carried(child fanotify.HandleBytes, from *node, old []byte, to *node, new []byte) {
	if !r.plan.bears[child.FSID()] {
		return
	}
	inside, stays := r.tree.isInside(from), r.tree.isInside(to)
	r.mounts.force = r.mounts.force || inside != stays
	if from != nil && to != nil && from.worst != event.PathUnknown && to.worst != event.PathUnknown {
		r.plan.renamed(r.tree.systems[child.FSID()].namespace, string(appendName(from.appendPath(nil), old)), string(appendName(to.appendPath(nil), new)))
	}
}
