package fnmatch

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// ask calls f with each pattern and what the C library's fnmatch says in a locale about each text: 0 for a match, 1
// for none, 2 for an error.
func ask(
	t *testing.T, locale string, patterns iter.Seq[string], texts []string, f func(pattern string, answers []byte),
) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "fnmatch")
	if out, err := exec.Command("cc", "-O2", "-o", program, "testdata/fnmatch.c").CombinedOutput(); err != nil {
		t.Fatalf("compile testdata/fnmatch.c: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- writeQuestions(in, locale, patterns, texts) }()
	answers := make([]byte, len(texts))
	r := bufio.NewReaderSize(out, 1<<16)
	for pattern := range patterns {
		if _, err := io.ReadFull(r, answers); err != nil {
			t.Errorf("answers for %q: %v", pattern, err)
			out.Close()
			break
		}
		f(pattern, answers)
	}
	if err := errors.Join(<-written, cmd.Wait()); err != nil {
		t.Fatal(err)
	}
}

// compare compares Match with the C library's fnmatch in a locale: each of patterns with each of texts.
func compare(t *testing.T, locale string, patterns iter.Seq[string], texts []string) {
	t.Helper()
	pairs, wrong := 0, 0
	var excused [len(exceptions)]int
	ask(t, locale, patterns, texts, func(pattern string, answers []byte) {
		p := Compile(pattern)
		for i, text := range texts {
			pairs++
			ours, theirs := p.Match(text), answers[i] == 0
			if ours == theirs && answers[i] <= 1 {
				continue
			}
			exception := slices.IndexFunc(exceptions[:], func(e exception) bool {
				return e.applies(pattern, text, theirs)
			})
			if exception >= 0 {
				excused[exception]++
			} else if wrong++; wrong <= 50 {
				t.Errorf("Compile(%q).Match(%q) = %v, the C library says %d", pattern, text, ours, answers[i])
			}
		}
	})
	t.Logf("%d pairs of pattern and text, %d wrong, excused by exception %v", pairs, wrong, excused)
}

// writeQuestions writes what testdata/fnmatch.c reads, and closes w.
func writeQuestions(w io.WriteCloser, locale string, patterns iter.Seq[string], texts []string) error {
	b := bufio.NewWriterSize(w, 1<<16)
	write := func(kind byte, data string) {
		b.Write(binary.NativeEndian.AppendUint32([]byte{kind}, uint32(len(data))))
		b.WriteString(data)
	}
	write('L', locale)
	for _, text := range texts {
		write('T', text)
	}
	for pattern := range patterns {
		write('P', pattern)
	}
	return errors.Join(b.Flush(), w.Close())
}

// words yields all sequences of least to most tokens.
func words(tokens []string, least, most int) iter.Seq[string] {
	return func(yield func(string) bool) {
		var extend func(prefix string, n int) bool
		extend = func(prefix string, n int) bool {
			if n == 0 {
				return yield(prefix)
			}
			for _, token := range tokens {
				if !extend(prefix+token, n-1) {
					return false
				}
			}
			return true
		}
		for n := least; n <= most; n++ {
			if !extend("", n) {
				return
			}
		}
	}
}

// letters returns the characters of s as tokens.
func letters(s string) []string { return strings.Split(s, "") }

// prefixed yields patterns with prefix before each.
func prefixed(prefix string, patterns iter.Seq[string]) iter.Seq[string] {
	return func(yield func(string) bool) {
		for pattern := range patterns {
			if !yield(prefix + pattern) {
				return
			}
		}
	}
}

// aFirst yields those of patterns in which no b comes before the first a: the others are the same with a and b swapped.
func aFirst(patterns iter.Seq[string]) iter.Seq[string] {
	return func(yield func(string) bool) {
		for pattern := range patterns {
			if i := strings.IndexAny(pattern, "ab"); (i < 0 || pattern[i] == 'a') && !yield(pattern) {
				return
			}
		}
	}
}

// random yields n sequences of up to most tokens, always the same for a seed.
func random(seed uint64, n int, tokens []string, most int) iter.Seq[string] {
	return func(yield func(string) bool) {
		r := rand.New(rand.NewPCG(seed, 0))
		for range n {
			var b strings.Builder
			for range r.IntN(most + 1) {
				b.WriteString(tokens[r.IntN(len(tokens))])
			}
			if !yield(b.String()) {
				return
			}
		}
	}
}

// groupTokens make patterns whose groups are often closed.
var groupTokens = []string{
	"a", "b", "ab", "a", "b", "*", "?", "[ab]", "[!a]", "[", "]", `\`,
	"?(", "*(", "+(", "@(", "!(", "|", "|", ")", ")", ")",
}

// TestCLibrary compares all short patterns and many longer ones with the C library.
func TestCLibrary(t *testing.T) {
	most, mostGroups, scale := 5, 6, 1
	if raceDetector {
		mostGroups, scale = 5, 10
	}
	if testing.Short() {
		most, mostGroups, scale = 4, 5, 10
	}
	tests := []struct {
		name     string
		locale   string
		patterns iter.Seq[string]
		texts    iter.Seq[string]
	}{
		{
			"all characters", "C",
			words(letters(`ab*?[]!()|@+\-/`), 0, most), words(letters(`ab!()|[]\`), 0, 2),
		},
		{
			"all characters, longer texts", "C",
			words(letters(`a*?[]!()|@+\-/`), 0, most), words(letters(`ab`), 3, 4),
		},
		{
			"brackets", "C",
			prefixed("[", words(letters(`ab[]!^-\:=.`), 0, most)), words(letters(`ab[]!^-:=.\`), 0, 2),
		},
		{
			"parts of brackets", "C",
			prefixed("[", words([]string{
				"a", "[:a:]", "[:alpha:]", "[:", "[", "]", "-", "!", `\`, "[=a=]", "[.a.]", "[.]", "[..]", "[.a", ".",
			}, 0, most-1)), words(letters(`ab[]-:.`), 0, 2),
		},
		{
			"brackets in groups", "C",
			words([]string{
				"a", "[:a:]", "[:alpha:]", "[", "[!", "]", "-", "@(", "!(", ")", "|", "[=)=]", "[.|.]", "[.a.]", "[.",
			}, 0, most-1), words(letters(`a[]:(`), 0, 2),
		},
		{
			"inside of a group", "C",
			prefixed("@(", words(letters(`ab*?()|!+\[]`), 0, most)), words(letters(`ab(+`), 0, 2),
		},
		{
			"groups", "C",
			aFirst(words([]string{"a", "b", "*", "?", "?(", "*(", "+(", "@(", "!(", "|", ")"}, 0, mostGroups)),
			words(letters("ab"), 0, 4),
		},
		{
			"long patterns", "C",
			random(1, 400_000/scale, groupTokens, 14), words(letters("ab"), 0, 5),
		},
		{
			"longer texts", "C",
			random(2, 100_000/scale, groupTokens, 10), random(3, 100, letters("aaabbb()|["), 10),
		},
		{
			// Without +() and *(), in which the C library is too slow.
			"long texts", "C",
			random(4, 100_000/scale, slices.Concat(groupTokens[:8], []string{"@(", "!(", "|", ")"}), 8),
			random(5, 100, letters("aaabbb"), 20),
		},
		{
			"texts of more than 64 characters", "C",
			random(6, 20_000/scale, []string{"a", "b", "*", "!(", "@(", "|", ")"}, 7), random(7, 20, letters("aab"), 150),
		},
		{
			"rare brackets", "C",
			slices.Values([]string{"[Z-a[:a:]", "[Z-a[.bc.]", "[[:z:]]", "[[:y:]]", "[[:alpha:"}),
			slices.Values([]string{"[Z-a:", "[Z-ab", "Z", "z", "z]", ":]", "y]", "[:alpha:"}),
		},
		{
			"UTF-8", "C.UTF-8",
			words([]string{"a", "é", "€", "*", "?", "[", "!", "]", "-", `\`, "[a-é]", "!(", ")"}, 0, most-1),
			words(letters("aäé€\U0010ffff"), 0, 2),
		},
		{
			"not UTF-8", "C",
			words([]string{"a", "\xff", "\xc0", "*", "?", "[", "!", "]", "-", `\`, "[a-\xfe]", "!(", ")"}, 0, most-1),
			words([]string{"a", "\xc0", "\xfe", "\xff"}, 0, 3),
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			compare(t, test.locale, test.patterns, slices.Collect(test.texts))
		})
	}
}

// TestClasses compares the character classes with those of C.UTF-8, for the first two planes of Unicode.
func TestClasses(t *testing.T) {
	var texts []string
	for c := rune(1); c <= 0x1ffff; c++ {
		if utf8.ValidRune(c) {
			texts = append(texts, string(c))
		}
	}
	known := make([]bool, len(texts)) // both know the character or both don't: the same version of Unicode
	names := slices.Sorted(maps.Keys(classes))
	names = slices.Insert(slices.DeleteFunc(names, func(name string) bool { return name == "print" }), 0, "print")
	patterns := func(yield func(string) bool) {
		for _, name := range names {
			if !yield("[[:" + name + ":]]") {
				return
			}
		}
	}
	ask(t, "C.UTF-8", patterns, texts, func(pattern string, answers []byte) {
		p, differ := Compile(pattern), 0
		for i, text := range texts {
			ours, theirs := p.Match(text), answers[i] == 0
			if pattern == "[[:print:]]" {
				known[i] = ours == theirs
			}
			if ours == theirs {
				continue
			}
			if c := []rune(text)[0]; c <= unicode.MaxASCII {
				t.Errorf("Compile(%q).Match(%q) = %v, the C library says %v", pattern, text, ours, theirs)
			}
			if known[i] {
				differ++
			}
		}
		// Properties of single characters change with the version of Unicode.
		if differ > 20 {
			t.Errorf("Compile(%q) differs from the C library for %d characters that both know", pattern, differ)
		}
		t.Logf("%s: %d", pattern, differ)
	})
}
