package main

import (
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"fanlight/fanotify"
)

// The colors of a readable line (ECMA-48 SGR).
const (
	noColor     = "\x1b[0m"
	lossColor   = "\x1b[1;31m" // bold red
	goneColor   = "\x1b[31m"   // red
	newColor    = "\x1b[32m"   // green
	movedColor  = "\x1b[36m"   // cyan
	changeColor = "\x1b[33m"   // yellow
	readColor   = "\x1b[2m"    // faint
)

// colorOf returns the color of a set of events: that of the weightiest kind in it.
func colorOf(mask fanotify.Mask) string {
	switch {
	case mask&(fanotify.Delete|fanotify.DeleteSelf) != 0:
		return goneColor
	case mask&(fanotify.Rename|fanotify.Move|fanotify.MoveSelf) != 0:
		return movedColor
	case mask&fanotify.Create != 0:
		return newColor
	case mask&(fanotify.Modify|fanotify.CloseWrite|fanotify.Attrib) != 0:
		return changeColor
	}
	return readColor
}

// wantsColor decides by the value of --color; "auto" means that file is a terminal that isn't dumb, and that
// NO_COLOR (no-color.org) isn't set.
func wantsColor(when string, file any) bool {
	if when == "auto" {
		return isTerminal(file) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	return when == "always"
}

// isTerminal reports whether file is an *os.File of a terminal.
func isTerminal(file any) bool {
	is := false
	withDescriptor(file, func(fd int) { is = term.IsTerminal(fd) })
	return is
}

// waitForHangup blocks until nobody can read any more what is written to file, because the other end of the pipe,
// socket or terminal is closed. It returns false at once if file is no *os.File, and never for a regular file.
func waitForHangup(file any) bool {
	gone := false
	withDescriptor(file, func(fd int) {
		for {
			// Without a requested event, poll(2) reports only that the other end is gone.
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd)}}, -1)
			if err != unix.EINTR {
				gone = n > 0
				return
			}
		}
	})
	return gone
}

// withDescriptor calls f with the descriptor of an *os.File, and not at all for anything else.
func withDescriptor(file any, f func(fd int)) {
	if file, ok := file.(*os.File); ok {
		if conn, err := file.SyscallConn(); err == nil {
			_ = conn.Control(func(fd uintptr) { f(int(fd)) })
		}
	}
}
