package fnmatch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// defined reports whether text matches nodes, straight from the definition of each part, in exponential time.
func defined(nodes []node, text string) bool {
	if len(nodes) == 0 {
		return text == ""
	}
	first, rest := &nodes[0], nodes[1:]
	if first.kind != star && first.kind != group {
		n, ok := first.takes(text)
		return ok && defined(rest, text[n:])
	}
	for n := 0; ; {
		if (first.kind == star || definedGroup(first, text[:n])) && defined(rest, text[n:]) {
			return true
		}
		if n == len(text) {
			return false
		}
		_, size := decode(text[n:])
		n += size
	}
}

// definedGroup reports whether the group n matches text.
func definedGroup(n *node, text string) bool {
	once := slices.ContainsFunc(n.alternatives, func(a []node) bool { return defined(a, text) })
	switch n.operator {
	case '@':
		return once
	case '!':
		return !once
	case '?':
		return once || text == ""
	}
	if once || n.operator == '*' && text == "" {
		return true
	}
	one := node{kind: group, operator: '@', alternatives: n.alternatives}
	for size := 1; size < len(text); size++ {
		if definedGroup(&one, text[:size]) && definedGroup(n, text[size:]) {
			return true
		}
	}
	return false
}

// TestForms compares every fast form with the general one and both with the definition, for all small patterns.
func TestForms(t *testing.T) {
	most := 5
	if testing.Short() || raceDetector {
		most = 4
	}
	tokens := []string{"a", "b", "*", "?", "[b]", "?(", "*(", "+(", "@(", "!(", "|", ")"}
	texts := slices.Collect(words(letters("ab"), 0, 4))
	seen := map[form]int{}
	for pattern := range aFirst(words(tokens, 0, most)) {
		p, nodes := Compile(pattern), parse(pattern)
		programs := assemble(nodes)
		seen[p.rest]++
		for _, text := range texts {
			fast, _ := p.match(text)
			general, _ := new(machine).run(programs, text)
			if want := defined(nodes, text); fast != want || general != want {
				t.Fatalf("pattern %q, text %q: form %d says %v, the machine %v; want %v",
					pattern, text, p.rest, fast, general, want)
			}
		}
	}
	for f := formEmpty; f <= formGroups; f++ {
		if seen[f] == 0 {
			t.Errorf("no pattern has form %d", f)
		}
	}
}

func TestMatch(t *testing.T) {
	as, bs := strings.Repeat("a", 70), strings.Repeat("b", 70)
	tests := []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true},
		{"", "a", false},
		{"/srv/*", "/srv/a/b", true},
		{"/srv/*", "/srv", false},
		{"*/.*", "/home/.profile", true},
		{"*.@(c|h)", "/src/a.c", true},
		{"*.@(c|h)", "/src/a.cc", false},
		{"/srv/!(cache|*.tmp)", "/srv/a.txt", true},
		{"/srv/!(cache|*.tmp)", "/srv/cache", false},
		{"/srv/!(cache|*.tmp)", "/srv/a.tmp", false},
		{"/srv/!(cache)/*", "/srv/cache/x", false},
		{"/srv/!(cache)/*", "/srv/cache/x/y", true}, // !(cache) matches cache/x
		{"!(!(a|b))", "b", true},
		{"!(!(a|b))", "c", false},
		{"+([0-9])", "2026", true},
		{"+([0-9])", "", false},
		{"*([0-9])", "", true},
		{`\*`, "*", true},
		{`\*`, "a", false},
		{`a\`, "a", false},
		{`a\`, `a\`, false},
		{"a\x00?", "a\x00b", true},

		// A !() in a loop in a !(), entered at one place from several beginnings.
		{"?!(*(!(*c*)c))", "yxcxc", false},
		{"?!(*(!(*c*)c))", "yxcx", true},

		// Beginnings behind the 64th character, programs of more than 64 states.
		{"*c!(b)", as + "cb", false},
		{"*c!(b)", as + "cbb", true},
		{"+(" + as + "|" + bs + ")", as + bs + as, true},
		{"+(" + as + "|" + bs + ")", as + bs + as[1:], false},
		{"*(" + as + "|" + bs + ")c", as + bs + as + "c", true},
		{"!(+(" + as + "|" + bs + "))", as + bs + as, false},
		{"!(+(" + as + "|" + bs + "))", as + bs + as[1:], true},

		// Characters.
		{"?", "é", true},
		{"?", "\xc3", true},
		{"??", "\xc3\xa9", false}, // é
		{"??", "é\xff", true},
		{"?", "\xf0\x9f", false},
		{"[é]", "é", true},
		{"[!é]", "\xff", true},
		{"[[:alpha:]]", "é", true},
		{"[[:alpha:]]", "\xe9", false},
		{"[![:alpha:]]", "\xe9", true},
		{"[\xf0-\xff]", "\xf8", true},
		{"[\xf0-\xff]", "\xe0", false},
		{"\xff*", "\xffa", true},
		{"*\xa9", "é", false}, // é ends with this byte
		{"\xc3*", "é", false},
		{"\\\xff", "\xff", true},
		{"?(\xff)", "\xff", true},
		{"!(é)", "é", false},
		{"!(?)", "é", false},
		{"[\U0010ffff]", "\U0010ffff", true},
		{"[\xff]", "\U0010ffff", false},
	}
	for _, test := range tests {
		if got := Compile(test.pattern).Match(test.text); got != test.want {
			t.Errorf("Compile(%q).Match(%q) = %v; want %v", test.pattern, test.text, got, test.want)
		}
	}
}

// TestSteps bounds the work of matching, not its time, for patterns that make backtracking exponential, whatever they
// are made of.
func TestSteps(t *testing.T) {
	nest := func(before, inner, after string, n int) string {
		return strings.Repeat(before, n) + inner + strings.Repeat(after, n)
	}
	tests := []struct{ name, pattern, letters string }{
		{"sets after a star", "*" + strings.Repeat("[a]", 20) + "[b]", "a"},
		{"stars and sets", strings.Repeat("*[ab]?", 20) + "[c]", "ab"},
		{"nested +()", nest("+(", "a", ")", 100) + "[b]", "a"},
		{"nested *() with more", nest("*(a|", "b", ")", 100) + "[c]", "ab"},
		{"nested *() of different lengths", nest("*(a|*(aa)", "aaa", ")", 60) + "[c]", "a"},
		{"row of *()", strings.Repeat("*(a|aa)", 100) + "[b]", "a"},
		{"row of !()", strings.Repeat("!(a)", 100) + "[b]", "a"},
		{"nested !()", nest("!(", "[a]", ")", 101), "ab"},
		{"nested !() with stars", nest("!(*a", "b", "*)", 100), "ab"},
		{"nested !() with more", nest("!(a|!(b)*", "a", "b|b)", 60), "ab"},
		{"row of !() in !()", "*!(" + strings.Repeat("!(a)", 100) + "b)a", "a"},
		{"!() in *() in !()", nest("!(*(a|!(", "b", ")))", 50), "ab"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, states := Compile(test.pattern), len(test.pattern)
			before := 0
			for _, n := range []int{25, 50, 100, 200} {
				_, steps := p.match(strings.Repeat(test.letters, n)[:n])
				// At each position each state is handled for n/64+1 words of beginnings, again when a loop leads back to
				// it, and each !() for each place where it was entered.
				if bound := states * (n + 1) * (n/64 + 1) * (n + 8); steps > bound {
					t.Errorf("%d steps for a text of %d characters; want at most %d", steps, n, bound)
				}
				if before > 1000 && steps > 12*before {
					t.Errorf("%d steps for a text of %d characters, after %d for half of it", steps, n, before)
				}
				before = steps
			}
			t.Logf("%d bytes: %d steps for 200 characters", states, before)
		})
	}
}

func TestMatchAllocs(t *testing.T) {
	text := "/home/user/projects/fanlight/internal/fnmatch/pattern.go"
	for _, pattern := range []string{
		text, "/home/*", "*.go", "*/internal/*", "/home/*/fnmatch/[a-z]*.?o", "*.@(c|h|go)", "!(*.c|*.h)",
		"/home/!(root)/*(a|[b-z]|/|!(x))*.go",
	} {
		p := Compile(pattern)
		if !p.Match(text) {
			t.Errorf("Compile(%q).Match(%q) = false", pattern, text)
		}
		if raceDetector && p.rest == formGroups {
			continue
		}
		if n := testing.AllocsPerRun(100, func() { p.Match(text) }); n != 0 {
			t.Errorf("Compile(%q).Match allocates %v times", pattern, n)
		}
	}
}

// FuzzMatch checks that no pattern panics or takes too much work, and that the fast forms agree with the general one.
func FuzzMatch(f *testing.F) {
	for _, seed := range [][2]string{
		{"/srv/*", "/srv/a/b"},
		{"*.@(c|h)", "a.c"},
		{"!(a|+(b)|?(c[!d]))*", "bbc"},
		{"[[:alpha:][=b=][.-.]-z]", "é"},
		{`@(a\)|[)])[`, "a)["},
		{"*!(!(*a)*(b|!(c)))", "abcabc"},
		{"[a-\xff]\xc3?", "\xc3\xa9\xff"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		pattern, text = pattern[:min(len(pattern), 256)], text[:min(len(text), 256)]
		p := Compile(pattern)
		matched, steps := p.match(text)
		if n := len(text) + 1; steps > (len(pattern)+1)*(len(pattern)+1)*n*n {
			t.Errorf("%d steps", steps)
		}
		if general, _ := new(machine).run(assemble(parse(pattern)), text); matched != general {
			t.Errorf("form %d says %v, the machine %v", p.rest, matched, general)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	text := "/home/user/projects/fanlight/internal/fnmatch/pattern.go"
	for _, pattern := range []string{
		"/home/*", "*.go", "*/internal/*", "/home/*/fnmatch/[a-z]*.?o", "/var/*/x", "*.@(c|h|go)", "!(*.c|*.h)",
		"/home/!(root)/*.go", "/home/*(a|[b-z]|/).go",
	} {
		b.Run(strings.ReplaceAll(pattern, "/", ":"), func(b *testing.B) {
			p := Compile(pattern)
			b.ReportAllocs()
			for b.Loop() {
				p.Match(text)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{16, 4096} {
		pattern := strings.Repeat("/a*@(b|!(c))[d-f]", n/16+1)[:n]
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Compile(pattern)
			}
		})
	}
}
