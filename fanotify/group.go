package fanotify

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Class is the notification class of a group (fanotify_init(2)).
type Class uint32

// The classes. Of several groups, those of ClassPreContent are asked first, ClassNotif hears last.
const (
	ClassNotif      Class = unix.FAN_CLASS_NOTIF       // events only (since Linux 2.6.37)
	ClassContent    Class = unix.FAN_CLASS_CONTENT     // permission events on final content (since 2.6.37; CAP_SYS_ADMIN)
	ClassPreContent Class = unix.FAN_CLASS_PRE_CONTENT // also pre-content events, other errnos (since 2.6.37; CAP_SYS_ADMIN)
)

// String returns the kernel's name in lower case without FAN_, such as "class_content".
func (c Class) String() string {
	switch c {
	case ClassNotif:
		return "class_notif"
	case ClassContent:
		return "class_content"
	case ClassPreContent:
		return "class_pre_content"
	}
	return fmt.Sprintf("class %#x", uint32(c))
}

// Report is the set of what a group reports with its events (the FAN_REPORT_ flags of fanotify_init(2)). Handles and
// names exclude the content classes; without any of them, an event carries a descriptor.
type Report uint32

// The report flags.
const (
	ReportPIDFD     Report = unix.FAN_REPORT_PIDFD      // a pidfd of the process (since 5.15; CAP_SYS_ADMIN)
	ReportTID       Report = unix.FAN_REPORT_TID        // PID is the thread's (since 4.20; CAP_SYS_ADMIN)
	ReportFID       Report = unix.FAN_REPORT_FID        // the object's handle (since 5.1; unprivileged since 5.13)
	ReportDirFID    Report = unix.FAN_REPORT_DIR_FID    // the directory's handle (since 5.9)
	ReportName      Report = unix.FAN_REPORT_NAME       // the name in the directory; needs ReportDirFID (since 5.9)
	ReportTargetFID Report = unix.FAN_REPORT_TARGET_FID // the child's handle with names; needs the three above (since 5.17)
	// ReportFDError has an event say why its descriptor could not be opened; without it the event is lost. It also lets
	// files be opened without waiting: a lease (fcntl(2), F_SETLEASE) that anybody holds on his own file otherwise
	// keeps the reader, and with it everybody who waits for an answer, for 45 seconds (since 6.13; CAP_SYS_ADMIN).
	ReportFDError Report = unix.FAN_REPORT_FD_ERROR
	ReportMnt     Report = unix.FAN_REPORT_MNT // mounts of a namespace; marks need CAP_SYS_ADMIN (since 6.15)

	ReportDFIDName       = ReportDirFID | ReportName
	ReportDFIDNameTarget = ReportFID | ReportDirFID | ReportName | ReportTargetFID

	reportHandles = ReportDFIDNameTarget
)

// reportNames has the text of each report flag at its bit's number.
var reportNames = [64]string{
	7: "report_pidfd", 8: "report_tid", 9: "report_fid", 10: "report_dir_fid", 11: "report_name",
	12: "report_target_fid", 13: "report_fd_error", 14: "report_mnt",
}

// String returns the kernel's names in lower case without FAN_, in the form of a Mask: "report_fid|report_dir_fid".
func (r Report) String() string { return string(appendBits(nil, uint64(r), &reportNames)) }

// Sizes of the buffer of a Batch, in bytes.
const (
	// DefaultBufferSize is what one read takes at most when Config doesn't say and events carry no descriptors.
	DefaultBufferSize = 256 << 10

	// MinBufferSize is the smallest buffer that every event with handles fits into: metadata, two names of 255 bytes
	// with handles of 128 bytes and every other record. It is also the default where events carry descriptors: 170
	// events without a pidfd fit.
	MinBufferSize = 4096

	// leastBuffer is what every event without handles fits into, with records that are yet to come.
	leastBuffer = 128
)

// Config says what a group is. The zero value is a group of class ClassNotif whose events carry descriptors, with the
// system's limits; it needs CAP_SYS_ADMIN.
type Config struct {
	Class  Class
	Report Report

	// EventFlags are the open(2) flags of the descriptors in events: an access mode (0 is O_RDONLY), O_APPEND,
	// O_NONBLOCK, O_DSYNC, O_SYNC, O_NOATIME, O_LARGEFILE. O_CLOEXEC is always added, and O_NONBLOCK with
	// ReportFDError; without that O_NONBLOCK is refused, because what can't be opened at once would look like an empty
	// queue.
	EventFlags int

	UnlimitedQueue bool // no limit of queued events; no overflow (since Linux 2.6.37; CAP_SYS_ADMIN)
	UnlimitedMarks bool // marks don't count against the user's limit (since 2.6.37; CAP_SYS_ADMIN)
	Audit          bool // answers may ask for an audit record (since 4.15; CAP_AUDIT_WRITE)

	// Unanswered is what a permission event gets that nobody answered before it ended: the zero value allows.
	// Group.Unanswered counts them. When the group is closed, and where the kernel's queue is full, the kernel allows.
	Unanswered Response

	// BufferSize is the most that one read takes, in bytes, 1 GiB at most. 0 means DefaultBufferSize, or MinBufferSize
	// in a group whose events carry descriptors: these are open from the read until the event's step has passed. So
	// this bounds them, at 24 bytes for an event, 32 with its pidfd, and by at least five events; the kernel loses an
	// event whose descriptor would exceed the limit. In a group that reports handles less than MinBufferSize is not
	// taken.
	BufferSize int
}

// bufferSize returns the size that a read takes, in bytes.
func (c Config) bufferSize() int {
	handles := c.Report&reportHandles != 0
	descriptors := c.carriesFiles() || c.Report&ReportPIDFD != 0
	size := c.BufferSize
	switch {
	case size == 0 && descriptors:
		size = MinBufferSize
	case size == 0:
		size = DefaultBufferSize
	}
	if handles {
		return max(size, MinBufferSize)
	}
	return max(size, leastBuffer)
}

// Group is a notification group: a queue of events in the kernel and the marks that feed it. The descriptor is
// close-on-exec and non-blocking, and it never leaves the process.
type Group struct {
	config Config
	file   *os.File        // the group; not in the runtime's poller
	conn   syscall.RawConn // of file: holds the number while it is used
	waiter waiter

	closed     atomic.Bool
	reading    atomic.Bool // somebody reads: the queue, and what belongs to one goroutine here
	loop       *queue      // what Events has read
	unanswered atomic.Uint64
}

// NewGroup makes a group (fanotify_init(2), since Linux 2.6.37). The error is an *InitError that unwraps to the errno.
// The caller closes the group; one that is forgotten is closed when it is collected.
func NewGroup(config Config) (*Group, error) {
	config.BufferSize = config.bufferSize()
	if reason := config.refused(); reason != "" {
		return nil, &InitError{Config: config, Err: unix.EINVAL, Reason: reason}
	}
	if config.carriesFiles() && config.Report&ReportFDError != 0 {
		config.EventFlags |= unix.O_NONBLOCK
	}
	fd, err := unix.FanotifyInit(config.initFlags(), uint(config.EventFlags|unix.O_CLOEXEC))
	if err != nil {
		return nil, newInitError(config, err)
	}
	g := &Group{config: config, file: os.NewFile(uintptr(fd), "fanotify")}
	if err := g.join(fd); err != nil {
		explained := newInitError(config, err) // while its descriptor is still used
		g.file.Close()
		return nil, explained
	}
	return g, nil
}

// maxBufferSize is the largest Config.BufferSize: more than a read takes at once.
const maxBufferSize = 1 << 30

// refused says what is wrong with the Config that the kernel would not refuse.
func (c Config) refused() string {
	var refused *ResponseError
	switch {
	case errors.As(c.Unanswered.check(&c), &refused):
		return "unanswered " + refused.Response.String() + ": " + refused.Reason
	case c.carriesFiles() && c.EventFlags&unix.O_NONBLOCK != 0 && c.Report&ReportFDError == 0:
		return "O_NONBLOCK without report_fd_error loses events in silence: add it"
	case c.BufferSize > maxBufferSize:
		return fmt.Sprintf("a buffer of %d bytes: use %d at most", c.BufferSize, maxBufferSize)
	}
	return ""
}

// carriesFiles says whether events carry descriptors of files.
func (c Config) carriesFiles() bool { return c.Report&(reportHandles|ReportMnt) == 0 }

func (c Config) initFlags() uint {
	flags := uint(c.Class) | uint(c.Report) | unix.FAN_CLOEXEC
	if c.UnlimitedQueue {
		flags |= unix.FAN_UNLIMITED_QUEUE
	}
	if c.UnlimitedMarks {
		flags |= unix.FAN_UNLIMITED_MARKS
	}
	if c.Audit {
		flags |= unix.FAN_ENABLE_AUDIT
	}
	return flags
}

// join makes the group's descriptor fd non-blocking and makes what waits for it.
func (g *Group) join(fd int) (err error) {
	if g.conn, err = g.file.SyscallConn(); err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // after os.NewFile, which would put it into the runtime's poller
		return err
	}
	if !g.asks() {
		g.waiter, err = newParked(fd, g.conn)
	} else {
		g.waiter, err = newBlocked(g.conn)
	}
	return err
}

// Close closes the group: its marks are gone, permission events that wait for an answer are allowed by the kernel, a
// blocked reader returns os.ErrClosed. That is so once the calls return that are in the kernel meanwhile: a mark whose
// path is looked up, a read that opens a file. Further calls do nothing and return nil.
func (g *Group) Close() error {
	g.closed.Store(true)
	err := g.file.Close()
	g.waiter.close() // wakes the reader
	g.endLoop()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// endLoop closes what Events has left over, when the group is closed and nobody reads any more.
func (g *Group) endLoop() {
	if g.closed.Load() && g.reading.CompareAndSwap(false, true) {
		if g.loop != nil {
			g.loop.close()
		}
		g.reading.Store(false)
	}
}

// Backlog returns what FIONREAD says of the queue (since Linux 2.6.37; fanotify_ioctl in the kernel's
// fs/notify/fanotify/fanotify_user.c): 24 bytes for each queued event, without its records, so that it counts events,
// as they stand: those that will still merge singly. What a read takes can be several times as much.
func (g *Group) Backlog() (int, error) {
	var n int
	var err error
	if cerr := g.conn.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); cerr != nil {
		return 0, os.ErrClosed
	}
	if err != nil {
		return 0, fmt.Errorf("size of the fanotify queue: %w", err)
	}
	return n, nil
}

// Events yields the events as they come, until the context is done, the group is closed or reading fails; it ends
// without an error when the group was closed or the context canceled. A malformed event is an error at its place, and
// the loop may go on. The event is borrowed for the body of the loop, and ends with it, also by a break or a panic.
//
// What was read and not yielded comes in the next loop over Events. In a group that asks it ends with the loop, because
// processes wait: they get Config.Unanswered, and are counted. The error is ErrReading beside another reader, as which
// the body of the loop counts too.
func (g *Group) Events(ctx context.Context) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		if !g.reading.CompareAndSwap(false, true) {
			yield(nil, ErrReading)
			return
		}
		defer g.endLoop()
		defer g.reading.Store(false)
		defer g.interruptedBy(ctx)()
		if g.loop == nil {
			g.loop = newQueue()
		}
		if g.asks() {
			defer g.loop.close()
		}
		for g.loop.events(yield) {
			err := g.await(ctx)
			if err == nil {
				_, err = g.fill(g.loop)
			}
			if errors.Is(err, os.ErrClosed) || errors.Is(err, context.Canceled) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// asks says whether processes may wait for this group's answers.
func (g *Group) asks() bool { return g.config.Class != ClassNotif }
