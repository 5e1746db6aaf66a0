package main

import (
	"fmt"
	"strconv"
	"syscall"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/fanotify"
)

// lineForm writes the readable line: time, process, events, path.
type lineForm struct {
	clock   clock
	end     byte
	color   bool
	parents bool // show the ancestors of the process behind it
	process column
	events  column
}

func newLineForm(timeFormat string, end byte, color, parents bool) *lineForm {
	f := &lineForm{
		clock:   clock{format: timeFormat},
		end:     end,
		color:   color,
		parents: parents,
		process: column{width: 14, limit: 24}, // a name has 15 bytes at most, a pid 7
		events:  column{width: 25, limit: 34}, // create,modify,close_write; with attrib 32
	}
	if parents {
		f.process.limit = 80
	}
	return f
}

func (f *lineForm) append(b []byte, e *event.Event) []byte {
	b = f.clock.append(b, e.Time)
	b = append(b, "  "...)
	if e.Lost > 0 || e.Mask.Has(fanotify.Overflow) {
		b = f.paint(b, lossColor)
		b = appendLoss(b, e)
		b = f.paint(b, noColor)
		return append(b, f.end)
	}

	start := len(b)
	b = appendProcess(b, e)
	if f.parents && e.Process != nil && len(e.Process.Ancestors) > 0 {
		b = appendAncestors(append(b, '<'), e.Process, '<', appendEscaped)
	}
	b = appendBlanks(b, f.process.gap(b[start:]))

	b = f.paint(b, colorOf(e.Mask))
	start = len(b)
	b = appendLifeOrder(b, e.Mask)
	gap := f.events.gap(b[start:])
	b = f.paint(b, noColor)
	b = appendBlanks(b, gap)

	b = appendPaths(b, e)
	if e.FSError != nil {
		b = appendFSError(b, e.FSError)
	}
	return append(b, f.end)
}

// appendFSError appends what a filesystem said of its own errors.
func appendFSError(b []byte, e *event.FSError) []byte {
	name := unix.ErrnoName(syscall.Errno(e.Errno))
	if name == "" {
		name = fmt.Sprint("errno ", e.Errno)
	}
	b = fmt.Appendf(b, "  %s", name)
	if e.Count > 1 {
		b = fmt.Appendf(b, " first, %d errors", e.Count)
	}
	return b
}

// appendEnd appends an empty line behind a batch.
func (f *lineForm) appendEnd(b []byte, _ batchEnd) []byte { return append(b, f.end) }

func (f *lineForm) paint(b []byte, color string) []byte {
	if f.color {
		b = append(b, color...)
	}
	return b
}

// column is a column of readable lines. It widens up to a limit when a text needs it, so that most lines are aligned;
// a longer text pushes the rest of its own line.
type column struct {
	width, limit int
}

// gap returns how many blanks follow text, two at least.
func (c *column) gap(text []byte) int {
	n := utf8.RuneCount(text)
	if n > c.width {
		c.width = min(n, c.limit)
	}
	return max(c.width-n, 0) + 2
}

func appendBlanks(b []byte, n int) []byte {
	for range n {
		b = append(b, ' ')
	}
	return b
}

// appendProcess appends name[pid], with a question mark for what is not known.
func appendProcess(b []byte, e *event.Event) []byte {
	if e.PID == 0 {
		return append(b, '?')
	}
	comm := ""
	if e.Process != nil {
		comm = e.Process.Comm
	}
	return appendNameAndPID(b, comm, e.PID, appendEscaped)
}

// appendAncestors appends the ancestors of a process, its parent first, each as name[pid]. The name goes through
// appendName.
func appendAncestors(b []byte, p *event.Process, separator byte, appendName func([]byte, string) []byte) []byte {
	for i, pid := range p.Ancestors {
		comm := ""
		if i < len(p.AncestorComms) {
			comm = p.AncestorComms[i]
		}
		if i > 0 {
			b = append(b, separator)
		}
		b = appendNameAndPID(b, comm, pid, appendName)
	}
	return b
}

func appendNameAndPID(b []byte, comm string, pid int32, appendName func([]byte, string) []byte) []byte {
	if comm == "" {
		comm = "?"
	}
	b = append(appendName(b, comm), '[')
	b = strconv.AppendInt(b, int64(pid), 10)
	return append(b, ']')
}

// appendPaths appends the path, or "old -> new", with a question mark for what is not known. A path that may show a
// later name begins with (current), which no path does.
func appendPaths(b []byte, e *event.Event) []byte {
	if e.PathState == event.PathCurrent {
		b = append(b, "(current) "...)
	}
	b = appendPath(b, e.Path)
	if e.NewPath != "" || e.Mask.Has(fanotify.Rename) {
		b = append(b, " -> "...)
		b = appendPath(b, e.NewPath)
	}
	return b
}

func appendPath(b []byte, path string) []byte {
	if path == "" {
		return append(b, '?')
	}
	return appendEscaped(b, path)
}

// appendLoss appends what was lost, where and why.
func appendLoss(b []byte, e *event.Event) []byte {
	if e.Lost > 0 {
		b = append(b, "-- "...)
		b = strconv.AppendUint(b, e.Lost, 10)
		if e.Lost == 1 {
			return append(b, " event lost: the output was not read fast enough"...)
		}
		return append(b, " events lost: the output was not read fast enough"...)
	}
	b = append(b, "-- an unknown number of events lost"...)
	if e.Scope != "" {
		b = append(b, " under "...)
		b = appendEscaped(b, e.Scope)
	}
	return append(b, ": the kernel's queue overflowed"...)
}

// appendLifeOrder appends the names of the bits of mask, joined by commas, in the order in which they mostly happen
// in the life of a file. It is how a set is read, not a claim: the kernel doesn't say in what order they happened.
func appendLifeOrder(b []byte, mask fanotify.Mask) []byte {
	order := [...]fanotify.Mask{
		fanotify.Create, fanotify.MovedTo, fanotify.Open, fanotify.OpenExec, fanotify.Access, fanotify.Modify,
		fanotify.Attrib, fanotify.CloseWrite, fanotify.CloseNowrite, fanotify.Rename, fanotify.MoveSelf,
		fanotify.MovedFrom, fanotify.Delete, fanotify.DeleteSelf,
	}
	for _, bit := range order {
		if mask.Has(bit) {
			b = append(appendEvents(b, bit), ',')
			mask &^= bit
		}
	}
	if mask != 0 { // ondir, and what is not in the list
		return appendEvents(b, mask)
	}
	if n := len(b); n > 0 && b[n-1] == ',' {
		b = b[:n-1]
	}
	return b
}
