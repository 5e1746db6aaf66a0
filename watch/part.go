package watch

import (
	"context"
	"os"
	"slices"
	"sync/atomic"

	"fanlight/event"
)

// part is a reader with a group of its own, for one place whose filesystem id goes with no other in a group. It has its
// own tree and knows nothing of mounts: the main reader tells it.
type part struct {
	stop  context.CancelFunc
	point atomic.Pointer[string] // where the place is mounted now, if that changed
}

// end ends the part behind what is queued.
func (p *part) end() { p.stop() }

// moveTo tells that the place's mount is somewhere else.
func (p *part) moveTo(point string) { p.point.Store(&point) }

// watchApart watches the directories of a place with a reader of their own.
func (w *Watcher) watchApart(at *place) error {
	group, err := newGroup(w.config)
	if err != nil {
		return err
	}
	r := newReader(w.config, group, w.queue)
	r.plan.budget, r.plan.follow = &w.budget, w.main.plan.follow
	r.plan.roots = []root{{at.asked, at.path, at.isDir}}
	if !w.config.NoProcesses {
		_ = r.processes.Connect() // the main reader's says why not
	}
	if err := r.plan.takeInodes(at); err != nil {
		r.processes.Close()
		group.Close()
		return err
	}
	r.plan.places = []place{*at}
	r.part = new(part)
	r.context, r.part.stop = context.WithCancel(w.context)
	at.form.part = r.part
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		r.processes.Close()
		group.Close()
		return os.ErrClosed
	}
	w.readers = append(w.readers, r)
	if w.started {
		w.run(r)
	}
	return nil
}

// start starts the readers.
func (w *Watcher) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.started = true
	for _, r := range w.readers {
		w.run(r)
	}
	if w.errors != nil {
		w.live.Add(1)
		w.ended.Go(func() { w.ending(w.errors.run(w.context)) })
	}
}

// ending notes that one of those that write to the queue ended. The stream ends with the last one, or when one fails.
func (w *Watcher) ending(err error) {
	if w.live.Add(-1) == 0 || err != nil {
		w.queue.end(err)
	}
}

// run starts a reader.
func (w *Watcher) run(r *reader) {
	w.live.Add(1)
	w.ended.Go(func() {
		err := r.run(r.context)
		r.syncs.end()
		r.mounts.close()
		r.group.Close()
		w.mu.Lock()
		w.past = w.past.plus(&r.counts)
		w.readers = slices.DeleteFunc(w.readers, func(other *reader) bool { return other == r })
		w.mu.Unlock()
		w.ending(err)
	})
}

// followMove takes over where a part's place is mounted now. Which of the events that are queued were before that,
// nobody knows.
func (r *reader) followMove() {
	if r.part == nil {
		return // it watches nothing that moves
	}
	point := r.part.point.Swap(nil)
	if point == nil {
		return
	}
	at := &r.plan.places[0]
	m := at.mount
	m.Point = *point
	r.tree.repoint(at.top, at.mount.Point, m.Point, event.PathCurrent)
	*at = at.movedTo(m)
	r.unsettled = append(r.unsettled, at.id())
}

// settleMove says that all events were handled that were queued at a move.
func (r *reader) settleMove() {
	for _, id := range r.unsettled {
		r.tree.settled(id, r.plan.places)
	}
	r.unsettled = nil
}
