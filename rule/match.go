package rule

import (
	"slices"
	"strings"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/fnmatch"
)

// Matcher is a compiled Rule. It is immutable and safe for concurrent use.
type Matcher struct {
	events         fanotify.Mask
	pids, excluded pidSet
	descendants    bool
	uids           []uint32
	containers     []string
	exe, cwd, path patterns
}

// Compile returns the Matcher of r, which keeps nothing of r, or the error of Validate.
func Compile(r Rule) (*Matcher, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return &Matcher{
		events:      r.Events,
		pids:        newPIDSet(r.PIDs),
		descendants: r.Descendants,
		excluded:    newPIDSet(r.ExcludeTree),
		exe:         compilePatterns(r.Exe),
		cwd:         compilePatterns(r.Cwd),
		path:        compilePatterns(r.Path),
		uids:        slices.Clone(r.UIDs),
		containers:  slices.Clone(r.Containers),
	}, nil
}

// Match reports whether e matches the rule (see Terms in the description of the package). It doesn't allocate, except
// for the first matches of patterns with groups such as !(a).
func (m *Matcher) Match(e *event.Event) bool {
	if e.Mask.Has(fanotify.Overflow) || e.Lost > 0 {
		return true
	}
	if m.events != 0 && m.events&e.Mask == 0 {
		return false
	}
	p := e.Process
	if p == nil {
		p = &nobody
	}
	return (len(m.pids) == 0 || m.pids.has(e.PID) || m.descendants && m.pids.hasAny(p.Ancestors)) &&
		!m.excluded.has(e.PID) && !m.excluded.hasAny(p.Ancestors) &&
		(len(m.uids) == 0 || slices.Contains(m.uids, p.UID)) &&
		(len(m.containers) == 0 || slices.Contains(m.containers, p.Container)) &&
		m.exe.hold(p.Exe) && m.cwd.hold(p.Cwd) && m.pathHolds(e)
}

// nobody is the process of an event without one.
var nobody = event.Process{UID: event.NoUID}

// pathHolds reports whether the term about the path holds for e: for one of the paths that it has.
func (m *Matcher) pathHolds(e *event.Event) bool {
	if e.NewPath == "" {
		return m.path.hold(e.Path)
	}
	return e.Path != "" && m.path.hold(e.Path) || m.path.hold(e.NewPath)
}

// pidSet is a set of processes.
type pidSet map[int32]struct{}

func newPIDSet(pids []int32) pidSet {
	s := make(pidSet, len(pids))
	for _, pid := range pids {
		s[pid] = struct{}{}
	}
	return s
}

func (s pidSet) has(pid int32) bool {
	_, ok := s[pid]
	return ok
}

func (s pidSet) hasAny(pids []int32) bool {
	if len(s) > 0 {
		for _, pid := range pids {
			if s.has(pid) {
				return true
			}
		}
	}
	return false
}

// patterns is a list of patterns.
type patterns struct {
	wanted, excluded []*fnmatch.Pattern
}

func compilePatterns(list []string) (p patterns) {
	for _, pattern := range list {
		if excluded, ok := strings.CutPrefix(pattern, "-"); ok {
			p.excluded = append(p.excluded, fnmatch.Compile(excluded))
		} else {
			p.wanted = append(p.wanted, fnmatch.Compile(pattern))
		}
	}
	return p
}

// hold reports whether the list holds for text, which is empty if it isn't known.
func (p *patterns) hold(text string) bool {
	if text == "" {
		return len(p.wanted) == 0
	}
	return (len(p.wanted) == 0 || matchAny(p.wanted, text)) && !matchAny(p.excluded, text)
}

func matchAny(list []*fnmatch.Pattern, text string) bool {
	for _, pattern := range list {
		if pattern.Match(text) {
			return true
		}
	}
	return false
}
