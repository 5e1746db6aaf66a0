// Package archtest keeps the direction of the imports between the packages (docs/architecture.md).
package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// imports lists for each package what it may import beside the standard library; everything allows all. Tests are
// free. A new package gets its line here, in .golangci.yml and in docs/architecture.md.
var imports = map[string][]string{
	"fanotify": {"fanlight/internal/rawsys", "golang.org/x/sys/unix"},
	"event":    {"fanlight/fanotify"},
	"rule":     {"fanlight/event", "fanlight/fanotify", "fanlight/internal/fnmatch"},
	"watch": {
		"fanlight/event", "fanlight/fanotify",
		"fanlight/internal/mounts", "fanlight/internal/process", "fanlight/internal/rawsys",
		"golang.org/x/sys/unix",
	},
	"internal/doctor": {
		"fanlight/fanotify", "fanlight/internal/mounts", "github.com/moby/sys/mountinfo", "golang.org/x/sys/unix",
	},
	"internal/fnmatch": {},
	"internal/mounts":  {"fanlight/fanotify", "github.com/moby/sys/mountinfo", "golang.org/x/sys/unix"},
	"internal/process": {"fanlight/event", "golang.org/x/sys/unix"},
	"internal/rawsys":  {"golang.org/x/sys/unix", "unsafe"},
	"internal/fstest":  {"github.com/moby/sys/mountinfo", "golang.org/x/sys/unix"},
	"cmd/fanlight":     {everything},
	"bench":            {everything},
	"bench/loop":       {"fanlight/fanotify"},
}

const everything = "everything"

// restricted are packages of the standard library that only those may import whose line above names them.
var restricted = []string{"C", "unsafe"}

// quiet are the packages that never log.
var quiet = []string{"fanotify", "event", "rule", "internal/fnmatch"}

func TestImports(t *testing.T) {
	found := importsOf(t, "../..")
	for _, pkg := range slices.Sorted(maps.Keys(found)) {
		allowed, ok := imports[pkg]
		if !ok {
			t.Errorf("package %s is not in the list of this test", pkg)
		}
		for _, imported := range found[pkg] {
			if what := forbidden(pkg, imported, allowed); what != "" {
				t.Errorf("package %s imports %s: %s", pkg, imported, what)
			}
		}
	}
	for pkg := range imports {
		if _, ok := found[pkg]; !ok {
			t.Errorf("package %s is in the list of this test, but there is none", pkg)
		}
	}
}

// forbidden says why pkg may not import another package, or "".
func forbidden(pkg, imported string, allowed []string) string {
	first, _, _ := strings.Cut(imported, "/")
	standard := !strings.Contains(first, ".") && first != "fanlight"
	switch {
	case imported == "fanlight/internal/fstest":
		return "it is for tests"
	case first == "log" && slices.Contains(quiet, pkg):
		return "it never logs"
	case slices.Contains(allowed, imported):
		return ""
	case slices.Contains(restricted, imported):
		return "it is left to one package"
	case standard || slices.Contains(allowed, everything):
		return ""
	default:
		return "the arrows don't point there"
	}
}

// importsOf returns what the packages of the module at root import outside of their tests, by directory.
func importsOf(t *testing.T, root string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, err := os.Stat(filepath.Join(file, "go.mod"))
			nested := err == nil && file != root
			if nested || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && file != root {
				return filepath.SkipDir
			}
			return nil
		}
		if path.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		if found[dir] == nil {
			found[dir] = []string{}
		}
		for _, spec := range syntax.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			found[dir] = append(found[dir], imported)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestForbidden(t *testing.T) {
	for _, c := range []struct {
		pkg, imported string
		ok            bool
	}{
		{"fanotify", "golang.org/x/sys/unix", true},
		{"fanotify", "golang.org/x/sys/execabs", false},
		{"fanotify", "encoding/binary", true},
		{"fanotify", "fanlight/event", false},
		{"fanotify", "unsafe", false},
		{"fanotify", "log/slog", false},
		{"event", "fanlight/watch", false},
		{"watch", "fanlight/rule", false},
		{"watch", "log/slog", true},
		{"internal/rawsys", "unsafe", true},
		{"cmd/fanlight", "github.com/spf13/cobra", true},
		{"cmd/fanlight", "fanlight/internal/fstest", false},
		{"bench", "unsafe", false},
		{"bench", "C", false},
	} {
		if what := forbidden(c.pkg, c.imported, imports[c.pkg]); (what == "") != c.ok {
			t.Errorf("%s imports %s: %q", c.pkg, c.imported, what)
		}
	}
}
