package main

import (
	"testing"

	"fanlight/event"
	"fanlight/fanotify"
)

func TestLineForm(t *testing.T) {
	for _, test := range []struct {
		name  string
		event event.Event
		want  string
	}{
		{"create", event.Event{Mask: fanotify.Create, Path: "/srv/f", PathState: event.PathExact, PID: 4121, Process: touch()},
			"T  touch[4121]     create                     /srv/f"},
		{"many names, as life goes", event.Event{Mask: fanotify.Modify | fanotify.CloseWrite | fanotify.Create | fanotify.Delete,
			Path: "/srv/f", PathState: event.PathExact, PID: 4121, Process: touch()},
			"T  touch[4121]     create,modify,close_write,delete  /srv/f"},
		{"directory", event.Event{Mask: fanotify.Create | fanotify.OnDir, Path: "/srv/d", PathState: event.PathExact,
			PID: 4121, Process: touch()},
			"T  touch[4121]     create,ondir               /srv/d"},
		{"rename", event.Event{Mask: fanotify.Rename, Path: "/srv/a", NewPath: "/srv/b", PathState: event.PathExact, PID: 7,
			Process: &event.Process{Comm: "mv"}},
			"T  mv[7]           rename                     /srv/a -> /srv/b"},
		{"rename out of view", event.Event{Mask: fanotify.Rename, Path: "/srv/a", PathState: event.PathExact, PID: 7},
			"T  ?[7]            rename                     /srv/a -> ?"},
		{"rename into view", event.Event{Mask: fanotify.Rename, NewPath: "/srv/b", PathState: event.PathExact, PID: 7},
			"T  ?[7]            rename                     ? -> /srv/b"},
		{"current", event.Event{Mask: fanotify.Delete, Path: "/srv/f", PathState: event.PathCurrent, PID: 7},
			"T  ?[7]            delete                     (current) /srv/f"},
		{"nothing known", event.Event{Mask: fanotify.Modify},
			"T  ?               modify                     ?"},
		{"names that want out", event.Event{Mask: fanotify.Create, Path: "/srv/\n\x1b[2J", PathState: event.PathExact, PID: 7,
			Process: &event.Process{Comm: "e\x1bvil\n"}},
			`T  e\x1bvil\n[7]   create                     /srv/\n\x1b[2J`},
		{"unknown bit", event.Event{Mask: fanotify.Create | 1<<13, Path: "/srv/f", PathState: event.PathExact},
			"T  ?               create,0x2000              /srv/f"},
		{"lost", event.Event{Lost: 512}, "T  -- 512 events lost: the output was not read fast enough"},
		{"one lost", event.Event{Lost: 1}, "T  -- 1 event lost: the output was not read fast enough"},
		{"overflow", event.Event{Mask: fanotify.Overflow, Scope: "/srv\n"},
			`T  -- an unknown number of events lost under /srv\n: the kernel's queue overflowed`},
	} {
		form := newLineForm("T", '\n', false, false)
		if got := string(form.append(nil, &test.event)); got != test.want+"\n" {
			t.Errorf("%s:\n got %q\nwant %q", test.name, got, test.want+"\n")
		}
	}
}

// Columns widen with what was seen, so that the next line stands below it.
func TestLineFormAligns(t *testing.T) {
	form := newLineForm("T", '\n', false, false)
	long := event.Event{
		Mask: fanotify.Create | fanotify.Modify | fanotify.Attrib | fanotify.CloseWrite, Path: "/a", PathState: event.PathExact,
		PID: 4194304, Process: &event.Process{Comm: "füünfzehn bytes"},
	}
	short := event.Event{Mask: fanotify.Delete, Path: "/a", PathState: event.PathExact, PID: 1, Process: touch()}
	got := string(form.append(form.append(nil, &long), &short))
	const want = "" +
		"T  füünfzehn bytes[4194304]  create,modify,attrib,close_write  /a\n" +
		"T  touch[1]                  delete                            /a\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestLineFormInColor(t *testing.T) {
	for _, test := range []struct {
		mask fanotify.Mask
		want string
	}{
		{fanotify.Create | fanotify.CloseWrite, "T  ?               \x1b[32mcreate,close_write\x1b[0m         /a\n"},
		{fanotify.Modify, "T  ?               \x1b[33mmodify\x1b[0m                     /a\n"},
		{fanotify.Create | fanotify.Delete, "T  ?               \x1b[31mcreate,delete\x1b[0m              /a\n"},
		{fanotify.Rename, "T  ?               \x1b[36mrename\x1b[0m                     /a -> ?\n"},
		{fanotify.Open, "T  ?               \x1b[2mopen\x1b[0m                       /a\n"},
	} {
		form := newLineForm("T", '\n', true, false)
		e := &event.Event{Mask: test.mask, Path: "/a", PathState: event.PathExact}
		if got := string(form.append(nil, e)); got != test.want {
			t.Errorf("%v: got %q, want %q", test.mask, got, test.want)
		}
	}
	got := string(newLineForm("T", '\n', true, false).append(nil, &event.Event{Lost: 2}))
	if want := "T  \x1b[1;31m-- 2 events lost: the output was not read fast enough\x1b[0m\n"; got != want {
		t.Errorf("lost: got %q, want %q", got, want)
	}
}
