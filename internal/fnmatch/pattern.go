package fnmatch

import (
	"strings"
	"sync"
)

// Pattern is a compiled pattern. It is made by Compile.
type Pattern struct {
	prefix, suffix string // literal text around the rest
	rest           form
	infix          string     // of formInfix
	nodes          []node     // of formWild
	choices        []*Pattern // of formAny and formNone
	programs       []program  // of formGroups; the last one is the rest itself
	machines       sync.Pool  // of *machine, for programs
}

// form says how the rest of a pattern, between prefix and suffix, is matched. formGroups can match everything; the
// other forms are what most patterns have, and faster.
type form uint8

const (
	formEmpty  form = iota // nothing: the pattern is literal
	formStar               // *
	formInfix              // *infix*
	formWild               // anything without groups
	formAny                // any of several patterns
	formNone               // none of several patterns
	formGroups             // anything
)

// maxExpansion bounds the nodes into which one group is multiplied out.
const maxExpansion = 256

// Compile compiles pattern, in time and memory of at most the square of its length.
func Compile(pattern string) *Pattern {
	return newPattern(parse(pattern))
}

func newPattern(nodes []node) *Pattern {
	p := new(Pattern)
	if len(nodes) > 0 && nodes[0].kind == literal {
		p.prefix, nodes = nodes[0].text, nodes[1:]
	}
	if last := len(nodes) - 1; last >= 0 && nodes[last].kind == literal {
		p.suffix, nodes = nodes[last].text, nodes[:last]
	}
	at, groups := 0, 0
	for i := range nodes {
		if nodes[i].kind == group {
			at, groups = i, groups+1
		}
	}
	switch {
	case len(nodes) == 0:
		p.rest = formEmpty
	case groups == 0:
		p.setWild(nodes)
	case groups > 1 || !p.setChoices(nodes, at):
		p.rest, p.programs = formGroups, assemble(nodes)
	}
	return p
}

// setWild makes nodes, which have no group, the rest of p.
func (p *Pattern) setWild(nodes []node) {
	switch {
	case len(nodes) == 1 && nodes[0].kind == star:
		p.rest = formStar
	case len(nodes) == 3 && nodes[0].kind == star && nodes[1].kind == literal && nodes[2].kind == star:
		p.rest, p.infix = formInfix, nodes[1].text
	default:
		p.rest, p.nodes = formWild, nodes
	}
}

// setChoices makes nodes, whose only group is at index at, the rest of p by making a pattern of each alternative. It
// reports whether that is possible: ?() and @() are multiplied out, !() must stand alone.
func (p *Pattern) setChoices(nodes []node, at int) bool {
	alternatives := nodes[at].alternatives
	switch nodes[at].operator {
	case '@':
		p.rest = formAny
	case '?':
		p.rest, alternatives = formAny, append(alternatives[:len(alternatives):len(alternatives)], nil)
	case '!':
		if len(nodes) > 1 {
			return false
		}
		p.rest = formNone
	default:
		return false
	}
	if len(nodes) > 1 && len(alternatives)*len(nodes) > maxExpansion {
		return false
	}
	for _, alternative := range alternatives {
		var whole []node
		for _, part := range [...][]node{nodes[:at], alternative, nodes[at+1:]} {
			for _, n := range part {
				whole = appendNode(whole, n)
			}
		}
		p.choices = append(p.choices, newPattern(whole))
	}
	return true
}

// Match reports whether the whole of text matches. Its time is at most the product of the pattern's length and the
// text's square; only !() inside of !() can make it the text's cube.
func (p *Pattern) Match(text string) bool {
	matched, _ := p.match(text)
	return matched
}

// match is Match that also returns the steps it took, for the tests of its bound.
func (p *Pattern) match(text string) (matched bool, steps int) {
	if len(text) < len(p.prefix)+len(p.suffix) || !strings.HasPrefix(text, p.prefix) ||
		!strings.HasSuffix(text, p.suffix) {
		return false, 1
	}
	text = text[len(p.prefix) : len(text)-len(p.suffix)]
	switch p.rest {
	case formEmpty:
		return text == "", 1
	case formStar:
		return true, 1
	case formInfix:
		return strings.Contains(text, p.infix), 1
	case formWild:
		return matchWild(p.nodes, text)
	case formAny, formNone:
		for _, choice := range p.choices {
			found, n := choice.match(text)
			steps += n
			if found {
				return p.rest == formAny, steps
			}
		}
		return p.rest == formNone, steps
	default:
		m, _ := p.machines.Get().(*machine)
		if m == nil {
			m = new(machine)
		}
		matched, steps = m.run(p.programs, text)
		if m.size() <= maxKept {
			p.machines.Put(m)
		}
		return matched, steps
	}
}

// matchWild matches text against nodes without groups. After a mismatch only the last star has to take one character
// more: what an earlier one could take, the last one can take too.
func matchWild(nodes []node, text string) (matched bool, steps int) {
	at, lastStar, afterStar := 0, -1, ""
	for {
		steps++
		switch {
		case at < len(nodes) && nodes[at].kind == star:
			at++
			lastStar, afterStar = at, text
			continue
		case at == len(nodes) && text == "":
			return true, steps
		case at < len(nodes):
			if n, ok := nodes[at].takes(text); ok {
				at, text = at+1, text[n:]
				continue
			}
		}
		if lastStar < 0 || afterStar == "" {
			return false, steps
		}
		_, n := decode(afterStar)
		afterStar = afterStar[n:]
		if lastStar < len(nodes) && nodes[lastStar].kind == literal {
			n = strings.Index(afterStar, nodes[lastStar].text)
			if n < 0 {
				return false, steps
			}
			afterStar = afterStar[n:]
		}
		at, text = lastStar, afterStar
	}
}
