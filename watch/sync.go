package watch

import (
	"context"
	"os"
	"slices"
	"sync"
)

// Sync returns once everything that happened before the call was delivered: the loop over Events has handled it and
// asks for more. So it needs a loop in another goroutine, and must not be called in a loop's body.
//
// The kernel's queue is first in, first out. So each reader has to handle as many events as were queued at the call
// (FIONREAD), and no file is made to find that out. What was lost meanwhile has its record in the stream. Errors that
// filesystems report (fanotify.FSError) are not waited for. The error is the context's, or os.ErrClosed when the
// Watcher was closed before.
func (w *Watcher) Sync(ctx context.Context) error {
	w.mu.Lock()
	readers := slices.Clone(w.readers)
	w.mu.Unlock()
	for _, r := range readers {
		handled := r.syncs.ask()
		r.mounts.wake()
		select {
		case <-handled:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := w.queue.consumed(ctx); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed { // readers may have ended by that
		return os.ErrClosed
	}
	return nil
}

// syncs are the calls of Sync that wait for a reader.
type syncs struct {
	mu    sync.Mutex
	calls []syncCall
	ended bool
}

type syncCall struct {
	last    uint64 // how many events are handled then; 0 until the reader has seen the call
	handled chan struct{}
}

// ask returns what is closed once the reader has handled what is queued now.
func (s *syncs) ask() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	handled := make(chan struct{})
	if s.ended {
		close(handled)
	} else {
		s.calls = append(s.calls, syncCall{handled: handled})
	}
	return handled
}

// end answers every call, and those that come.
func (s *syncs) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, c := range s.calls {
		close(c.handled)
	}
	s.calls = nil
}

// notice notes how far there is to go for the calls that are new.
func (r *reader) notice() {
	r.syncs.mu.Lock()
	defer r.syncs.mu.Unlock()
	for i := range r.syncs.calls {
		if c := &r.syncs.calls[i]; c.last == 0 {
			c.last = max(1, r.counts.read.Load()+r.waiting())
		}
	}
}

// answerSyncs answers the calls that are due: idle says that nothing was queued any more.
func (r *reader) answerSyncs(idle bool) {
	r.syncs.mu.Lock()
	defer r.syncs.mu.Unlock()
	read := r.counts.read.Load()
	r.syncs.calls = slices.DeleteFunc(r.syncs.calls, func(c syncCall) bool {
		due := c.last > 0 && (idle || read >= c.last)
		if due {
			close(c.handled)
		}
		return due
	})
}

// consumed waits until the consumer is done with every batch that was put so far.
func (q *queue) consumed(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for last := q.puts; q.recycled < last; {
		if q.closed {
			return os.ErrClosed
		}
		if q.progress == nil {
			q.progress = make(chan struct{})
		}
		progress := q.progress
		q.mu.Unlock()
		select {
		case <-progress:
		case <-ctx.Done():
		}
		q.mu.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if q.closed {
		return os.ErrClosed
	}
	return nil
}

// advance tells those who wait for the consumer to look again; q is locked.
func (q *queue) advance() {
	if q.progress != nil {
		close(q.progress)
		q.progress = nil
	}
}
