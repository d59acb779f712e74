package runtime_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// The limits of size. A function that is one table (a single composite literal
// or one big return of it) is exempt: a table is read by row.
const (
	maxFunctionLines = 70
	maxFileLines     = 400
)

// source is one parsed Go file that is no test.
type source struct {
	room string
	name string
	fset *token.FileSet
	file *ast.File
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	for _, p := range packages(t) {
		for _, name := range append(p.GoFiles, p.CgoFiles...) {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.ParseComments)
			if err != nil {
				t.Fatalf("cannot parse: %v", err)
			}
			all = append(all, source{p.room(), name, fset, f})
		}
	}
	return all
}

func (s source) line(pos token.Pos) int { return s.fset.Position(pos).Line }

func TestFilesAndFunctionsAreShort(t *testing.T) {
	for _, s := range sources(t) {
		if n := s.line(s.file.FileEnd); n > maxFileLines && !ast.IsGenerated(s.file) {
			t.Errorf("%s/%s has %d lines; the limit is %d", s.room, s.name, n, maxFileLines)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			n := s.line(f.End()) - s.line(f.Pos()) + 1
			if n > maxFunctionLines && !isTable(f.Body) {
				t.Errorf("%s/%s: %s has %d lines; the limit is %d", s.room, s.name, f.Name.Name, n, maxFunctionLines)
			}
		}
	}
}

// isTable reports whether a body is one return of a literal.
func isTable(body *ast.BlockStmt) bool {
	if len(body.List) != 1 {
		return false
	}
	ret, ok := body.List[0].(*ast.ReturnStmt)
	if !ok || len(ret.Results) != 1 {
		return false
	}
	_, ok = ret.Results[0].(*ast.CompositeLit)
	return ok
}

func TestEveryPackageSaysWhatItPromises(t *testing.T) {
	decided := map[string]bool{}
	for _, s := range sources(t) {
		if s.file.Doc != nil && strings.Contains(s.file.Doc.Text(), "# Decisions") {
			decided[s.room] = true
		}
	}
	for _, p := range packages(t) {
		if len(p.GoFiles)+len(p.CgoFiles) == 0 {
			continue // tests only
		}
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.room())
		}
		example := within(p.room(), "examples")
		if !example && !decided[p.room()] {
			t.Errorf("%s: its doc.go has no \"# Decisions\": say what was chosen, why, and what was refused", p.room())
		}
	}
}

func TestEverythingExportedIsDocumented(t *testing.T) {
	for _, s := range sources(t) {
		if s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			for _, name := range undocumented(d) {
				t.Errorf("%s/%s: %s has no comment", s.room, s.name, name)
			}
		}
	}
}

// undocumented names what a declaration exports without a comment. The comment
// of a group speaks for its members; a method whose whole meaning is its
// interface (String, Error, MarshalJSON...) needs none of its own.
func undocumented(d ast.Decl) []string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) && !wellKnown[d.Name.Name] {
			return []string{d.Name.Name}
		}
	case *ast.GenDecl:
		if d.Doc != nil || d.Tok == token.IMPORT {
			return nil
		}
		return undocumentedSpecs(d.Specs)
	}
	return nil
}

var wellKnown = map[string]bool{"String": true, "Error": true, "Unwrap": true, "MarshalJSON": true, "UnmarshalJSON": true, "Len": true, "Less": true, "Swap": true}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if index, ok := typ.(*ast.IndexExpr); ok {
		typ = index.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

func undocumentedSpecs(specs []ast.Spec) []string {
	var out []string
	for _, spec := range specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Doc == nil && spec.Comment == nil && spec.Name.IsExported() {
				out = append(out, spec.Name.Name)
			}
		case *ast.ValueSpec:
			for _, name := range spec.Names {
				if spec.Doc == nil && spec.Comment == nil && name.IsExported() {
					out = append(out, name.Name)
				}
			}
		}
	}
	return out
}
