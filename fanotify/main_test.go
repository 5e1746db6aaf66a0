package fanotify

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fanlight/internal/fstest"
)

func TestMain(m *testing.M) { fstest.Main(m) }

// patience is how long a test waits for what must come. It is there to fail, not to measure.
const patience = 30 * time.Second

func newGroup(t testing.TB, config Config) *Group {
	t.Helper()
	g, err := NewGroup(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func mark(t testing.TB, g *Group, target Target, path string, mask Mask, flags MarkFlags) {
	t.Helper()
	if err := g.Mark(target, path, mask, flags); err != nil {
		t.Fatal(err)
	}
}

// watched returns a group that reports all that handles and names can say of the filesystem that dir is on.
func watched(t testing.TB, dir string, mask Mask) *Group {
	t.Helper()
	g := newGroup(t, Config{Report: ReportDFIDNameTarget, UnlimitedQueue: true})
	mark(t, g, TargetFilesystem, dir, mask, 0)
	return g
}

func file(t testing.TB, elements ...string) string {
	t.Helper()
	path := filepath.Join(elements...)
	if err := os.WriteFile(path, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func mkdir(t testing.TB, elements ...string) string {
	t.Helper()
	path := filepath.Join(elements...)
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func check(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func handleAt(t testing.TB, path string) Handle {
	t.Helper()
	h, err := HandleAt(-1, path)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// queued reads what is queued and returns it as lines "mask name", or what describe says.
func queued(t testing.TB, g *Group, describe func(e *Event) string) []string {
	t.Helper()
	if describe == nil {
		describe = describeNames
	}
	var lines []string
	var b Batch
	defer b.Close()
	for {
		n, err := g.TryRead(&b)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return lines
		}
		for e, err := range b.Events() {
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, describe(e))
		}
	}
}

// describeNames returns the mask of an event and its names, a rename's with an arrow.
func describeNames(e *Event) string {
	words := []string{e.Mask.String()}
	if dir, ok := e.Dir(); ok {
		words = append(words, string(dir.Name))
	}
	old, hasOld := e.Old()
	to, hasNew := e.New()
	if hasOld || hasNew {
		words = append(words, fmt.Sprintf("%s->%s", old.Name, to.Name))
	}
	return strings.Join(words, " ")
}

func withPatience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
