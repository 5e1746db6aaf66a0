package main

import (
	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/rule"
)

// filter chooses events: those that every part holds for.
type filter struct {
	rule *rule.Matcher
	tree *rule.Matcher // of --tree; nil for any process
	comm *rule.Matcher // the globs of --comm, which it takes for those of a path; nil for any process
	self int32         // with a command, the pid of fanlight, from which the command and all its children descend

	name event.Event // what comm is asked about
}

func (f *filter) match(e *event.Event) bool {
	return f.rule.Match(e) &&
		(f.tree == nil || f.tree.Match(e)) &&
		(f.comm == nil || f.comm.Match(f.named(e))) &&
		(f.self == 0 || f.isOurs(e))
}

// named returns an event that has the name of e's process in place of a path.
func (f *filter) named(e *event.Event) *event.Event {
	f.name.Path = ""
	if e.Process != nil {
		f.name.Path = e.Process.Comm
	}
	return &f.name
}

// isOurs reports whether the process of e is the command or comes from it: an orphan has fanlight for its parent. A
// process of which nothing is known, or whose parent ended while it was asked about, may be, and counts: to leave out
// in silence what the command did is worse than to show what another one did, with its process unknown.
func (f *filter) isOurs(e *event.Event) bool {
	if e.PID == 0 {
		return false // in a pid namespace above ours
	}
	p := e.Process
	if p == nil || p.State == event.ProcessUnknown {
		return true
	}
	for _, pid := range p.Ancestors {
		if pid == f.self {
			return true
		}
	}
	if len(p.Ancestors) == 0 {
		return p.PPID == f.self
	}
	// A whole chain ends at the first process, or the first thread, of the kernel's, or one that was put into this
	// pid namespace from outside.
	last := p.Ancestors[len(p.Ancestors)-1]
	return last > 2 && unix.Kill(int(last), 0) == unix.ESRCH
}
