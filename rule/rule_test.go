package rule_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/rule"
)

func TestValidate(t *testing.T) {
	long := strings.Repeat("é", rule.MaxPattern/2)
	tests := []struct {
		name string
		rule rule.Rule
		want string // the error, "" for none
	}{
		{"events", rule.Rule{Events: fanotify.Create}, ""},
		{"ondir", rule.Rule{Events: fanotify.OnDir}, ""},
		{"pids", rule.Rule{PIDs: []int32{1, 2147483647}, Descendants: true}, ""},
		{"exclude_tree", rule.Rule{ExcludeTree: []int32{5}}, ""},
		{"exe", rule.Rule{Exe: []string{"/bin/sh"}}, ""},
		{"cwd", rule.Rule{Cwd: []string{"-/tmp"}}, ""},
		{"path", rule.Rule{Path: []string{"--x", "[-]x"}}, ""},
		{"malformed pattern", rule.Rule{Path: []string{`[a`, `@(a`, `a\`}}, ""},
		{"longest patterns", rule.Rule{Path: []string{long, "-" + long}}, ""},
		{"uids", rule.Rule{UIDs: []uint32{0}}, ""},
		{"containers", rule.Rule{Containers: []string{"c0ffee"}}, ""},

		{"nothing", rule.Rule{}, "a rule without a term would match everything: " +
			"give events, pids, exclude_tree, exe, cwd, path, uids or containers"},
		{"name and pass_fd", rule.Rule{Name: "n", PassFD: true}, "a rule without a term would match everything: " +
			"give events, pids, exclude_tree, exe, cwd, path, uids or containers"},
		{"empty lists", rule.Rule{PIDs: []int32{}, Exe: []string{}, UIDs: []uint32{}}, "a rule without a term would " +
			"match everything: give events, pids, exclude_tree, exe, cwd, path, uids or containers"},
		{"descendants of nothing", rule.Rule{Events: fanotify.Create, Descendants: true},
			"descendants: needs pids: name the processes whose descendants are meant"},
		{"pid 0", rule.Rule{PIDs: []int32{1, 0}}, "pids: 0 is no process id: want a positive number"},
		{"negative pid", rule.Rule{ExcludeTree: []int32{-1}}, "exclude_tree: -1 is no process id: want a positive number"},
		{"empty pattern", rule.Rule{Exe: []string{""}}, "exe: an empty pattern, which matches nothing: leave it out"},
		{"bare hyphen", rule.Rule{Cwd: []string{"/*", "-"}},
			`cwd: the pattern "-" excludes nothing: put a pattern behind the hyphen`},
		{"too long", rule.Rule{Path: []string{"/\n" + long}}, `path: the pattern that begins with ` +
			`"/\n` + strings.Repeat("é", 38) + `" has 4098 bytes: want at most 4096`},
		{"too long behind a hyphen", rule.Rule{Path: []string{"-" + long + "x"}}, `path: the pattern that begins with "` +
			strings.Repeat("é", 40) + `" has 4097 bytes: want at most 4096`},
		{"no uid", rule.Rule{UIDs: []uint32{event.NoUID}}, "uids: 4294967295 is no user id: the kernel uses it for none"},
		{"empty container", rule.Rule{Containers: []string{""}}, "containers: an empty container id: leave it out"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := test.rule.Validate()
			checkFieldError(t, err, test.want)
			matcher, compileErr := rule.Compile(test.rule)
			if diff := cmp.Diff(err, compileErr); diff != "" || (matcher == nil) != (err != nil) {
				t.Errorf("Compile = %v, %v; Validate = %v", matcher, compileErr, err)
			}
		})
	}
}

// checkFieldError checks that err is a *rule.FieldError in one line with the text want, or nil if that is empty.
func checkFieldError(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("error %v", err)
		}
		return
	}
	var field *rule.FieldError
	if !errors.As(err, &field) {
		t.Fatalf("error %v; want a FieldError", err)
	}
	if err.Error() != want || field.Field != "" && !strings.HasPrefix(want, field.Field+": ") {
		t.Errorf("error %q of field %q; want %q", err, field.Field, want)
	}
	if strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("error %q isn't one line", err)
	}
}

func TestJSON(t *testing.T) {
	tests := []struct {
		text string
		want rule.Rule
	}{
		{`{}`, rule.Rule{}},
		{
			`{"name":"n","events":["create","ondir"],"pids":[1,2],"descendants":true,"exclude_tree":[3],"exe":["/bin/*"],` +
				`"cwd":["-/tmp"],"path":["/srv/\u003cé\u003e*","-*.o"],"uids":[0,1000],"containers":["c0ffee"],"pass_fd":true}`,
			rule.Rule{
				Name: "n", Events: fanotify.Create | fanotify.OnDir, PIDs: []int32{1, 2}, Descendants: true,
				ExcludeTree: []int32{3}, Exe: []string{"/bin/*"}, Cwd: []string{"-/tmp"}, Path: []string{"/srv/<é>*", "-*.o"},
				UIDs: []uint32{0, 1000}, Containers: []string{"c0ffee"}, PassFD: true,
			},
		},
		{`{"events":["open","0x2000"]}`, rule.Rule{Events: fanotify.Open | 1<<13}},
	}
	for _, test := range tests {
		got := rule.Rule{Name: "old", UIDs: []uint32{7}}
		if err := json.Unmarshal([]byte(test.text), &got); err != nil {
			t.Errorf("%s: %v", test.text, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.text, diff)
		}
		text, err := json.Marshal(test.want)
		if err != nil || string(text) != test.text {
			t.Errorf("json.Marshal: %s, %v; want %s", text, err, test.text)
		}
	}
}

func TestUnmarshalJSON(t *testing.T) {
	const events = "access, modify, attrib, close_write, close_nowrite, open, moved_from, moved_to, create, delete, " +
		"delete_self, move_self, open_exec, overflow, fs_error, open_perm, access_perm, open_exec_perm, pre_access, " +
		"mnt_attach, mnt_detach, event_on_child, rename, ondir, close, move, all_events, all_perm_events, all_fid_events"
	const members = "name, events, pids, descendants, exclude_tree, exe, cwd, path, uids, containers, pass_fd"
	good := map[string]rule.Rule{
		" { \"events\" : [ \"FAN_CREATE\" , \"Delete\", \"close\" ] } ": {
			Events: fanotify.Create | fanotify.Delete | fanotify.Close,
		},
		`{"events":["all_events","all_perm_events","all_fid_events","move"]}`: {
			Events: fanotify.AllEvents | fanotify.AllPermEvents | fanotify.AllFIDEvents,
		},
		`{"path":[],"pids":[]}`: {},
		`{"pids":[-1]}`:         {PIDs: []int32{-1}}, // Validate's business
	}
	for text, want := range good {
		var got rule.Rule
		if err := got.UnmarshalJSON([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	bad := map[string]string{
		``:                                  "a rule is a JSON object",
		`null`:                              "a rule is a JSON object",
		`[]`:                                "a rule is a JSON object",
		`"path"`:                            "a rule is a JSON object",
		`{} {}`:                             "something behind the rule",
		`{"path":["a"]`:                     "not JSON: EOF",
		`{"path":["a"],}`:                   "not JSON: invalid character '}' looking for beginning of object key string",
		"{\"path\":[\"\xff\"]}":             "a rule that isn't UTF-8",
		`{"paths":["a"]}`:                   `"paths": unknown member: want ` + members,
		`{"Path":["a"]}`:                    `"Path": unknown member: want ` + members,
		`{"a\n\u001b":1}`:                   `"a\n\x1b": unknown member: want ` + members,
		`{"path":["a"],"path":["b"]}`:       "path: given twice",
		`{"path":null}`:                     "path: null: want a list of strings",
		`{"path":"a"}`:                      `path: "a": want a list of strings`,
		`{"path":["a",null]}`:               `path: ["a",null]: want a list of strings`,
		`{"path":["a",5]}`:                  `path: ["a",5]: want a list of strings`,
		`{"path":[["a"]]}`:                  `path: [["a"]]: want a list of strings`,
		`{"pids":1}`:                        "pids: 1: want a list of process ids",
		`{"pids":["1"]}`:                    `pids: ["1"]: want a list of process ids`,
		`{"pids":[1.5]}`:                    "pids: [1.5]: want a list of process ids",
		`{"pids":[2147483648]}`:             "pids: [2147483648]: want a list of process ids",
		`{"pids":[null]}`:                   "pids: [null]: want a list of process ids",
		`{"uids":[-1]}`:                     "uids: [-1]: want a list of user ids",
		`{"uids":[null]}`:                   "uids: [null]: want a list of user ids",
		`{"name":5}`:                        "name: 5: want a string",
		`{"name":null}`:                     "name: null: want a string",
		`{"descendants":1}`:                 "descendants: 1: want true or false",
		`{"pass_fd":"yes"}`:                 `pass_fd: "yes": want true or false`,
		`{"events":"create"}`:               `events: "create": want a list of strings`,
		`{"events":["create",256]}`:         `events: ["create",256]: want a list of strings`,
		`{"events":["create","creat"]}`:     `events: unknown event "creat": want ` + events,
		`{"events":["create|delete"]}`:      `events: unknown event "create|delete": want ` + events,
		`{"events":["create,delete"]}`:      `events: unknown event "create,delete": want ` + events,
		`{"events":[""]}`:                   `events: unknown event "": want ` + events,
		`{"events":["0"]}`:                  `events: unknown event "0": want ` + events,
		`{"events":["\n` + ws(99) + `\n"]}`: `events: `,
		`{"exe":[` + ws(99) + `1]}`:         `exe: [ 1]: want a list of strings`,
		`{"exe":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `}`: `exe: ` + strings.Repeat("[", 40) +
			"...: want a list of strings",
	}
	for text, want := range bad {
		got := rule.Rule{Name: "old"}
		err := got.UnmarshalJSON([]byte(text))
		if err == nil || err.Error() != want && want != "events: " {
			t.Errorf("%s: error %v; want %s", text, err, want)
		} else {
			checkFieldError(t, err, err.Error())
		}
		if diff := cmp.Diff(rule.Rule{Name: "old"}, got); diff != "" {
			t.Errorf("%s: the rule changed (-want +got):\n%s", text, diff)
		}
	}
}

func ws(n int) string { return strings.Repeat(" ", n) }

// TestMarshalBytes checks that nothing is replaced in silence.
func TestMarshalBytes(t *testing.T) {
	tests := map[string]rule.Rule{
		"name":       {Name: "\xff"},
		"exe":        {Exe: []string{"/a", "/\xff"}},
		"cwd":        {Cwd: []string{"/\xff"}},
		"path":       {Path: []string{"/\xff"}},
		"containers": {Containers: []string{"\xff"}},
	}
	for field, r := range tests {
		_, err := json.Marshal(r)
		var fieldErr *rule.FieldError
		if !errors.As(err, &fieldErr) || fieldErr.Field != field {
			t.Errorf("%s: error %v", field, err)
		}
	}
}

// FuzzJSON checks that a rule that is read is written and read again the same, and that what can be compiled matches
// without a panic.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"name":"n","events":["create","0x2000"],"pids":[1,2],"descendants":true,"exclude_tree":[3],"exe":["/bin/*"]}`,
		`{"cwd":["-/tmp"],"path":["/srv/!(a|b)","-*.o"],"uids":[0,1000],"containers":["c0ffee"],"pass_fd":true}`,
		`{"path":["-"],"paths":null}`,
		`{"events":["all_fid_events","close"],"pids":[1,null]}`,
		`{"path":[],"path":[]}`,
		`{"name":"\ud800"} {}`,
	} {
		f.Add([]byte(seed))
	}
	e := event.Event{Mask: fanotify.Create, Path: "/srv/a/b.o", PID: 2, Process: &event.Process{PID: 2, Exe: "/bin/sh"}}
	f.Fuzz(func(t *testing.T, text []byte) {
		var r rule.Rule
		if err := r.UnmarshalJSON(text); err != nil {
			checkFieldError(t, err, err.Error())
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var got rule.Rule
		if err := json.Unmarshal(again, &got); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		third, err := json.Marshal(got)
		if err != nil || string(third) != string(again) {
			t.Errorf("%s becomes %s, %v", again, third, err)
		}
		m, err := rule.Compile(r)
		if err != nil {
			checkFieldError(t, err, err.Error())
			return
		}
		m.Match(&e)
	})
}
