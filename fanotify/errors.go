package fanotify

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// InitError says that a group could not be made (fanotify_init(2)).
type InitError struct {
	Config Config
	Err    error  // the errno
	Reason string // what it means here and what to do; empty when the errno says all
}

// Error returns one line: the errno's text, the reason and the way out.
func (e *InitError) Error() string { return withReason("fanotify_init", e.Err, e.Reason) }

// Unwrap returns the errno.
func (e *InitError) Unwrap() error { return e.Err }

// MarkError says that a mark could not be set, changed or removed (fanotify_mark(2)).
type MarkError struct {
	Op     string // "mark", "unmark" or "flush"
	Path   string // as it was given; empty when a descriptor was
	Target Target
	Mask   Mask
	Flags  MarkFlags
	Err    error  // the errno, os.ErrClosed, or why an ignore mask can't be verified (see Group.Mark)
	Reason string // what it means here and what to do; empty when the errno says all

	dirfd  int
	config Config
}

// Error returns one line: the object, the errno's text, the reason and the way out.
func (e *MarkError) Error() string {
	object := e.Op + " "
	switch {
	case e.Op == opFlush:
		object += e.Target.String() + " marks"
	case e.Path == "":
		object += fmt.Sprintf("descriptor %d", e.dirfd)
	case strings.ContainsFunc(e.Path, func(r rune) bool { return !strconv.IsPrint(r) || r == utf8.RuneError }):
		object += fmt.Sprintf("%q", e.Path) // one line, whatever the name
	default:
		object += e.Path
	}
	return withReason(object, e.Err, e.Reason)
}

// Unwrap returns Err.
func (e *MarkError) Unwrap() error { return e.Err }

func withReason(object string, err error, reason string) string {
	if reason == "" {
		return fmt.Sprintf("%s: %v", object, err)
	}
	return fmt.Sprintf("%s: %v: %s", object, err, reason)
}
