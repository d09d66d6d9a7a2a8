package house

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// root is the module's folder, seen from this package.
const root = "../.."

// source is one Go file of ours.
type source struct {
	path    string // below the root
	pkg     string // folder below the root
	isTest  bool
	lines   int
	imports []string
	fset    *token.FileSet
	syntax  *ast.File
}

// sources parses every Go file of the module, except those in testdata and in folders that begin with a dot.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		s, err := parse(below, text)
		all = append(all, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func parse(path string, text []byte) (source, error) {
	s := source{
		path:   filepath.ToSlash(path),
		pkg:    filepath.ToSlash(filepath.Dir(path)),
		isTest: strings.HasSuffix(path, "_test.go"),
		lines:  bytes.Count(text, []byte("\n")),
		fset:   token.NewFileSet(),
	}
	var err error
	if s.syntax, err = parser.ParseFile(s.fset, path, text, parser.SkipObjectResolution); err != nil {
		return s, err
	}
	for _, spec := range s.syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return s, err
		}
		s.imports = append(s.imports, imported)
	}
	return s, nil
}
