package watch

import (
	"context"
	"errors"
	"os"
	"runtime"
	"time"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/process"
	"fanlight/internal/thread"
)

// reader is the goroutine that reads the group. It owns the tree and the table of processes.
type reader struct {
	config    Config
	group     *fanotify.Group
	pending   pending
	tree      *tree
	processes *process.Table
	counts    *counters
	whole     bool   // everything on the marked filesystems is watched
	scope     string // of an overflow
	missed    bool   // events of this round that may be of interest can't be placed
	self      int32

	programs map[fanotify.Handle]program
	path     []byte             // of a program
	due      context.Context    // done when the table of processes is to be told what came without events
	notDue   context.CancelFunc // of due
	drained  uint64             // pending.total when the table of processes was last told what came meanwhile

	now   time.Time // when what is being handled was read
	out   *batch
	queue *queue
	moves [4]move // the last renames of files, for their self events
	nmove int
}

func newReader(
	config Config, group *fanotify.Group, p *plan, processes *process.Table, q *queue, counts *counters,
) (*reader, error) {
	r := &reader{
		config: config, group: group, processes: processes, counts: counts, queue: q, whole: p.whole, scope: p.scope(),
		self: int32(os.Getpid()), out: q.take(), programs: map[fanotify.Handle]program{}, notDue: func() {},
	}
	r.pending = pending{group: group, max: config.MaxBacklog * readEvent}
	var err error
	r.tree, err = newTree(p, &r.pending, config.MaxDirs)
	for _, at := range p.places {
		processes.Marked(at.mount.Device.Major, at.mount.Device.Minor)
	}
	if err == nil && processes.Connected() && !config.OnlyRoots {
		r.markPrograms(p.elsewhere())
	}
	return r, err
}

// run reads until the group is closed or the context is done, and then what was queued when it was.
func (r *reader) run(ctx context.Context) error {
	defer r.processes.Close()
	defer func() { r.notDue() }()
	defer r.tree.closeMounts()
	ending, last := false, uint64(0)
	for {
		if !ending && ctx.Err() != nil {
			ending, last = true, r.counts.read.Load()+r.waiting()
		}
		n, err := r.pending.read()
		switch {
		case err != nil:
		case len(r.pending.batches) > 0:
			err = r.handleAll()
		default:
			r.processes.Drain()
			r.processes.Idle()
			r.countProcesses()
		}
		switch {
		case errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return err
		case ending && (n == 0 || r.counts.read.Load() >= last):
			return nil
		case ending, r.pending.behind, len(r.pending.batches) > 0:
			continue
		}
		// What comes first is read at once, when its process is most likely still there; what follows is gathered.
		if n == 0 {
			r.wait(ctx)
		} else {
			r.pause(ctx)
		}
	}
}

// feedInterval is how long what the kernel tells of processes may wait while nothing happens to files: its buffer holds
// what starts and ends in that time on a machine that does nothing else.
const feedInterval = 250 * time.Millisecond

// wait waits for an event, or until the kernel's messages of processes are due.
func (r *reader) wait(ctx context.Context) {
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
		thread.Sleep(r.config.Latency)
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
		for e, err := range r.pending.batches[0].Events() {
			if err != nil {
				// The kernel doesn't write such a thing. What it says is lost.
				r.overflow()
				continue
			}
			r.counts.read.Add(1)
			r.drain()
			r.handle(e)
			if r.out.full() || len(r.out.events) >= r.config.MaxQueued {
				r.tree.closeMounts()
				r.flush()
				full = true
			}
		}
		r.pending.handled()
	}
	if r.missed {
		r.tellOverflow()
	}
	r.missed, r.tree.unasked = false, false
	if !r.pending.behind && len(r.pending.batches) == 0 {
		r.tree.settle()
		r.processes.Idle()
	}
	r.countProcesses()
	r.tree.closeMounts() // before anybody sees the events, who may want to unmount
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
	r.tree.rebuild()
	r.processes.Lost()
	r.tellOverflow()
}

// tellOverflow appends the record that an unknown number of events was lost.
func (r *reader) tellOverflow() {
	r.counts.overflows.Add(1)
	r.emit(fanotify.Overflow, paths{}).Scope = r.scope
}

// emit appends an event to the batch, and returns it for what else there is to say until the next one comes; its paths
// are already in the batch's text.
func (r *reader) emit(m fanotify.Mask, p paths) *event.Event {
	e := r.out.add(p)
	e.Time, e.Mask = r.now, m
	return e
}
