package fnmatch

import (
	"strings"
	"unicode/utf8"
)

// node is a part of a pattern.
type node struct {
	kind         nodeKind
	text         string   // of literal: never empty, valid UTF-8
	set          *set     // of bracket
	operator     byte     // of group: one of ?*+@!
	alternatives [][]node // of group
}

type nodeKind uint8

const (
	literal nodeKind = iota
	anyOne           // ?
	star             // *
	bracket          // one character of a set
	group
)

// badByte is added to a byte that is not UTF-8 to make it a character, one above every code point.
const badByte = utf8.MaxRune + 1

// decode returns the first character of text, which is not empty, and its length in bytes.
func decode(text string) (c rune, n int) {
	if b := text[0]; b < utf8.RuneSelf {
		return rune(b), 1
	}
	c, n = utf8.DecodeRuneInString(text)
	if c == utf8.RuneError && n == 1 {
		return badByte + rune(text[0]), 1
	}
	return c, n
}

// takes reports whether n, which is neither star nor group, matches the beginning of text, and how many bytes of it.
func (n *node) takes(text string) (int, bool) {
	if n.kind == literal {
		return len(n.text), strings.HasPrefix(text, n.text)
	}
	if text == "" {
		return 0, false
	}
	c, size := decode(text)
	return size, n.kind == anyOne || n.set.matches(c)
}

// appendNode appends n to nodes and joins it with the last one where it can.
func appendNode(nodes []node, n node) []node {
	if len(nodes) > 0 {
		switch last := &nodes[len(nodes)-1]; {
		case n.kind == star && last.kind == star:
			return nodes
		case n.kind == literal && last.kind == literal:
			last.text += n.text
			return nodes
		}
	}
	return append(nodes, n)
}

// appendLiteral appends the character c to nodes.
func appendLiteral(nodes []node, c rune) []node {
	if c >= badByte {
		return append(nodes, node{kind: bracket, set: &set{items: []item{{low: c, high: c}}}})
	}
	return appendNode(nodes, node{kind: literal, text: string(c)})
}

// parse returns the parts of pattern.
func parse(pattern string) []node {
	var p parser
	return p.parse(pattern)
}

// parser is what parsing needs again and again.
type parser struct {
	items []item // of the bracket expression that is being read
}

func (p *parser) parse(pattern string) []node {
	var nodes []node
	for pattern != "" {
		c, size := decode(pattern)
		rest := pattern[size:]
		if strings.HasPrefix(rest, "(") && strings.ContainsRune("?*+@!", c) {
			if alternatives, after, ok := splitGroup(rest[1:]); ok {
				n := node{kind: group, operator: byte(c)}
				for _, alternative := range alternatives {
					n.alternatives = append(n.alternatives, p.parse(alternative))
				}
				nodes, pattern = append(nodes, n), after
				continue
			}
		}
		switch c {
		case '?':
			nodes = append(nodes, node{kind: anyOne})
		case '*':
			nodes = appendNode(nodes, node{kind: star})
		case '[':
			if s, after, ok := p.parseBracket(rest); ok {
				nodes, rest = append(nodes, node{kind: bracket, set: s}), after
			} else {
				nodes = appendLiteral(nodes, c)
			}
		case '\\':
			if rest == "" {
				nodes = append(nodes, node{kind: bracket, set: &set{}})
				break
			}
			c, size = decode(rest)
			nodes, rest = appendLiteral(nodes, c), rest[size:]
		default:
			nodes = appendLiteral(nodes, c)
		}
		pattern = rest
	}
	return nodes
}

// splitGroup splits the text after the parenthesis that opens a group into the alternatives of the group and what
// comes after it. It fails if the group, or a bracket in it, isn't closed.
func splitGroup(text string) (alternatives []string, after string, ok bool) {
	start, depth := 0, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '\\':
			i++
		case '[':
			n := bracketLength(text[i+1:])
			if n < 0 {
				return nil, "", false
			}
			i += n
		case '?', '*', '+', '@', '!':
			if i+1 < len(text) && text[i+1] == '(' {
				depth++
			}
		case '|':
			if depth == 0 {
				alternatives, start = append(alternatives, text[start:i]), i+1
			}
		case ')':
			if depth == 0 {
				return append(alternatives, text[start:i]), text[i+1:], true
			}
			depth--
		}
	}
	return nil, "", false
}

// bracketLength returns the length of the bracket expression that text is behind its opening bracket, as far as it
// hides characters from a group around it: classes aren't looked at. It is negative without a closing bracket.
func bracketLength(text string) int {
	i := 0
	if i < len(text) && (text[i] == '!' || text[i] == '^') {
		i++
	}
	if i < len(text) && text[i] == ']' {
		i++
	}
	for ; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case ']':
			return i + 1
		}
	}
	return -1
}
