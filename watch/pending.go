package watch

import (
	"fanlight/fanotify"
)

// pending is what was read from the kernel's queue and not handled yet, in order. Its first batch is being handled.
//
// On demand it is indexed: where each directory that a pending record moves or removes is now, that is, at the event
// being handled. The kernel has forgotten that; the records haven't. The index ends at an overflow, because the records
// behind one don't go on from those before it.
type pending struct {
	group *fanotify.Group
	max   int // bytes

	batches []queued
	free    []*fanotify.Batch
	bytes   int    // in batches
	total   uint64 // bytes that were ever read
	behind  bool   // the last read left events in the queue

	indexed int // batches, from the first
	links   map[fanotify.Handle][]link
	entries map[string]int // names that came into a directory, after its handle; nil where nobody asks
	gap     bool           // the index ended at an overflow
	scratch fanotify.Event
}

// queued is a batch with the number of bytes that were read into it.
type queued struct {
	*fanotify.Batch
	size int
}

// link is a place in the tree: a name in a directory.
type link struct {
	dir  fanotify.Handle
	name string
}

// read takes what is queued, one buffer at most, and returns its size in bytes: 0 when nothing is queued.
func (p *pending) read() (int, error) {
	b := new(fanotify.Batch)
	if n := len(p.free); n > 0 {
		b = p.free[n-1]
		p.free = p.free[:n-1]
	}
	n, err := p.group.TryRead(b)
	if n == 0 || err != nil {
		p.free = append(p.free, b)
		p.behind = false
		return 0, err
	}
	p.batches = append(p.batches, queued{b, n})
	p.bytes += n
	p.total += uint64(n)
	p.behind = n > fanotify.DefaultBufferSize-fanotify.MinBufferSize
	return n, nil
}

// drain reads until the queue was empty for a moment, and indexes everything. It reports whether it got that far
// within the limit: then every change of the tree that happened before the call is handled or in the index.
func (p *pending) drain() bool {
	for {
		if p.bytes > p.max {
			p.index()
			return false
		}
		if n, err := p.read(); err != nil {
			p.index()
			return false
		} else if n == 0 || !p.behind {
			p.index()
			return true
		}
	}
}

// index indexes what is not indexed yet.
func (p *pending) index() {
	if p.links == nil {
		p.links = make(map[fanotify.Handle][]link)
	}
	for ; !p.gap && p.indexed < len(p.batches); p.indexed++ {
		for e := range p.batches[p.indexed].Ahead(&p.scratch) {
			if p.gap = e.Mask.Has(fanotify.Overflow); p.gap {
				return
			}
			if from, ok := leaves(e); ok {
				child := fanotify.Handle(e.Object())
				p.links[child] = append(p.links[child], link{fanotify.Handle(from.Dir), string(from.Name)})
			}
			if p.entries != nil {
				if at, ok := comes(e); ok {
					p.entries[string(at.Dir)+string(at.Name)]++
				}
			}
		}
	}
}

// leaves returns the place that a directory leaves by this event, when it was removed or renamed.
func leaves(e *fanotify.Event) (fanotify.Entry, bool) {
	if !e.Mask.Has(fanotify.OnDir) || e.Object() == nil {
		return fanotify.Entry{}, false
	}
	return leavesName(e)
}

// comes returns the place that something has since this event, when it was made there or renamed.
func comes(e *fanotify.Event) (fanotify.Entry, bool) {
	switch {
	case e.Mask.Has(fanotify.Rename):
		return e.New()
	case e.Mask.Has(fanotify.Create):
		return e.Dir()
	}
	return fanotify.Entry{}, false
}

// leavesName returns the place that something leaves by this event.
func leavesName(e *fanotify.Event) (fanotify.Entry, bool) {
	switch {
	case e.Mask.Has(fanotify.Rename):
		return e.Old()
	case e.Mask.Has(fanotify.Delete):
		return e.Dir()
	}
	return fanotify.Entry{}, false
}

// brings reports whether a pending event, as far as they are indexed, says that a name came into a directory.
func (p *pending) brings(dir fanotify.Handle, name string) bool {
	return p.entries[string(dir)+name] > 0
}

// handle takes the event that is about to be handled out of the index.
func (p *pending) handle(e *fanotify.Event) {
	if e.Mask.Has(fanotify.Overflow) {
		p.indexed, p.gap = 0, false // the links are used up
	}
	if len(p.entries) > 0 {
		if at, ok := comes(e); ok {
			key := string(at.Dir) + string(at.Name)
			if p.entries[key]--; p.entries[key] <= 0 {
				delete(p.entries, key)
			}
		}
	}
	if len(p.links) == 0 {
		return
	}
	if _, ok := leaves(e); !ok {
		return
	}
	child := fanotify.Handle(e.Object())
	if rest := p.links[child]; len(rest) > 1 {
		p.links[child] = rest[1:]
	} else {
		delete(p.links, child)
	}
}

// handled ends the first batch.
func (p *pending) handled() {
	b := p.batches[0]
	p.batches[0] = queued{}
	p.batches = p.batches[1:]
	p.indexed = max(0, p.indexed-1)
	p.bytes -= b.size
	if len(p.free) < maxFree {
		p.free = append(p.free, b.Batch)
	}
}

// discard throws away everything, in the kernel's queue the given number of events too.
func (p *pending) discard(backlog int) error {
	for len(p.batches) > 0 {
		p.handled()
	}
	clear(p.links)
	clear(p.entries)
	p.indexed, p.gap = 0, false
	for backlog > 0 {
		n, err := p.read()
		if n == 0 || err != nil {
			return err
		}
		for range p.batches[0].Ahead(&p.scratch) {
			backlog--
		}
		p.handled()
	}
	return nil
}
