package fnmatch

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// set is what a bracket expression matches. The zero set matches nothing.
type set struct {
	negated bool
	items   []item
	// broken says that something invalid follows the items: a character that none of them has doesn't match, negated
	// or not.
	broken bool
}

// item is a class or, without one, the characters from low to high.
type item struct {
	class     func(rune) bool
	low, high rune
}

// matches reports whether the bracket expression matches c.
func (s *set) matches(c rune) bool {
	if s.has(c) {
		return !s.negated
	}
	return s.negated && !s.broken
}

// has reports whether c is one of the items.
func (s *set) has(c rune) bool {
	for i := range s.items {
		if it := &s.items[i]; it.low <= c && c <= it.high && (it.class == nil || it.class(c)) {
			return true
		}
	}
	return false
}

// add adds to s the characters from low to high, those of class if it isn't nil. Behind something invalid nothing
// counts.
func (s *set) add(low, high rune, class func(rune) bool) {
	if !s.broken {
		s.items = append(s.items, item{class, low, high})
	}
}

// parseBracket reads a bracket expression, behind its opening bracket, and returns what follows it. It fails if the
// expression isn't closed: its opening bracket is then a literal character.
func (p *parser) parseBracket(text string) (_ *set, after string, ok bool) {
	s := set{items: p.items[:0]}
	defer func() { p.items = s.items[:0] }() // the brackets of a hostile pattern are many and never closed
	if strings.HasPrefix(text, "!") || strings.HasPrefix(text, "^") {
		s.negated, text = true, text[1:]
	}
	for first := true; ; first = false {
		if text == "" {
			// The C library doesn't get here with a character that fails before.
			if s.broken && !s.has('[') {
				return new(set), "", true
			}
			return nil, "", false
		}
		if text[0] == ']' && !first {
			return &set{negated: s.negated, items: slices.Clone(s.items), broken: s.broken}, text[1:], true
		}
		if name, rest, ok := className(text); ok {
			if class := classes[name]; class != nil {
				s.add(0, utf8.MaxRune, class)
			} else {
				s.broken = true
			}
			text = rest
			continue
		}
		if strings.HasPrefix(text, "[=") && len(text) > 2 {
			if c, n := decode(text[2:]); strings.HasPrefix(text[2+n:], "=]") {
				s.add(c, c, nil)
				text = text[2+n+2:]
				continue
			}
		}
		low, rest, ok := endpoint(text)
		high := low
		switch {
		case rest == "-": // a range without an end
			s.add(low, low, nil)
			high, rest = noCharacter, ""
		case ok && len(rest) > 1 && rest[0] == '-' && rest[1] != ']':
			high, rest, ok = endpoint(rest[1:])
		}
		switch {
		case !ok:
			return new(set), "", true
		case low == noCharacter || high == noCharacter:
			s.broken = true
		default:
			s.add(low, high, nil)
		}
		text = rest
	}
}

// className reads a character class such as [:alpha:] at the beginning of text. A name may be unknown.
func className(text string) (name, rest string, ok bool) {
	if !strings.HasPrefix(text, "[:") {
		return "", "", false
	}
	n := strings.IndexFunc(text[2:], func(c rune) bool { return c < 'a' || c >= 'z' })
	if n < 0 || !strings.HasPrefix(text[2+n:], ":]") {
		return "", "", false
	}
	return text[2 : 2+n], text[2+n+2:], true
}

// noCharacter is what a collating symbol of other than one character stands for.
const noCharacter = -1

// endpoint reads one character of a bracket expression at the beginning of text, which isn't empty: as it is, behind
// a backslash, or as a collating symbol such as [.-.]. It fails if the backslash has nothing behind it or the symbol
// isn't closed: nothing matches then.
func endpoint(text string) (c rune, rest string, ok bool) {
	if symbol, found := strings.CutPrefix(text, "[."); found {
		symbol, rest, ok = strings.Cut(symbol, ".]")
		if symbol == "" {
			return noCharacter, rest, ok
		}
		c, n := decode(symbol)
		if n < len(symbol) {
			c = noCharacter
		}
		return c, rest, ok
	}
	if text[0] == '\\' {
		text = text[1:]
		if text == "" {
			return 0, "", false
		}
	}
	c, n := decode(text)
	return c, text[n:], true
}

// classes has the character classes, made of Unicode's properties much as those of C.UTF-8 are.
var classes = map[string]func(rune) bool{
	"alnum":  func(c rune) bool { return isAlpha(c) || isDigit(c) },
	"alpha":  isAlpha,
	"blank":  func(c rune) bool { return c == '\t' || isSpace(c) && unicode.Is(unicode.Zs, c) },
	"cntrl":  isControl,
	"digit":  isDigit,
	"graph":  isGraph,
	"lower":  func(c rune) bool { return unicode.In(c, unicode.Ll, unicode.Other_Lowercase) },
	"print":  func(c rune) bool { return isGraph(c) || isSpace(c) && !isControl(c) },
	"punct":  func(c rune) bool { return isGraph(c) && !isAlpha(c) && !isDigit(c) },
	"space":  isSpace,
	"upper":  func(c rune) bool { return unicode.In(c, unicode.Lu, unicode.Other_Uppercase, unicode.Lt) },
	"xdigit": func(c rune) bool { return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' },
}

func isDigit(c rune) bool { return '0' <= c && c <= '9' }

// isAlpha reports whether c is a letter, or a digit beyond ASCII.
func isAlpha(c rune) bool {
	return unicode.In(c, unicode.L, unicode.Nl, unicode.Other_Alphabetic) || unicode.Is(unicode.Nd, c) && !isDigit(c)
}

// isSpace reports whether c is a space at which a line may break.
func isSpace(c rune) bool {
	return unicode.IsSpace(c) && c != '\u0085' && c != '\u00a0' && c != '\u2007' && c != '\u202f'
}

func isControl(c rune) bool { return unicode.In(c, unicode.Cc, unicode.Zl, unicode.Zp) }

func isGraph(c rune) bool {
	return (unicode.IsGraphic(c) || unicode.In(c, unicode.Cf, unicode.Co)) && !isSpace(c)
}
