package specfile

import (
	"fmt"
	"slices"

	"github.com/procnanny/procnanny/spec"
)

const exitWhen = "exit_when"

// judgeExitWhen reads the name of the program whose end ends the daemon; it
// must be one of the files'.
func (e *Evaluation) judgeExitWhen(ps *spec.Problems, v *view) string {
	if !v.exitWhen.Exists() {
		return ""
	}
	names := make([]string, 0, len(v.programs))
	for _, p := range v.programs {
		names = append(names, p.name)
	}
	name, err := v.exitWhen.String()
	if err == nil && slices.Contains(names, name) {
		return name
	}
	p := e.tree.problemAt(e.tree.valuePos(v.exitWhen, nil))
	p.Message = fmt.Sprintf("invalid value %s: expected the name of a program", describe(v.exitWhen))
	if n := spec.Nearest(name, names); err == nil && n != "" {
		p.Hint = fmt.Sprintf("did you mean %q?", n)
	}
	e.tree.add(ps, p, []string{exitWhen})
	return ""
}
