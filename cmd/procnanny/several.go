package main

import (
	"context"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/rpc"
)

// several is a command that looks at one target or at many.
type several struct {
	app *app
	all bool
}

func (s *several) flag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.all, "all", false, "every program")
}

// answer is what the daemon said of one target.
type answer struct {
	target pattern
	tree   any
}

// ask asks a method about each target, with more arguments where there are any.
func (s *several) ask(ctx context.Context, method string, args []string, more map[string]any) ([]answer, error) {
	args, err := targets(args, s.all)
	if err != nil {
		return nil, err
	}
	c, endpoint, err := s.app.open(ctx, s.app.answerIn(nil))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	list, err := resolve(ctx, c, endpoint, args)
	if err != nil {
		return nil, err
	}
	out := make([]answer, len(list))
	for n, t := range list {
		what := map[string]any{"program": t.Program}
		if t.Index != nil {
			what["instance"] = *t.Index
		}
		maps.Copy(what, more)
		tree, err := ask(ctx, c, endpoint, method, what)
		if err != nil {
			return nil, err
		}
		out[n] = answer{t, tree}
	}
	return out, nil
}

// tree is the answer as the daemon gave it, or those about several targets by
// name.
func (s *several) tree(answers []answer) any {
	if len(answers) == 1 {
		return answers[0].tree
	}
	by := make(map[string]any, len(answers))
	for _, a := range answers {
		by[a.target.String()] = a.tree
	}
	return map[string]any{"targets": by}
}

// resolve puts what there is in the place of globs. Exact names stay: of what is
// gone there may be records.
func resolve(ctx context.Context, c rpc.Caller, endpoint string, args []string) ([]pattern, error) {
	want, err := parseTargets(args)
	if err != nil || !slices.ContainsFunc(want, pattern.Glob) {
		return want, err
	}
	tree, err := ask(ctx, c, endpoint, "status", nil)
	if err != nil {
		return nil, err
	}
	var reply statusReply
	if err := into(tree, &reply); err != nil {
		return nil, err
	}
	if err := missing(slices.DeleteFunc(slices.Clone(want), func(t pattern) bool { return !t.Glob() }), reply.Programs); err != nil {
		return nil, err
	}
	var out []pattern
	seen := map[string]bool{}
	add := func(t pattern) {
		if !seen[t.String()] {
			out, seen[t.String()] = append(out, t), true
		}
	}
	for _, t := range want {
		if !t.Glob() {
			add(t)
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(reply.Programs)) {
			one := pattern{Program: name, Index: t.Index}
			if t.Matches(name) && found(one, reply.Programs) {
				add(one)
			}
		}
	}
	return out, nil
}
