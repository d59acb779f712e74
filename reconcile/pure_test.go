package reconcile

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// impure are the packages through which a core could learn or do what is not
// in its arguments.
var impure = []string{"os", "io", "net", "sync", "context", "log", "math/rand", "crypto/rand", "syscall", "runtime", "unsafe", "golang.org/x/sys"}

// clock are the functions of package time that read or set one.
var clock = []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep"}

// The core is pure: no file of it imports what is impure, starts a goroutine,
// has a channel, or reads a clock.
func TestTheCoreIsPure(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		looked++
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, breach := range breaches(f) {
			t.Errorf("%s: %s", fset.Position(breach.pos), breach.what)
		}
	}
	if looked < 10 {
		t.Fatalf("only %d files were looked at", looked)
	}
}

type breach struct {
	pos  token.Pos
	what string
}

func breaches(f *ast.File) []breach {
	var out []breach
	for _, imp := range f.Imports {
		path, _ := strconv.Unquote(imp.Path.Value)
		for _, bad := range impure {
			if path == bad || strings.HasPrefix(path, bad+"/") {
				out = append(out, breach{imp.Pos(), "imports " + path})
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			out = append(out, breach{n.Pos(), "starts a goroutine"})
		case *ast.ChanType:
			out = append(out, breach{n.Pos(), "has a channel"})
		case *ast.SendStmt, *ast.SelectStmt:
			out = append(out, breach{n.Pos(), "uses a channel"})
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, n.Sel.Name) {
				out = append(out, breach{n.Pos(), "uses time." + n.Sel.Name})
			}
		}
		return true
	})
	return out
}

// The test above can fail.
func TestImpurityIsFound(t *testing.T) {
	const bad = `package x
import ("os"; "time"; "math/rand/v2")
func f() { c := make(chan int); go f(); c <- 1; select {}; _ = time.Now(); _ = os.Args; _ = rand.Int() }`
	f, err := parser.ParseFile(token.NewFileSet(), "x.go", bad, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(breaches(f)); got != 7 {
		t.Errorf("%d breaches were found of 7", got)
	}
}
