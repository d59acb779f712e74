package proc

import (
	"maps"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/launch"
	"github.com/procnanny/procnanny/spec"
)

// prepared is what all starts of a program share. It is made anew when the
// program's pointer changes: the engine keeps the pointer of one that did not.
type prepared struct {
	program *spec.Program
	base    map[string]string // the environment below env_files and env
	// plain is the whole request but for the PROCNANNY_ variables, if nothing
	// in it depends on the instance; else nil.
	plain *launch.Request
}

const defaultUmask = 0o022

// request is one start with everything replaced. It reads env_files, if there
// are any.
func (p *Proc) request(o reconcile.Order) (launch.Request, error) {
	if p.c.Simulated {
		return launch.Request{}, nil
	}
	prep := p.prepare(o)
	own := []string{
		"PROCNANNY_PROGRAM=" + o.ID.Program,
		"PROCNANNY_INSTANCE=" + strconv.Itoa(o.ID.Index),
		"PROCNANNY_RUN_ID=" + strconv.FormatUint(uint64(o.Run), 10),
	}
	if prep.plain != nil {
		r := *prep.plain
		r.Env = append(own, r.Env...)
		return r, nil
	}
	x := p.expander(o, prep)
	for _, file := range o.Program.EnvFiles {
		vars, err := readEnvFile(absolute(x.dir, x.expand(file)))
		if err != nil {
			return launch.Request{}, err
		}
		maps.Copy(x.base, vars)
	}
	r := x.request()
	if x.budget < 0 {
		return launch.Request{}, &launch.StepError{Step: "replacing $(NAME) in the values of " + o.ID.Program, Errno: syscall.E2BIG}
	}
	r.Env = append(own, r.Env...)
	return r, nil
}

// prepare looks a program up in the cache. Programs with env_files are prepared
// anew each time.
func (p *Proc) prepare(o reconcile.Order) *prepared {
	if len(o.Program.EnvFiles) > 0 {
		return &prepared{program: o.Program, base: p.baseEnv(o.Program)}
	}
	p.cacheMu.Lock()
	defer p.cacheMu.Unlock()
	prep := p.cache[o.ID.Program]
	if prep != nil && prep.program == o.Program {
		return prep
	}
	prep = &prepared{program: o.Program, base: p.baseEnv(o.Program)}
	if !dependsOnInstance(o.Program) {
		r := p.expander(o, prep).request()
		prep.plain = &r
	}
	p.cache[o.ID.Program] = prep
	return prep
}

// Trim forgets what is prepared for the next starts; it is prepared anew then.
func (p *Proc) Trim() {
	p.cacheMu.Lock()
	defer p.cacheMu.Unlock()
	p.cache = map[string]*prepared{}
}

// dependsOnInstance reports whether anything in the program is replaced.
func dependsOnInstance(g *spec.Program) bool {
	texts := append([]string{g.Command, g.Dir, g.Stdin, g.Mode.File}, g.Args...)
	for _, v := range g.Env {
		texts = append(texts, v)
	}
	for _, t := range texts {
		if strings.Contains(t, "$(") {
			return true
		}
	}
	return false
}

// expander replaces $(NAME) for one start.
type expander struct {
	program *spec.Program
	special map[string]string
	// base is the environment below env.
	base map[string]string
	// under is the set of variables whose values are being replaced: such a
	// one refers to the value below, so PATH: "/opt/bin:$(PATH)" works.
	under map[string]bool
	dir   string
	// budget is how many more bytes may be put in for names: variables that
	// double each other must not eat our memory. Below 0 the start fails.
	budget int
}

// maxExpanded is twice what the kernel passes to a process at most, in bytes.
const maxExpanded = 12 << 20

func (p *Proc) expander(o reconcile.Order, prep *prepared) *expander {
	uid, gid := p.c.SelfUID, p.c.SelfGID
	if id := o.Program.Identity; id.Switch {
		uid, gid = id.UID, id.GID
	}
	x := &expander{program: o.Program, under: map[string]bool{}, base: map[string]string{}, budget: maxExpanded}
	maps.Copy(x.base, prep.base)
	instance, run := strconv.Itoa(o.ID.Index), strconv.FormatUint(uint64(o.Run), 10)
	x.special = map[string]string{
		"instance": instance, "program": o.ID.Program, "run_id": run,
		"uid": strconv.FormatUint(uint64(uid), 10), "gid": strconv.FormatUint(uint64(gid), 10),
		"PROCNANNY_PROGRAM": o.ID.Program, "PROCNANNY_INSTANCE": instance, "PROCNANNY_RUN_ID": run,
	}
	x.dir = "/"
	if o.Program.Dir != "" {
		x.dir = absolute("/", x.expand(o.Program.Dir))
	}
	return x
}

func (x *expander) expand(text string) string { return spec.Expand(text, x.lookup) }

// lookup finds a variable of the child's own environment, itself replaced.
func (x *expander) lookup(name string) (string, bool) {
	if x.budget < 0 {
		return "", true
	}
	v, ok := x.find(name)
	x.budget -= len(v) + 1
	return v, ok
}

func (x *expander) find(name string) (string, bool) {
	if v, ok := x.special[name]; ok {
		return v, true
	}
	raw, ok := x.program.Env[name]
	if !ok || x.under[name] {
		v, ok := x.base[name]
		return v, ok
	}
	x.under[name] = true
	v := x.expand(raw)
	delete(x.under, name)
	return v, true
}

// request puts everything together but the PROCNANNY_ variables.
func (x *expander) request() launch.Request {
	g := x.program
	r := launch.Request{
		Env: x.environment(), Dir: x.dir, Identity: g.Identity, Umask: defaultUmask, Capabilities: g.Capabilities,
		NoNewPrivs: g.NoNewPrivs, Stdin: "null", Mode: g.Mode, Tuning: g.Tuning,
	}
	command := x.expand(g.Command)
	r.Argv = make([]string, 0, len(g.Args)+1)
	r.Argv = append(r.Argv, command)
	for _, arg := range g.Args {
		r.Argv = append(r.Argv, x.expand(arg))
	}
	path, _ := x.lookup("PATH")
	r.Candidates = candidates(command, path, x.dir)
	if g.Umask != nil {
		r.Umask = uint32(*g.Umask)
	}
	if g.Stdin != "" && g.Stdin != "null" {
		r.Stdin = absolute(x.dir, x.expand(g.Stdin))
	}
	if g.Mode.Kind == "file" {
		r.Mode.File = absolute(x.dir, x.expand(g.Mode.File))
	}
	return r
}

// candidates are the files to try for a command, as execvp(3) would in dir.
func candidates(command, path, dir string) []string {
	if strings.Contains(command, "/") {
		return []string{absolute(dir, command)}
	}
	var out []string
	for part := range strings.SplitSeq(path, ":") {
		out = append(out, absolute(dir, filepath.Join(part, command)))
	}
	return out
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
