package main

import (
	"os/exec"
	"strings"
	"testing"
)

func TestAppendEscaped(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"plain", "/srv/d/file name", "/srv/d/file name"},
		{"UTF-8", "/srv/ä/日本/🙂", "/srv/ä/日本/🙂"},
		{"newline", "a\nb", `a\nb`},
		{"blanks", "a\tb\rc", `a\tb\rc`},
		{"backslash", `a\nb`, `a\\nb`},
		{"escape code", "\x1b[31mred", `\x1b[31mred`},
		{"C0 and DEL", "\x00\x07\x7f", `\x00\x07\x7f`},
		{"C1 in UTF-8", "\u009b31m", `\xc2\x9b31m`},
		{"right to left override", "gpj.\u202eexe", `gpj.\xe2\x80\xaeexe`},
		{"zero width", "a\u200bb", `a\xe2\x80\x8bb`},
		{"no-break space", "a\u00a0b", `a\xc2\xa0b`},
		{"not UTF-8", "caf\xe9", `caf\xe9`},
		{"cut UTF-8", "a\xe2\x82", `a\xe2\x82`},
		{"surrogate", "\xed\xa0\x80", `\xed\xa0\x80`},
		{"replacement character", "\ufffd", "\ufffd"},
		{"arrow of a rename", "/a -> /b", `/a -\x3e /b`},
		{"other arrows", "a->b > c", "a->b > c"},
		{"empty", "", ""},
	} {
		if got := string(appendEscaped([]byte("x"), test.in)); got != "x"+test.want {
			t.Errorf("%s: appendEscaped(%q) appended %q, want %q", test.name, test.in, got[1:], test.want)
		}
	}
}

// Every byte, before and behind every other, comes back from the escaped form.
func TestEscapedIsLossless(t *testing.T) {
	var names []string
	for a := 1; a < 256; a++ {
		var name strings.Builder
		for b := 1; b < 256; b++ {
			name.Write([]byte{byte(a), byte(b)})
		}
		names = append(names, name.String())
	}
	args := []string{"-c", `for name; do printf '%b\0' "$name"; done`, "bash"}
	for _, name := range names {
		args = append(args, string(appendEscaped(nil, name)))
	}
	out, err := exec.Command("bash", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if got != names[i] {
			t.Errorf("names with byte %#x: got %q, want %q", i+1, got, names[i])
		}
	}
}

func FuzzAppendEscaped(f *testing.F) {
	f.Add("/srv/ä\n\x1b\xff -> \u202e")
	f.Fuzz(func(t *testing.T, name string) {
		for _, c := range string(appendEscaped(nil, name)) {
			if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 {
				t.Fatalf("appendEscaped(%q) lets %q through", name, c)
			}
		}
		if got := string(appendEscaped(nil, name)); strings.Contains(got, " -> ") {
			t.Fatalf("appendEscaped(%q) = %q, which reads like a rename", name, got)
		}
	})
}

func TestOneLine(t *testing.T) {
	const in, want = "mark \"/a\\n\"\n\x1b[2J: no", `mark "/a\n"\n\x1b[2J: no`
	if got := oneLine(in); got != want {
		t.Errorf("oneLine(%q) = %q, want %q", in, got, want)
	}
}
