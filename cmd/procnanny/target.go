package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/rpc"
)

// pattern is a target as a filter: a name or glob, and perhaps an index.
type pattern = rpc.Target

// everything is the target of --all.
const everything = "*"

// parseTargets reads targets as a person wrote them.
func parseTargets(args []string) ([]pattern, error) {
	out := make([]pattern, len(args))
	for i, text := range args {
		t, err := rpc.ParseTarget(text)
		if err != nil {
			return nil, err
		}
		out[i] = t
	}
	return out, nil
}

// targets are the TARGET arguments of a command that changes something, or all
// of them with --all: nothing is changed by leaving a word out.
func targets(args []string, all bool) ([]string, error) {
	switch {
	case all && len(args) > 0:
		return nil, errAllBeside
	case all:
		return []string{everything}, nil
	case len(args) == 0:
		return nil, errors.New("expected a target such as web, web/2 or \"w*\", or --all")
	}
	_, err := parseTargets(args) // told before the daemon is asked
	return args, err
}

// wantedTargets are the targets of a command that looks at everything when none is
// given; so does it with --all.
func wantedTargets(args []string, all bool) ([]pattern, error) {
	if all && len(args) > 0 {
		return nil, errAllBeside
	}
	return parseTargets(args)
}

var errAllBeside = errors.New("cannot use --all beside targets")

// wanted reports whether something of a program is asked for.
func wanted(want []pattern, program string) bool {
	for _, t := range want {
		if t.Matches(program) {
			return true
		}
	}
	return len(want) == 0
}

func wantedInstance(want []pattern, program string, index int) bool {
	for _, t := range want {
		if t.Matches(program) && (t.Index == nil || *t.Index == index) {
			return true
		}
	}
	return len(want) == 0
}

// named reports whether a program was asked for by its own name.
func named(want []pattern, program string) bool {
	for _, t := range want {
		if !t.Glob() && t.Program == program {
			return true
		}
	}
	return false
}

// missing says which targets mean nothing in a status reply.
func missing(want []pattern, programs map[string]programStatus) error {
	for _, t := range want {
		if !found(t, programs) {
			switch {
			case t.Glob():
				return errors.New(t.Unmatched())
			case t.Index != nil:
				return fmt.Errorf("there is no instance '%s'", t)
			}
			return fmt.Errorf("there is no program '%s'", t)
		}
	}
	return nil
}

func found(t pattern, programs map[string]programStatus) bool {
	for name, p := range programs {
		if !t.Matches(name) {
			continue
		}
		if t.Index == nil {
			return true
		}
		if _, ok := p.Instances[*t.Index]; ok {
			return true
		}
	}
	return false
}

// completionTimeout keeps a shell from hanging on a daemon that does not answer.
const completionTimeout = 500 * time.Millisecond

// completeTargets offers what runs, if the daemon answers quickly. shape says
// whether instances are offered too.
func (a *app) completeTargets(instances bool, most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		a.timeout = completionTimeout
		tree, err := a.call(cmd.Context(), "status", nil)
		var reply statusReply
		if err != nil || into(tree, &reply) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return targetWords(reply, instances, word), cobra.ShellCompDirectiveNoFileComp
	}
}
