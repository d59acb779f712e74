package control

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
)

// Whoever wants everything but output subscribes to a list of kinds: every kind
// that this package publishes must be in it.
func TestEveryKindOfTopicIsListed(t *testing.T) {
	kinds := map[string]bool{}
	for kind, row := range rows {
		name, _, _ := strings.Cut(row.topic(&reconcile.Event{Kind: kind, ID: reconcile.InstanceID{Program: "p"}}), ".")
		kinds[name] = true
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if kind, ok := topicOf(n); ok {
				kinds[kind] = true
			}
			return true
		})
	}
	delete(kinds, "output")
	for kind := range kinds {
		if !slices.Contains(rpc.TopicKinds(), kind) {
			t.Errorf("%q is not in rpc.TopicKinds", kind)
		}
	}
	if len(kinds) != len(rpc.TopicKinds()) {
		t.Errorf("there are %d kinds, and %d are listed", len(kinds), len(rpc.TopicKinds()))
	}
}

// topicOf is the kind of topic that a call names.
func topicOf(n ast.Node) (kind string, ok bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return "", false
	}
	name := ""
	switch f := call.Fun.(type) {
	case *ast.Ident:
		name = f.Name
	case *ast.SelectorExpr:
		name = f.Sel.Name
	}
	lit, ok := call.Args[0].(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING || !slices.Contains([]string{"emit", "programTopic", "instanceTopic", "draft"}, name) {
		return "", false
	}
	kind, err := strconv.Unquote(lit.Value)
	return kind, err == nil
}
