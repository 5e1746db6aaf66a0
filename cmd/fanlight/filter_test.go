package main

import (
	"os"
	"os/exec"
	"testing"

	"fanlight/event"
	"fanlight/fanotify"
)

func filterOf(t *testing.T, o watchOptions) *filter {
	t.Helper()
	f, _, err := o.filter()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// by returns an event of a process with these ancestors.
func by(pid int32, comm string, ancestors ...int32) *event.Event {
	p := &event.Process{PID: pid, UID: event.NoUID, Comm: comm, State: event.ProcessExited, Ancestors: ancestors}
	if len(ancestors) > 0 {
		p.PPID = ancestors[0]
	}
	return &event.Event{Mask: fanotify.Create, Path: "/a", PID: pid, Process: p}
}

func TestFilterTreeAndComm(t *testing.T) {
	for _, test := range []struct {
		name    string
		options watchOptions
		e       *event.Event
		want    bool
	}{
		{"the root", watchOptions{trees: []string{"7"}}, by(7, "sh", 1), true},
		{"a descendant", watchOptions{trees: []string{"9", "7"}}, by(8, "sh", 5, 7, 1), true},
		{"another", watchOptions{trees: []string{"7"}}, by(8, "sh", 6, 1), false},
		{"tree and pid", watchOptions{trees: []string{"7"}, pids: []string{"8"}}, by(8, "sh", 7, 1), true},
		{"tree and another pid", watchOptions{trees: []string{"7"}, pids: []string{"8"}}, by(7, "sh", 1), false},
		{"an unknown process", watchOptions{trees: []string{"7"}}, &event.Event{Mask: fanotify.Create, PID: 8}, false},

		{"a name", watchOptions{comms: []string{"make", "c[cp]*"}}, by(8, "cc1"), true},
		{"another name", watchOptions{comms: []string{"make", "c[cp]*"}}, by(8, "makes"), false},
		{"not this name", watchOptions{comms: []string{"-sh"}}, by(8, "sh"), false},
		{"not this name", watchOptions{comms: []string{"-sh"}}, by(8, "bash"), true},
		{"no name", watchOptions{comms: []string{"sh"}}, &event.Event{Mask: fanotify.Create, PID: 8}, false},
		{"a name and a path", watchOptions{comms: []string{"sh"}, paths: []string{"/b"}}, by(8, "sh"), false},
	} {
		if got := filterOf(t, test.options).match(test.e); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestFilterCommand(t *testing.T) {
	gone := exec.Command("/bin/true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	unknown := by(8, "")
	unknown.Process.State = event.ProcessUnknown
	self := int32(os.Getpid())
	f := filterOf(t, watchOptions{})
	f.self = self
	for _, test := range []struct {
		name string
		e    *event.Event
		want bool
	}{
		{"the command", by(8, "sh", self, 1), true},
		{"a child of it", by(9, "sh", 8, self, 1), true},
		{"a stranger", by(9, "sh", 4, 1), false},
		{"a stranger from outside of the pid namespace", by(9, "sh", int32(os.Getppid())), false},
		{"the first process", by(1, "init"), false},
		{"nothing is known", unknown, true},
		{"nothing at all", &event.Event{Mask: fanotify.Create, PID: 8}, true},
		{"an ancestor ended meanwhile", by(9, "sh", int32(gone.Process.Pid)), true},
		{"another pid namespace", &event.Event{Mask: fanotify.Create}, false},
	} {
		if got := f.match(test.e); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
