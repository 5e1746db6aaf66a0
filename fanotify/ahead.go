package fanotify

import "iter"

// Ahead yields the events that the batch still holds without moving on: Events will yield them again. The event is
// parsed into scratch; it has no descriptors, which belong to the event that Events yields. Malformed events are left
// out.
func (b *Batch) Ahead(scratch *Event) iter.Seq[*Event] {
	return func(yield func(*Event) bool) {
		for rest := b.rest; len(rest) > 0; {
			n, err := scratch.parse(rest)
			scratch.fd, scratch.pidfd, scratch.pending = noDescriptor, noDescriptor, false
			rest = rest[n:]
			if err == nil && !yield(scratch) {
				return
			}
		}
	}
}
