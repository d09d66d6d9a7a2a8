package house

import (
	"fmt"
	"go/ast"
	"path"
	"strconv"
	"strings"
	"testing"
)

// maxLines is where a file asks to be two.
const maxLines = 600

// forbiddenImports of non-test files, with the reason.
func forbiddenImports() map[string]string {
	return map[string]string{
		"layeh.com/radius/debug": "it prints packets whole, passwords in them (P9)",
		"math/rand":              "what an outsider could guess decides something sooner or later: crypto/rand",
		"math/rand/v2":           "what an outsider could guess decides something sooner or later: crypto/rand",
	}
}

// forbiddenBelowCmd are functions of the standard library that only cmd may use, with the reason.
func forbiddenBelowCmd() map[string]string {
	const (
		env    = "settings come through options, so that a test can set them and a reader can see them"
		exit   = "only cmd decides that the process ends; everybody else returns an error, and what is open gets closed"
		global = "there is no global logger or mux: it is handed in, so that nobody writes past the redaction"
	)
	return map[string]string{
		"os.Getenv": env, "os.LookupEnv": env, "os.Environ": env, "os.Setenv": env, "os.ExpandEnv": env, "os.Args": env,
		"os.Exit": exit, "log.Fatal": exit, "log.Fatalf": exit, "log.Fatalln": exit, "syscall.Exit": exit,
		"log.Print": global, "log.Printf": global, "log.Println": global,
		"log/slog.Default": global, "log/slog.SetDefault": global, "log/slog.Debug": global, "log/slog.Info": global,
		"log/slog.Warn": global, "log/slog.Error": global, "log/slog.Log": global,
		"net/http.Handle": global, "net/http.HandleFunc": global, "net/http.DefaultServeMux": global,
	}
}

// mayDice allows the load generator what it needs to ask the same questions again: a seeded sequence, that guards nothing.
func mayDice(pkg, imported string) bool {
	return under(pkg, "cmd/sallyport-bench") && strings.HasPrefix(imported, "math/rand")
}

// offences lists what a file uses that it must not.
func offences(s source) []string {
	if s.isTest {
		return nil
	}
	var all []string
	complain := func(n ast.Node, what, why string) {
		all = append(all, fmt.Sprintf("%s:%d: %s: %s", s.path, s.fset.Position(n.Pos()).Line, what, why))
	}
	names := map[string]string{} // of imports in this file
	for i, spec := range s.syntax.Imports {
		imported := s.imports[i]
		if why, bad := forbiddenImports()[imported]; bad && !mayDice(s.pkg, imported) {
			complain(spec, "import "+strconv.Quote(imported), why)
		}
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = imported
	}
	if under(s.pkg, "cmd") || under(s.pkg, "tools/peers") { // a module of its own, with commands for tests
		return all
	}
	forbidden := forbiddenBelowCmd()
	ast.Inspect(s.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && names[x.Name] != "" {
				what := names[x.Name] + "." + n.Sel.Name
				if why, bad := forbidden[what]; bad {
					complain(n, what, why)
				}
			}
		case *ast.FuncDecl:
			if n.Recv == nil && n.Name.Name == "init" {
				complain(n, "func init", "what happens before main can't be ordered, handed anything or tested")
			}
		}
		return true
	})
	return all
}

// TestNobodyReachesAround holds the rules of the design's section 4 for what is below cmd, and P9's for everybody.
func TestNobodyReachesAround(t *testing.T) {
	for _, s := range sources(t) {
		for _, offence := range offences(s) {
			t.Error(offence)
		}
	}
}

// TestOffences shows that each kind is found, and that the same is left alone where it's allowed.
func TestOffences(t *testing.T) {
	const text = `package p
import (
	"math/rand/v2"
	_ "layeh.com/radius/debug"
	env "os"
	"log/slog"
)
func init() { env.Exit(rand.Int()) }
func (t T) init() { slog.Info(env.Getenv("X")); os.Exit(0) }
`
	for _, c := range []struct {
		path string
		want int
	}{
		{"radiusd/x.go", 6},
		{"cmd/sallyport/x.go", 2},
		{"cmd/sallyport-bench/x.go", 1},
		{"radiusd/x_test.go", 0},
	} {
		s, err := parse(c.path, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := offences(s); len(got) != c.want {
			t.Errorf("%s: %d offences, want %d:\n%s", c.path, len(got), c.want, strings.Join(got, "\n"))
		}
	}
}

// TestFilesStayShort names the files that ask to be two.
func TestFilesStayShort(t *testing.T) {
	for _, s := range sources(t) {
		if !s.isTest && s.lines > maxLines {
			t.Errorf("%s has %d lines: past %d, a file asks to be two", s.path, s.lines, maxLines)
		}
	}
}
