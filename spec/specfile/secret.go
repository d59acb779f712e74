package specfile

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/token"

	"github.com/procnanny/procnanny/spec"
)

// notShown stands where a text is left out.
const notShown = "(not shown)"

// secret reports whether path is that of an environment variable's value, of a
// webhook's header or place, or of something that stands in place of all of them.
func secret(path []string) bool {
	switch {
	case len(path) > 2 && path[0] == "programs":
		path = path[2:]
	case len(path) == 0 || path[0] != "on":
		return false
	}
	return path[0] == "env" || len(path) > 1 && meantSecret(path[0]) ||
		(path[0] == "on" || path[0] == "stop") && slices.ContainsFunc(path[1:], isSecret)
}

// withoutValues is a path below a secret with nothing in it that was meant as a
// value: in YAML {TOKEN=x} has a key with the name TOKEN=x.
func withoutValues(path []string) []string {
	out := slices.Clone(path)
	for i := slices.IndexFunc(out, meantSecret) + 1; i > 0 && i < len(out); i++ {
		if name, value := cutAny(out[i], "= \t:"); value != "" {
			out[i] = name + "..."
		}
	}
	return out
}

func cutAny(s, chars string) (before, from string) {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// secretKeys are the keys whose values are never shown. A webhook's url often
// has a token in it.
var secretKeys = []string{"env", "headers", "url"}

func isSecret(key string) bool { return slices.Contains(secretKeys, key) }

// meantSecret reports whether a key is one of secretKeys or nobody's, but was
// meant to be one of them.
func meantSecret(key string) bool {
	if isSecret(key) || slices.Contains(spec.Keys(), key) {
		return isSecret(key)
	}
	return spec.Nearest(key, secretKeys) != "" || cameFrom(key) == "here it is `env`"
}

// secrets are what is never shown of a file.
type secrets struct {
	lines map[int]bool    // those on which a value stands
	texts map[string]bool // the values, quoted
}

// secretsOf finds the values of secretKeys in a parsed file, wherever they are:
// templates for programs have secrets as well.
func (t *tree) secretsOf(file string) *secrets {
	f := t.parsed[file]
	if s := t.secrets[file]; s != nil || f == nil {
		return s
	}
	s := &secrets{map[int]bool{}, map[string]bool{}}
	end := func(lit *ast.BasicLit) int { return max(lit.Pos().Line(), lit.End().Line()) }
	if isYAML(file) {
		end = t.yamlEnds(f)
	}
	within := []string{""}
	ast.Walk(f, func(n ast.Node) bool {
		field, ok := n.(*ast.Field)
		if !ok {
			return true
		}
		name, _, err := ast.LabelName(field.Label)
		if err == nil && (isSecret(name) || meantSecret(name) && within[len(within)-1] != "programs") {
			s.add(field.Value, end)
			return false
		}
		within = append(within, name)
		return true
	}, func(n ast.Node) {
		if _, ok := n.(*ast.Field); ok {
			within = within[:len(within)-1]
		}
	})
	if t.secrets == nil {
		t.secrets = map[string]*secrets{}
	}
	t.secrets[file] = s
	return s
}

// add adds the values that an expression has in it; end is the last line of one.
func (s *secrets) add(x ast.Expr, end func(*ast.BasicLit) int) {
	ast.Walk(x, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok {
			return true
		}
		for l, last := lit.Pos().Line(), end(lit); l <= last; l++ {
			s.lines[l] = true
		}
		if text, err := literal.Unquote(lit.Value); err == nil && lit.Kind == token.STRING && text != "" {
			s.texts[literal.String.Quote(text)] = true
		}
		return true
	}, nil)
}

func isYAML(file string) bool { return path.Ext(file) == ".yaml" || path.Ext(file) == ".yml" }

// yamlEnds says on which line a value ends: its text as CUE has it is shorter or
// longer than what the file has. It may go on until something else begins.
func (t *tree) yamlEnds(f *ast.File) func(*ast.BasicLit) int {
	var begins []token.Pos
	ast.Walk(f, func(n ast.Node) bool {
		if pos := n.Pos(); pos.IsValid() && pos.Filename() == f.Filename {
			begins = append(begins, pos)
		}
		return true
	}, nil)
	slices.SortFunc(begins, func(a, b token.Pos) int { return cmp.Compare(a.Offset(), b.Offset()) })
	return func(lit *ast.BasicLit) int {
		i, _ := slices.BinarySearchFunc(begins, lit.Pos().Offset()+1, func(p token.Pos, at int) int { return cmp.Compare(p.Offset(), at) })
		if i == len(begins) {
			return lit.Pos().Line() + bytes.Count(t.files[f.Filename][lit.Pos().Offset():], []byte("\n"))
		}
		next := begins[i]
		line := t.line(f.Filename, next.Line())
		if strings.Trim(line[:min(next.Column()-1, len(line))], " \t-?,\"'{}[]") == "" {
			return max(lit.Pos().Line(), next.Line()-1)
		}
		return next.Line()
	}
}

// quoteMax is the longest line, in bytes, that a problem quotes: a machine
// writes all of its JSON on one.
const quoteMax = 1000

// quote is a line of a file as a problem may show it: empty when a value of an
// env block stands on it, whatever the problem itself is about, or when it is
// too long for a person.
func (t *tree) quote(file string, n int) string {
	line := t.line(file, n)
	if s := t.secretsOf(file); len(line) > quoteMax || s != nil && s.lines[n] {
		return ""
	}
	return line
}

// withoutSecrets is the message of a problem without values of env that it has
// because another key refers to them. What stands on a line of the problem
// itself is no secret, even if a variable has the same value.
func (t *tree) withoutSecrets(p spec.Problem) string {
	found, expected, more := strings.Cut(p.Message, ": expected ")
	if !strings.Contains(found, `"`) {
		return p.Message
	}
	texts := t.secretTexts()
	found = quoted.ReplaceAllStringFunc(found, func(text string) string {
		onALine := func(at string) bool { return strings.Contains(t.quoteAt(at), text) }
		if texts[text] && !onALine(p.Place()) && !slices.ContainsFunc(p.Also, onALine) {
			return notShown
		}
		return text
	})
	if more {
		found += ": expected " + expected
	}
	return found
}

// secretTexts are the values of secretKeys in all files that are parsed by now.
func (t *tree) secretTexts() map[string]bool {
	if t.texts.of != len(t.parsed) {
		t.texts.of, t.texts.all = len(t.parsed), map[string]bool{}
		for file := range t.parsed {
			if s := t.secretsOf(file); s != nil {
				maps.Copy(t.texts.all, s.texts)
			}
		}
	}
	return t.texts.all
}

// quoteAt quotes the line at a place.
func (t *tree) quoteAt(place string) string {
	file, at, _ := strings.Cut(place, ":")
	n := 0
	if _, err := fmt.Sscanf(at, "%d:", &n); err != nil {
		return ""
	}
	return t.quote(file, n)
}

// argumentMax is the longest value or rule, in bytes, that a message of CUE's
// spells out.
const argumentMax = 200

// shortArguments are the arguments of a message of CUE's with nothing long in
// them, and no struct spelt out: a program has its environment in it.
func shortArguments(args []any) []any {
	out := slices.Clone(args)
	for i, a := range args {
		text := fmt.Sprint(a)
		at := structAt(text)
		switch {
		case at < 0 && len(text) > argumentMax:
			out[i] = strings.ToValidUTF8(text[:argumentMax], "") + "..."
		case at < 0:
		case text[0] == '{':
			out[i] = "a struct"
		case text[0] == '[':
			out[i] = "a list"
		default:
			out[i] = text[:at] + "{...}"
		}
	}
	return out
}

// structAt is where the first struct begins in a text of CUE's, or -1.
func structAt(text string) int {
	inside := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && inside:
			i++
		case c == '"':
			inside = !inside
		case c == '{' && !inside:
			return i
		}
	}
	return -1
}

var (
	secretKey = regexp.MustCompile(`(?i)(?:^|[^a-z_])(?:env|headers|url)["']?[?!]?[ \t]*:`)
	lineKey   = regexp.MustCompile(`^["']?([A-Za-z_]+)`)
	tokenText = regexp.MustCompile(`(?s)(found '[A-Z]+') .*`) // in CUE's messages
	quoted    = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'[^']*'`)
)

// underEnv guesses, where nothing could be parsed, whether a line belongs to an
// env block: it may hold a secret. There may be thousands of errors in a file.
func (t *tree) underEnv(file string, line int) bool {
	under, ok := t.under[file]
	if !ok {
		under = linesUnderEnv(t.files[file], isYAML(file))
		if t.under == nil {
			t.under = map[string][]bool{}
		}
		t.under[file] = under
	}
	return line >= 1 && line <= len(under) && under[line-1]
}

// linesUnderEnv is underEnv of each line.
func linesUnderEnv(data []byte, yaml bool) []bool {
	lines := strings.Split(string(data), "\n")
	under := make([]bool, len(lines))
	open := map[string]bool{} // the indents at which blocks begin that are not over yet
	for i, text := range lines {
		maps.DeleteFunc(open, func(outer string, _ bool) bool { return endsBlock(outer, text) })
		at := secretKey.FindStringIndex(text)
		under[i] = len(open) > 0 || at != nil || strings.Contains(text, "env")
		if at != nil && (yaml || strings.Trim(text[:at[0]], " \t\"',{") == "" || !endsOnLine(text[at[0]:])) {
			open[indent(text)] = true
		}
	}
	return under
}

func indent(line string) string { return line[:len(line)-len(strings.TrimLeft(line, " \t"))] }

// endsOnLine reports whether what follows a key on its line is all of its value.
func endsOnLine(text string) bool {
	return strings.Count(text, "{") <= strings.Count(text, "}") && !strings.HasSuffix(strings.TrimRight(text, " \t\r"), ":")
}

// endsBlock reports whether a line surely does not belong to the block that
// begins with the indent outer: it stands no deeper, and is nothing but closing
// brackets or begins with a key of ours; or it stands further out, and something
// begins on it. A variable that was indented wrongly is none of that.
func endsBlock(outer, line string) bool {
	inner, text := indent(line), strings.Trim(line, " \t\r")
	switch {
	case text == "" || !strings.HasPrefix(outer, inner):
		return false
	case strings.Trim(text, "}],") == "":
		return true
	case inner != outer && strings.ContainsAny(text[len(text)-1:], ":{"):
		return true
	}
	m := lineKey.FindStringSubmatch(text)
	return m != nil && slices.Contains(spec.Keys(), m[1])
}

// withoutText is a parser's message without what it quotes of the file.
func (t *tree) withoutText(file, message string) string {
	message = tokenText.ReplaceAllString(message, "$1")
	return quoted.ReplaceAllStringFunc(message, func(q string) string {
		if inner := q[1 : len(q)-1]; strings.ContainsAny(inner, "\\") || hasWord(inner) && t.holds(file, inner) {
			return notShown
		}
		return q
	})
}

// holds reports whether a file has a text in it.
func (t *tree) holds(file, text string) bool {
	at := file + "\x00" + text
	there, ok := t.texted[at]
	if !ok {
		there = bytes.Contains(t.files[file], []byte(text))
		if t.texted == nil {
			t.texted = map[string]bool{}
		}
		t.texted[at] = there
	}
	return there
}

func hasWord(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
}
