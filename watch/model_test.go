package watch

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/fanotify"
)

var (
	modelSeed  = flag.Uint64("model.seed", 0, "seed of the model test; 0 takes the time")
	modelSteps = flag.Int("model.operations", 1500, "operations of one run of the model test")
)

// The model test does random operations on a filesystem and in a model of it, with the reader held back at random, and
// expects the model's history: each event in its order, with the path as it was then.
func TestModel(t *testing.T) {
	seed := *modelSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	eachMarked(t, func(t *testing.T, dir string) {
		for i, maxDirs := range []int{0, 3, 20} {
			t.Run(fmt.Sprintf("%d directories", maxDirs), func(t *testing.T) {
				seed := seed + uint64(i)
				t.Logf("again with -run '^TestModel$/^%s$' -args -model.seed=%d", strings.Split(t.Name(), "/")[1], seed-uint64(i))
				at := ground(t, dir, fmt.Sprint(i))
				m := newModel(t, at, seed)
				m.prepare(200) // before the watch: what is met for the first time later
				m.records = nil
				w := late(t, at, Config{Roots: []string{at + "/root"}, MaxDirs: maxDirs})
				for range *modelSteps {
					m.operate()
					switch m.rand.IntN(50) {
					case 0:
						m.compare(w.step())
					case 1:
						more := m.rand.IntN(30)
						m.compare(w.stepWith(func() {
							m.read = len(m.records)
							for ; more > 0; more-- {
								m.operate()
							}
						}))
					}
					if t.Failed() {
						return
					}
				}
				m.compare(w.stop())
			})
		}
	})
}

// The same while the reader runs as it likes. How records merge can't be told then, so a later operation may show at an
// earlier path. But every path that is called exact is one where something happened, and whatever was made or renamed is
// seen there, unless a directory above it was renamed more than once.
func TestModelLive(t *testing.T) {
	seed := *modelSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	eachMarked(t, func(t *testing.T, dir string) {
		for i, maxDirs := range []int{0, 3} {
			t.Logf("again, as far as that goes, with -run '^TestModelLive$' -args -model.seed=%d", seed)
			at := ground(t, dir, fmt.Sprint(i))
			m := newModel(t, at, seed+uint64(i))
			m.prepare(200)
			m.all = map[string]bool{}
			w := live(t, at, Config{Roots: []string{at + "/root"}, MaxDirs: maxDirs})
			m.prepare(*modelSteps)
			got, doubts := map[string]bool{}, 0
			for _, e := range w.stop() {
				if e.PathState != event.PathExact {
					doubts++
					continue
				}
				got[told(at, e)] = true
				if _, ok := m.all[told(at, e)]; !ok {
					t.Errorf("never happened: %s", tellOne(at, e))
				}
			}
			sure := 0
			for what, must := range m.all {
				if must {
					sure++
				}
				if must && !got[what] {
					t.Errorf("missing: %s", what)
				}
			}
			t.Logf("%d operations, %d of them sure to be seen; %d events in doubt", len(m.all), sure, doubts)
		}
	})
}

// told describes what can be told of an event whatever it was merged with: a creation is never merged into something
// else, nor is a rename.
func told(base string, e event.Event) string {
	switch {
	case e.Mask.Has(fanotify.Create):
		e.Mask &= fanotify.Create | fanotify.OnDir
	case !e.Mask.Has(fanotify.Rename):
		return "at " + relative(base, e.Path)
	}
	return tellOne(base, e)
}

// model is a tree of directories in memory, and the records of the kernel that nobody has read.
type model struct {
	t       *testing.T
	rand    *rand.Rand
	at      string
	top     *dir // holds root, which is watched, and out
	dirs    []*dir
	done    []string // operations, for the report
	records []*record
	read    int             // of the records
	all     map[string]bool // what ever happened, as far as it can be told, and whether it is sure to be seen
	ids     int
	round   int
	plain   bool            // no hard links, no exchange, and nothing is renamed twice in a round, so that records tell the tree
	places  map[string]bool // where directories ever were, when plain
	movedIn map[int]int     // the round in which a file was renamed, when plain
}

// dir is a directory of the model; a file is only a number in its directory.
type dir struct {
	id     int
	parent *dir
	name   string
	dirs   map[string]*dir
	files  map[string]int
	moved  int // renames in this round
	round  int
}

// record is an event of the kernel.
type record struct {
	key   string // equal ones merge while nobody reads
	event event.Event
	doubt bool // it may be said to be not exact
}

func newModel(t *testing.T, at string, seed uint64) *model {
	m := &model{t: t, rand: rand.New(rand.NewPCG(seed, 1)), at: at, top: &dir{name: at, dirs: map[string]*dir{}}, movedIn: map[int]int{}, places: map[string]bool{}}
	m.mkdir(m.top, "root")
	m.mkdir(m.top, "out")
	return m
}

func (m *model) prepare(n int) {
	for range n {
		m.operate()
	}
}

func (d *dir) path() string {
	if d.parent == nil {
		return d.name
	}
	return d.parent.path() + "/" + d.name
}

func (d *dir) below(top *dir) bool { return d == top || d.parent != nil && d.parent.below(top) }

// in returns the path of a name if it is watched, and whether a directory above was renamed twice in this round.
func (m *model) in(d *dir, name string) (path string, doubt bool) {
	for up := d; up != nil; up = up.parent {
		doubt = doubt || up.round == m.round && up.moved > 1
	}
	switch {
	case !d.below(m.top.dirs["root"]):
		return "", doubt
	case name == ".":
		return d.path(), doubt
	}
	return d.path() + "/" + name, doubt
}

// record notes an event; one that merges adds its bits to the first.
func (m *model) record(mask fanotify.Mask, d *dir, name string, child int) {
	path, doubt := m.in(d, name)
	m.merge(&record{
		key:   fmt.Sprint(mask&fanotify.OnDir, d.id, name, child),
		event: event.Event{Mask: mask, Path: path}, doubt: doubt,
	})
}

func (m *model) merge(new *record) {
	if m.all != nil && new.event.Path+new.event.NewPath != "" {
		new.event.PathState = event.PathExact
		at := "at " + relative(m.at, new.event.Path)
		if !m.all[at] {
			m.all[at] = false // it may be seen
		}
		what := told(m.at, new.event)
		m.all[what] = m.all[what] || what != at && !new.doubt
	}
	for _, r := range m.records[m.read:] {
		if r.key == new.key {
			r.event.Mask |= new.event.Mask
			return
		}
	}
	m.records = append(m.records, new)
}

func (m *model) recordRename(mask fanotify.Mask, from *dir, old string, to *dir, name string, child int) {
	path, doubt := m.in(from, old)
	newPath, newDoubt := m.in(to, name)
	m.merge(&record{
		key:   fmt.Sprint("rename", mask, from.id, old, to.id, name, child),
		event: event.Event{Mask: mask, Path: path, NewPath: newPath}, doubt: doubt || newDoubt,
	})
}

// compare compares what was reported with the records, and begins a new round.
func (m *model) compare(got []event.Event) {
	m.t.Helper()
	var want []string
	rest := got
	for _, r := range m.records {
		e := r.event
		e.PathState = event.PathExact
		if r.doubt && (len(rest) == 0 || rest[0].PathState != event.PathExact || tellOne("", rest[0]) != tellOne("", e)) {
			// Any path will do, and it isn't sure on which side of the border it happened.
			if len(rest) == 0 || rest[0].PathState == event.PathExact || rest[0].Mask != e.Mask {
				continue
			}
			e = rest[0]
		}
		if e.Path == "" && e.NewPath == "" {
			continue
		}
		want = append(want, tellOne(m.at, e))
		rest = rest[min(1, len(rest)):]
	}
	have := tell(m.at, got)
	m.records, m.read = nil, 0
	m.round++
	if !slices.Equal(want, have) {
		m.t.Errorf("after these operations:\n%s", strings.Join(m.done, "\n"))
		compare(m.t, want, have)
	}
	m.done = nil
}

func (m *model) do(what string, err error) {
	m.t.Helper()
	m.done = append(m.done, what)
	if err != nil {
		m.t.Fatalf("%s: %v", what, err)
	}
}

// operate does one random operation.
func (m *model) operate() {
	d := m.anyDir()
	name := string(rune('a' + m.rand.IntN(6)))
	path := d.path() + "/" + name
	sub, isDir := d.dirs[name]
	file, isFile := d.files[name]
	switch n := m.rand.IntN(20); {
	case !isDir && !isFile && n < 8:
		m.mkdir(d, name)
	case !isDir && !isFile:
		m.ids++
		d.files[name] = m.ids
		m.do("touch "+path, touch(path))
		m.record(fanotify.Create|fanotify.CloseWrite, d, name, m.ids)
	case n < 3 && isFile:
		m.do("rm "+path, unix.Unlink(path))
		m.record(fanotify.Delete, d, name, file)
		delete(d.files, name)
	case n < 5 && isFile:
		m.do("write "+path, os.WriteFile(path, []byte("text"), 0o644))
		m.record(fanotify.Modify|fanotify.CloseWrite, d, name, file)
	case n < 6 && isFile:
		m.do("chmod "+path, unix.Chmod(path, 0o600))
		m.record(fanotify.Attrib, d, name, file)
	case n < 8 && isFile:
		m.link(d, name)
	case n < 4 && isDir && len(sub.dirs)+len(sub.files) == 0:
		m.do("rmdir "+path, unix.Rmdir(path))
		m.record(fanotify.Delete|fanotify.OnDir, d, name, sub.id)
		m.forget(d, sub)
	case n < 5 && isDir:
		m.do("chmod "+path, unix.Chmod(path, 0o711))
		m.record(fanotify.Attrib|fanotify.OnDir, sub, ".", 0)
	case n < 7 && isDir:
		m.removeAll(d, sub)
	default:
		m.rename(d, name)
	}
}

// anyDir returns a directory, the first of which is the root.
func (m *model) anyDir() *dir {
	return m.dirs[m.rand.IntN(len(m.dirs))]
}

func (m *model) mkdir(d *dir, name string) {
	m.ids++
	new := &dir{id: m.ids, parent: d, name: name, dirs: map[string]*dir{}, files: map[string]int{}}
	d.dirs[name] = new
	m.dirs = append(m.dirs, new)
	m.do("mkdir "+new.path(), unix.Mkdir(new.path(), 0o755))
	m.notePlaces(new)
	m.record(fanotify.Create|fanotify.OnDir, d, name, new.id)
}

func (m *model) forget(parent, d *dir) {
	delete(parent.dirs, d.name)
	m.dirs = slices.DeleteFunc(m.dirs, func(other *dir) bool { return other == d })
}

// removeAll does as rm -r does.
func (m *model) removeAll(parent, d *dir) {
	for _, name := range sorted(d.files) {
		m.do("rm "+d.path()+"/"+name, unix.Unlink(d.path()+"/"+name))
		m.record(fanotify.Delete, d, name, d.files[name])
	}
	d.files = map[string]int{}
	for _, name := range sorted(d.dirs) {
		m.removeAll(d, d.dirs[name])
	}
	m.do("rmdir "+d.path(), unix.Rmdir(d.path()))
	m.record(fanotify.Delete|fanotify.OnDir, parent, d.name, d.id)
	m.forget(parent, d)
}

func (m *model) link(d *dir, name string) {
	if m.plain {
		return
	}
	to, as := m.anyDir(), string(rune('a'+m.rand.IntN(6)))
	if to.dirs[as] != nil || to.files[as] != 0 {
		return
	}
	from, path := d.path()+"/"+name, to.path()+"/"+as
	m.do("ln "+from+" "+path, unix.Link(from, path))
	to.files[as] = d.files[name]
	m.record(fanotify.Create, to, as, d.files[name])
}

// rename renames a file or directory: to a free name, over something, or in exchange.
func (m *model) rename(from *dir, old string) {
	to, name := m.anyDir(), string(rune('a'+m.rand.IntN(6)))
	sub, other := from.dirs[old], to.dirs[name]
	file, otherFile := from.files[old], to.files[name]
	if from == to && old == name || sub != nil && to.below(sub) || other != nil && from.below(other) {
		return
	}
	if m.plain && (sub != nil && sub.round == m.round && sub.moved > 0 || file != 0 && m.movedIn[file] == m.round) {
		return
	}
	if m.plain && (other != nil || otherFile != 0 && (file == 0 || m.rand.IntN(2) == 0)) {
		return
	}
	a, b := from.path()+"/"+old, to.path()+"/"+name
	if other != nil || otherFile != 0 {
		if m.rand.IntN(2) == 0 && !m.plain {
			if file != 0 && file == otherFile {
				return
			}
			m.do("exchange "+a+" "+b, unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE))
			m.moveRecord(from, old, to, name)
			m.moveRecord(to, name, from, old)
			delete(from.dirs, old)
			delete(from.files, old)
			delete(to.dirs, name)
			delete(to.files, name)
			m.place(sub, file, to, name)
			m.place(other, otherFile, from, old)
			return
		}
		if sub != nil || other != nil || file == otherFile {
			return // which the kernel refuses or ignores, or an empty directory would go without a record
		}
	}
	m.do("mv "+a+" "+b, unix.Rename(a, b))
	m.moveRecord(from, old, to, name)
	delete(from.dirs, old)
	delete(from.files, old)
	m.place(sub, file, to, name)
}

func (m *model) moveRecord(from *dir, old string, to *dir, name string) {
	if sub := from.dirs[old]; sub != nil {
		m.recordRename(fanotify.Rename|fanotify.OnDir, from, old, to, name, sub.id)
		return
	}
	m.recordRename(fanotify.Rename, from, old, to, name, from.files[old])
}

func (m *model) place(sub *dir, file int, to *dir, name string) {
	if sub == nil {
		if m.plain {
			m.movedIn[file] = m.round
		}
		to.files[name] = file
		return
	}
	if sub.round != m.round {
		sub.round, sub.moved = m.round, 0
	}
	sub.moved++
	sub.parent, sub.name = to, name
	to.dirs[name] = sub
	m.notePlaces(sub)
}

func (m *model) notePlaces(d *dir) {
	if m.plain {
		m.places[d.path()] = true
		for _, sub := range d.dirs {
			m.notePlaces(sub)
		}
	}
}

func sorted[V any](set map[string]V) []string {
	var names []string
	for name := range set {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
