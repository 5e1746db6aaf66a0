package event

import (
	"time"

	"fanlight/fanotify"
)

// Event is one record of a stream: something that happened to a file, or a loss at its place.
//
// Paths, names and other texts from the kernel are strings of bytes: they may hold newlines, escape codes and
// invalid UTF-8. An empty string means unknown.
type Event struct {
	Seq  uint64    // rises by one within one output, from 1; 0 when the event has no place in an output yet
	Time time.Time // when the event was read; the zero time when unknown

	// Mask says what happened: a set, because the kernel merges. A queue overflow is exactly fanotify.Overflow.
	Mask fanotify.Mask

	Path      string    // absolute; the old path of a rename
	NewPath   string    // absolute; the new path of a rename
	PathState PathState // of the less certain of both

	PID     int32    // 0 when the kernel doesn't say
	Process *Process // nil when unknown; shared between events, never changed

	Scope string // with fanotify.Overflow: where events were lost, a root or a directory above it
	Lost  uint64 // events that this output lost right before this record; such a record has nothing else

	Found     bool      // found by walking a new directory, not reported by the kernel
	FD        bool      // a descriptor of the object comes along
	FDError   string    // the name of the errno, such as "EACCES", when it was asked for and can't
	Truncated bool      // the record was too big and lost members
	MountID   uint64    // the unique mount id of a mount event
	Namespace uint64    // the mount namespace in which the paths are such, if not the reader's: the number in /proc/PID/ns/mnt
	FSError   *FSError  // with fanotify.FSError
	Range     *Range    // with fanotify.PreAccess
	Decision  *Decision // with an answered permission event
}

// FSError is what a filesystem reported with fanotify.FSError.
type FSError struct {
	Errno int32  // the first error
	Count uint32 // errors since the last such event
}

// Range is the part of the file, in bytes, that a pre-content event is about.
type Range struct {
	Offset, Count uint64
}

// Decision is the answer to a permission event.
type Decision struct {
	Response string        // "allow" or "deny"
	Rule     string        // the rule that decided, "default" if none did
	Duration time.Duration // from reading the event to answering it
}

// NoUID is the UID of a process whose user is not known: the kernel's (uid_t)-1.
const NoUID = ^uint32(0)

// Process is what is known about a process. A nil *Process means that nothing is.
type Process struct {
	PID   int32
	PPID  int32  // 0 when unknown
	UID   uint32 // the real user, NoUID when unknown
	Comm  string // the name, at most 15 bytes; a script's name
	Exe   string // what /proc/PID/exe says; a script's interpreter
	Cwd   string // the working directory
	State ProcessState

	// Ancestors are the pids of the parent, its parent and so on, as far as known. In the JSON form where an Encoder is
	// asked for it.
	Ancestors []int32
	// AncestorComms are the names of Ancestors, in their order, "" where unknown; it may be shorter.
	AncestorComms []string
	// Container is the id of the container that the process runs in, or its name where it has no other id. In
	// the JSON form with Details.
	Container string

	Details *Details // nil when they were not asked for
}

// Details are facts about a process that cost more to find out.
type Details struct {
	GID      uint32    // the real group, NoUID when unknown
	LoginUID uint32    // the user who logged in, whatever the process became (audit), NoUID when unknown or nobody did
	Start    time.Time // when it was made, to a hundredth of a second; the zero time when unknown
	Cmdline  []string  // the command line, as the process shows it now; nil when unknown
	Cgroup   string    // the control group, as /proc/PID/cgroup names it
}
