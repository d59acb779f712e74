package specfile

import (
	"cmp"
	_ "embed"
	"fmt"
	"strings"

	"cuelang.org/go/cue"

	"github.com/procnanny/procnanny/spec"
)

//go:embed schema.cue
var schemaText string

// Schema is the schema as people read it.
func Schema() string { return schemaText }

// schema is the compiled schema, in the context of one evaluation.
type schema struct {
	program cue.Value
	hooks   cue.Value
	root    *node // built when something is to be explained
	on      *node // the same, of the hooks beside the programs
}

func compileSchema(ctx *cue.Context) *schema {
	v := ctx.CompileString(schemaText, cue.Filename(schemaName))
	return &schema{program: v.LookupPath(cue.ParsePath("#Program")), hooks: v.LookupPath(cue.ParsePath("#Hooks"))}
}

// node is one place of the schema, for errors and for the reference.
type node struct {
	key      string
	value    cue.Value
	expect   string
	doc      string
	required bool
	fields   []*node // of the struct alternative, in the schema's order
	byKey    map[string]*node
	open     *node // for structs whose keys are the author's: env
	element  *node // of the list alternative
}

func (s *schema) tree() *node {
	if s.root == nil {
		s.root = newNode("", s.program)
		s.root.expect = "a struct with command and more"
	}
	return s.root
}

// hookTree is the place of the hooks beside the programs.
func (s *schema) hookTree() *node {
	if s.on == nil {
		s.on = newNode("on", s.hooks)
		s.on.expect = "lists of hooks by event"
	}
	return s.on
}

func newNode(key string, v cue.Value) *node {
	n := &node{key: key, value: v, byKey: map[string]*node{}}
	if a := v.Attribute("expect"); a.Err() == nil {
		n.expect, _ = a.String(0)
	}
	for _, alt := range alternatives(v) {
		switch alt.IncompleteKind() {
		case cue.StructKind:
			n.addFields(alt)
		case cue.ListKind:
			if e := alt.LookupPath(cue.MakePath(cue.AnyIndex)); e.Exists() {
				n.element = newNode("", e)
			}
		default: // a leaf
		}
	}
	return n
}

func (n *node) addFields(v cue.Value) {
	if e := v.LookupPath(cue.MakePath(cue.AnyString)); e.Exists() {
		n.open = newNode("", e)
		n.open.expect = cmp.Or(elements[n.key], "a string")
	}
	it, err := v.Fields(cue.Optional(true))
	if err != nil {
		return
	}
	for it.Next() {
		f := newNode(plain(it.Selector()), it.Value())
		f.required = it.Selector().ConstraintType() == cue.RequiredConstraint
		f.doc = docOf(it.Value())
		n.fields = append(n.fields, f)
		n.byKey[f.key] = f
	}
}

// alternatives are the disjuncts of v, or v itself.
func alternatives(v cue.Value) []cue.Value {
	if op, args := cue.Dereference(v).Expr(); op == cue.OrOp {
		var out []cue.Value
		for _, a := range args {
			out = append(out, alternatives(a)...)
		}
		return out
	}
	return []cue.Value{v}
}

// docOf is the comment above a field, as one paragraph.
func docOf(v cue.Value) string {
	for _, g := range v.Doc() {
		if text := strings.TrimSpace(g.Text()); text != "" && g.Pos().Filename() == schemaName {
			return strings.Join(strings.Fields(text), " ")
		}
	}
	return ""
}

// keys are the known keys at n.
func (n *node) keys() []string {
	out := make([]string, len(n.fields))
	for i, f := range n.fields {
		out[i] = f.key
	}
	return out
}

// Reference is the list of all keys as Markdown: what each means, what it must
// be, and what a change of it costs.
func Reference() string {
	cost := map[string]spec.Cost{}
	for _, k := range spec.KeyCosts() {
		cost[k.Key] = k.Cost
	}
	var b strings.Builder
	b.WriteString("| Key | Meaning and default | Value | A change costs |\n|---|---|---|---|\n")
	tree := compileSchema(newContext()).tree()
	for _, f := range tree.fields {
		f.reference(&b, "", cost[f.key])
	}
	for _, f := range tree.byKey["on"].fields[0].element.fields {
		f.reference(&b, "on.EVENT[].", spec.CostNothing)
	}
	return b.String()
}

func (n *node) reference(b *strings.Builder, prefix string, cost spec.Cost) {
	path := prefix + n.key
	if path == "output.mode" {
		cost = spec.CostProcess
	}
	cell := strings.NewReplacer("|", "\\|").Replace
	fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", path, cell(n.doc), cell(n.expect), cost)
	if prefix == "limits." || prefix == "stop.before." || prefix != "" && n.key == "limits" {
		return // soft and hard, the same for each; what stands elsewhere
	}
	for _, f := range n.fields {
		f.reference(b, path+".", cost)
	}
}
