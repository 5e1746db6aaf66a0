package fnmatch

import (
	"math/bits"
	"slices"
)

// A pattern with groups becomes programs, one for the pattern and one for each !() in it, which describe automata.
// They all run at the same time, once over the text. The automaton of the inside of a !() begins anew at every
// character; instead of one bit for each state it has one for each pair of a state and a beginning. So it knows at
// every character from which beginnings the inside matches up to here, and an automaton that entered the !() at one
// of the others goes on behind it.

// program is the automaton of a pattern. Its states are the indexes of its instructions.
type program struct {
	code []instruction
	nots []int // the states that are opNot
}

type instruction struct {
	op  opcode
	c   rune // of opChar
	set *set // of opSet
	to  int  // of opSplit and opJump: another state; of opNot: the program of the inside
}

type opcode uint8

const (
	opChar  opcode = iota // takes the character c
	opAny                 // takes one character
	opSet                 // takes one character of set
	opStar                // takes any characters
	opSplit               // goes on here and at to
	opJump                // goes on at to
	opNot                 // takes any characters that the program to doesn't match
	opEnd                 // matches
)

// assemble returns the programs of nodes, insides of !() before what they are in.
func assemble(nodes []node) []program {
	var a assembler
	a.program([][]node{nodes})
	return a.programs
}

type assembler struct{ programs []program }

// program appends the program of a list of alternatives and returns its index.
func (a *assembler) program(alternatives [][]node) int {
	var p program
	a.alternatives(&p, alternatives)
	p.emit(instruction{op: opEnd})
	a.programs = append(a.programs, p)
	return len(a.programs) - 1
}

func (p *program) emit(in instruction) int {
	p.code = append(p.code, in)
	return len(p.code) - 1
}

func (a *assembler) alternatives(p *program, alternatives [][]node) {
	var jumps []int
	for i, alternative := range alternatives {
		last := i == len(alternatives)-1
		split := -1
		if !last {
			split = p.emit(instruction{op: opSplit})
		}
		a.sequence(p, alternative)
		if !last {
			jumps = append(jumps, p.emit(instruction{op: opJump}))
			p.code[split].to = len(p.code)
		}
	}
	for _, jump := range jumps {
		p.code[jump].to = len(p.code)
	}
}

func (a *assembler) sequence(p *program, nodes []node) {
	for _, n := range nodes {
		switch n.kind {
		case literal:
			for _, c := range n.text {
				p.emit(instruction{op: opChar, c: c})
			}
		case anyOne:
			p.emit(instruction{op: opAny})
		case star:
			p.emit(instruction{op: opStar})
		case bracket:
			p.emit(instruction{op: opSet, set: n.set})
		case group:
			a.group(p, n)
		}
	}
}

func (a *assembler) group(p *program, n node) {
	switch n.operator {
	case '@':
		a.alternatives(p, n.alternatives)
	case '?', '*':
		split := p.emit(instruction{op: opSplit})
		a.alternatives(p, n.alternatives)
		if n.operator == '*' {
			p.emit(instruction{op: opJump, to: split})
		}
		p.code[split].to = len(p.code)
	case '+':
		start := len(p.code)
		a.alternatives(p, n.alternatives)
		p.emit(instruction{op: opSplit, to: start})
	case '!':
		p.nots = append(p.nots, p.emit(instruction{op: opNot, to: a.program(n.alternatives)}))
	}
}

// maxKept is the size in bytes up to which a machine is kept for the next match.
const maxKept = 1 << 20

// machine is the memory of one run.
type machine struct {
	text []rune
	runs []run
}

// run is the state of one program. A row is a bit set of beginnings: of the positions at which the program begins.
type run struct {
	words     int      // of a row
	now, next []uint64 // a row for each state, at this position and the next one
	dirty     []uint64 // a bit for each state: its row in now has grown
	dirtyNext []uint64 // likewise in next
	matched   []uint64 // the row of beginnings from which the program matches up to here

	// Of the inside of a !(): where it was entered, and for each place the row of beginnings of the program that it
	// is in. Places rise.
	places  []int
	entries []uint64
}

// size returns about how much memory m holds, in bytes.
func (m *machine) size() int {
	n := 4 * cap(m.text)
	for i := range m.runs[:cap(m.runs)] {
		r := &m.runs[:cap(m.runs)][i]
		n += 8 * (cap(r.now) + cap(r.next) + cap(r.dirty) + cap(r.dirtyNext) + cap(r.matched) + cap(r.places) +
			cap(r.entries))
	}
	return n
}

// zeroed returns s with n zeros.
func zeroed(s []uint64, n int) []uint64 {
	s = slices.Grow(s[:0], n)[:n]
	clear(s)
	return s
}

// run reports whether the last of programs matches the whole of text, and how many steps it took.
func (m *machine) run(programs []program, text string) (matched bool, steps int) {
	m.text = m.text[:0]
	for text != "" {
		c, n := decode(text)
		m.text, text = append(m.text, c), text[n:]
	}
	end, last := len(m.text), len(programs)-1
	m.runs = slices.Grow(m.runs[:0], len(programs))[:len(programs)]
	for i := range programs {
		r, states := &m.runs[i], len(programs[i].code)
		r.words = end/64 + 1
		if i == last {
			r.words = 1
		}
		r.now, r.next = zeroed(r.now, states*r.words), zeroed(r.next, states*r.words)
		r.dirty, r.dirtyNext = zeroed(r.dirty, states/64+1), zeroed(r.dirtyNext, states/64+1)
		r.matched = zeroed(r.matched, r.words)
		r.places, r.entries = r.places[:0], r.entries[:0]
	}
	for at := 0; ; at++ {
		for i := range programs {
			if i < last || at == 0 {
				m.begin(i, at)
			}
			steps += m.step(programs, i, at)
		}
		if at == end {
			return m.runs[last].matched[0] != 0, steps
		}
		if m.stuck(programs) {
			return false, steps
		}
		for i := range m.runs {
			r := &m.runs[i]
			r.now, r.next, r.dirty, r.dirtyNext = r.next, r.now, r.dirtyNext, r.dirty
			clear(r.next)
		}
	}
}

// begin lets program i begin at position at.
func (m *machine) begin(i, at int) {
	r := &m.runs[i]
	r.now[at/64] |= 1 << (at % 64)
	r.dirty[0] |= 1
}

// stuck reports whether the last program can't match any more: it is in no state and inside of no !().
func (m *machine) stuck(programs []program) bool {
	last := len(programs) - 1
	for _, state := range programs[last].nots {
		if len(m.runs[programs[last].code[state].to].places) > 0 {
			return false
		}
	}
	for _, w := range m.runs[last].dirtyNext {
		if w != 0 {
			return false
		}
	}
	return true
}

// step takes program i over position at: from the states it is in to all that it can reach without a character, and
// from those over the character into the states at the next position. The insides of its !() come first.
func (m *machine) step(programs []program, i, at int) (steps int) {
	r, code := &m.runs[i], programs[i].code
	for _, state := range programs[i].nots {
		inside := &m.runs[code[state].to]
		for j, place := range inside.places {
			steps += r.words
			if !inside.matchedFrom(place) {
				r.add(state+1, inside.entries[j*r.words:(j+1)*r.words])
			}
		}
	}
	for w := 0; w < len(r.dirty); {
		if r.dirty[w] == 0 {
			w++
			continue
		}
		steps += r.words
		state := w*64 + bits.TrailingZeros64(r.dirty[w])
		r.dirty[w] &= r.dirty[w] - 1
		row := r.row(r.now, state)
		switch in := &code[state]; in.op {
		case opChar:
			if at < len(m.text) && m.text[at] == in.c {
				r.addNext(state+1, row)
			}
		case opAny:
			if at < len(m.text) {
				r.addNext(state+1, row)
			}
		case opSet:
			if at < len(m.text) && in.set.matches(m.text[at]) {
				r.addNext(state+1, row)
			}
		case opStar:
			r.add(state+1, row)
			if at < len(m.text) {
				r.addNext(state, row)
			}
		case opSplit:
			r.add(state+1, row)
			r.add(in.to, row)
			w = min(w, in.to/64)
		case opJump:
			r.add(in.to, row)
			w = min(w, in.to/64)
		case opNot:
			inside := &m.runs[in.to]
			inside.enter(at, row)
			if !inside.matchedFrom(at) {
				r.add(state+1, row)
			}
		case opEnd:
		}
	}
	copy(r.matched, r.row(r.now, len(code)-1))
	return steps
}

// row returns the row of a state in states, which is now or next.
func (r *run) row(states []uint64, state int) []uint64 {
	return states[state*r.words : (state+1)*r.words]
}

// add adds row to the row of state at this position.
func (r *run) add(state int, row []uint64) {
	to := r.row(r.now, state)
	for i, w := range row {
		if w&^to[i] != 0 {
			to[i] |= w
			r.dirty[state/64] |= 1 << (state % 64)
		}
	}
}

// addNext adds row to the row of state at the next position.
func (r *run) addNext(state int, row []uint64) {
	to := r.row(r.next, state)
	for i, w := range row {
		to[i] |= w
	}
	r.dirtyNext[state/64] |= 1 << (state % 64)
}

// enter notes that the program around r entered it at place, in all runs that began at a position in row.
func (r *run) enter(place int, row []uint64) {
	last := len(r.places) - 1
	if last < 0 || r.places[last] != place {
		r.places, r.entries = append(r.places, place), append(r.entries, row...)
		return
	}
	for i, w := range row {
		r.entries[last*len(row)+i] |= w
	}
}

// matchedFrom reports whether r, begun at place, matches up to here.
func (r *run) matchedFrom(place int) bool {
	return r.matched[place/64]>>(place%64)&1 != 0
}
