package watch

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/process"
	"fanlight/internal/rawsys"
)

// reader is the goroutine that reads the group. It owns the tree and the table of processes.
type reader struct {
	config    Config
	group     *fanotify.Group
	pending   pending
	tree      *tree
	processes *process.Table
	counts    counters
	plan      *plan
	mounts    *mountWatch
	syncs     syncs
	context   context.Context // ends it behind what is queued
	part      *part           // nil for the main reader
	unsettled []fanotify.FSID // whose paths are not sure before the queue was empty
	coverage  atomic.Pointer[[]coverage]
	missed    bool // events of this round that may be of interest can't be placed
	self      int32

	programs  map[fanotify.Handle]program
	unplanned map[fanotify.FSID]*filesystem // those that are marked only for what is executed there
	path      []byte                        // of a program
	due       context.Context               // done when the table of processes is to be told what came without events
	notDue    context.CancelFunc            // of due
	drained   uint64                        // pending.total when the table of processes was last told what came meanwhile

	now   time.Time // when what is being handled was read
	out   *batch
	queue *queue
	moves [4]move // the last renames of files, for their self events
	nmove int
}

// newReader returns a reader of a group that watches nothing yet, and knows nothing of mounts.
func newReader(config Config, group *fanotify.Group, q *queue) *reader {
	r := &reader{
		config: config, group: group, queue: q, self: int32(os.Getpid()), out: q.take(),
		mounts:    &mountWatch{next: never, cancel: func() {}},
		processes: &process.Table{Details: config.ProcessDetails}, programs: map[fanotify.Handle]program{},
		unplanned: map[fanotify.FSID]*filesystem{}, notDue: func() {},
	}
	r.pending = pending{group: group, max: config.MaxBacklog * readEvent}
	r.tree = newTree(&r.pending, config.MaxDirs)
	r.plan = newPlan(config, group, r.tree)
	return r
}

// run reads until the group is closed or the context is done, and then what was queued when it was.
func (r *reader) run(ctx context.Context) error {
	defer r.processes.Close()
	wake := r.mounts.until(ctx)
	defer func() { r.notDue() }()
	ending, last := false, uint64(0)
	for {
		if wake.Err() != nil {
			wake = r.mounts.until(ctx) // before looking at the mounts
		}
		if !ending && ctx.Err() != nil {
			ending, last = true, r.counts.read.Load()+r.waiting()
		}
		r.notice()
		n, err := r.turn()
		r.answerSyncs(n == 0 && len(r.pending.batches) == 0)
		switch {
		case errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return err
		case ending && (n == 0 && len(r.pending.batches) == 0 || r.counts.read.Load() >= last):
			r.remounted(never)
			r.flush()
			return nil
		case ending, r.pending.behind, len(r.pending.batches) > 0, r.mounts.soon:
			continue
		}
		// What comes first is read at once, when its process is most likely still there; what follows is gathered.
		if n == 0 {
			r.wait(wake)
		} else {
			r.pause(wake)
		}
	}
}

// turn reads what is queued, one buffer at most, and handles it. It returns the bytes that it read.
func (r *reader) turn() (int, error) {
	n, err := r.pending.read()
	if err == nil {
		r.lookAtMounts()
	}
	switch {
	case err != nil:
	case len(r.pending.batches) > 0:
		err = r.handleAll()
	default:
		r.processes.Drain()
		r.processes.Idle()
		r.countProcesses()
		if len(r.tree.postponed) > 0 {
			r.now = time.Now()
			r.followMissing(nil)
			r.flush()
		}
		r.tellIdle()
	}
	return n, err
}

// feedInterval is how long what the kernel tells of processes may wait while nothing happens to files: its buffer holds
// what starts and ends in that time on a machine that does nothing else.
const feedInterval = 250 * time.Millisecond

// retryAfter is when directories are marked that could not be for want of descriptors or memory.
const retryAfter = time.Second

// wait waits for an event, or until something else is due: the kernel's messages of processes, marks.
func (r *reader) wait(ctx context.Context) {
	if len(r.tree.postponed) > 0 && !r.processes.Connected() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, retryAfter)
		defer cancel()
	}
	if r.processes.Connected() {
		if r.due == nil || r.due.Err() != nil {
			r.notDue()
			r.due, r.notDue = context.WithTimeout(ctx, feedInterval)
		}
		ctx = r.due
	}
	_ = r.group.Wait(ctx) // an error shows again at the next read
}

// pause waits for the latency budget, so that the next read takes many events.
func (r *reader) pause(ctx context.Context) {
	switch {
	case r.config.Latency <= 0:
	case r.config.Latency <= 10*time.Millisecond && r.config.KeepThread:
		runtime.Gosched() // to the consumer
		rawsys.Sleep(r.config.Latency)
	default:
		select {
		case <-time.After(r.config.Latency):
		case <-ctx.Done():
		}
	}
}

// Sizes in bytes of an event: as FIONREAD counts it in the kernel's queue, and about what it is when it was read.
const (
	backlogEvent = 24
	readEvent    = 96
)

// waiting returns how many events happened that are not handled yet.
func (r *reader) waiting() uint64 {
	n := uint64(0)
	for _, b := range r.pending.batches {
		for range b.Ahead(&r.pending.scratch) {
			n++
		}
	}
	if backlog, err := r.group.Backlog(); err == nil {
		n += uint64(backlog / backlogEvent)
	}
	return n
}

// handleAll handles what was read, and what is read meanwhile to find directories, until a batch is full.
func (r *reader) handleAll() error {
	r.now = time.Now()
	r.processes.NextRound()
	if r.pending.behind {
		if backlog, err := r.group.Backlog(); err == nil && backlog/backlogEvent > r.config.MaxBacklog {
			if err := r.pending.discard(backlog / backlogEvent); err != nil {
				return err
			}
			r.overflow()
		}
	}
	for full := false; len(r.pending.batches) > 0 && !full; {
		r.lookAtMounts()
		for e, err := range r.pending.batches[0].Events() {
			if err != nil {
				// The kernel doesn't write such a thing. What it says is lost.
				r.overflow()
				continue
			}
			n := r.counts.read.Add(1)
			r.drain()
			r.handle(e)
			if n >= r.mounts.next {
				r.remounted(n)
			}
			if r.out.full() || len(r.out.events) >= r.config.MaxQueued {
				r.flush()
				full = true
			}
		}
		r.pending.handled()
	}
	if !r.pending.behind && len(r.pending.batches) == 0 {
		r.followMissing(nil)
		if r.tree.lossy && r.tree.hasInodes {
			r.tree.walkAgain(r.plan.places)
		}
		r.tree.settle()
		r.settleMove()
		r.processes.Idle()
	}
	if r.missed {
		r.tellOverflow()
	}
	r.missed, r.tree.unasked = false, false
	r.countProcesses()
	r.flush()
	return nil
}

// drain brings the table of processes up to what was read: it is never behind the queue.
func (r *reader) drain() {
	if r.drained != r.pending.total {
		r.drained = r.pending.total
		r.processes.Drain()
	}
}

// countProcesses publishes what the table of processes counts.
func (r *reader) countProcesses() { r.counts.overruns.Store(r.processes.Stats().Overruns) }

// flush hands the events over.
func (r *reader) flush() {
	if len(r.out.events) > 0 {
		r.queue.push(r.out)
		r.out = r.queue.take()
	}
}

// overflow notes that the kernel's queue overflowed: no directory is where it was any more.
func (r *reader) overflow() {
	r.mounts.hurry()
	r.tree.rebuild(r.plan.places)
	r.processes.Lost()
	r.tellOverflow()
}

// tellOverflow appends the record that an unknown number of events was lost.
func (r *reader) tellOverflow() {
	r.counts.overflows.Add(1)
	r.emit(fanotify.Overflow, paths{}).Scope = r.plan.scope()
}

// emit appends an event to the batch, and returns it for what else there is to say until the next one comes; its paths
// are already in the batch's text.
func (r *reader) emit(m fanotify.Mask, p paths) *event.Event {
	e := r.out.add(p)
	e.Time, e.Mask = r.now, m
	return e
}
