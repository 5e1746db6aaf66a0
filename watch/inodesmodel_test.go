package watch

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// The model test where directories are marked one by one: what came and went in a new one is not seen, so the history is
// not the model's. But who follows the events, with the reader held back at random, knows the tree at the end of each
// round: every name that is left was told once, and an exact path lies in a directory that was there.
func TestModelInodes(t *testing.T) {
	eachOf(t, inodeKinds, func(t *testing.T, dir string) {
		at := ground(t, dir, "m")
		modelInodes(t, at)
	})
}

func TestModelUnprivileged(t *testing.T) {
	fstest.Unprivileged(t, func(t *testing.T) string {
		dir := fstest.New(t, fstest.Tmpfs)
		must(t, os.Chmod(dir, 0o777))
		return dir
	}, func(t *testing.T, dir string) { modelInodes(t, ground(t, dir, "m")) })
}

func modelInodes(t *testing.T, at string) {
	seed := *modelSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("again with -args -model.seed=%d", seed)
	m := newModel(t, at, seed)
	m.plain = true
	m.notePlaces(m.top)
	m.prepare(200)
	m.endRound()
	f := follower{t: t, root: at + "/root", told: map[string]bool{}, places: m.places}
	f.look(f.told)
	w := late(t, at, Config{Roots: []string{f.root}})
	found := 0
	for range *modelSteps {
		m.operate()
		if m.rand.IntN(30) != 0 {
			continue
		}
		more := m.rand.IntN(30)
		for _, e := range w.stepWith(func() {
			for ; more > 0; more-- {
				m.operate()
			}
		}) {
			f.follow(e)
			if e.Found {
				found++
			}
		}
		f.compare()
		if t.Failed() {
			t.Fatalf("after these operations:\n%s", strings.ReplaceAll(strings.Join(m.done, "\n"), at+"/", ""))
		}
		m.endRound()
	}
	t.Logf("%d names were found", found)
}

// endRound begins a new round without a look at the history.
func (m *model) endRound() {
	m.records, m.read, m.done = nil, 0, nil
	m.round++
}

// follower knows the names below a root by what is told of them.
type follower struct {
	t    *testing.T
	root string
	told map[string]bool
	log  []string

	places map[string]bool // where directories were
}

// look takes the names that are there.
func (f *follower) look(names map[string]bool) {
	must(f.t, filepath.WalkDir(f.root, func(path string, _ fs.DirEntry, err error) error {
		names[path] = true
		return err
	}))
}

func (f *follower) compare() {
	there := map[string]bool{}
	f.look(there)
	for path := range there {
		if !f.told[path] {
			f.t.Errorf("not told: %s", relative(f.root, path))
		}
	}
	for path := range f.told {
		if !there[path] {
			f.t.Errorf("told, and not there: %s", relative(f.root, path))
		}
	}
	if f.t.Failed() {
		f.t.Logf("told:\n%s", strings.Join(f.log, "\n"))
	}
	f.log = nil
}

func (f *follower) follow(e event.Event) {
	f.log = append(f.log, tellOne(f.root, e))
	for _, path := range []string{e.Path, e.NewPath} {
		if path != "" && e.PathState == event.PathExact && path != f.root && !f.places[filepath.Dir(path)] {
			f.t.Errorf("not in a directory that was there: %s", tellOne(f.root, e))
		}
	}
	switch {
	case e.Mask.Has(fanotify.Overflow), e.PathState == event.PathUnknown:
		f.t.Errorf("%s", tellOne(f.root, e))
	case e.Mask.Has(fanotify.Rename):
		moved := f.take(e.Path)
		f.take(e.NewPath)
		if e.NewPath != "" {
			f.told[e.NewPath] = true
			for _, below := range moved {
				f.told[e.NewPath+below] = true
			}
		}
	case e.Mask.Has(fanotify.Create):
		if f.told[e.Path] {
			f.t.Errorf("told twice: %s", tellOne(f.root, e))
		}
		f.told[e.Path] = true
	}
	if e.Mask.Has(fanotify.Delete) {
		f.take(e.Path)
	}
}

// take takes a name and those below it out, and returns what those have behind it.
func (f *follower) take(top string) (below []string) {
	if top == "" {
		return nil
	}
	for path := range f.told {
		if rest, ok := strings.CutPrefix(path, top); ok && (rest == "" || rest[0] == '/') {
			delete(f.told, path)
			below = append(below, rest)
		}
	}
	return below
}
