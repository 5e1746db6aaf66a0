package main

import (
	"fmt"
	"strings"
	"testing"

	"fanlight/event"
	"fanlight/fanotify"
)

func TestSummary(t *testing.T) {
	s := newSummary()
	for _, e := range []event.Event{
		{Mask: fanotify.Create | fanotify.CloseWrite, Path: "/srv/b/1"},
		{Mask: fanotify.Create | fanotify.OnDir, Path: "/srv/a/1"},
		{Mask: fanotify.Create, Path: "/srv/c\n/1"},
		{Mask: fanotify.Rename, Path: "/srv/b/1", NewPath: "/srv/a/2"},
		{Mask: fanotify.Rename, NewPath: "/srv/b/3"},
		{Mask: fanotify.CloseWrite},
		{Lost: 500},
		{Mask: fanotify.Overflow, Scope: "/srv"},
		{Lost: 12},
	} {
		if b := s.append(nil, &e); b != nil {
			t.Errorf("%v: the summary wrote %q before the end", e.Mask, b)
		}
	}
	want := strings.Join([]string{
		"  total  close_write   create   rename  directory",
		"      3            1        1        2  /srv/b/",
		"      1            1        0        0  (unknown)",
		"      1            0        1        0  /srv/a/",
		`      1            0        1        0  /srv/c\n/`,
		"-- 512 events lost: the output was not read fast enough",
		"-- an unknown number of events lost: the kernel's queue overflowed once",
		"",
	}, "\n")
	if got := string(s.finish(nil)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSummaryIsBounded(t *testing.T) {
	s := newSummary()
	for i := range maxSummaryRows + 10 {
		s.append(nil, &event.Event{Mask: fanotify.Create, Path: fmt.Sprintf("/%d/f", i)})
	}
	if n := len(s.rows); n != maxSummaryRows+1 {
		t.Errorf("%d rows, want %d", n, maxSummaryRows+1)
	}
	if got := s.rows[otherDirectories].total; got != 10 {
		t.Errorf("%d events in %s, want 10", got, otherDirectories)
	}
}
