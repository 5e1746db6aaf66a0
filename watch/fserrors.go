package watch

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/mounts"
)

// fsErrors hears what filesystems report of their own errors (FAN_FS_ERROR, since Linux 5.16). It has a group and a
// goroutine of its own: a filesystem that is broken must not hold up what happens on the others. The handle of the
// object that is broken is never opened, because that would raise the error again; an event has the path of the mount.
type fsErrors struct {
	group *fanotify.Group
	queue *queue

	mu    sync.Mutex
	known map[fanotify.FSID]mounts.Mount // as it was when it was marked
}

func newFSErrors(q *queue) (*fsErrors, error) {
	group, err := fanotify.NewGroup(fanotify.Config{Report: fanotify.ReportFID})
	if err != nil {
		return nil, err
	}
	return &fsErrors{group: group, queue: q, known: map[fanotify.FSID]mounts.Mount{}}, nil
}

// mark begins to hear of a place's filesystem, which path leads to. What refuses is unseen. Of a nil *fsErrors nobody
// wants to know.
func (w *fsErrors) mark(at *place, path string) {
	if w == nil {
		return
	}
	if w.group.Mark(fanotify.TargetFilesystem, path, fanotify.FSError, 0) != nil {
		at.form.unseen = append(at.form.unseen[:len(at.form.unseen):len(at.form.unseen)], UnseenErrors)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known[at.id()] = at.mount
}

// unmark ends what mark began.
func (w *fsErrors) unmark(at place, path string) {
	if w == nil {
		return
	}
	_ = w.group.Unmark(fanotify.TargetFilesystem, path, fanotify.FSError, 0) // it may be gone with its filesystem
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.known, at.id())
}

// run reads until the group is closed or the context is done, and then what was queued when it was.
func (w *fsErrors) run(ctx context.Context) error {
	var batch fanotify.Batch
	defer batch.Close()
	for {
		ending := ctx.Err() != nil
		n, err := w.group.TryRead(&batch)
		switch {
		case errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return err
		case n > 0:
			w.tell(&batch)
		case ending:
			return nil
		default:
			_ = w.group.Wait(ctx) // an error shows again at the next read
		}
	}
}

// tell hands over the events of a batch.
func (w *fsErrors) tell(batch *fanotify.Batch) {
	out := w.queue.take()
	now := time.Now()
	for e, err := range batch.Events() {
		errno, count, ok := e.FSError()
		switch {
		case err == nil && ok:
			p := paths{start: uint32(len(out.text))}
			path, state := w.pathOf(e.Object().FSID())
			out.text = append(out.text, path...)
			p.middle, p.end = uint32(len(out.text)), uint32(len(out.text))
			to := out.add(p)
			to.Time, to.Mask, to.PID, to.PathState = now, fanotify.FSError, e.PID, state
			to.FSError = &event.FSError{Errno: int32(errno), Count: count}
		case err != nil, e.Mask.Has(fanotify.Overflow):
			to := out.add(paths{})
			to.Time, to.Mask, to.Scope = now, fanotify.Overflow, "/"
		}
	}
	if len(out.events) > 0 {
		w.queue.push(out)
	}
}

// pathOf returns where a filesystem is mounted: where it was when it was marked, if it still is.
func (w *fsErrors) pathOf(id fanotify.FSID) (string, event.PathState) {
	w.mu.Lock()
	was, ok := w.known[id]
	w.mu.Unlock()
	if !ok {
		return "", event.PathUnknown
	}
	table, err := mounts.Read()
	if err != nil {
		return was.Point, event.PathCurrent
	}
	path := ""
	for _, m := range table.Mounts {
		switch {
		case m.Device != was.Device || !table.Visible(m):
		case m.Point == was.Point:
			return m.Point, event.PathExact
		case path == "" || len(m.Point) < len(path):
			path = m.Point
		}
	}
	if path == "" {
		return was.Point, event.PathCurrent // it is mounted elsewhere, or no more
	}
	return path, event.PathCurrent
}
