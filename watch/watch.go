package watch

import (
	"context"
	"errors"
	"iter"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/process"
)

// Changes is what a Config without Events watches.
const Changes = fanotify.Create | fanotify.Delete | fanotify.Rename | fanotify.Modify | fanotify.CloseWrite |
	fanotify.Attrib | fanotify.MntAttach | fanotify.MntDetach

// The values of a Config that doesn't say.
const (
	DefaultLatency    = time.Millisecond
	DefaultMaxBacklog = 1 << 20 // events, about 200 bytes of the kernel's memory each
	DefaultMaxQueued  = 1 << 16 // events
	DefaultMaxDirs    = 1 << 18 // directories, about 150 bytes each
)

// Config says what to watch and how. The zero value watches Changes on the whole machine.
type Config struct {
	// Roots are directories, files or mount points, spelled in any way. Without a root, every mounted filesystem but
	// the kernel's own pseudo filesystems is watched.
	Roots []string
	// AllNamespaces watches filesystems, too, that are mounted only in the mount namespaces of other processes, below
	// the same roots there. Their paths are those in the namespace, which Event.Namespace tells. Namespaces and mounts
	// that come later are found within seconds. Only namespaces of processes that /proc shows are found.
	AllNamespaces bool
	// Events is what to report; zero means Changes. A directory's events are reported too, with OnDir.
	Events fanotify.Mask
	// Latency is how long to let events gather between two reads, so that one read takes many of them: it halves the
	// cost of an event and the slowdown of the program that makes them. What comes after a lull is read at once. Zero
	// means DefaultLatency, a negative value none.
	Latency time.Duration
	// KeepThread lets the reader wait out the latency budget in its thread instead of in Go's scheduler. That costs a
	// third less processor time, but takes one of the GOMAXPROCS processors away from other goroutines meanwhile: for
	// programs that do little else. It holds for a budget of up to 10 ms.
	KeepThread bool
	// NoProcesses leaves out the facts about processes; events keep their pid.
	NoProcesses bool
	// ProcessDetails adds event.Details and containers to what is found out about processes: for each, some more files of
	// /proc are read, while it lives.
	ProcessDetails bool
	// OnlyRoots marks nothing but the filesystems of the roots. Otherwise, what is executed on the other ones is marked
	// too, because a process that ended before it is looked up is known by the program that it opened. With it, a
	// short-lived process's program is only known from the filesystems of the roots.
	OnlyRoots bool
	// OwnEvents reports what this process itself does, too.
	OwnEvents bool
	// LimitedQueue leaves the kernel's queue at fs.fanotify.max_queued_events, beyond which events are lost in an
	// overflow; the default is unlimited.
	LimitedQueue bool
	// MaxBacklog is how many events may wait in the kernel's queue, and as many here; what is above is discarded and
	// becomes an overflow. Zero means DefaultMaxBacklog.
	MaxBacklog int
	// MaxQueued is how many events may wait for the consumer; what comes then is lost, and counted in a record in its
	// place. Zero means DefaultMaxQueued.
	MaxQueued int
	// MaxDirs is how many directories are remembered, about; those above that nothing hangs on are asked for again when
	// they are met. Zero means DefaultMaxDirs.
	MaxDirs int
	// MaxMarks is how many directories may have marks of their own, where a filesystem can't be marked as a whole, see
	// Coverage. Zero means four fifths of what the user may have (fs.fanotify.max_user_marks), so that something is left
	// for other programs.
	MaxMarks int

	oldMounts bool // as if the kernel told no more of mounts than mountinfo does
}

// Watcher watches filesystems. Close releases it.
type Watcher struct {
	config  Config
	budget  budget
	sources process.Sources
	queue   *queue
	main    *reader // which follows the mounts
	errors  *fsErrors

	mu      sync.Mutex
	readers []*reader // a filesystem with a weak id has one of its own
	past    Stats     // of readers that ended
	started bool

	context context.Context
	stop    context.CancelFunc // ends the readers after what is queued
	closed  bool

	live  atomic.Int32 // readers
	ended sync.WaitGroup
}

// Stats counts what happened since New.
type Stats struct {
	Read      uint64 // events read from the kernel, with those of no interest
	Delivered uint64 // events given to the consumer
	Lost      uint64 // events that the consumer was too slow for
	Overflows uint64 // queue overflows: an unknown number of events each
	Replans   uint64 // looks at what is mounted, because something was mounted or unmounted under the roots

	// ProcessOverruns is how often what the kernel tells of processes came faster than it was read. For a moment, events
	// have their pid alone then.
	ProcessOverruns uint64
}

type counters struct {
	read, overflows, replans, overruns atomic.Uint64
}

// New starts watching: when it returns, every mark is in place, and what happens from then on is delivered. A root that
// can't be watched is an error; a filesystem below a root, or any without roots, that can't is left out, and Coverage
// says why.
//
// With CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH most filesystems get one mark. Without CAP_SYS_ADMIN the directories that
// the user may read are marked one by one (since Linux 5.13), processes are known only if they are this one, and the
// kernel's queue is limited; the whole machine can't be watched then.
func New(config Config) (*Watcher, error) {
	w, err := prepare(config)
	if err != nil {
		return nil, err
	}
	w.start()
	return w, nil
}

// prepare does all but start the readers.
func prepare(config Config) (*Watcher, error) {
	w := &Watcher{config: config.withDefaults(), budget: budget{limit: int64(config.MaxMarks)}}
	if config.MaxMarks == 0 {
		w.budget.limit = defaultMaxMarks()
	}
	w.queue = newQueue(w.config.MaxQueued)
	group, err := newGroup(w.config)
	if err != nil {
		return nil, err
	}
	r := newReader(w.config, group, w.queue)
	w.main, w.readers = r, []*reader{r}
	w.context, w.stop = context.WithCancel(context.Background())
	r.context = w.context
	r.plan.budget, r.plan.apart = &w.budget, w.watchApart
	if !w.config.NoProcesses {
		w.sources = r.processes.Connect() // before the marks: it is never behind the queue
	}
	if r.processes.Connected() {
		r.plan.mask |= fanotify.OpenExec
	}
	if w.config.Events.Has(fanotify.FSError) {
		if w.errors, err = newFSErrors(w.queue); err != nil {
			r.processes.Close()
			_ = w.closeGroups()
			return nil, err
		}
		r.plan.errors = w.errors
	}
	if r.mounts, err = newMountWatch(w.config); err == nil {
		if w.config.AllNamespaces {
			r.plan.follow = r.mounts.changes.Follow
		}
		if err = r.plan.watch(w.config.Roots); err != nil {
			r.mounts.close()
		}
	}
	if err != nil {
		r.processes.Close()
		_ = w.closeGroups()
		return nil, err
	}
	r.markedPrograms()
	if r.processes.Connected() && !w.config.OnlyRoots {
		r.markPrograms(r.plan.others())
	}
	r.coverage.Store(&r.plan.coverage)
	return w, nil
}

// newGroup makes a group, without privilege one that can only mark directories: that is not enough for the whole
// machine.
func newGroup(config Config) (*fanotify.Group, error) {
	group, err := fanotify.NewGroup(fanotify.Config{
		Report:         fanotify.ReportDFIDNameTarget,
		UnlimitedQueue: !config.LimitedQueue,
		UnlimitedMarks: true,
	})
	if !errors.Is(err, unix.EPERM) || len(config.Roots) == 0 {
		return group, err
	}
	return fanotify.NewGroup(fanotify.Config{Report: fanotify.ReportDFIDNameTarget})
}

// needed is what the tree of directories is kept from.
const needed = fanotify.Create | fanotify.Delete | fanotify.Rename | fanotify.OnDir

func (c Config) withDefaults() Config {
	setDefault(&c.Events, Changes)
	setDefault(&c.Latency, DefaultLatency)
	setDefault(&c.MaxBacklog, DefaultMaxBacklog)
	setDefault(&c.MaxQueued, DefaultMaxQueued)
	setDefault(&c.MaxDirs, DefaultMaxDirs)
	return c
}

// defaultMaxMarks is four fifths of how many marks the user may have.
func defaultMaxMarks() int64 {
	limits, err := fanotify.ReadLimits()
	if err != nil {
		limits.MaxUserMarks, limits.NamespaceMarks = 8192, 8192 // before Linux 5.13
	}
	return int64(min(limits.MaxUserMarks, limits.NamespaceMarks)) / 5 * 4
}

func setDefault[T comparable](value *T, def T) {
	if *value == *new(T) {
		*value = def
	}
}

// Events yields the events in batches, until the context is done, the Watcher is closed, or the stream ends by Stop or
// an error. A batch is borrowed until the next step; the strings in it and what its pointers lead to may be kept. Two
// loops at the same time share the events.
func (w *Watcher) Events(ctx context.Context) iter.Seq2[[]event.Event, error] {
	return func(yield func([]event.Event, error) bool) {
		for {
			b, err := w.queue.pop(ctx)
			if errors.Is(err, os.ErrClosed) || errors.Is(err, context.Canceled) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
			more := yield(b.events, nil)
			w.queue.recycle(b)
			if !more {
				return
			}
		}
	}
}

// Stop ends the stream behind what happened before the call: Events delivers that and returns. It doesn't wait.
func (w *Watcher) Stop() { w.stop() }

// Close ends the watch at once: marks are removed, Events returns. It waits for the reader and may be called at any
// time from any goroutine; further calls do nothing.
func (w *Watcher) Close() error {
	w.mu.Lock()
	closed := w.closed
	w.closed = true
	w.mu.Unlock()
	if closed {
		return nil
	}
	err := w.closeGroups()
	w.stop()
	w.queue.close()
	w.ended.Wait()
	return err
}

func (w *Watcher) closeGroups() (err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.readers {
		err = errors.Join(err, r.group.Close())
	}
	if w.errors != nil {
		err = errors.Join(err, w.errors.group.Close())
	}
	return err
}

// Coverage says what is watched now and what is not. At the start that is in the order of the roots and then of mounting;
// what is mounted later follows.
func (w *Watcher) Coverage() []Coverage {
	var all []Coverage
	for _, c := range *w.main.coverage.Load() {
		all = append(all, c.now())
	}
	return all
}

// ProcessErr says why the kernel doesn't tell of processes: what short-lived ones were is found out only as far as
// /proc still knows. It is nil when the kernel does, and with NoProcesses.
func (w *Watcher) ProcessErr() error { return errors.Join(w.sources.Connector, w.sources.Accounting) }

// Stats returns counters since New.
func (w *Watcher) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := w.past
	for _, r := range w.readers {
		sum = sum.plus(&r.counts)
	}
	sum.Delivered, sum.Lost = w.queue.counts()
	return sum
}

func (s Stats) plus(c *counters) Stats {
	s.Read += c.read.Load()
	s.Overflows += c.overflows.Load()
	s.Replans += c.replans.Load()
	s.ProcessOverruns += c.overruns.Load()
	return s
}
