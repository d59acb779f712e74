package specfile

import (
	"path"
	"slices"

	"github.com/procnanny/procnanny/spec"
)

// builtin are the names that $(NAME) always knows, and the variables that every
// child gets.
var builtin = []string{
	"instance", "program", "uid", "gid", "run_id",
	"PATH", "PROCNANNY_PROGRAM", "PROCNANNY_INSTANCE", "PROCNANNY_RUN_ID",
}

// userVars are the variables that come with a user.
var userVars = []string{"USER", "LOGNAME", "HOME", "SHELL"}

// checkReferences warns of $(NAME) that nobody will replace. Where the
// environment is not known before the start, it is silent.
func checkReferences(p spec.Program) []finding {
	if p.InheritEnv.All || len(p.EnvFiles) > 0 {
		return nil
	}
	known := func(name string) bool {
		_, ours := p.Env[name]
		switch {
		case ours, slices.Contains(builtin, name), p.Identity.Name != "" && slices.Contains(userVars, name):
			return true
		}
		return slices.ContainsFunc(p.InheritEnv.Names, func(glob string) bool {
			ok, err := path.Match(glob, name)
			return ok && err == nil
		})
	}
	var out []finding
	try := func(text string, key ...string) {
		spec.Expand(text, func(name string) (string, bool) {
			if !known(name) {
				out = append(out, finding{
					key: key, warning: true,
					message: "$(" + name + ") is not known and stays as written; write $$(" + name + ") if that is meant",
				})
			}
			return "", false
		})
	}
	try(p.Command, "command")
	for i, a := range p.Args {
		try(a, "args", index(i))
	}
	for _, name := range sortedKeys(p.Env) {
		try(p.Env[name], "env", name)
	}
	try(p.Dir, "dir")
	try(p.Stdin, "stdin")
	try(p.Mode.File, "output", "mode", "file")
	return out
}
