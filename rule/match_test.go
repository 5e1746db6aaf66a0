package rule_test

import (
	"fmt"
	"strings"
	"testing"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/rule"
)

// created is an event of process 30, child of 20, child of 10.
func created(path string) *event.Event {
	return &event.Event{
		Mask: fanotify.Create | fanotify.CloseWrite, Path: path, PathState: event.PathExact, PID: 30,
		Process: &event.Process{
			PID: 30, PPID: 20, UID: 1000, Comm: "sh", Exe: "/usr/bin/dash", Cwd: "/home/user", Ancestors: []int32{20, 10},
			Container: "c0ffee",
		},
	}
}

func renamed(from, to string) *event.Event {
	e := created(from)
	e.Mask, e.NewPath = fanotify.Rename, to
	return e
}

func TestMatch(t *testing.T) {
	file := created("/srv/d/f.txt")
	directory := created("/srv/d")
	directory.Mask = fanotify.Create | fanotify.OnDir
	bare := &event.Event{Mask: fanotify.Create} // nothing else is known
	pidOnly := &event.Event{Mask: fanotify.Create, PID: 30}
	noUser := created("/srv/d/f.txt")
	noUser.Process = &event.Process{PID: 30, UID: event.NoUID, Exe: "/usr/bin/dash"}

	tests := []struct {
		name string
		rule rule.Rule
		e    *event.Event
		want bool
	}{
		{"one of the bits", rule.Rule{Events: fanotify.Create | fanotify.Delete}, file, true},
		{"none of the bits", rule.Rule{Events: fanotify.Delete | fanotify.Modify}, file, false},
		{"the event of a directory", rule.Rule{Events: fanotify.Create}, directory, true},
		{"another event of a directory", rule.Rule{Events: fanotify.Delete}, directory, false},
		{"ondir alone, a directory", rule.Rule{Events: fanotify.OnDir}, directory, true},
		{"ondir alone, a file", rule.Rule{Events: fanotify.OnDir}, file, false},
		{"ondir and another event, a directory", rule.Rule{Events: fanotify.Delete | fanotify.OnDir}, directory, true},

		{"the process", rule.Rule{PIDs: []int32{1, 30}}, file, true},
		{"another process", rule.Rule{PIDs: []int32{1, 31}}, file, false},
		{"an ancestor, without descendants", rule.Rule{PIDs: []int32{10}}, file, false},
		{"an ancestor", rule.Rule{PIDs: []int32{10}, Descendants: true}, file, true},
		{"the parent", rule.Rule{PIDs: []int32{20}, Descendants: true}, file, true},
		{"the process, with descendants", rule.Rule{PIDs: []int32{30}, Descendants: true}, file, true},
		{"no ancestor", rule.Rule{PIDs: []int32{40}, Descendants: true}, file, false},
		{"the process, ancestors unknown", rule.Rule{PIDs: []int32{30}, Descendants: true}, pidOnly, true},
		{"an ancestor, unknown", rule.Rule{PIDs: []int32{10}, Descendants: true}, pidOnly, false},
		{"no pid", rule.Rule{PIDs: []int32{30}}, bare, false},

		{"excluded itself", rule.Rule{ExcludeTree: []int32{30}}, file, false},
		{"excluded by an ancestor", rule.Rule{ExcludeTree: []int32{5, 10}}, file, false},
		{"not excluded", rule.Rule{ExcludeTree: []int32{5, 40}}, file, true},
		{"excluded by pid alone", rule.Rule{ExcludeTree: []int32{30}}, pidOnly, false},
		{"not excluded because unknown", rule.Rule{ExcludeTree: []int32{30}}, bare, true},
		{"in both trees", rule.Rule{PIDs: []int32{10}, Descendants: true, ExcludeTree: []int32{20}}, file, false},
		{"in one of the trees", rule.Rule{PIDs: []int32{10}, Descendants: true, ExcludeTree: []int32{40}}, file, true},

		{"the user", rule.Rule{UIDs: []uint32{0, 1000}}, file, true},
		{"another user", rule.Rule{UIDs: []uint32{0}}, file, false},
		{"root, but no process", rule.Rule{UIDs: []uint32{0}}, pidOnly, false},
		{"root, but no user", rule.Rule{UIDs: []uint32{0}}, noUser, false},
		{"the container", rule.Rule{Containers: []string{"dead", "c0ffee"}}, file, true},
		{"another container", rule.Rule{Containers: []string{"dead"}}, file, false},
		{"the beginning of the container", rule.Rule{Containers: []string{"c0f"}}, file, false},
		{"no container", rule.Rule{Containers: []string{"dead"}}, pidOnly, false},

		{"the executable", rule.Rule{Exe: []string{"/usr/bin/*sh"}}, file, true},
		{"another executable", rule.Rule{Exe: []string{"/usr/bin/python*"}}, file, false},
		{"excluded executable", rule.Rule{Exe: []string{"-*/dash"}}, file, false},
		{"an executable not excluded", rule.Rule{Exe: []string{"-*/bash"}}, file, true},
		{"unknown executable", rule.Rule{Exe: []string{"*"}}, pidOnly, false},
		{"unknown executable, not excluded", rule.Rule{Exe: []string{"-*"}}, pidOnly, true},
		{"the working directory", rule.Rule{Cwd: []string{"/home/*"}}, file, true},
		{"another working directory", rule.Rule{Cwd: []string{"/home"}}, file, false},
		{"unknown working directory", rule.Rule{Cwd: []string{"*"}}, noUser, false},
		{"unknown working directory, not excluded", rule.Rule{Cwd: []string{"-/"}}, noUser, true},

		{"the path", rule.Rule{Path: []string{"/home/*", "/srv/*.txt"}}, file, true},
		{"another path", rule.Rule{Path: []string{"/home/*", "/srv/*.c"}}, file, false},
		{"an extended pattern", rule.Rule{Path: []string{"/srv/@(d|e)/!(*.c)"}}, file, true},
		{"the path, excluded", rule.Rule{Path: []string{"/srv/*", "-*.txt"}}, file, false},
		{"the path, excluded first", rule.Rule{Path: []string{"-*.txt", "/srv/*"}}, file, false},
		{"the path, something else excluded", rule.Rule{Path: []string{"/srv/*", "-*.c"}}, file, true},
		{"everything but the path", rule.Rule{Path: []string{"-*.txt", "-*.c"}}, file, false},
		{"everything but others", rule.Rule{Path: []string{"-*.c", "-*.h"}}, file, true},
		{"unknown path", rule.Rule{Path: []string{"*"}}, pidOnly, false},
		{"unknown path, not excluded", rule.Rule{Path: []string{"-*"}}, pidOnly, true},
		{"a pattern that begins with a hyphen", rule.Rule{Path: []string{"--a"}}, created("-a"), false},
		{"a hyphen in brackets", rule.Rule{Path: []string{"[-]a"}}, created("-a"), true},
		{"bytes", rule.Rule{Path: []string{"/srv/?"}}, created("/srv/\xff"), true},

		{"the old path", rule.Rule{Path: []string{"/a/*"}}, renamed("/a/x", "/b/x"), true},
		{"the new path", rule.Rule{Path: []string{"/b/*"}}, renamed("/a/x", "/b/x"), true},
		{"neither path", rule.Rule{Path: []string{"/c/*"}}, renamed("/a/x", "/b/x"), false},
		{"the old path excluded", rule.Rule{Path: []string{"-/a/*"}}, renamed("/a/x", "/b/x"), true},
		{"the new path excluded", rule.Rule{Path: []string{"-/b/*"}}, renamed("/a/x", "/b/x"), true},
		{"both paths excluded", rule.Rule{Path: []string{"-/a/*", "-/b/*"}}, renamed("/a/x", "/b/x"), false},
		{"one path wanted, the other excluded", rule.Rule{Path: []string{"/a/*", "-*.o"}}, renamed("/a/x", "/b/x.o"), true},
		{"one path wanted but excluded", rule.Rule{Path: []string{"/a/*", "-*.o"}}, renamed("/a/x.o", "/b/x"), false},
		{"no old path", rule.Rule{Path: []string{"/b/*"}}, renamed("", "/b/x"), true},
		{"no old path, the new one excluded", rule.Rule{Path: []string{"-/b/*"}}, renamed("", "/b/x"), false},
		{"no new path, the old one excluded", rule.Rule{Path: []string{"-/a/*"}}, renamed("/a/x", ""), false},

		{
			"all terms",
			rule.Rule{
				Name: "n", Events: fanotify.Create, PIDs: []int32{10}, Descendants: true, ExcludeTree: []int32{9},
				Exe: []string{"*/dash"}, Cwd: []string{"/home/*"}, Path: []string{"/srv/*"}, UIDs: []uint32{1000},
				Containers: []string{"c0ffee"}, PassFD: true,
			},
			file, true,
		},
		{"one term doesn't hold", rule.Rule{Events: fanotify.Create, UIDs: []uint32{0}}, file, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m, err := rule.Compile(test.rule)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Match(test.e); got != test.want {
				t.Errorf("Match = %v; want %v", got, test.want)
			}
		})
	}
}

// TestLossMatches checks that a record about loss matches every rule.
func TestLossMatches(t *testing.T) {
	losses := []event.Event{
		{Mask: fanotify.Overflow, Scope: "/srv"},
		{Mask: fanotify.Overflow},
		{Lost: 1},
	}
	other := event.Event{
		Mask: fanotify.Create, PID: 2, Process: &event.Process{PID: 2, Ancestors: []int32{1}}, Path: "/x",
	}
	for _, r := range []rule.Rule{
		{Events: fanotify.Delete},
		{PIDs: []int32{1}},
		{ExcludeTree: []int32{1}},
		{Exe: []string{"/none"}},
		{Cwd: []string{"/none"}},
		{Path: []string{"/none", "-*"}},
		{UIDs: []uint32{1}},
		{Containers: []string{"none"}},
	} {
		m, err := rule.Compile(r)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range losses {
			if !m.Match(&e) {
				t.Errorf("rule %+v doesn't match %+v", r, e)
			}
		}
		if m.Match(&other) {
			t.Errorf("rule %+v matches everything", r)
		}
	}
}

// TestCompileCopies checks that a Matcher doesn't change with the rule that it was made of.
func TestCompileCopies(t *testing.T) {
	r := rule.Rule{PIDs: []int32{30}, UIDs: []uint32{1000}, Containers: []string{"c0ffee"}, Path: []string{"/srv/*"}}
	m, err := rule.Compile(r)
	if err != nil {
		t.Fatal(err)
	}
	r.PIDs[0], r.UIDs[0], r.Containers[0], r.Path[0] = 1, 1, "x", "/x"
	if !m.Match(created("/srv/f")) {
		t.Error("the Matcher changed")
	}
}

func TestMatchAllocs(t *testing.T) {
	for _, r := range rules() {
		m, err := rule.Compile(r)
		if err != nil {
			t.Fatal(err)
		}
		e, rename := created("/srv/d/f.txt"), renamed("/a/\xff", "/srv/é")
		if n := testing.AllocsPerRun(100, func() { m.Match(e); m.Match(rename) }); n != 0 {
			t.Errorf("Match of %+v allocates %v times", r, n)
		}
	}
}

// rules returns rules as people write them.
func rules() []rule.Rule {
	many := make([]int32, 1000)
	for i := range many {
		many[i] = int32(i + 1000)
	}
	return []rule.Rule{
		{Events: fanotify.Create | fanotify.Delete},
		{Path: []string{"/srv/*"}},
		{Path: []string{"-*.o", "-*/.git/*", "-*~"}},
		{Path: []string{"/home/*/src/*.[ch]", "*.@(txt|md)"}},
		{PIDs: many, Descendants: true, UIDs: []uint32{1000}},
		{Exe: []string{"/usr/bin/*"}, Cwd: []string{"/home/*"}, ExcludeTree: []int32{5}},
	}
}

func BenchmarkMatch(b *testing.B) {
	e := created("/srv/projects/fanlight/internal/fnmatch/pattern.txt")
	for _, r := range rules() {
		name := fmt.Sprint(r.Events, r.Path, len(r.PIDs), r.Exe)
		b.Run(strings.ReplaceAll(name, "/", ":"), func(b *testing.B) {
			m, err := rule.Compile(r)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				m.Match(e)
			}
		})
	}
}
