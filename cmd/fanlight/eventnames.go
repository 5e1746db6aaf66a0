package main

import (
	"fmt"
	"math/bits"
	"strings"

	"fanlight/fanotify"
	"fanlight/watch"
)

// The groups of events that --events takes beside the kernel's names.
const (
	changeEvents = watch.Changes
	readEvents   = fanotify.Open | fanotify.Access | fanotify.CloseNowrite | fanotify.OpenExec
	allEvents    = changeEvents | readEvents | fanotify.DeleteSelf | fanotify.MoveSelf
	knownEvents  = allEvents | fanotify.MovedFrom | fanotify.MovedTo | fanotify.FSError
)

// eventNames returns every name that parseEvents knows: the groups, then the kernel's names in the order of their bits.
func eventNames() []string {
	names := []string{"changes", "reads", "all"}
	for rest := uint64(knownEvents); rest != 0; rest &= rest - 1 {
		names = append(names, fanotify.BitName(bits.TrailingZeros64(rest)))
	}
	return names
}

// parseEvents reads lists of names joined by commas, such as "create,delete" or "reads". No list means changes.
func parseEvents(lists []string) (fanotify.Mask, error) {
	if len(lists) == 0 {
		return changeEvents, nil
	}
	var mask fanotify.Mask
	for name := range strings.SplitSeq(strings.Join(lists, ","), ",") {
		m := eventsByName(strings.ToLower(strings.TrimSpace(name)))
		if m == 0 {
			return 0, fmt.Errorf("unknown event %q: use %s", name, strings.Join(eventNames(), ", "))
		}
		mask |= m
	}
	return mask, nil
}

// eventsByName returns the bits that a name stands for, none if it isn't known.
func eventsByName(name string) fanotify.Mask {
	switch name {
	case "changes":
		return changeEvents
	case "reads":
		return readEvents
	case "all":
		return allEvents
	}
	for rest := uint64(knownEvents); rest != 0; rest &= rest - 1 {
		if name == fanotify.BitName(bits.TrailingZeros64(rest)) {
			return fanotify.Mask(rest & -rest)
		}
	}
	return 0
}

// appendEvents appends the names of the bits of mask in the order of their values, joined by commas, as the JSON form
// lists them.
func appendEvents(b []byte, mask fanotify.Mask) []byte {
	for rest := uint64(mask); rest != 0; rest &= rest - 1 {
		b = append(b, fanotify.BitName(bits.TrailingZeros64(rest))...)
		if rest&(rest-1) != 0 {
			b = append(b, ',')
		}
	}
	return b
}
