package rpc

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

const changesDoc = "`changes`, each: program, instance, what (start, stop, replace, live, forget, wait), reason, keys (that differ), later (true: not at once; reason says what it waits for)"

var argGeneration = Arg{Name: "generation", Type: TypeInt, Min: 1, Max: math.MaxInt32, Doc: "the generation's number"}

var configMethods = []Method{
	{
		Name: "plan", Access: AccessRead,
		Doc: "What applying the files would do, instance by instance. The same plan has the same digest.",
		Args: []Arg{
			{Name: "files", Type: TypeMap, Admin: true, Doc: "instead of the daemon's own files: path to content"},
			{Name: "root", Type: TypeString, Admin: true, Doc: "the directory that messages say files are in"},
			{Name: "single", Type: TypeString, Admin: true, Doc: "use only this one of files"},
		},
		Result:  "`digest`; `generation`, the one it would follow; " + changesDoc + "; `problems`, each: file, line, column, path, message, source_line, also, hint, warning.",
		Reply:   `{"digest": "89abcdef01234567", "generation": 8, "changes": [{"program": "web", "instance": 0, "what": "replace", "reason": "args changed", "keys": ["args"], "later": false}, {"program": "web", "instance": 1, "what": "replace", "reason": "args changed; in its turn", "keys": ["args"], "later": true}], "problems": [{"file": "web.cue", "line": 3, "column": 2, "path": "programs.web.args", "message": "unknown name $(prot)", "source_line": "", "also": [], "hint": "", "warning": true}]}`,
		Handler: plan,
	},
	{
		Name: "apply", Access: AccessAdmin,
		Doc: "Apply what the files say now.",
		Args: []Arg{
			{Name: "digest", Type: TypeString, Doc: "of a plan: apply exactly that, or refuse because it is stale"},
			{Name: "force", Type: TypeBool, Doc: "let rolls that are held go on"},
			{Name: "allow_empty", Type: TypeBool, Doc: "accept a configuration without any program"},
			argWait, argTimeout,
		},
		Result:  "`generation`; `digest`; `changed`, false when the files say what runs; " + changesDoc + ".",
		Request: `{"digest": "89abcdef01234567"}`,
		Reply:   `{"generation": 8, "digest": "89abcdef01234567", "changed": true, "changes": [{"program": "web", "instance": 0, "what": "replace", "reason": "args changed", "keys": ["args"], "later": false}, {"program": "web", "instance": 1, "what": "replace", "reason": "args changed; in its turn", "keys": ["args"], "later": true}]}`,
		Handler: apply,
	},
	{
		Name: "generations", Access: AccessRead,
		Doc:     "The configurations that were accepted, oldest first; the last 20 are kept.",
		Result:  "`generations`, each: generation, digest, commit, at, by (how, uid, gid, pid), programs, instances, current, pinned.",
		Reply:   `{"generations": [{"generation": 6, "digest": "fedcba9876543210", "commit": null, "at": 1767150245, "by": {"how": "file", "uid": 0, "gid": 0, "pid": 0}, "programs": 1, "instances": 3, "current": false, "pinned": false}, {"generation": 7, "digest": "0123456789abcdef", "commit": "f00dfeed", "at": 1767236645, "by": {"how": "file", "uid": 0, "gid": 0, "pid": 0}, "programs": 2, "instances": 4, "current": true, "pinned": false}]}`,
		Handler: generations,
	},
	{
		Name: "rollback", Access: AccessAdmin,
		Doc:     "Run an earlier generation until the files change. `status` says that the files are ahead.",
		Args:    []Arg{required(argGeneration), argWait, argTimeout},
		Result:  "as `apply`.",
		Request: `{"generation": 6}`,
		Reply:   `{"generation": 6, "digest": "fedcba9876543210", "changed": true, "changes": []}`,
		Handler: rollback,
	},
	{
		Name: "diff", Access: AccessRead,
		Doc:     "How what is desired now (overrides included) differs from what a generation said. Values of env are hidden.",
		Args:    []Arg{{Name: "generation", Type: TypeInt, Min: 1, Max: math.MaxInt32, Doc: "that generation; else the files as they were accepted last"}},
		Result:  "`generation`; `differences`, each: program (nil: `on` or `exit_when`, beside the programs), instance (of a stop or start of one), field (a key, or `program` for a whole one), desired, generation (the two values; nil is not set).",
		Reply:   `{"generation": 7, "differences": [{"program": "hello world", "instance": 2, "field": "admin", "desired": "down", "generation": "up"}, {"program": "web", "field": "instances", "desired": 2, "generation": 1}]}`,
		Handler: diff,
	},
	{
		Name: "export", Access: AccessAdmin,
		Doc:     "Desired state, overrides included, as CUE that can be committed. It shows values of env.",
		Args:    []Arg{{Name: "program", Type: TypeString, Doc: "only this program"}},
		Result:  "`cue`, the text.",
		Reply:   `{"cue": "programs: {} // 2 programs\n"}`,
		Handler: export,
	},
}

func required(a Arg) Arg {
	a.Required = true
	return a
}

func changeMaps(cs []reconcile.Change) []Map {
	out := make([]Map, len(cs))
	for i, c := range cs {
		keys := c.Keys
		if keys == nil {
			keys = []string{}
		}
		out[i] = Map{
			{"program", c.ID.Program},
			{"instance", c.ID.Index},
			{"what", c.What},
			{"reason", c.Reason},
			{"keys", keys},
			{"later", c.Later},
		}
	}
	return out
}

func plan(ctx context.Context, c *Call) (any, error) {
	src, err := c.source()
	if err != nil {
		return nil, err
	}
	p, err := c.Backend.Plan(ctx, src)
	if err != nil {
		return nil, err
	}
	return Map{
		{"digest", p.Digest}, {"generation", p.Generation}, {"changes", changeMaps(p.Changes)}, {"problems", problemMaps(p.Problems)},
	}, nil
}

// source is the configuration that the request brings; nil when it brings none.
func (c *Call) source() (*spec.Source, error) {
	files, ok := c.Args["files"].(map[any]any)
	if !ok {
		if c.Args.Has("single") || c.Args.Has("root") {
			return nil, Errorf(CodeMissingArgument, "Message is missing 'files' field")
		}
		return nil, nil
	}
	src := &spec.Source{Root: c.Args.Str("root"), Single: c.Args.Str("single"), Files: make(map[string][]byte, len(files))}
	for k, v := range files {
		name, nameOK := asString(k)
		text, textOK := v.([]byte) // what is no text, the configuration is told to be at fault
		if s, ok := v.(string); ok {
			text, textOK = []byte(s), true
		}
		if !nameOK || !textOK || !localPath(name) {
			return nil, Errorf(CodeBadArgument, "'files' must map paths below one directory to their content")
		}
		src.Files[name] = text
	}
	if _, ok := src.Files[src.Single]; src.Single != "" && !ok {
		return nil, Errorf(CodeBadArgument, "'single' must be one of 'files', found '%s'", src.Single)
	}
	return src, nil
}

// localPath: relative, and never above where it begins.
func localPath(name string) bool {
	return name != "" && name[0] != '/' && !slices.Contains(strings.Split(name, "/"), "..")
}

func apply(ctx context.Context, c *Call) (any, error) {
	start := c.now()
	r, err := c.Backend.Apply(ctx, ApplyOptions{
		Digest: c.Args.Str("digest"), Force: c.Args.Bool("force"), AllowEmpty: c.Args.Bool("allow_empty"), By: c.by(),
	})
	return c.applied(ctx, r, err, start)
}

// applied is the reply of apply and rollback.
func (c *Call) applied(ctx context.Context, r ApplyReply, err error, start time.Time) (any, error) {
	if err != nil {
		return nil, err
	}
	what := changed{map[string][]string{}, start} // whatever key: all of it shall be as the files say
	for _, ch := range r.Changes {
		what.keys[ch.ID.Program] = nil
	}
	if c.Args.Bool("wait") {
		for _, p := range c.Backend.View().Programs {
			if underway(p) {
				what.keys[p.Name] = nil
			}
		}
	}
	if err := c.awaitSettled(ctx, what); err != nil {
		return nil, err
	}
	return Map{{"generation", r.Generation}, {"digest", r.Digest}, {"changed", r.Changed}, {"changes", changeMaps(r.Changes)}}, nil
}

func generations(_ context.Context, c *Call) (any, error) {
	list, err := c.Backend.Generations()
	if err != nil {
		return nil, err
	}
	config := c.Backend.View().Config
	out := make([]Map, len(list))
	for i, g := range list {
		out[i] = Map{
			{"generation", g.Number},
			{"digest", g.Digest},
			{"commit", orNil(g.Commit)},
			{"at", g.At},
			{"by", requesterMap(&g.By)},
			{"programs", g.Programs},
			{"instances", g.Instances},
			{"current", g.Number == config.Generation},
			{"pinned", g.Number == config.Pinned},
		}
	}
	return Map{{"generations", out}}, nil
}

// kept refuses the number of a generation that is not kept.
func (c *Call) kept(n int) (uint64, error) {
	list, err := c.Backend.Generations()
	if err != nil {
		return 0, err
	}
	if !slices.ContainsFunc(list, func(g Generation) bool { return g.Number == uint64(n) }) {
		return 0, Errorf(CodeNotFound, "generation %d is not kept: see generations", n)
	}
	return uint64(n), nil
}

func rollback(ctx context.Context, c *Call) (any, error) {
	n, err := c.kept(c.Args.Int("generation", 0))
	if err != nil {
		return nil, err
	}
	start := c.now()
	r, err := c.Backend.Rollback(ctx, n, c.by())
	return c.applied(ctx, r, err, start)
}

// desiredSpec is what shall be now: files and overrides.
func desiredSpec(v *View, only string) spec.Spec {
	s := spec.Spec{Programs: map[string]spec.Program{}}
	for _, p := range v.Programs {
		if p.Defined && (only == "" || p.Name == only) {
			s.Programs[p.Name] = *p.Spec
		}
	}
	return s
}

// desired is all that is desired. Without known, a backend does not say what that
// is beside the programs.
func (c *Call) desired(v *View) (s spec.Spec, known bool) {
	programs := desiredSpec(v, "")
	h, known := c.Backend.(Hooker)
	if !known {
		return programs, false
	}
	s = h.Beside()
	s.Programs = programs.Programs
	return s, true
}

func export(_ context.Context, c *Call) (any, error) {
	if c.Server.CUE == nil {
		return nil, unavailable("printer of CUE")
	}
	v := c.Backend.View()
	s, _ := c.desired(v)
	if c.Args.Has("program") {
		if s = desiredSpec(v, c.Args.Str("program")); len(s.Programs) == 0 {
			return nil, noProgram(c.Args.Str("program"))
		}
	}
	return Map{{"cue", c.Server.CUE(s)}}, nil
}
