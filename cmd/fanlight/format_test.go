package main

import (
	"strings"
	"testing"
	"time"

	"fanlight/event"
	"fanlight/fanotify"
)

// at is the time of the events of these tests, in the zone of the machine.
func at() time.Time { return time.Date(2026, 11, 22, 19, 0, 0, 123456789, time.Local) }

func touch() *event.Process {
	return &event.Process{PID: 4121, Comm: "touch", Exe: "/usr/bin/touch", Cwd: "/srv"}
}

func TestTemplateForm(t *testing.T) {
	write := &event.Event{
		Time: at(), Mask: fanotify.Create | fanotify.CloseWrite | fanotify.OnDir, Path: "/srv/d/f\n", PathState: event.PathExact,
		PID: 4121, Process: touch(),
	}
	rename := &event.Event{
		Time: at(), Mask: fanotify.Rename, Path: "/srv/a", NewPath: "/srv/b", PathState: event.PathExact, PID: 7,
	}
	for _, test := range []struct {
		name, format string
		event        *event.Event
		want         string
	}{
		{"all", "%T|%e|%w|%f|%p|%n|%P|%x|%0|%%", write,
			"19:00|close_write,create,ondir|/srv/d/|f\\n|/srv/d/f\\n||4121|/usr/bin/touch|\x00|%"},
		{"rename", "%p>%n by %P %x.", rename, "/srv/a>/srv/b by 7 ."},
		{"no directive", "hello", rename, "hello"},
		{"directives alone", "%P%P", rename, "77"},
		{"root", "%w,%f", &event.Event{Mask: fanotify.Attrib, Path: "/"}, "/,"},
		{"nothing known", "%w,%f,%p,%n,%P,%x", &event.Event{Mask: fanotify.Modify}, ",,,,,"},
		{"overflow", "%e %p", &event.Event{Mask: fanotify.Overflow, Scope: "/srv"}, "overflow /srv"},
		{"lost", "%e %p", &event.Event{Lost: 512}, "lost "},
	} {
		form, err := newTemplateForm(test.format, "%H:%M", '\n')
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := string(form.append(nil, test.event)); got != test.want+"\n" {
			t.Errorf("%s: %q gave %q, want %q", test.name, test.format, got, test.want+"\n")
		}
	}
}

func TestTemplateFormWithNULWritesNamesAsTheyAre(t *testing.T) {
	form, err := newTemplateForm("%w|%f|%p|%n|%x", defaultTimeFormat, 0)
	if err != nil {
		t.Fatal(err)
	}
	const name = "\n\\\x1b\xff"
	e := &event.Event{Mask: fanotify.Rename, Path: "/a" + name, NewPath: "/b" + name, Process: &event.Process{Exe: "/x" + name}}
	want := "/|a" + name + "|/a" + name + "|/b" + name + "|/x" + name + "\x00"
	if got := string(form.append(nil, e)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTemplateFormRefuses(t *testing.T) {
	for _, format := range []string{"%", "%p%", "%q", "%p %-10e", "%é"} {
		form, err := newTemplateForm(format, defaultTimeFormat, '\n')
		if err == nil {
			t.Errorf("%q was taken: %v", format, form.pieces)
		} else if strings.Count(err.Error(), "\n") > 0 || !strings.HasPrefix(err.Error(), "--format") {
			t.Errorf("%q: the error doesn't say in one line what is wrong with --format: %v", format, err)
		}
	}
}
