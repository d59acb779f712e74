package runtime_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that PROMISES.md names is there.
func TestPromisesNameTestsThatExist(t *testing.T) {
	raw, err := os.ReadFile("PROMISES.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t)
	named := 0
	for _, name := range regexp.MustCompile(`Test[A-Z]\w+`).FindAllString(string(raw), -1) {
		if named++; !tests[name] {
			t.Errorf("PROMISES.md names %s, which is no test", name)
		}
	}
	for _, name := range regexp.MustCompile(`[\w-]+\.txtar`).FindAllString(string(raw), -1) {
		if named++; name != "x.txtar" && !exists("../cmd/procnanny/testdata/script/"+name) {
			t.Errorf("PROMISES.md names %s, which is no script", name)
		}
	}
	if named < 100 {
		t.Errorf("PROMISES.md names only %d tests", named)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// testNames are the tests and benchmarks of all packages.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
				names[f.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
