package fanotify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Event is one event with its information records. It is borrowed from the loop that yielded it; the zero Event has
// neither records nor descriptors.
type Event struct {
	// Mask says what happened: a set, because the kernel merges equal events that wait in the queue (fanotify(7)).
	Mask Mask
	// PID is the process, or the thread with ReportTID, in the reader's pid namespace; 0 when it is not visible
	// there, hidden from an unprivileged group, or when there is none (overflow).
	PID int32

	fd      int32 // owned when >= 0, else FAN_NOFD, noDescriptor or an errno that is negated
	pidfd   int32 // likewise, with FAN_NOPIDFD and FAN_EPIDFD
	pending bool  // a process waits for the answer

	at    [recordTypes]uint32 // where in raw the first record of each known type begins; 0 is none
	raw   []byte              // the whole event, borrowed
	group *Group
}

// noDescriptor stands for a descriptor that was never reported or that was handed over: the kernel knows no such errno.
const noDescriptor = math.MinInt32

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

// Dir returns the directory in which something happened, with the name when the group has ReportName.
func (e *Event) Dir() (entry Entry, ok bool) {
	t := RecordDFIDName
	if e.at[t] == 0 {
		t = RecordDFID
	}
	entry.Dir, entry.Name, ok = e.place(t)
	return entry, ok
}

// Old returns the place that a Rename left. It is absent when only the new directory is marked.
func (e *Event) Old() (entry Entry, ok bool) {
	entry.Dir, entry.Name, ok = e.place(RecordOldDFIDName)
	return entry, ok
}

// New returns the place that a Rename went to. It is absent when only the old directory is marked.
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

// Object returns the handle of the object (RecordFID), nil without one. What that is depends on the group: with
// ReportTargetFID the file or directory itself, except for an event on a directory, which has Dir with the name ".";
// with ReportFID alone the directory of a dirent event; with ReportDirFID alone the parent of a file (a quirk of the
// kernel).
func (e *Event) Object() HandleBytes {
	r := e.record(RecordFID)
	if r == nil {
		return nil
	}
	return r[recordHeader : handleInRecord+handleSize(r)]
}

// MountID returns the unique id of the mount (STATX_MNT_ID_UNIQUE) that was attached or detached.
func (e *Event) MountID() (uint64, bool) {
	r := e.record(RecordMnt)
	if r == nil {
		return 0, false
	}
	// The id is at the end; what stands before it depends on the machine's alignment.
	return binary.NativeEndian.Uint64(r[len(r)-8:]), true
}

// FSError returns the first error that the filesystem reported and the number of errors since the last event.
func (e *Event) FSError() (errno unix.Errno, count uint32, ok bool) {
	r := e.record(RecordError)
	if r == nil {
		return 0, 0, false
	}
	return unix.Errno(binary.NativeEndian.Uint32(r[4:])), binary.NativeEndian.Uint32(r[8:]), true
}

// Range returns the bytes that a PreAccess event is about, page-aligned.
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

// File hands over the event's descriptor, open with Config.EventFlags; the caller closes it. Using it makes no events.
// A permission event is allowed by it, because the answer must come before the descriptor can be closed.
//
// With ReportFDError the error is the errno for which the kernel could not open the object: EMFILE, ETXTBSY, EROFS.
// Otherwise it is ErrNoDescriptor, also in every group that reports handles.
func (e *Event) File() (*os.File, error) {
	e.allow()
	fd := e.fd
	switch {
	case e.raw == nil, fd == noDescriptor:
		return nil, ErrNoDescriptor
	case fd >= 0:
		e.fd = noDescriptor
		return os.NewFile(uintptr(fd), "fanotify event"), nil
	case !e.reportsErrno(), fd == -int32(unix.EBADF): // EBADF: there is no object
		return nil, ErrNoDescriptor
	}
	return nil, unix.Errno(-fd)
}

// PIDFD hands over a pidfd of the process; the caller closes it. The error is os.ErrProcessDone when the process was
// gone already, is not visible in the reader's pid namespace, or when there is none (overflow); ErrNoDescriptor when
// the group doesn't report pidfds. Any other error is why the kernel could not open one: with ReportFDError an errno,
// such as EMFILE.
func (e *Event) PIDFD() (*os.File, error) {
	pidfd := e.pidfd
	switch {
	case e.at[RecordPIDFD] == 0, pidfd == noDescriptor:
		return nil, ErrNoDescriptor
	case pidfd >= 0:
		e.pidfd = noDescriptor
		return os.NewFile(uintptr(pidfd), "pidfd"), nil
	case e.reportsErrno() && pidfd != -int32(unix.ESRCH):
		return nil, unix.Errno(-pidfd)
	case e.reportsErrno(), pidfd == unix.FAN_NOPIDFD:
		return nil, os.ErrProcessDone
	}
	return nil, errPIDFD
}

// reportsErrno says whether negative descriptors are errnos.
func (e *Event) reportsErrno() bool {
	return e.group != nil && e.group.config.Report&ReportFDError != 0
}

// Detach returns a copy of the event to keep beyond the next step. It takes the descriptors along: the caller closes
// the copy, or takes and closes each of them. A permission event is allowed by it.
func (e *Event) Detach() *Event {
	e.allow()
	kept := *e
	kept.raw = slices.Clone(e.raw)
	e.fd, e.pidfd = noDescriptor, noDescriptor
	return &kept
}

// Close closes the descriptors that nobody took; the rest of the event stays as it is. It is for detached events: a
// borrowed one is closed by the next step. Further calls do nothing.
func (e *Event) Close() {
	if e.raw == nil {
		return
	}
	e.allow()
	if e.fd >= 0 {
		unix.Close(int(e.fd))
		e.fd = noDescriptor
	}
	if e.pidfd >= 0 {
		unix.Close(int(e.pidfd))
		e.pidfd = noDescriptor
	}
}
