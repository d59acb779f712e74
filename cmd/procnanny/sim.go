package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/runtime/sim"
	"github.com/procnanny/procnanny/spec"
)

// simFlags are the disturbances, as they were written.
type simFlags struct {
	crash, exit, broken, slow, edit, stop, start, restart, scale []string

	lasts time.Duration
	seed  uint64
	all   bool
}

const simLong = `Say what would happen to the programs of PATH (by default those that a daemon of
yours would read) if they crashed, ended, could not be started, were stopped or
edited: in virtual time, without a daemon and without starting anything. What
decides is what decides in the daemon, so every delay, policy and timeout counts.

Where nothing is said, a process starts at once, lives for ever, and ends as soon
as it is asked to. WHO is a target such as web, web/1 or "w*". WHEN is one of

  3s           once, that long after the beginning
  every 10m    by the clock, again and again
  after 3s     each process, that long after its start
  about 10m    each process, after a random time with that mean (see --seed)

Times of the timeline count from the beginning. What goes on in the same way is
one line.`

const simExample = `  procnanny sim --crash 'web@after 3s' --for 24h
  procnanny sim /etc/procnanny --crash 'web/1@every 10m' --edit ./next@1h
  procnanny sim --slow web=never --restart web@1m -o json`

func (a *app) simCommand() *cobra.Command {
	var f simFlags
	cmd := &cobra.Command{
		Use: "sim [PATH]", Short: "Say what would happen to programs, in virtual time, without a daemon",
		Long: simLong, Example: simExample, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := a.configPath(args)
			if err != nil {
				return err
			}
			return a.sim(cmd.Context(), path, f)
		},
	}
	fl := cmd.Flags()
	fl.DurationVar(&f.lasts, "for", time.Hour, "how long, a `DURATION`")
	list := func(to *[]string, name, usage string) {
		fl.StringArrayVar(to, name, nil, usage)
		register(cmd, name, cobra.NoFileCompletions)
	}
	list(&f.crash, "crash", "a process ends by itself with 1: `WHO@WHEN[=CODE|SIGNAL]`")
	list(&f.exit, "exit", "a process ends by itself with 0: `WHO@WHEN[=CODE|SIGNAL]`")
	list(&f.broken, "broken", "it cannot be started: `WHO@FROM..UNTIL`")
	list(&f.slow, "slow", "how long it takes to end once asked to, or that it never does: `WHO=DURATION|never`")
	fl.StringArrayVar(&f.edit, "edit", nil, "the files are replaced by those at PATH: `PATH@WHEN`")
	list(&f.stop, "stop", "somebody stops it: `WHO@WHEN`")
	list(&f.start, "start", "somebody starts it: `WHO@WHEN`")
	list(&f.restart, "restart", "somebody restarts it: `WHO@WHEN`")
	list(&f.scale, "scale", "somebody scales it: `PROGRAM=N@WHEN`")
	fl.Uint64Var(&f.seed, "seed", 1, "the `NUMBER` that random times follow from")
	fl.BoolVar(&f.all, "all", false, "print the whole timeline, however long")
	register(cmd, "for", cobra.NoFileCompletions)
	register(cmd, "seed", cobra.NoFileCompletions)
	return cmd
}

func (a *app) sim(ctx context.Context, path string, f simFlags) error {
	files, err := a.evaluated(ctx, path)
	if err != nil {
		return err
	}
	s := &sim.Scenario{Spec: *files, For: f.lasts, Seed: f.seed}
	if f.lasts <= 0 {
		return fmt.Errorf("cannot simulate for %v: expected more than no time", f.lasts)
	}
	r := simReader{app: a, ctx: ctx, scenario: s, specs: []*spec.Spec{files}}
	if err := r.read(f); err != nil {
		return err
	}
	report, err := s.Play()
	if err != nil {
		return err
	}
	return a.emit(simTree(report, f), func() error { return a.simText(report, f.all) })
}

// evaluated are good files; what is wrong with bad ones is printed as vet does.
func (a *app) evaluated(ctx context.Context, path string) (*spec.Spec, error) {
	result, err := verdict(ctx, path, false)
	if err != nil {
		return nil, err
	}
	a.problems(placed(result.Problems, path))
	if len(result.Problems.Errors()) > 0 || result.Spec == nil {
		return nil, &exit{code: exitFailed}
	}
	return result.Spec, nil
}
