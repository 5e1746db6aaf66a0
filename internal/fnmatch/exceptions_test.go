package fnmatch

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// exception is a way in which the C library differs.
type exception struct {
	why string
	// pattern and text are an example, matches is what this package says.
	pattern, text string
	matches       bool
	// applies reports whether it can be why the C library says theirs about pattern and text.
	applies func(pattern, text string, theirs bool) bool
}

// exceptions are the places where the C library contradicts its own documentation, and this package follows the
// documentation: fnmatch(3) says what each form of a group matches, that | separates its patterns, that a backslash
// takes the special meaning of what follows.
var exceptions = [...]exception{
	{
		"after a star the C library doesn't try @(), +() or !() at the end of the text",
		"*!(a)", "", true,
		func(pattern, text string, theirs bool) bool {
			return newPattern(impatient(parse(pattern))).Match(text) == theirs
		},
	},
	{
		"after a star it skips ?() and *(), which could as well be empty, but misses their end if they hold a group",
		"**(@(a))b", "b", true,
		func(pattern, _ string, _ bool) bool { return skippedGroups.MatchString(pattern) },
	},
	{
		"it doesn't see backslashes when it looks for the parts of a group",
		`@(a\)b|c)`, "a)b", true,
		func(pattern, _ string, _ bool) bool {
			blind := strings.ReplaceAll(pattern, `\`, "\x01")
			for i := range len(pattern) - 1 {
				if strings.IndexByte("?*+@!", pattern[i]) < 0 || pattern[i+1] != '(' {
					continue
				}
				ours, _, closed := splitGroup(pattern[i+2:])
				theirs, _, blindlyClosed := splitGroup(blind[i+2:])
				if closed != blindlyClosed ||
					!slices.EqualFunc(ours, theirs, func(a, b string) bool { return len(a) == len(b) }) {
					return true
				}
			}
			return false
		},
	},
	{
		"it puts an alternative of ?() or @() and what follows the group together and reads that as a new pattern: " +
			"+(a) here",
		"@(+)(a)", "+(a)", true,
		func(pattern, _ string, _ bool) bool { return joined.MatchString(pattern) },
	},
	{
		"[= that begins no equivalence class hides the characters of the bracket that stand before it, not the others",
		"[a[=]", "a", true,
		func(pattern, _ string, _ bool) bool { return noEquivalence.MatchString(pattern) },
	},
	{
		"a range to [ with : or = behind it ends the range for characters that come to it, but begins a class for those " +
			"that the bracket has before it",
		"[xa-[:alpha:]]", "x]", true,
		func(pattern, _ string, _ bool) bool { return rangeToClass.MatchString(pattern) },
	},
	{
		"a collating symbol before the last hyphen of a bracket is lost",
		"[[.a.]-]", "a", true,
		func(pattern, _ string, _ bool) bool { return symbolAndHyphen.MatchString(pattern) },
	},
	{
		"what doesn't match by UTF-8 characters it tries once more by bytes, also where all is valid UTF-8",
		"??", "é", false,
		func(pattern, text string, theirs bool) bool {
			return theirs && Compile(bytewise(pattern)).Match(bytewise(text))
		},
	},
	{
		"its C.UTF-8 has no order of characters beyond U+00FF: no range has them, and with one it misreads \\ and [. " +
			"at the end of a range",
		"[a-€]", "€", true,
		func(pattern, text string, _ bool) bool {
			return rangeBeyond.MatchString(pattern) || beyond.MatchString(text) && rangeEnd.MatchString(pattern)
		},
	},
}

var (
	skippedGroups   = regexp.MustCompile(`\*(?:[*?]|\([^()]*\))*[*?]\([^)]*[?*+@!]\(`)
	joined          = regexp.MustCompile(`[?@]\(.*(?:[?*+@!][|)].*\(|\[[:=.].*\].*[|)].*\])`)
	rangeToClass    = regexp.MustCompile(`-\[[:=]`)
	symbolAndHyphen = regexp.MustCompile(`\[\..\.\]-\]`)
	beyond          = regexp.MustCompile(`[^\x{0}-\x{ff}]`)
	rangeBeyond     = regexp.MustCompile(`[^\x{0}-\x{ff}]-|-\\?[^\x{0}-\x{ff}]`)
	rangeEnd        = regexp.MustCompile(`-(?:\\|\[\.)`)
	noEquivalence   = regexp.MustCompile(`(?s)\[=(?:.?$|.[^=]|.=$|.=[^\]])`)
)

// impatient returns nodes in which a group @(), +() or !() after a star doesn't match at the end of the text, as in the
// C library, which first puts together the alternatives of ?() and @() with what follows.
func impatient(nodes []node) []node {
	if len(nodes) == 0 {
		return nil
	}
	first, rest := nodes[0], nodes[1:]
	switch {
	case first.kind == star:
		n := slices.IndexFunc(nodes, func(n node) bool {
			return n.kind != star && n.kind != anyOne && !isGroup(n, "?*")
		})
		if n > 0 && isGroup(nodes[n], "+@!") {
			// Everything but what is empty or isn't the rest.
			no := node{kind: group, operator: '!', alternatives: [][]node{impatient(nodes[n:])}}
			return slices.Concat(nodes[:n], []node{
				{kind: group, operator: '!', alternatives: [][]node{nil, {no}}},
			})
		}
	case isGroup(first, "?@"):
		var alternatives [][]node
		if first.operator == '?' {
			alternatives = append(alternatives, impatient(rest))
		}
		for _, a := range first.alternatives {
			alternatives = append(alternatives, impatient(slices.Concat(a, rest)))
		}
		return []node{{kind: group, operator: '@', alternatives: alternatives}}
	case first.kind == group:
		alternatives := first.alternatives
		first.alternatives = nil
		for _, a := range alternatives {
			first.alternatives = append(first.alternatives, impatient(a))
		}
	}
	return append([]node{first}, impatient(rest)...)
}

// bytewise returns text with each byte made a character, in the order of the bytes.
func bytewise(text string) string {
	var b strings.Builder
	for i := range len(text) {
		b.WriteRune(rune(text[i]))
	}
	return b.String()
}

func isGroup(n node, operators string) bool {
	return n.kind == group && strings.IndexByte(operators, n.operator) >= 0
}

// TestExceptions shows that the exceptions are as documented here, not as in the C library.
func TestExceptions(t *testing.T) {
	for _, e := range exceptions {
		if got := Compile(e.pattern).Match(e.text); got != e.matches {
			t.Errorf("Compile(%q).Match(%q) = %v; want %v, because %s", e.pattern, e.text, got, e.matches, e.why)
		}
		ask(t, "C.UTF-8", slices.Values([]string{e.pattern}), []string{e.text}, func(pattern string, answers []byte) {
			if theirs := answers[0] == 0; !e.applies(e.pattern, e.text, theirs) {
				t.Errorf("exception for %q and %q doesn't apply to its example", e.pattern, e.text)
			} else if theirs == e.matches {
				t.Logf("this C library agrees about %q and %q", e.pattern, e.text)
			}
		})
	}
}
