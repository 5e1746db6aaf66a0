package conformance_test

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// source is what the source of package fanotify says of the kernel's interface.
type source struct {
	constants []constant          // in the order of the source
	comments  map[string]string   // of a type, function, constant or variable, of "Type.Field" and "Type.Method"
	flags     map[string]string   // the kernel's names of the fields of Config that are one flag
	sets      map[string]ast.Node // what constants are made of
}

// constant is a constant that is one of the kernel's.
type constant struct {
	kernel string // FAN_REPORT_FID
	name   string // ReportFID
	kind   string // Report
}

// readSource reads package fanotify.
func readSource(t *testing.T) *source {
	t.Helper()
	s := &source{comments: map[string]string{}, flags: map[string]string{}, sets: map[string]ast.Node{}}
	for _, file := range parseDir(t, "..", false) {
		for _, decl := range file.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				s.comments[funcName(decl)] = decl.Doc.Text()
				if decl.Name.Name == "initFlags" {
					s.readFlags(decl.Body)
				}
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					s.readSpec(decl, spec)
				}
			}
		}
	}
	return s
}

func (s *source) readSpec(decl *ast.GenDecl, spec ast.Spec) {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		s.comments[spec.Name.Name] = decl.Doc.Text() + spec.Doc.Text()
		if fields, ok := spec.Type.(*ast.StructType); ok {
			for _, field := range fields.Fields.List {
				for _, name := range field.Names {
					s.comments[spec.Name.Name+"."+name.Name] = field.Doc.Text() + field.Comment.Text()
				}
			}
		}
	case *ast.ValueSpec:
		for i, name := range spec.Names {
			s.comments[name.Name] = spec.Doc.Text() + spec.Comment.Text()
			if decl.Tok != token.CONST || i >= len(spec.Values) {
				continue
			}
			s.sets[name.Name] = spec.Values[i]
			kind, ok := spec.Type.(*ast.Ident)
			if kernel := kernelName(spec.Values[i]); ok && kernel != "" && name.IsExported() {
				s.constants = append(s.constants, constant{kernel, name.Name, kind.Name})
			}
		}
	}
}

// readFlags reads from the body of Config.initFlags which field is which flag.
func (s *source) readFlags(body *ast.BlockStmt) {
	for _, statement := range body.List {
		branch, ok := statement.(*ast.IfStmt)
		if !ok {
			continue
		}
		field := branch.Cond.(*ast.SelectorExpr).Sel.Name
		s.flags[field] = kernelName(branch.Body.List[0].(*ast.AssignStmt).Rhs[0])
	}
}

// kernelName returns the name of a constant of package unix, or "".
func kernelName(e ast.Expr) string {
	selector, ok := e.(*ast.SelectorExpr)
	if !ok || !strings.HasPrefix(selector.Sel.Name, "FAN_") {
		return ""
	}
	return selector.Sel.Name
}

func funcName(decl *ast.FuncDecl) string {
	if decl.Recv == nil {
		return decl.Name.Name
	}
	receiver := decl.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	return receiver.(*ast.Ident).Name + "." + decl.Name.Name
}

// parseDir parses the Go files of a directory, its tests or the others.
func parseDir(t *testing.T, dir string, tests bool) []*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	check(t, err)
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") == tests {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
			check(t, err)
			files = append(files, file)
		}
	}
	if len(files) == 0 {
		t.Fatalf("no files in %s: %v", dir, fs.ErrNotExist)
	}
	return files
}

// readKernelConstants returns the FAN_ constants of package unix.
func readKernelConstants(t *testing.T) map[string]uint64 {
	t.Helper()
	pkg, err := build.Import("golang.org/x/sys/unix", ".", build.FindOnly)
	check(t, err)
	// The kernel's values are the same on all architectures.
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(pkg.Dir, "zerrors_linux.go"), nil, 0)
	check(t, err)
	values := map[string]uint64{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "FAN_") {
			return true
		}
		switch value := spec.Values[0].(type) {
		case *ast.BasicLit:
			values[spec.Names[0].Name], err = strconv.ParseUint(value.Value, 0, 64)
			check(t, err)
		default: // a negative one
			values[spec.Names[0].Name] = 0
		}
		return true
	})
	return values
}

// proof is a test that says in its comment that it proves something: "Proves FAN_OPEN, FAN_ONDIR."
type proof struct {
	test   string
	proves []string
	says   map[string]bool // every name in it, and in what it uses of the tests beside it and of the sets of constants
}

var provesLine = regexp.MustCompile(`\bProves ([^.]*)\.`)

// readProofs reads the tests of package fanotify and of this one.
func readProofs(t *testing.T, s *source) []proof {
	t.Helper()
	var proofs []proof
	for _, dir := range []string{"..", "."} {
		decls := map[string][]ast.Node{}
		for name, value := range s.sets {
			decls[name] = append(decls[name], value)
		}
		var tests []*ast.FuncDecl
		for _, file := range parseDir(t, dir, true) {
			for _, decl := range file.Decls {
				switch decl := decl.(type) {
				case *ast.FuncDecl:
					decls[decl.Name.Name] = append(decls[decl.Name.Name], decl)
					if provesLine.MatchString(decl.Doc.Text()) {
						tests = append(tests, decl)
					}
				case *ast.GenDecl:
					for _, spec := range decl.Specs {
						if value, ok := spec.(*ast.ValueSpec); ok {
							for _, name := range value.Names {
								decls[name.Name] = append(decls[name.Name], value)
							}
						}
					}
				}
			}
		}
		for _, test := range tests {
			p := proof{test: test.Name.Name, says: map[string]bool{}}
			if test.Recv != nil || !strings.HasPrefix(p.test, "Test") {
				t.Errorf("%s says that it proves something, but it is no test", p.test)
			}
			for _, match := range provesLine.FindAllStringSubmatch(test.Doc.Text(), -1) {
				for name := range strings.SplitSeq(match[1], ",") {
					p.proves = append(p.proves, strings.Join(strings.Fields(name), " "))
				}
			}
			p.reach(test.Body, decls)
			proofs = append(proofs, p)
		}
	}
	slices.SortFunc(proofs, func(a, b proof) int { return strings.Compare(a.test, b.test) })
	return proofs
}

// reach notes the names in a piece of syntax and in the declarations that they name. What other packages have by the
// same name, such as os.Open, is another thing.
func (p *proof) reach(n ast.Node, decls map[string][]ast.Node) {
	ast.Inspect(n, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok && kernelName(selector) == "" {
			pkg, ok := selector.X.(*ast.Ident)
			return !ok || !slices.Contains([]string{"os", "unix", "exec", "fstest", "filepath"}, pkg.Name)
		}
		name, ok := n.(*ast.Ident)
		if !ok || p.says[name.Name] {
			return true
		}
		p.says[name.Name] = true
		for _, decl := range decls[name.Name] {
			p.reach(decl, decls)
		}
		return true
	})
}
