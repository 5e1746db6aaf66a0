package watch

import (
	"context"
	"os"
	"sync"
	"time"

	"fanlight/event"
	"fanlight/fanotify"
)

// queue is what the reader and the consumer share: batches in order, bounded, with loss as a record in its place.
type queue struct {
	max int

	mu        sync.Mutex
	batches   []*batch
	text      int         // bytes of their paths
	queued    int         // events in batches
	lost      uint64      // events lost behind the last batch
	overflow  event.Event // the last overflow among them
	ended     bool
	closed    bool
	err       error // why it ended
	free      []*batch
	delivered uint64
	lostTotal uint64
	puts      uint64        // batches that were put
	recycled  uint64        // of them, those that the consumer is done with
	progress  chan struct{} // closed when that changes; nil if nobody waits for it

	ready chan struct{} // holds a token when there may be something to take
}

func newQueue(limit int) *queue { return &queue{max: limit, ready: make(chan struct{}, 1)} }

// maxFree is how many used batches are kept for the next.
const maxFree = 4

// take returns an empty batch for the reader to fill.
func (q *queue) take() *batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.free); n > 0 {
		b := q.free[n-1]
		q.free = q.free[:n-1]
		return b
	}
	return new(batch)
}

// recycle takes a batch back that the consumer is done with.
func (q *queue) recycle(b *batch) {
	b.reset()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.recycled++
	q.advance()
	if len(q.free) < maxFree {
		q.free = append(q.free, b)
	}
}

// push hands a batch over, and never waits: when the consumer is too far behind, the batch is lost, and counted.
func (q *queue) push(b *batch) {
	b.seal()
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(b.events)
	if q.closed {
		return
	}
	if q.queued+n > q.max || q.text+b.size > maxText {
		q.lose(b)
		return
	}
	q.putLoss(b.events[0].Time)
	q.put(b)
}

// lose counts a batch as lost. An overflow in it is no event with a count: it stands behind the record of the loss.
func (q *queue) lose(b *batch) {
	for _, e := range b.events {
		if e.Mask.Has(fanotify.Overflow) {
			q.overflow = e
			continue
		}
		q.lost++
		q.lostTotal++
	}
}

func (q *queue) put(b *batch) {
	q.puts++
	q.batches = append(q.batches, b)
	q.queued += len(b.events)
	q.text += b.size
	q.wake()
}

// putLoss appends the record of what was lost, if anything was.
func (q *queue) putLoss(now time.Time) {
	if q.lost == 0 && q.overflow.Mask == 0 {
		return
	}
	b := new(batch)
	if q.lost > 0 {
		b.events = append(b.events, event.Event{Time: now, Lost: q.lost})
	}
	if q.overflow.Mask != 0 {
		b.events = append(b.events, q.overflow)
	}
	q.lost, q.overflow = 0, event.Event{}
	q.put(b)
}

func (q *queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// pop returns the next batch. It blocks until there is one, the context is done, or the queue ended, which is
// os.ErrClosed behind the last batch unless there is a better reason.
func (q *queue) pop(ctx context.Context) (*batch, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b, err := q.tryPop()
		if b != nil || err != nil {
			return b, err
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (q *queue) tryPop() (*batch, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.batches) == 0 {
		q.putLoss(time.Now())
	}
	if len(q.batches) > 0 {
		b := q.batches[0]
		q.batches[0] = nil
		q.batches = q.batches[1:]
		q.queued -= len(b.events)
		q.text -= b.size
		if len(q.batches) > 0 {
			q.wake() // another loop
		}
		q.delivered += uint64(len(b.events))
		if b.events[0].Lost > 0 {
			q.delivered-- // which is no event
		}
		return b, nil
	}
	if !q.ended {
		return nil, nil
	}
	q.wake() // for another pop
	if q.err != nil {
		return nil, q.err
	}
	return nil, os.ErrClosed
}

// end says that nothing more comes, and why; the first call counts.
func (q *queue) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.ended {
		q.ended, q.err = true, err
	}
	q.wake()
}

// close ends the queue at once: what it holds is gone.
func (q *queue) close() {
	q.end(nil)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.batches, q.queued, q.text, q.lost, q.overflow, q.closed = nil, 0, 0, 0, event.Event{}, true
	q.advance()
}

func (q *queue) counts() (delivered, lost uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.delivered, q.lostTotal
}

// batch is a number of events whose paths lie in one piece of memory, so that it is allocated once for all of them.
type batch struct {
	events []event.Event
	paths  []paths // of the events, by their index
	text   []byte
	size   int // bytes of the sealed text
}

// maxText is how many bytes of paths wait for the consumer at most.
const maxText = 64 << 20

// paths says where the paths of an event begin and end in the text.
type paths struct{ start, middle, end uint32 }

// maxBatch is how many bytes of paths a batch holds at most, or not much more.
const maxBatch = 1 << 20

// full reports whether the batch should be handed over before another event comes in.
func (b *batch) full() bool { return len(b.text) >= maxBatch || len(b.events) >= maxBatch/64 }

// add appends an empty event. What is behind the end of events is empty, see reset.
func (b *batch) add(p paths) *event.Event {
	b.paths = append(b.paths, p)
	if n := len(b.events); n < cap(b.events) {
		b.events = b.events[:n+1]
	} else {
		b.events = append(b.events, event.Event{})
	}
	return &b.events[len(b.events)-1]
}

// seal makes the paths strings.
func (b *batch) seal() {
	text := string(b.text)
	b.size = len(text)
	if cap(b.text) > maxBatch/16 {
		b.text = nil // not twice in memory while the batch waits
	}
	for i, p := range b.paths {
		b.events[i].Path = text[p.start:p.middle]
		b.events[i].NewPath = text[p.middle:p.end]
	}
}

func (b *batch) reset() {
	clear(b.events) // lets go of processes and texts
	b.events, b.paths, b.text, b.size = b.events[:0], b.paths[:0], b.text[:0], 0
}
