package event_test

import (
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"fanlight/event"
	"fanlight/fanotify"
)

func at() time.Time { return time.Date(2026, 11, 22, 19, 0, 0, 123456789, time.UTC) }

func touch() *event.Process {
	return &event.Process{
		PID: 4121, PPID: 4000, UID: 1000, Comm: "touch", Exe: "/usr/bin/touch", Cwd: "/srv", State: event.ProcessExited,
		Ancestors: []int32{4000, 1}, Container: "c0ffee",
	}
}

const (
	atForm    = `"time":"2026-11-22T19:00:00.123456789Z"`
	touchForm = `"process":{"pid":4121,"ppid":4000,"uid":1000,"comm":"touch","exe":"/usr/bin/touch","cwd":"/srv",` +
		`"state":"exited"}`
)

// forms are events with their JSON forms; those with a decode member are read back as another event.
var forms = []struct {
	name string
	e    event.Event
	want string
}{
	{
		"an event",
		event.Event{
			Seq: 41, Time: at(), Mask: fanotify.Create | fanotify.CloseWrite, Path: "/srv/d/f", PathState: event.PathExact,
			PID: 4121, Process: touch(),
		},
		`{"seq":41,` + atForm + `,"events":["close_write","create"],"path":"/srv/d/f","path_state":"exact",` +
			`"pid":4121,` + touchForm + `}`,
	},
	{
		"a rename",
		event.Event{
			Seq: 42, Time: at(), Mask: fanotify.Rename, Path: "/srv/d/f", NewPath: "/srv/d/g", PathState: event.PathExact,
			PID: 4121, Process: touch(),
		},
		`{"seq":42,` + atForm + `,"events":["rename"],"path":"/srv/d/f","new_path":"/srv/d/g","path_state":"exact",` +
			`"pid":4121,` + touchForm + `}`,
	},
	{
		"details of a process",
		event.Event{PID: 9, Process: &event.Process{
			PID: 9, UID: event.NoUID, State: event.ProcessLive, Ancestors: []int32{7, 1}, Container: "c0ffee",
			Details: &event.Details{
				GID: 100, LoginUID: 1000, Start: at().Truncate(10 * time.Millisecond), Cmdline: []string{"a b", "", "\n"},
				Cgroup: "/docker/c0ffee",
			},
		}},
		`{"events":[],"pid":9,"process":{"pid":9,"state":"live","gid":100,"login_uid":1000,` +
			`"start":"2026-11-22T19:00:00.12Z","cmdline":["a b","","\n"],"cgroup":"/docker/c0ffee",` +
			`"container":"c0ffee"}}`,
	},
	{
		"details that are not UTF-8",
		event.Event{Process: &event.Process{UID: event.NoUID, Details: &event.Details{
			GID: event.NoUID, LoginUID: event.NoUID, Cmdline: []string{"\xff", "b"},
		}}},
		`{"events":[],"process":{"cmdline":["�","b"],"cmdline_raw":"/wBiAA=="}}`,
	},
	{
		"a rename from outside",
		event.Event{Seq: 42, Mask: fanotify.Rename | fanotify.OnDir, NewPath: "/srv/d/g", PathState: event.PathCurrent},
		`{"seq":42,"events":["rename","ondir"],"new_path":"/srv/d/g","path_state":"current"}`,
	},
	{
		"an overflow",
		event.Event{Seq: 43, Time: at(), Mask: fanotify.Overflow, Scope: "/srv"},
		`{"seq":43,` + atForm + `,"events":["overflow"],"scope":"/srv"}`,
	},
	{
		"a loss",
		event.Event{Seq: 44, Time: at(), Lost: 17},
		`{"seq":44,` + atForm + `,"events":[],"lost":17}`,
	},
	{"nothing", event.Event{}, `{"events":[]}`},
	{
		"unknown bits",
		event.Event{Mask: fanotify.Access | 1<<13 | fanotify.Rename | fanotify.OnDir | 1<<63},
		`{"events":["access","0x2000","rename","ondir","0x8000000000000000"]}`,
	},
	{
		"a path in an unknown state",
		event.Event{Mask: fanotify.Delete, Path: "/a"},
		`{"events":["delete"],"path":"/a","path_state":"unknown"}`,
	},
	{
		"root's process",
		event.Event{PID: 1, Process: &event.Process{PID: 1, Comm: "init", State: event.ProcessLive}},
		`{"events":[],"pid":1,"process":{"pid":1,"uid":0,"comm":"init","state":"live"}}`,
	},
	{
		"a process of which nothing is known",
		event.Event{Process: &event.Process{UID: event.NoUID}},
		`{"events":[],"process":{}}`,
	},
	{
		"a name that is not UTF-8",
		event.Event{Path: "/a\xff\xc3", NewPath: "/é\xed\xa0\x80", PathState: event.PathExact},
		`{"events":[],"path":"/a` + "\uFFFD\uFFFD" + `","path_raw":"L2H/ww==",` +
			`"new_path":"/é` + "\uFFFD\uFFFD\uFFFD" + `","new_path_raw":"L8Op7aCA","path_state":"exact"}`,
	},
	{
		"other texts that are not UTF-8",
		event.Event{Scope: "\xff", Process: &event.Process{UID: event.NoUID, Comm: "\xfe", Exe: "\xfd", Cwd: "\xfc"}},
		`{"events":[],"process":{"comm":"` + "\uFFFD" + `","comm_raw":"/g==","exe":"` + "\uFFFD" + `","exe_raw":"/Q==",` +
			`"cwd":"` + "\uFFFD" + `","cwd_raw":"/A=="},"scope":"` + "\uFFFD" + `","scope_raw":"/w=="}`,
	},
	{
		"a name with U+FFFD", // which is valid
		event.Event{Path: "/\uFFFD", PathState: event.PathExact},
		`{"events":[],"path":"/` + "\uFFFD" + `","path_state":"exact"}`,
	},
	{
		"names that want out",
		event.Event{Path: "/\x00\x01\b\t\n\f\r\x1b\"\\/<>&'\x7f\u0080\u009b\u00a0\u2028\u2029\U0001f600"},
		`{"events":[],"path":"/\u0000\u0001\u0008\t\n\u000c\r\u001b\"\\/<>&'\u007f\u0080\u009b` + "\u00a0" +
			`\u2028\u2029` + "\U0001f600" + `","path_state":"unknown"}`,
	},
	{
		"descriptors",
		event.Event{FD: true, Found: true, Truncated: true},
		`{"events":[],"found":true,"fd":true,"truncated":true}`,
	},
	{
		"no descriptor",
		event.Event{FDError: "EACCES"},
		`{"events":[],"fd_error":"EACCES"}`,
	},
	{
		"a mount",
		event.Event{Mask: fanotify.MntAttach, Path: "/mnt", PathState: event.PathExact, MountID: 1<<31 + 5},
		`{"events":["mnt_attach"],"path":"/mnt","path_state":"exact","mount_id":2147483653}`,
	},
	{
		"in another mount namespace",
		event.Event{Mask: fanotify.Create, Path: "/f", PathState: event.PathExact, Namespace: 4026532345},
		`{"events":["create"],"path":"/f","path_state":"exact","mount_namespace":4026532345}`,
	},
	{
		"an error of a filesystem",
		event.Event{Mask: fanotify.FSError, FSError: &event.FSError{Errno: 117, Count: 3}},
		`{"events":["fs_error"],"fs_error":117,"error_count":3}`,
	},
	{
		"a range",
		event.Event{Mask: fanotify.PreAccess, Range: &event.Range{Offset: 0, Count: 1<<64 - 1}},
		`{"events":["pre_access"],"offset":0,"count":18446744073709551615}`,
	},
	{
		"a decision",
		event.Event{
			Mask: fanotify.OpenPerm, Decision: &event.Decision{Response: "deny", Rule: "secrets", Duration: 1500},
		},
		`{"events":["open_perm"],"response":"deny","rule":"secrets","duration_ns":1500}`,
	},
	{
		"a decision of which nothing is known",
		event.Event{Decision: &event.Decision{}},
		`{"events":[],"duration_ns":0}`,
	},
}

func TestAppendJSON(t *testing.T) {
	var enc event.Encoder
	for _, test := range forms {
		t.Run(test.name, func(t *testing.T) {
			if got := string(test.e.AppendJSON([]byte("x"))); got != "x"+test.want {
				t.Errorf("AppendJSON:\n%s; want\nx%s", got, test.want)
			}
			if got := string(enc.Append([]byte("x"), &test.e)); got != "x"+test.want {
				t.Errorf("Append:\n%s; want\nx%s", got, test.want)
			}
			var got event.Event
			if err := event.Decode([]byte(test.want), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(carried(test.e), got); diff != "" {
				t.Errorf("Decode (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOverflowAlone checks that an overflow has nothing of a file event, even if it was given it.
func TestOverflowAlone(t *testing.T) {
	e := event.Event{
		Seq: 1, Mask: fanotify.Overflow | fanotify.Create, Path: "/a", PathState: event.PathExact, PID: 1, Process: touch(),
		Scope: "/",
	}
	const want = `{"seq":1,"events":["overflow"],"scope":"/"}`
	if got := string(e.AppendJSON(nil)); got != want {
		t.Errorf("AppendJSON: %s; want %s", got, want)
	}
	if got := string(new(event.Encoder).Append(nil, &e)); got != want {
		t.Errorf("Append: %s; want %s", got, want)
	}
}

// TestAncestorsAskedFor checks that an Encoder writes ancestors when it is asked to, and that Decode reads them back.
func TestAncestorsAskedFor(t *testing.T) {
	e := event.Event{Process: &event.Process{
		PID: 9, UID: event.NoUID, Ancestors: []int32{7, 4, 1}, AncestorComms: []string{"a\xff", ""},
	}}
	enc := event.Encoder{Ancestors: true}
	const want = `{"events":[],"process":{"pid":9,"ancestors":[` +
		`{"pid":7,"comm":"a\uFFFD","comm_raw":"Yf8="},{"pid":4},{"pid":1}]}}`
	got := enc.Append(nil, &e)
	if string(got) != strings.ReplaceAll(want, `\uFFFD`, "\uFFFD") {
		t.Errorf("Append: %s; want %s", got, want)
	}
	var back event.Event
	if err := event.Decode(got, &back); err != nil {
		t.Fatal(err)
	}
	e.Process.AncestorComms = append(e.Process.AncestorComms, "")
	if diff := cmp.Diff(e, back); diff != "" {
		t.Errorf("Decode (-want +got):\n%s", diff)
	}
	none := event.Event{Process: &event.Process{UID: event.NoUID}}
	if got := string(enc.Append(nil, &none)); got != `{"events":[],"process":{}}` {
		t.Errorf("without ancestors: %s", got)
	}
}

func TestTimeForm(t *testing.T) {
	zone := time.FixedZone("", 3600)
	for _, test := range []struct {
		time time.Time
		want string
	}{
		{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "2026-01-02T03:04:05.000000000Z"},
		{time.Date(2026, 1, 2, 3, 4, 5, 60, zone), "2026-01-02T02:04:05.000000060Z"},
		{time.Unix(0, 0), "1970-01-01T00:00:00.000000000Z"},
		{time.Unix(-1, 999999999), "1969-12-31T23:59:59.999999999Z"},
		{time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), "0000-01-01T00:00:00.000000000Z"},
		{time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), "9999-12-31T23:59:59.999999999Z"},
		{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), ""},
		{time.Date(-1, 12, 31, 23, 59, 59, 0, time.UTC), ""},
		{time.Time{}, ""},
	} {
		want := `{"events":[]}`
		if test.want != "" {
			want = `{"time":"` + test.want + `","events":[]}`
		}
		var enc event.Encoder
		e := event.Event{Time: test.time}
		for range 2 {
			if got := string(enc.Append(nil, &e)); got != want {
				t.Errorf("Append with time %v: %s; want %s", test.time, got, want)
			}
		}
		if got := string(e.AppendJSON(nil)); got != want {
			t.Errorf("AppendJSON with time %v: %s; want %s", test.time, got, want)
		}
	}
}

// carried returns what the JSON form carries of e.
func carried(e event.Event) event.Event {
	if e.Process != nil {
		p := *e.Process
		p.Ancestors, p.AncestorComms = nil, nil
		if p.Details == nil {
			p.Container = ""
		}
		e.Process = &p
	}
	return e
}

// randomEvent returns an event that the JSON form can carry, with each member in about half of them.
func randomEvent(r *rand.Rand) event.Event {
	half := func() bool { return r.IntN(2) == 0 }
	text := func() string {
		if half() {
			return ""
		}
		var b strings.Builder
		for range r.IntN(20) {
			switch r.IntN(8) {
			case 0:
				b.WriteByte(byte(r.IntN(256)))
			case 1:
				b.WriteRune(rune(r.IntN(unicode.MaxRune + 1)))
			case 2:
				b.WriteRune([]rune{0x7f, 0x85, 0x9b, 0x2028, 0x2029, 0xfffd, 0xfeff}[r.IntN(7)])
			default:
				b.WriteByte(byte(' ' + r.IntN(95)))
			}
		}
		return b.String()
	}
	var e event.Event
	if half() {
		e.Seq = r.Uint64()
	}
	if half() {
		e.Time = time.Unix(r.Int64N(253402300800), r.Int64N(1e9)).UTC()
	}
	switch r.IntN(8) {
	case 0:
		e.Mask, e.Scope = fanotify.Overflow, text()
		return e
	case 1:
		e.Lost = r.Uint64()
		return e
	}
	e.Mask = fanotify.Mask(r.Uint64()&r.Uint64()) &^ fanotify.Overflow
	e.Path, e.NewPath = text(), text()
	if e.Path != "" || e.NewPath != "" {
		e.PathState = event.PathState(r.IntN(3))
	}
	if half() {
		e.PID = int32(r.Uint32())
	}
	if half() {
		e.Process = &event.Process{
			PID: int32(r.Uint32()), PPID: int32(r.IntN(3)), UID: uint32(r.IntN(3)) - 1, Comm: text(), Exe: text(),
			Cwd: text(), State: event.ProcessState(r.IntN(3)),
		}
	}
	e.Found, e.FD, e.Truncated = half(), half(), half()
	if half() {
		e.FDError, e.MountID, e.Namespace = "EIO", r.Uint64(), r.Uint64()
	}
	if half() {
		e.FSError = &event.FSError{Errno: int32(r.Uint32()), Count: r.Uint32()}
	}
	if half() {
		e.Range = &event.Range{Offset: r.Uint64(), Count: r.Uint64()}
	}
	if half() {
		e.Decision = &event.Decision{Response: "allow", Rule: "default", Duration: time.Duration(r.Int64())}
	}
	return e
}

// TestRoundTrip checks for many events that Decode reads back what AppendJSON wrote, that an Encoder writes the same,
// and that encoding/json understands it likewise.
func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var enc event.Encoder
	var previous *event.Process
	for range 5_000 {
		e := randomEvent(r)
		if e.Process != nil {
			if previous != nil && r.IntN(2) == 0 {
				e.Process = previous
			}
			previous = e.Process
		}
		line := e.AppendJSON(nil)
		if got := enc.Append(nil, &e); string(got) != string(line) {
			t.Fatalf("Append:\n%s; AppendJSON:\n%s", got, line)
		}
		checkLine(t, line)
		var got event.Event
		if err := event.Decode(line, &got); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if diff := cmp.Diff(carried(e), got); diff != "" {
			t.Fatalf("%s: Decode (-want +got):\n%s", line, diff)
		}
		checkTexts(t, line, &e)
	}
}

// checkLine checks that line is JSON in one line that does nothing to a terminal.
func checkLine(t *testing.T, line []byte) {
	t.Helper()
	if !json.Valid(line) || !utf8.Valid(line) {
		t.Fatalf("not JSON: %q", line)
	}
	for _, c := range string(line) {
		if unicode.IsControl(c) || c == '\u2028' || c == '\u2029' {
			t.Fatalf("%q has %U", line, c)
		}
	}
}

// checkTexts checks the texts of line, as encoding/json reads them, against e.
func checkTexts(t *testing.T, line []byte, e *event.Event) {
	t.Helper()
	var o struct {
		Path    *string `json:"path"`
		PathRaw *string `json:"path_raw"`
		New     *string `json:"new_path"`
		NewRaw  *string `json:"new_path_raw"`
		State   *string `json:"path_state"`
		Events  []string
	}
	if err := json.Unmarshal(line, &o); err != nil {
		t.Fatal(err)
	}
	check := func(name, want string, text, raw *string) {
		t.Helper()
		if (text != nil) != (want != "") || text != nil && *text != string([]rune(want)) {
			t.Errorf("%s: %s is wrong for %q", line, name, want)
		}
		if (raw != nil) != !utf8.ValidString(want) ||
			raw != nil && *raw != base64.StdEncoding.EncodeToString([]byte(want)) {
			t.Errorf("%s: %s_raw is wrong for %q", line, name, want)
		}
	}
	check("path", e.Path, o.Path, o.PathRaw)
	check("new_path", e.NewPath, o.New, o.NewRaw)
	if (o.State != nil) != (e.Path != "" || e.NewPath != "") {
		t.Errorf("%s: path_state stands beside no path, or doesn't beside one", line)
	}
	if o.Events == nil {
		t.Errorf("%s: no events", line)
	}
}

func TestMarshalJSON(t *testing.T) {
	e := event.Event{Seq: 1, Mask: fanotify.Create, Path: "/a", PathState: event.PathExact, PID: 4121, Process: touch()}
	line, err := json.Marshal([]event.Event{e})
	if err != nil {
		t.Fatal(err)
	}
	if want := "[" + string(e.AppendJSON(nil)) + "]"; string(line) != want {
		t.Errorf("json.Marshal: %s; want %s", line, want)
	}
	var got []event.Event
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]event.Event{carried(e)}, got); diff != "" {
		t.Errorf("json.Unmarshal (-want +got):\n%s", diff)
	}
}

func TestAppendAllocs(t *testing.T) {
	p, other := touch(), touch()
	other.Exe = "/usr/bin/\xff" + strings.Repeat("x", 100)
	events := []event.Event{
		{Seq: 1, Time: at(), Mask: fanotify.Create | 1<<13, Path: strings.Repeat("é\xff", 100), PID: 1, Process: p},
		{Seq: 2, Time: at().Add(time.Second), Mask: fanotify.Rename, Path: "/a\n", NewPath: "/b", PID: 1, Process: other},
		{Seq: 3, Time: at(), Mask: fanotify.Overflow, Scope: "/srv"},
		{Lost: 1, FSError: &event.FSError{}, Range: &event.Range{}, Decision: &event.Decision{Rule: "default"}},
	}
	var enc event.Encoder
	b := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		for i := range events {
			b = enc.Append(b[:0], &events[i])
			b = events[i].AppendJSON(b[:0])
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	p, other := touch(), touch()
	const path = "/home/user/projects/fanlight/internal/fnmatch/pattern.go"
	plain := event.Event{
		Seq: 1e6, Time: at(), Mask: fanotify.Create, Path: path, PathState: event.PathExact, PID: 4121, Process: p,
	}
	noProcess, foreign, raw := plain, plain, plain
	noProcess.Process = nil
	foreign.Path = "/home/müller/Übersicht/straße/größe.txt"
	raw.Path += "\xff"
	buf := make([]byte, 0, 4096)
	encoder := func(events ...event.Event) func(b *testing.B) {
		return func(b *testing.B) {
			var enc event.Encoder
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				buf = enc.Append(buf[:0], &events[i%len(events)])
			}
		}
	}
	swapped := plain
	swapped.Process = other
	b.Run("same process", encoder(plain))
	b.Run("no process", encoder(noProcess))
	b.Run("two processes", encoder(plain, swapped))
	b.Run("beyond ASCII", encoder(foreign))
	b.Run("not UTF-8", encoder(raw))
	b.Run("without encoder", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = plain.AppendJSON(buf[:0])
		}
	})
}
