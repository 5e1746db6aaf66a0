package event_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fanlight/event"
	"fanlight/fanotify"
)

func TestDecode(t *testing.T) {
	tests := []struct {
		name, line string
		want       event.Event
	}{
		{"nothing", `{}`, event.Event{}},
		{"blanks", " {\n\"seq\" : 1 }\t\n", event.Event{Seq: 1}},
		{"unknown members", `{"later":{"path":[1,{}]},"paths":7,"seq":1}`, event.Event{Seq: 1}},
		{"null is absent", `{"seq":null,"time":null,"events":null,"path_raw":null,"process":null}`, event.Event{}},
		{
			"unknown events", `{"events":["create","teleport","CREATE","0x2000","0x","0xg","8192","create|delete",""]}`,
			event.Event{Mask: fanotify.Create | 1<<13},
		},
		{"bits in one number", `{"events":["0x6000"]}`, event.Event{Mask: 0x6000}},
		{"unknown states", `{"path":"/a","path_state":"maybe","process":{"state":"zombie"}}`,
			event.Event{Path: "/a", Process: &event.Process{UID: event.NoUID}}},
		{"state without a text", `{"path_state":"exact","process":{"state":"unknown","uid":0}}`,
			event.Event{PathState: event.PathExact, Process: &event.Process{}}},
		{"raw wins", `{"path":"/a","path_raw":"L/8=","process":{"comm":"a","comm_raw":"/w=="}}`,
			event.Event{Path: "/\xff", Process: &event.Process{UID: event.NoUID, Comm: "\xff"}}},
		{"raw alone", `{"new_path_raw":"L/8="}`, event.Event{NewPath: "/\xff"}},
		{"escapes", `{"path":"/\u00e9\ud83d\ude00\n\/"}`, event.Event{Path: "/é😀\n/"}},
		{"a zone", `{"time":"2026-11-22T20:00:00.5+01:00"}`,
			event.Event{Time: time.Date(2026, 11, 22, 19, 0, 0, 5e8, time.UTC)}},
		{"part of a group of members", `{"error_count":1,"count":2,"rule":"r"}`, event.Event{
			FSError: &event.FSError{Count: 1}, Range: &event.Range{Count: 2}, Decision: &event.Decision{Rule: "r"},
		}},
		{"false", `{"found":false,"fd":false,"truncated":false}`, event.Event{}},
		{"the last of two", `{"seq":1,"seq":2}`, event.Event{Seq: 2}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := event.Event{Seq: 99, Path: "/old", Process: touch(), Lost: 1}
			if err := event.Decode([]byte(test.line), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Decode(%s) (-want +got):\n%s", test.line, diff)
			}
		})
	}
}

func TestDecodeError(t *testing.T) {
	tests := []struct{ line, names string }{
		{``, "event: "},
		{`null`, "event: null is no event"},
		{`[]`, "event: "},
		{`"path"`, "event: "},
		{`{"seq":1`, "event: "},
		{`{"seq":1}{}`, "event: "},
		{`{"seq":-1}`, "event: seq: "},
		{`{"seq":"1"}`, "event: seq: "},
		{`{"seq":1.5}`, "event: seq: "},
		{`{"time":1}`, "event: time: "},
		{`{"time":"yesterday"}`, "event: time: "},
		{`{"events":"create"}`, "event: events: "},
		{`{"events":[1]}`, "event: events: "},
		{`{"path":5}`, "event: path: "},
		{`{"path_raw":5}`, "event: path_raw: "},
		{`{"path_raw":"*"}`, "event: path_raw: "},
		{`{"path_raw":"/x=="}`, "event: path_raw: "}, // the bits behind the byte aren't zero
		{`{"path_raw":[1,2]}`, "event: path_raw: "},
		{`{"path_state":1}`, "event: path_state: "},
		{`{"pid":2147483648}`, "event: pid: "},
		{`{"pid":true}`, "event: pid: "},
		{`{"process":[]}`, "event: process: "},
		{`{"process":{"uid":-1}}`, "event: process.uid: "},
		{`{"process":{"exe_raw":"*"}}`, "event: process.exe_raw: "},
		{`{"process":{"state":2}}`, "event: process.state: "},
		{`{"lost":"1"}`, "event: lost: "},
		{`{"fd":1}`, "event: fd: "},
		{`{"fs_error":"EIO"}`, "event: fs_error: "},
		{`{"offset":-1}`, "event: offset: "},
		{`{"duration_ns":0.5}`, "event: duration_ns: "},
	}
	for _, test := range tests {
		got := event.Event{Seq: 99}
		err := event.Decode([]byte(test.line), &got)
		if err == nil || !strings.HasPrefix(err.Error(), test.names) || strings.Contains(err.Error(), "\n") {
			t.Errorf("Decode(%s) = %v; want an error in one line that begins with %q", test.line, err, test.names)
		}
		if diff := cmp.Diff(event.Event{Seq: 99}, got); diff != "" {
			t.Errorf("Decode(%s) changed the event (-want +got):\n%s", test.line, diff)
		}
	}
}

func TestStates(t *testing.T) {
	for s, want := range map[event.PathState]string{
		event.PathUnknown: "unknown", event.PathExact: "exact", event.PathCurrent: "current", 7: "unknown",
	} {
		got := event.PathState(9)
		text, err := s.MarshalText()
		if s.String() != want || string(text) != want || err != nil {
			t.Errorf("PathState(%d) is %q and %q, %v; want %q", s, s, text, err, want)
		}
		if err := got.UnmarshalText([]byte(want)); err != nil || got.String() != want {
			t.Errorf("UnmarshalText(%q) = %v, %v", want, got, err)
		}
	}
	for s, want := range map[event.ProcessState]string{
		event.ProcessUnknown: "unknown", event.ProcessLive: "live", event.ProcessExited: "exited", 7: "unknown",
	} {
		got := event.ProcessState(9)
		text, err := s.MarshalText()
		if s.String() != want || string(text) != want || err != nil {
			t.Errorf("ProcessState(%d) is %q and %q, %v; want %q", s, s, text, err, want)
		}
		if err := got.UnmarshalText([]byte(want)); err != nil || got.String() != want {
			t.Errorf("UnmarshalText(%q) = %v, %v", want, got, err)
		}
	}
	var path event.PathState
	const want = `unknown path state "live": want one of ["unknown" "exact" "current"]`
	if err := path.UnmarshalText([]byte("live")); err == nil || err.Error() != want {
		t.Errorf(`PathState.UnmarshalText("live") = %v; want %s`, err, want)
	}
	var process event.ProcessState
	if err := process.UnmarshalText([]byte("exact")); err == nil {
		t.Error(`ProcessState.UnmarshalText("exact") succeeds`)
	}
}

// FuzzDecode checks that Decode doesn't panic, and that what it reads is written and read again the same.
func FuzzDecode(f *testing.F) {
	for _, test := range forms {
		f.Add([]byte(test.want))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var e event.Event
		if event.Decode(line, &e) != nil {
			return
		}
		// The form doesn't carry what goes together with nothing else.
		if e.Path == "" && e.NewPath == "" {
			e.PathState = event.PathUnknown
		}
		if e.Mask&fanotify.Overflow != 0 {
			e.Mask, e.Path, e.NewPath, e.PathState, e.PID, e.Process = fanotify.Overflow, "", "", 0, 0, nil
		}
		again := e.AppendJSON(nil)
		checkLine(t, again)
		var got event.Event
		if err := event.Decode(again, &got); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", again, diff)
		}
	})
}

// FuzzNames checks that all bytes of names come through.
func FuzzNames(f *testing.F) {
	f.Add("/srv/a\nb", "/srv/\xff\xc3", "t\u2028", "/bin/\x7f")
	f.Add("/\xed\xa0\x80", "\u009b", "\x00", "\"\\")
	f.Fuzz(func(t *testing.T, path, newPath, comm, exe string) {
		e := event.Event{Path: path, NewPath: newPath, Process: &event.Process{Comm: comm, Exe: exe}}
		line := e.AppendJSON(nil)
		checkLine(t, line)
		checkTexts(t, line, &e)
		var got event.Event
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	line := []byte(forms[0].want)
	var e event.Event
	b.ReportAllocs()
	for b.Loop() {
		if err := event.Decode(line, &e); err != nil {
			b.Fatal(err)
		}
	}
}
