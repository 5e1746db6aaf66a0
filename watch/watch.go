package watch

import (
	"context"
	"iter"
	"time"

	"fanlight/event"
	"fanlight/fanotify"
)

// Changes is what a Config without Events watches.
const Changes = fanotify.Create | fanotify.Delete | fanotify.Rename | fanotify.Modify | fanotify.CloseWrite | fanotify.Attrib

// DefaultLatency is the latency budget of a Config without one.
const DefaultLatency = time.Millisecond

// Config says what to watch and how. The zero value watches Changes on the whole machine.
type Config struct {
	// Roots are directories, files or mount points, spelled in any way. Without a root, every mounted filesystem but
	// the kernel's own pseudo filesystems is watched.
	Roots []string
	// Events is what to report; zero means Changes.
	Events fanotify.Mask
	// Latency is the time to wait after a wake-up, so that one read takes many events. Zero means DefaultLatency, a
	// negative value none.
	Latency time.Duration
	// NoProcesses leaves out the facts about processes; events keep their pid.
	NoProcesses bool
	// OwnEvents reports what this process itself does, too.
	OwnEvents bool
	// LimitedQueue leaves the kernel's queue at fs.fanotify.max_queued_events; the default is unlimited.
	LimitedQueue bool
}

// Watcher watches filesystems.
type Watcher struct{}

// New starts watching: when it returns, every mark is in place.
func New(cfg Config) (*Watcher, error) { return nil, nil }

// Events returns the events in batches. A batch is borrowed until the next step.
func (w *Watcher) Events(ctx context.Context) iter.Seq2[[]event.Event, error] { return nil }

// Coverage says what is watched and what is not.
func (w *Watcher) Coverage() []Coverage { return nil }

// Stats returns counters since New.
func (w *Watcher) Stats() Stats { return Stats{} }

// Close ends the watch. It may be called at any time from any goroutine.
func (w *Watcher) Close() error { return nil }

// Coverage is one watched, or refused, filesystem.
type Coverage struct {
	Root       string // the root that was asked for or the mount point below it
	MountPoint string // where the filesystem is mounted
	FSType     string // such as "ext4"
	Err        error  // why it is not watched; nil when it is
}

// Stats counts what happened since New.
type Stats struct {
	Read      uint64 // events read from the kernel
	Delivered uint64 // events given to the consumer
	Lost      uint64 // events that the consumer was too slow for
	Overflows uint64 // queue overflows: an unknown number of events each
}
