package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
)

// kind is one way in which load uses a name.
type kind int

const (
	created kind = iota
	renamedFrom
	renamedTo
	deleted
	opened
	kinds
)

// treeNames is the number of names in one tree of load: its directories and the file at the bottom.
const treeNames = 8 + 1

// tally counts which of the names that load is known to use stand in a watcher's output. Its memory is one bit a name.
type tally struct {
	work     workload
	root     string // where load works, as the watcher spells it
	seen     [kinds][]uint64
	missing  [kinds]int
	known    int // names that load uses, each counted once for each kind of use
	events   int // that the floor counted; it knows no names
	overflow int // records that say that events were lost
	lost     int // the number of records that such records say were lost
	wrong    int // paths that load never used in that way
	inexact  int // records of known names whose path says of itself that it may be wrong
}

func newTally(work workload, root string) *tally {
	t := &tally{work: work, root: root}
	switch work.mode {
	case "files":
		t.missing = [kinds]int{created: work.n, renamedFrom: work.n, renamedTo: work.n, deleted: work.n}
	case "trees":
		t.missing = [kinds]int{created: treeNames * work.n, deleted: treeNames * work.n}
	case "opens":
		t.missing = [kinds]int{opened: min(work.n, work.width)}
	}
	for k, n := range t.missing {
		t.seen[k] = make([]uint64, (n+63)/64)
		t.known += n
	}
	return t
}

func (t *tally) missed() int {
	n := 0
	for _, missing := range t.missing {
		n += missing
	}
	return n
}

// read counts a watcher's output to its end, line by line.
func (t *tally) read(r io.Reader, line func(*tally, []byte)) error {
	in := bufio.NewReaderSize(r, 1<<20)
	for {
		text, err := in.ReadSlice('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a watcher's output: %w", err)
		}
		line(t, text[:len(text)-1])
	}
}

// floorLine takes what the floor says at its end.
func floorLine(t *tally, line []byte) {
	var bytes, reads int
	// What doesn't parse leaves zeros, and shows.
	_, _ = fmt.Sscanf(string(line), "events=%d bytes=%d reads=%d overflows=%d", &t.events, &bytes, &reads, &t.overflow)
}

// fanlightLine counts a line of fanlight watch --json.
func fanlightLine(t *tally, line []byte) {
	events := between(line, `"events":[`, `]`)
	path, newPath := between(line, `"path":"`, `"`), between(line, `"new_path":"`, `"`)
	if bytes.Contains(events, []byte(`"overflow"`)) {
		t.overflow++
	}
	if lost := between(line, `"lost":`, `,`); lost != nil {
		n, err := strconv.Atoi(string(bytes.TrimRight(lost, "}")))
		if err == nil {
			t.lost += n
		}
	}
	named := false
	see := func(event string, k kind, path []byte) {
		if bytes.Contains(events, []byte(event)) {
			named = t.see(k, path) || named
		}
	}
	see(`"create"`, created, path)
	see(`"rename"`, renamedFrom, path)
	see(`"rename"`, renamedTo, newPath)
	see(`"delete"`, deleted, path)
	see(`"open"`, opened, path)
	if named && !bytes.Contains(line, []byte(`"path_state":"exact"`)) {
		t.inexact++
	}
}

// between returns what stands in line between two strings, nil if they aren't there. The end of the line ends it too.
func between(line []byte, before, after string) []byte {
	_, rest, found := bytes.Cut(line, []byte(before))
	if !found {
		return nil
	}
	inside, _, _ := bytes.Cut(rest, []byte(after))
	return inside
}

// inotifyLine counts a line of inotifywait or fsnotifywait --format '%e %w%f'. fsnotifywait says of a name that is
// gone when it looks that it is deleted; that counts as the name.
func inotifyLine(t *tally, line []byte) {
	events, path, _ := bytes.Cut(line, []byte(" "))
	path = bytes.TrimSuffix(path, []byte(" (deleted)"))
	for event := range bytes.SplitSeq(events, []byte(",")) {
		switch string(event) {
		case "CREATE":
			t.see(created, path)
		case "MOVED_FROM":
			t.see(renamedFrom, path)
		case "MOVED_TO":
			t.see(renamedTo, path)
		case "DELETE":
			t.see(deleted, path)
		case "OPEN":
			t.see(opened, path)
		case "Q_OVERFLOW":
			t.overflow++
		}
	}
}

// fatraceLine counts a line of fatrace, such as `load(7): CWO /srv/f`. fatrace names the directory of a creation,
// rename or deletion, not the file. What it opened or wrote has a name, and that is counted for the creation or the
// rename that gave it.
func fatraceLine(t *tally, line []byte) {
	_, rest, _ := bytes.Cut(line, []byte("): "))
	events, path, _ := bytes.Cut(rest, []byte(" "))
	if bytes.ContainsAny(events, "+D<>") {
		return
	}
	path = bytes.TrimLeft(path, " ")
	for _, k := range []kind{created, renamedTo, opened} {
		if _, ok := t.index(k, path); ok {
			t.see(k, path)
		}
	}
}

// see notes that a watcher named path. It tells whether load uses that name in that way.
func (t *tally) see(k kind, path []byte) bool {
	i, ok := t.index(k, path)
	if !ok {
		t.wrong++
		return false
	}
	word, bit := &t.seen[k][i/64], uint64(1)<<(i%64)
	if *word&bit == 0 {
		*word |= bit
		t.missing[k]--
	}
	return true
}

// index is the number of a name among those that load uses in a way, if it is one.
func (t *tally) index(k kind, path []byte) (int, bool) {
	name, ok := bytes.CutPrefix(path, []byte(t.root+"/"))
	if !ok || len(name) == 0 {
		return 0, false
	}
	switch t.work.mode {
	case "files":
		letter := byte('f')
		if k == renamedTo || k == deleted {
			letter = 'r'
		}
		dir, file, _ := bytes.Cut(name, []byte("/"))
		d, okDir := number(dir, 'd', 4)
		i, okFile := number(file, letter, 7)
		return i, okDir && okFile && i < t.work.n && d == i%t.work.width && k != opened
	case "trees":
		tree, below, _ := bytes.Cut(name, []byte("/"))
		i, okTree := number(tree, 't', 7)
		const deepest = "a/b/c/d/e/f/g/x"
		depth := (len(below) + 1) / 2
		inTree := string(below) == deepest[:min(max(2*depth-1, 0), len(deepest))]
		return i*treeNames + depth, okTree && inTree && i < t.work.n && (k == created || k == deleted)
	default:
		i, okFile := number(name, 'o', 4)
		return i, okFile && i < min(t.work.n, t.work.width) && k == opened
	}
}

// number reads a letter and a number of so many digits.
func number(text []byte, letter byte, digits int) (int, bool) {
	if len(text) != 1+digits || text[0] != letter {
		return 0, false
	}
	n := 0
	for _, c := range text[1:] {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, true
}
