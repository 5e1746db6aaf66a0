package main

import (
	"strings"
	"time"

	"fanlight/event"
	"fanlight/fanotify"
)

// A batch ends early with so many records, or so many bytes of paths, and when it didn't settle for settleLimit or for
// settleTimes as long as it was to be quiet.
const (
	maxGathered     = 1 << 16
	maxGatheredText = 16 << 20
	settleLimit     = 10 * time.Second
	settleTimes     = 10
)

// gathering is a batch of --settle that waits until nothing happens any more: each path once, in the order of first
// sight, with the union of its events. It knows no clock.
type gathering struct {
	quiet time.Duration // for how long nothing is to happen

	events      []event.Event
	index       map[string]int // where in events a path is; losses are under names that no path has
	text        int            // bytes of the paths
	first, last time.Time      // when the first and the last event came in
}

// batchEnd is what stands behind the records of a batch.
type batchEnd struct {
	seq     uint64
	time    time.Time
	number  uint64 // of the batch, from 1
	settled bool   // false when the batch is printed early, or at the end of the watch
}

func newGathering(quiet time.Duration) *gathering { return &gathering{quiet: quiet} }

// add takes an event in. It keeps nothing of it that is borrowed.
func (g *gathering) add(e *event.Event, now time.Time) {
	if len(g.events) == 0 {
		g.first = now
		g.index = make(map[string]int)
	}
	g.last = now
	switch {
	case e.Lost > 0:
		lost := g.record("\x00lost", event.Event{Time: e.Time})
		lost.Lost += e.Lost
	case e.Mask.Has(fanotify.Overflow):
		g.record("\x00overflow"+e.Scope, *e)
	case e.Mask.Has(fanotify.Rename):
		// Two paths changed. What each of them is to whoever looks at it later is what the kernel calls it one by one.
		rest := e.Mask &^ fanotify.Rename
		if e.Path != "" {
			g.merge(e, e.Path, rest|fanotify.MovedFrom)
		}
		if e.NewPath != "" {
			g.merge(e, e.NewPath, rest|fanotify.MovedTo)
		}
		if e.Path == "" && e.NewPath == "" {
			g.merge(e, "", e.Mask)
		}
	default:
		g.merge(e, e.Path, e.Mask)
	}
}

// merge adds what e says of path, which is that its events are mask.
func (g *gathering) merge(e *event.Event, path string, mask fanotify.Mask) {
	i, ok := g.index[path]
	if !ok {
		one := *e
		one.Path, one.NewPath, one.Mask = strings.Clone(path), "", mask
		g.text += len(path)
		g.record(one.Path, one)
		return
	}
	all := &g.events[i]
	all.Mask |= mask
	all.Time = e.Time
	all.Found = all.Found && e.Found
	if e.PathState != event.PathExact {
		all.PathState = e.PathState
	}
	switch {
	case all.PID != e.PID:
		all.PID, all.Process = 0, nil // several
	case all.Process == nil || e.Process != nil && e.Process.State != event.ProcessUnknown:
		all.Process = e.Process
	}
}

// record returns the record with this key, which it makes if there is none.
func (g *gathering) record(key string, e event.Event) *event.Event {
	i, ok := g.index[key]
	if !ok {
		i = len(g.events)
		g.index[key] = i
		g.events = append(g.events, e)
	}
	return &g.events[i]
}

// full reports whether the batch must not grow any more.
func (g *gathering) full() bool { return len(g.events) >= maxGathered || g.text >= maxGatheredText }

// due returns when the batch is to be printed if nothing comes until then; there is no such time while it is empty.
func (g *gathering) due() (time.Time, bool) {
	limit := g.first.Add(max(settleLimit, settleTimes*g.quiet))
	if quiet := g.last.Add(g.quiet); quiet.Before(limit) {
		return quiet, len(g.events) > 0
	}
	return limit, len(g.events) > 0
}

// settled reports whether nothing came for long enough.
func (g *gathering) settled(now time.Time) bool { return !now.Before(g.last.Add(g.quiet)) }

// take returns the records, and begins anew.
func (g *gathering) take() []event.Event {
	events := g.events
	g.events, g.index, g.text = nil, nil, 0
	return events
}
