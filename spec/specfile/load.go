package specfile

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/token"

	"github.com/procnanny/procnanny/spec"
)

// tree is the parsed files. It can be built again and again, also after its
// syntax was edited.
type tree struct {
	files    map[string][]byte
	parsed   map[string]*ast.File // every file that was needed so far
	root     []*ast.File          // what is unified
	pkg      string
	module   string // the path in cue.mod/module.cue; empty without one
	problems spec.Problems
	begins   map[string][]int    // by file, where its lines begin; see line
	under    map[string][]bool   // by file, which lines are below env; see underEnv
	texted   map[string]bool     // by file and text; see holds
	secrets  map[string]*secrets // by file, of those that are parsed
	texts    struct {            // see secretTexts
		of  int // so many parsed files
		all map[string]bool
	}
}

// parseTree parses what the configuration consists of. What cannot be parsed is
// in problems.
func parseTree(src spec.Source) *tree {
	t := &tree{files: src.Files, parsed: map[string]*ast.File{}}
	t.module = t.moduleName()
	names := rootFiles(src)
	done := make([]parsed, len(names))
	parallel(len(names), 1, func(i int) { done[i] = parseFile(src.Files, names[i]) })
	for i, name := range names {
		if f := t.keep(name, done[i]); f != nil {
			t.root = append(t.root, f)
		}
	}
	t.onePackage()
	return t
}

// rootFiles names the files that are unified, sorted.
func rootFiles(src spec.Source) []string {
	if src.Single != "" {
		return []string{src.Single}
	}
	var out []string
	for name := range src.Files {
		if strings.Contains(name, "/") || strings.HasPrefix(name, ".") || isTool(name) || extract[path.Ext(name)] == nil {
			continue
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// isTool reports whether CUE itself leaves the file out of a package.
func isTool(name string) bool {
	return strings.HasSuffix(name, "_tool.cue") || strings.HasSuffix(name, "_test.cue")
}

// parse parses one file, once. It returns nil and keeps the problems when that
// fails.
func (t *tree) parse(name string) *ast.File {
	if f, ok := t.parsed[name]; ok {
		return f
	}
	return t.keep(name, parseFile(t.files, name))
}

// parsed is a file, or why it is none.
type parsed struct {
	file    *ast.File
	err     error  // from the parser
	refused string // there was nothing to parse
}

func parseFile(files map[string][]byte, name string) (p parsed) {
	data, ok := files[name]
	read := extract[path.Ext(name)]
	switch {
	case !ok:
		p.refused = "no such file"
	case read == nil:
		p.refused = "expected a .cue, .yaml, .yml or .json file"
	default:
		p.file, p.err = read(name, data)
	}
	return p
}

// keep notes what came of parsing a file.
func (t *tree) keep(name string, p parsed) *ast.File {
	switch {
	case p.refused != "":
		t.problems = append(t.problems, spec.Problem{File: name, Message: p.refused})
		return nil
	case p.err != nil:
		t.parsed[name] = p.file // if there is one, it says what of it is secret
		t.syntax(name, p.err)
		p.file = nil
	}
	t.parsed[name] = p.file
	return p.file
}

// onePackage refuses a directory whose files belong to several packages.
func (t *tree) onePackage() {
	first := map[string]*ast.File{}
	var names []string
	for _, f := range t.root {
		if p := f.PackageName(); p != "" && p != "_" && first[p] == nil {
			first[p] = f
			names = append(names, p)
		}
	}
	if len(names) > 0 {
		t.pkg = names[0]
	}
	if len(names) < 2 {
		return
	}
	p := t.problemAt(packagePos(first[names[1]]))
	p.Message = "the files belong to several packages: " + strings.Join(names, ", ") + "; give them one package name, or none"
	for _, n := range names {
		if n != names[1] {
			p.Also = append(p.Also, t.problemAt(packagePos(first[n])).Place())
		}
	}
	t.problems = append(t.problems, p)
}

func packagePos(f *ast.File) token.Pos {
	for _, d := range f.Decls {
		if p, ok := d.(*ast.Package); ok {
			return p.Name.Pos()
		}
	}
	return f.Pos()
}

// moduleName reads the module's path out of cue.mod/module.cue, without the
// major version.
func (t *tree) moduleName() string {
	const name = "cue.mod/module.cue"
	if t.files[name] == nil {
		return ""
	}
	f := t.parse(name)
	if f == nil {
		return ""
	}
	for _, d := range f.Decls {
		field, ok := d.(*ast.Field)
		if !ok {
			continue
		}
		label, _, err := ast.LabelName(field.Label)
		lit, isLit := field.Value.(*ast.BasicLit)
		if err != nil || label != "module" || !isLit {
			continue
		}
		if s, err := strconv.Unquote(lit.Value); err == nil {
			s, _, _ = strings.Cut(s, "@")
			return s
		}
	}
	return ""
}

// build makes an instance of files, with everything they import.
func (t *tree) build(files []*ast.File) *build.Instance {
	inst := build.NewContext().NewInstance("", t.loader(nil))
	inst.PkgName = t.pkg
	for _, f := range files {
		// A file's own import declarations are what AddSyntax resolves, so the
		// error, if any, is in inst.Err as well.
		_ = inst.AddSyntax(f)
	}
	if err := inst.Complete(); err != nil && inst.Err == nil {
		inst.Err = errors.Promote(err, "cannot import")
	}
	return inst
}

// loader finds packages of the module among the files. within are the packages
// that are being loaded, to see cycles.
func (t *tree) loader(within []string) build.LoadFunc {
	return func(pos token.Pos, importPath string) *build.Instance {
		first, _, _ := strings.Cut(importPath, "/")
		if !strings.Contains(first, ".") && (t.module == "" || first != t.module) {
			return nil // CUE's own: strings, list, net, ...
		}
		inst := build.NewContext().NewInstance("", t.loader(append(slices.Clone(within), importPath)))
		inst.ImportPath = importPath
		if slices.Contains(within, importPath) {
			inst.Err = errors.Newf(pos, "import cycle: %s", strings.Join(append(within, importPath), " imports "))
			return inst
		}
		if err := t.addPackage(inst, importPath); err != nil {
			inst.Err = errors.Newf(pos, "cannot import %q: %v", importPath, err)
			return inst
		}
		if err := inst.Complete(); err != nil && inst.Err == nil {
			inst.Err = errors.Promote(err, "cannot import")
		}
		return inst
	}
}

// addPackage adds the files of a package of the module to inst. As in CUE, files
// of the same package in the directories above belong to it.
func (t *tree) addPackage(inst *build.Instance, importPath string) error {
	bare, pkg, explicit := strings.Cut(importPath, ":")
	bare, _, _ = strings.Cut(bare, "@")
	if !explicit {
		pkg = path.Base(bare)
	}
	dir, inside := strings.CutPrefix(bare+"/", t.module+"/")
	switch {
	case t.module == "":
		return fmt.Errorf("there is no cue.mod/module.cue that names this module")
	case !inside:
		return fmt.Errorf("only packages of this module (%s) can be imported", t.module)
	}
	dir = path.Clean("/" + dir)[1:]
	found := false
	for _, name := range t.sorted() {
		if !mayBelong(name, dir) {
			continue
		}
		d := strings.TrimSuffix(path.Dir(name), ".")
		f := t.parse(name)
		if f == nil || f.PackageName() != pkg {
			continue
		}
		found = found || d == dir
		if err := inst.AddSyntax(f); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("no file of package %s in %s", pkg, strings.TrimSuffix("./"+dir, "/"))
	}
	return nil
}

// mayBelong reports whether a file can be of a package in dir: it stands there
// or above.
func mayBelong(name, dir string) bool {
	d := strings.TrimSuffix(path.Dir(name), ".")
	above := d == "" || d == dir || strings.HasPrefix(dir+"/", d+"/")
	return above && path.Ext(name) == ".cue" && !isTool(name) && !strings.HasPrefix(name, "cue.mod/")
}

func (t *tree) sorted() []string {
	out := make([]string, 0, len(t.files))
	for name := range t.files {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
