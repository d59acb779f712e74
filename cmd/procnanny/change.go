package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/spec"
)

// changeFlags are what commands that change something have in common. A command
// offers only those that mean something for it.
type changeFlags struct {
	all, wait     bool
	until, reason string
}

func (f *changeFlags) offerAll(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.all, "all", false, "every program")
}

func (f *changeFlags) offerWait(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.wait, "wait", false, "come back when it has happened; exit 1 with the reason when it cannot")
}

func (f *changeFlags) offerWhy(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.until, "until", "", "when it ends by itself: a `DURATION` such as 2h, or boot")
	cmd.Flags().StringVar(&f.reason, "reason", "", "a note (`WHY`) for whoever looks at status later")
}

// add puts the flags into a request.
func (f *changeFlags) add(a *app, args map[string]any) (map[string]any, error) {
	if f.wait {
		args["wait"], args["timeout"] = true, a.waitFor().Seconds()
	}
	if f.until != "" {
		if d, err := time.ParseDuration(f.until); f.until != "boot" && (err != nil || d <= 0) {
			return nil, fmt.Errorf("cannot use --until %s: expected a duration such as 2h, or boot", f.until)
		}
		args["until"] = f.until
	}
	if f.reason != "" {
		args["reason"] = f.reason
	}
	return args, nil
}

// targetCommand is a command that does one thing to targets. words say that it
// is on its way, and that it has happened.
func (a *app) targetCommand(method, short, long string, words [2]string, offer ...func(*changeFlags, *cobra.Command)) *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use: method + " TARGET...", Short: short, Long: short + "." + long,
		ValidArgsFunction: a.completeTargets(true, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := targets(args, f.all)
			if err != nil {
				return err
			}
			ask, err := f.add(a, map[string]any{"targets": list})
			if err != nil {
				return err
			}
			return a.results(cmd.Context(), method, ask, words[btoi(f.wait)])
		},
	}
	for _, o := range append(offer, (*changeFlags).offerAll) {
		o(&f, cmd)
	}
	return cmd
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (a *app) startCommand() *cobra.Command {
	return a.targetCommand("start", "Start what is down, finished or waiting", `

What a person stopped is wanted again; what finished, gave up or waits for its
next start starts now.`, [2]string{"starting", "started"}, (*changeFlags).offerWait, (*changeFlags).offerWhy)
}

func (a *app) stopCommand() *cobra.Command {
	return a.targetCommand("stop", "Stop programs or instances, until somebody starts them", `

A stop survives restarts of the daemon and reboots, unless --until says
otherwise. Instances that are added to a stopped program later are down, too; a
stop of one instance ends with that instance.`, [2]string{"stopping", "stopped"}, (*changeFlags).offerWait, (*changeFlags).offerWhy)
}

func (a *app) restartCommand() *cobra.Command {
	return a.targetCommand("restart", "Give instances new processes", `

At most update.max_unavailable instances of a program are replaced at once, the
next ones when the last ones run. What is down is skipped.`, [2]string{"restarting", "restarted"}, (*changeFlags).offerWait)
}

func (a *app) signalCommand() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use: "signal TARGET... SIGNAL", Short: "Send a signal to the main processes",
		Long: "Send a signal (HUP, SIGUSR1, RTMIN+3, 10) to the main process of each instance.\nWhat is desired stays as it is.",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return a.completeTargets(true, 0)(cmd, args, word)
			}
			return []string{"HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "KILL", "STOP", "CONT", "WINCH"}, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			last := len(args) - 1
			if last < 0 || last == 0 && !f.all {
				return errors.New("expected targets and a signal, such as: web HUP")
			}
			list, err := targets(args[:last], f.all)
			if err != nil {
				return err
			}
			sig, err := spec.ParseSignal(args[last])
			if err != nil {
				return fmt.Errorf("%w: the signal comes last, such as: web HUP", err)
			}
			return a.results(cmd.Context(), "signal", map[string]any{"targets": list, "signal": sig.String()}, "sent "+sig.String())
		},
	}
	f.offerAll(cmd)
	return cmd
}

// resultsReply is by program and instance: true, or why not.
type resultsReply struct {
	Results map[string]map[int]any `json:"results"`
}

// results asks for something and prints what comes of it for each instance.
// When nothing came of it at all, the command failed.
func (a *app) results(ctx context.Context, method string, ask map[string]any, done string) error {
	tree, err := a.call(ctx, method, ask)
	if err != nil {
		return err
	}
	var reply resultsReply
	if err := into(tree, &reply); err != nil {
		return err
	}
	if err := a.emit(tree, func() error { return a.grid(resultsTable(reply, done)) }); err != nil {
		return err
	}
	good, all := 0, 0
	for _, p := range reply.Results {
		for _, v := range p {
			all++
			if v == true {
				good++
			}
		}
	}
	if good == 0 && all > 0 {
		return &exit{code: exitFailed}
	}
	if all == 0 {
		report(a.err, "there is no instance to "+method)
	}
	return nil
}

// resultsTable has a row for each instance, or for neighbours that fared alike.
func resultsTable(reply resultsReply, done string) *table {
	t := &table{}
	for _, name := range slices.Sorted(maps.Keys(reply.Results)) {
		of := reply.Results[name]
		for _, r := range ranges(slices.Sorted(maps.Keys(of)), func(i, j int) bool { return of[i] == of[j] }) {
			c := cell{done, green}
			if why, ok := of[r.first].(string); ok {
				c = cell{why, yellow}
			}
			t.add(cell{text: r.label(name)}, c)
		}
	}
	return t
}

func (a *app) scaleCommand() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use: "scale PROGRAM N", Short: "Want N instances of a program",
		Long: `Want N instances of a program, until the file's own number changes.

The lowest free indexes are added and the highest removed; the others are not
touched. The files' constraints bind.`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeTargets(false, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 0 {
				return errCount(args[1])
			}
			ask, err := f.add(a, map[string]any{"program": args[0], "instances": n})
			if err != nil {
				return err
			}
			return a.scale(cmd.Context(), ask)
		},
	}
	f.offerWait(cmd)
	f.offerWhy(cmd)
	return cmd
}

// errCount refuses a number of instances.
func errCount(text string) error {
	return fmt.Errorf("cannot scale to %q: how many instances are wanted is an integer from 0 to %d", text, rpc.MaxIndex)
}

func (a *app) scale(ctx context.Context, ask map[string]any) error {
	var reply struct {
		Program   string `json:"program"`
		Instances int    `json:"instances"`
		Was       int    `json:"was"`
	}
	return a.show(ctx, "scale", ask, &reply, func() error {
		return a.say("%s: %s desired, was %d", reply.Program, many(reply.Instances, "instance"), reply.Was)
	})
}

// done asks for something and says in one line that it is so.
func (a *app) done(ctx context.Context, method string, ask map[string]any, line string) error {
	tree, err := a.call(ctx, method, ask)
	if err != nil {
		return err
	}
	return a.emit(tree, func() error { return a.say("%s", line) })
}
