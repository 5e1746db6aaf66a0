package main

import (
	"cmp"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"

	"fanlight/event"
	"fanlight/fanotify"
)

// maxSummaryRows bounds the memory of a summary; what happens in further directories shares one row.
const maxSummaryRows = 1 << 16

// The rows of a summary that aren't directories; paths are absolute and can't be mistaken for them.
const (
	otherDirectories = "(other directories)"
	unknownDirectory = "(unknown)"
)

// summary counts events instead of writing them. An event that the kernel merged counts once in the total and once
// under each of its names.
type summary struct {
	rows      map[string]*counts // by directory, with a slash at the end
	seen      fanotify.Mask
	lost      uint64
	overflows uint64
}

// counts are the numbers of events in one directory.
type counts struct {
	total uint64
	byBit [32]uint64 // by the number of the bit; an event has none above 31
}

func newSummary() *summary { return &summary{rows: make(map[string]*counts)} }

// append counts e and appends nothing.
func (s *summary) append(b []byte, e *event.Event) []byte {
	switch {
	case e.Lost > 0:
		s.lost += e.Lost
		return b
	case e.Mask.Has(fanotify.Overflow):
		s.overflows++
		return b
	}
	mask := e.Mask &^ fanotify.OnDir
	row := s.row(cmp.Or(e.Path, e.NewPath))
	row.total++
	for rest := uint32(mask); rest != 0; rest &= rest - 1 {
		row.byBit[bits.TrailingZeros32(rest)]++
	}
	s.seen |= mask
	return b
}

// appendEnd appends nothing: a table has no batches.
func (s *summary) appendEnd(b []byte, _ batchEnd) []byte { return b }

// row returns the counts of the directory of path.
func (s *summary) row(path string) *counts {
	dir := path[:strings.LastIndexByte(path, '/')+1]
	if dir == "" {
		dir = unknownDirectory
	}
	row := s.rows[dir]
	if row == nil && len(s.rows) >= maxSummaryRows {
		dir = otherDirectories
		row = s.rows[dir]
	}
	if row == nil {
		row = new(counts)
		s.rows[strings.Clone(dir)] = row
	}
	return row
}

// finish appends the table: the rows by their total, the biggest first, and what was lost.
func (s *summary) finish(b []byte) []byte {
	var columns []int
	heads := []string{"total"}
	for rest := uint32(s.seen); rest != 0; rest &= rest - 1 {
		bit := bits.TrailingZeros32(rest)
		columns = append(columns, bit)
		heads = append(heads, fanotify.BitName(bit))
	}

	dirs := slices.SortedFunc(maps.Keys(s.rows), func(a, b string) int {
		return cmp.Or(cmp.Compare(s.rows[b].total, s.rows[a].total), strings.Compare(a, b))
	})
	for _, head := range heads {
		b = fmt.Appendf(b, "%*s  ", columnWidth(head), head)
	}
	b = append(b, "directory\n"...)
	for _, dir := range dirs {
		row := s.rows[dir]
		b = fmt.Appendf(b, "%*d  ", columnWidth("total"), row.total)
		for i, bit := range columns {
			b = fmt.Appendf(b, "%*d  ", columnWidth(heads[i+1]), row.byBit[bit])
		}
		b = append(appendEscaped(b, dir), '\n')
	}

	if s.lost > 0 {
		b = append(appendLoss(b, &event.Event{Lost: s.lost}), '\n')
	}
	if s.overflows > 0 {
		times := "once"
		if s.overflows > 1 {
			times = fmt.Sprintf("%d times", s.overflows)
		}
		b = fmt.Appendf(b, "-- an unknown number of events lost: the kernel's queue overflowed %s\n", times)
	}
	return b
}

// columnWidth leaves room for seven digits, as many as an hour of a busy machine needs.
func columnWidth(head string) int { return max(len(head), 7) }
