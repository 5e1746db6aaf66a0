package watch

import (
	"fmt"
	"testing"

	"fanlight/event"
	"fanlight/fanotify"
)

// testTree returns a tree with a mount that is a root, without a kernel to ask.
func testTree(maxDirs int) (*tree, *node) {
	top := &node{point: "/top", root: true, state: event.PathExact}
	t := &tree{
		nodes: map[fanotify.Handle]*node{testHandle(0): top}, systems: map[fanotify.FSID]*filesystem{},
		pending: &pending{}, max: maxDirs, full: maxDirs, meeting: map[fanotify.Handle]struct{}{},
		gone: map[fanotify.Handle]struct{}{}, gen: 1, round: 1,
	}
	return t, top
}

func testHandle(n int) fanotify.Handle {
	return fanotify.NewHandle(fanotify.FSID{1}, 1, fmt.Append(nil, n))
}

func handleBytes(n int) fanotify.HandleBytes { return fanotify.HandleBytes(testHandle(n)) }

// Contradictory records can't put a directory below itself, where its path would have no end.
func TestNeverBelowItself(t *testing.T) {
	tree, top := testTree(100)
	a := tree.add(testHandle(1), top, "a", event.PathCurrent)
	b := tree.add(testHandle(2), a, "b", event.PathCurrent)
	c := tree.add(testHandle(3), b, "c", event.PathExact)
	tree.conclude(c)
	tree.moved(handleBytes(1), c, []byte("a"))
	for _, n := range []*node{a, b, c} {
		if tree.conclude(n); n.worst != event.PathUnknown || n.inside {
			t.Errorf("%s: %v, inside %t", n.name, n.worst, n.inside)
		}
	}
	tree.moved(handleBytes(1), top, []byte("a"))
	if tree.conclude(c); !c.inside || c.worst == event.PathUnknown || string(c.appendPath(nil)) != "/top/a/b/c" {
		t.Errorf("%s: %v, inside %t", c.appendPath(nil), c.worst, c.inside)
	}
}

// However many directories are made, few are remembered; those that can't be asked for again are.
func TestDirectoriesAreBounded(t *testing.T) {
	const limit = 100
	tree, top := testTree(limit)
	tree.made(handleBytes(1), top, []byte("moved"))
	tree.moved(handleBytes(1), top, []byte("again"))
	parent := tree.add(testHandle(2), top, "parent", event.PathExact)
	tree.made(handleBytes(3), parent, []byte("removed"))
	tree.removed(handleBytes(3), parent, []byte("removed"))
	for i := 10; i < 10_000; i++ {
		tree.makeRoom()
		tree.made(handleBytes(i), top, fmt.Append(nil, i))
		if len(tree.nodes) > limit {
			t.Fatalf("%d directories", len(tree.nodes))
		}
	}
	for i, path := range map[int]string{0: "/top", 1: "/top/again", 2: "/top/parent", 3: "/top/parent/removed"} {
		if n := tree.nodes[testHandle(i)]; n == nil || string(n.appendPath(nil)) != path {
			t.Errorf("%s is %v", path, n)
		}
	}
	// Removed ones are remembered for a while, and not for ever.
	for i := 10_000; i < 20_000; i++ {
		tree.made(handleBytes(i), top, fmt.Append(nil, i))
		tree.removed(handleBytes(i), top, fmt.Append(nil, i))
		if i%100 == 0 {
			tree.settle()
		}
		tree.makeRoom()
	}
	if n := len(tree.nodes); n > 2*maxDead+limit+100 {
		t.Errorf("%d directories", n)
	}
}

// No depth is too much.
func TestDeepTree(t *testing.T) {
	tree, top := testTree(1 << 20)
	n := top
	for i := 1; i < 100_000; i++ {
		n = tree.add(testHandle(i), n, "d", event.PathExact)
	}
	if tree.conclude(n); !n.inside || n.worst != event.PathExact {
		t.Errorf("%v, inside %t", n.worst, n.inside)
	}
	if got := len(n.appendPath(nil)); got != len("/top")+99_999*len("/d") {
		t.Errorf("the path has %d bytes", got)
	}
}
