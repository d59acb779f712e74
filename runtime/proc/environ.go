package proc

import (
	"path"
	"slices"
	"strings"

	"github.com/procnanny/procnanny/spec"
)

// defaultPath is the PATH of a child that nobody gave another.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// ourOwn are variables that speak to the daemon, as names and globs. A child
// that got them would answer a service manager in our place, take our sockets,
// or think that it is a daemon of ours.
var ourOwn = []string{"NOTIFY_SOCKET", "LISTEN_*", "WATCHDOG_*", "PROCNANNY_*"}

// userVars are a user's own; another user's never pass.
var userVars = []string{"HOME", "USER", "LOGNAME", "SHELL"}

// baseEnv is a child's environment below its env_files and env: PATH, what it
// inherits, its user's variables.
func (p *Proc) baseEnv(g *spec.Program) map[string]string {
	id := g.Identity
	own := map[string]string{"HOME": id.Home, "USER": id.Name, "LOGNAME": id.Name, "SHELL": id.Shell}
	env := map[string]string{"PATH": defaultPath}
	for _, name := range userVars {
		if own[name] != "" {
			env[name] = own[name]
		}
	}
	if g.InheritEnv.IsZero() {
		return env
	}
	for _, entry := range p.c.Environ {
		name, value, ok := strings.Cut(entry, "=")
		if !ok || name == "" || !inherits(g.InheritEnv, name) || id.Switch && slices.Contains(userVars, name) {
			continue
		}
		env[name] = value
	}
	return env
}

func inherits(e spec.InheritEnv, name string) bool {
	return !matchesAny(ourOwn, name) && (e.All || matchesAny(e.Names, name))
}

func matchesAny(globs []string, name string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool {
		ok, err := path.Match(glob, name)
		return err == nil && ok || glob == name
	})
}

// environment is the whole of it, sorted, without the PROCNANNY_ variables,
// which nobody else may set.
func (x *expander) environment() []string {
	out := make([]string, 0, len(x.base)+len(x.program.Env))
	add := func(name, value string) {
		if _, ours := x.special[name]; !ours || !strings.HasPrefix(name, "PROCNANNY_") {
			out = append(out, name+"="+value)
		}
	}
	for name := range x.program.Env {
		value, _ := x.lookup(name)
		add(name, value)
	}
	for name, value := range x.base {
		if _, set := x.program.Env[name]; !set {
			add(name, value)
		}
	}
	slices.Sort(out)
	return out
}
