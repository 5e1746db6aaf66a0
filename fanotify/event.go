package fanotify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// Event is one event with its information records. It is borrowed for the body of the loop that yielded it; the zero
// Event has neither records nor descriptors. It must not be copied: Detach makes a copy to keep.
type Event struct {
	_ noCopy

	// Mask says what happened: a set, because the kernel merges equal events that wait in the queue (fanotify(7)).
	Mask Mask
	// PID is the process, or the thread with ReportTID, in the reader's pid namespace; 0 when it is not visible
	// there, hidden from an unprivileged group, or when there is none (overflow).
	PID int32

	at   [recordTypes]uint32 // where in raw the first record of each known type begins; 0 is none
	raw  []byte              // the whole event, borrowed
	held *held               // nil when it was only looked at ahead
}

// noCopy has go vet refuse a copy of what it is part of: a copy would answer for the event that comes next.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// record returns the first record of a type, or nil.
func (e *Event) record(t RecordType) []byte {
	at := e.at[t]
	if at == 0 {
		return nil
	}
	r := e.raw[at:]
	return r[:recordLength(r)]
}

// Entry is a place in a directory: the directory's handle and a name in it. Both are borrowed.
type Entry struct {
	Dir HandleBytes
	// Name is a file's name, "." for the directory itself, and empty where the group reports no names.
	Name []byte
}

// Dir returns the directory in which something happened, with the name when the group has ReportName (since Linux 5.9;
// fanotify(7), FAN_EVENT_INFO_TYPE_DFID and DFID_NAME).
func (e *Event) Dir() (entry Entry, ok bool) {
	t := RecordDFIDName
	if e.at[t] == 0 {
		t = RecordDFID
	}
	entry.Dir, entry.Name, ok = e.place(t)
	return entry, ok
}

// Old returns the place that a Rename left (since Linux 5.17; fanotify(7), FAN_RENAME). It is absent when only the new
// directory is marked.
func (e *Event) Old() (entry Entry, ok bool) {
	entry.Dir, entry.Name, ok = e.place(RecordOldDFIDName)
	return entry, ok
}

// New returns the place that a Rename went to (since Linux 5.17). It is absent when only the old directory is marked.
func (e *Event) New() (entry Entry, ok bool) {
	entry.Dir, entry.Name, ok = e.place(RecordNewDFIDName)
	return entry, ok
}

// place returns the parts of an Entry: an Entry itself would be copied through memory, which takes longer than all of
// the parsing.
func (e *Event) place(t RecordType) (dir, name []byte, ok bool) {
	r := e.record(t)
	if r == nil {
		return nil, nil, false
	}
	end := handleInRecord + handleSize(r)
	if t != RecordDFID {
		name = r[end:]
		name = name[:bytes.IndexByte(name, 0)]
	}
	return r[recordHeader:end], name, true
}

// Object returns the handle of the object (RecordFID, since Linux 5.1; fanotify(7)), nil without one. What that is
// depends on the group: with ReportTargetFID the file or directory itself, except for an event on a directory, which
// has Dir with the name "."; with ReportFID alone the directory of a dirent event; with ReportDirFID alone the parent
// of a file (a quirk of the kernel).
func (e *Event) Object() HandleBytes {
	r := e.record(RecordFID)
	if r == nil {
		return nil
	}
	return r[recordHeader : handleInRecord+handleSize(r)]
}

// MountID returns the unique id of the mount (STATX_MNT_ID_UNIQUE) that was attached or detached (RecordMnt, since
// Linux 6.15). StatMount tells more of it.
func (e *Event) MountID() (uint64, bool) {
	r := e.record(RecordMnt)
	if r == nil {
		return 0, false
	}
	// The id is at the end; what stands before it depends on the machine's alignment.
	return binary.NativeEndian.Uint64(r[len(r)-8:]), true
}

// FSError returns the first error that the filesystem reported and the number of errors since the last event
// (RecordError, since Linux 5.16; fanotify(7), FAN_FS_ERROR). To open the Object of such an event may raise the error
// again.
func (e *Event) FSError() (errno unix.Errno, count uint32, ok bool) {
	r := e.record(RecordError)
	if r == nil {
		return 0, 0, false
	}
	return unix.Errno(binary.NativeEndian.Uint32(r[4:])), binary.NativeEndian.Uint32(r[8:]), true
}

// Range returns the bytes that a PreAccess event is about, page-aligned (RecordRange, since Linux 6.14).
func (e *Event) Range() (offset, count uint64, ok bool) {
	r := e.record(RecordRange)
	if r == nil {
		return 0, 0, false
	}
	return binary.NativeEndian.Uint64(r[8:]), binary.NativeEndian.Uint64(r[16:]), true
}

// Record is one information record as the kernel wrote it, header included. Data is borrowed.
type Record struct {
	Type RecordType
	Data []byte
}

// Records yields every record in the order of the kernel, the unknown ones too.
func (e *Event) Records() iter.Seq[Record] {
	return func(yield func(Record) bool) {
		if e.raw == nil {
			return
		}
		for rest := e.raw[metadataLength(e.raw):]; len(rest) > 0; {
			r := rest[:recordLength(rest)]
			if !yield(Record{RecordType(r[0]), r}) {
				return
			}
			rest = rest[len(r):]
		}
	}
}

// ErrNoDescriptor says that an event carries no descriptor of this kind: the group doesn't report it, there is no
// object to open (overflow), or it was handed over already.
var ErrNoDescriptor = errors.New("fanotify: the event has no descriptor")

// errPIDFD says all that a group without ReportFDError learns.
var errPIDFD = errors.New("fanotify: no pidfd could be opened: most often for want of descriptors; report_fd_error tells")

// FD returns the number of the event's descriptor, for as long as the event holds it, or -1 without one. It is
// borrowed: the event closes it. Of a detached event, no other goroutine may take or close it meanwhile, and the event
// has to be kept alive (runtime.KeepAlive) as for os.File.Fd.
func (e *Event) FD() int {
	if e.held == nil || e.held.fd < 0 {
		return -1
	}
	return int(e.held.fd)
}

// File hands over the event's descriptor, open with Config.EventFlags; the caller closes it (since Linux 2.6.37;
// fanotify(7)). Using it makes no events.
// While a process waits for an answer it is a duplicate, because the kernel knows the request by the descriptor.
//
// With ReportFDError the error is the errno for which the kernel could not open the object: EMFILE, ETXTBSY, EROFS,
// EAGAIN when somebody has a lease on it. Otherwise it is ErrNoDescriptor, also in every group that reports handles.
func (e *Event) File() (*os.File, error) {
	if e.held == nil {
		return nil, ErrNoDescriptor
	}
	defer runtime.KeepAlive(e)
	return e.held.file()
}

func (h *held) file() (*os.File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fd := int(h.fd)
	switch {
	case fd == noDescriptor:
		return nil, ErrNoDescriptor
	case fd >= 0 && h.request == waiting:
		var err error
		if fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return nil, fmt.Errorf("duplicate the descriptor of a fanotify event: %w", err)
		}
	case fd >= 0:
		h.fd = noDescriptor
	case !h.reportsErrno(), fd == -int(unix.EBADF): // EBADF: there is no object
		return nil, ErrNoDescriptor
	default:
		return nil, unix.Errno(-fd)
	}
	return os.NewFile(uintptr(fd), "fanotify event"), nil
}

// PIDFD hands over a pidfd of the process; the caller closes it (since Linux 5.15; fanotify(7)). The error is
// os.ErrProcessDone when the process was gone already, is not visible in the reader's pid namespace, or when there is
// none (overflow); ErrNoDescriptor when the group doesn't report pidfds. Any other error is why the kernel could not
// open one: with ReportFDError an errno, such as EMFILE.
func (e *Event) PIDFD() (*os.File, error) {
	if e.held == nil || e.at[RecordPIDFD] == 0 {
		return nil, ErrNoDescriptor
	}
	defer runtime.KeepAlive(e)
	return e.held.process()
}

func (h *held) process() (*os.File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	pidfd := h.pidfd
	switch {
	case pidfd == noDescriptor:
		return nil, ErrNoDescriptor
	case pidfd >= 0:
		h.pidfd = noDescriptor
		return os.NewFile(uintptr(pidfd), "pidfd"), nil
	case h.reportsErrno() && pidfd != -int32(unix.ESRCH):
		return nil, unix.Errno(-pidfd)
	case h.reportsErrno(), pidfd == unix.FAN_NOPIDFD:
		return nil, os.ErrProcessDone
	}
	return nil, errPIDFD
}

// reportsErrno says whether negative descriptors are errnos.
func (h *held) reportsErrno() bool {
	return h.group != nil && h.group.config.Report&ReportFDError != 0
}

// Detach returns a copy of the event to keep beyond the body of the loop. It takes along the descriptors, and the
// process that waits for an answer: the caller closes the copy. One that is forgotten is closed when it is collected.
func (e *Event) Detach() *Event {
	kept := &Event{Mask: e.Mask, PID: e.PID, at: e.at, raw: slices.Clone(e.raw)}
	if e.held == nil {
		return kept
	}
	kept.held = e.held.move()
	runtime.KeepAlive(e)
	runtime.AddCleanup(kept, (*held).release, kept.held)
	return kept
}

// move takes all that h holds into another one.
func (h *held) move() *held {
	h.mu.Lock()
	defer h.mu.Unlock()
	moved := &held{group: h.group, fd: h.fd, pidfd: h.pidfd, request: h.request}
	h.fd, h.pidfd = noDescriptor, noDescriptor
	if h.request == waiting {
		h.request = answered // by whoever has the other one
	}
	return moved
}

// Close closes the descriptors that nobody took, and gives Config.Unanswered to a process that still waits; the rest of
// the event stays as it is. It is for detached events: a borrowed one ends with the body of its loop. Any goroutine may
// call it, and further calls do nothing. It may block as close(2) does.
func (e *Event) Close() {
	if e.held != nil {
		e.held.release()
		runtime.KeepAlive(e)
	}
}
