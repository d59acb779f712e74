package specfile

import (
	"fmt"
	"strings"

	"cuelang.org/go/cue/errors"

	"github.com/procnanny/procnanny/spec"
)

// syntax turns a parser's errors into problems.
func (t *tree) syntax(name string, err error) {
	for _, ce := range errors.Errors(err) {
		places := t.positions(ce)
		p := spec.Problem{File: name}
		if len(places) > 0 {
			p = t.problemAt(places[0])
		}
		format, args := ce.Msg()
		p.Message = strings.TrimPrefix(fmt.Sprintf(format, args...), "yaml: ")
		if t.underEnv(p.File, p.Line) {
			p.SourceLine = ""
		}
		t.problems = append(t.problems, p)
	}
}

// underEnv guesses, where nothing could be parsed, whether a line belongs to an
// env block: it may hold a secret.
func (t *tree) underEnv(file string, line int) bool {
	lines := strings.Split(string(t.files[file]), "\n")
	if line < 1 || line > len(lines) {
		return false
	}
	indent := func(s string) int { return len(s) - len(strings.TrimLeft(s, " \t")) }
	here := indent(lines[line-1])
	for i := line - 1; i >= 0; i-- {
		text := strings.TrimLeft(lines[i], " \t\"'{,")
		rest, ok := strings.CutPrefix(text, "env")
		if ok && strings.HasPrefix(strings.TrimLeft(rest, " \t\"'?!"), ":") && (i == line-1 || indent(lines[i]) < here) {
			return true
		}
		if i < line-1 && strings.TrimSpace(lines[i]) != "" && indent(lines[i]) < here {
			here = indent(lines[i])
		}
	}
	return strings.Contains(lines[line-1], "env")
}
