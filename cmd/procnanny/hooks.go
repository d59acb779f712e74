package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/reconcile"
)

// hookView is a hook and how it does.
type hookView struct {
	Hook    string     `json:"hook"`
	Event   string     `json:"event"`
	What    string     `json:"what"`
	Waiting int        `json:"waiting"`
	Running int        `json:"running"`
	Behind  bool       `json:"behind"`
	Done    uint64     `json:"done"`
	Failed  uint64     `json:"failed"`
	Last    *hookTry   `json:"last"`
	Dead    []deadView `json:"dead"`
	Dropped uint64     `json:"dead_dropped"`
}

type hookTry struct {
	At     float64 `json:"at"`
	OK     bool    `json:"ok"`
	Answer string  `json:"answer"`
	Took   float64 `json:"took"`
}

type deadView struct {
	Seq      uint64  `json:"seq"`
	Program  *string `json:"program"`
	Instance *int    `json:"instance"`
	At       float64 `json:"at"`
	Tries    int     `json:"tries"`
	Answer   string  `json:"answer"`
}

func (a *app) hooksCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "hooks", Short: "Show what is done when something happens, and what failed",
		Long: `Show the hooks of the configuration and how they do. What failed for good is
listed below them, until "hooks retry" has it tried again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var reply struct {
				Hooks []hookView `json:"hooks"`
			}
			return a.show(cmd.Context(), "hooks", nil, &reply, func() error { return a.showHooks(reply.Hooks) })
		},
	}
	cmd.AddCommand(a.hooksRetryCommand(), a.hooksOutputCommand())
	return cmd
}

func (a *app) showHooks(hooks []hookView) error {
	if len(hooks) == 0 {
		a.put("There are no hooks: the configuration says nothing under \"on\".")
		return nil
	}
	if err := a.grid(hooksTable(hooks, a.now())); err != nil {
		return err
	}
	dead := deadTable(hooks)
	if len(dead.rows) == 0 {
		return nil
	}
	a.put("")
	return a.grid(dead)
}

func hooksTable(hooks []hookView, now time.Time) *table {
	t := &table{head: []string{"HOOK", "ON", "DOES", "DUE", "DONE", "FAILED", "LAST"}}
	for _, h := range hooks {
		due := strconv.Itoa(h.Waiting)
		if h.Behind {
			due += "+"
		}
		last := cell{}
		if l := h.Last; l != nil {
			last.text = fmt.Sprintf("%s after %s, %s ago", l.Answer, span(seconds(l.Took)), span(now.Sub(epoch(l.At))))
			if !l.OK {
				last.style = red
			}
		}
		t.add(append(plainCells(h.Hook, h.Event, h.What, due, fmt.Sprint(h.Done), fmt.Sprint(h.Failed)), last)...)
	}
	return t
}

func deadTable(hooks []hookView) *table {
	t := &table{head: []string{"FAILED FOR GOOD", "EVENT", "ABOUT", "AT", "TRIES", "ANSWER"}}
	for _, h := range hooks {
		for _, d := range h.Dead {
			t.add(append(plainCells(h.Hook, fmt.Sprint(d.Seq), d.about(), clock(d.At), strconv.Itoa(d.Tries)), cell{d.Answer, red})...)
		}
		if h.Dropped > 0 {
			t.add(plainCells(h.Hook, "", "", "", "", fmt.Sprintf("%d more are no longer listed", h.Dropped))...)
		}
	}
	return t
}

func (d deadView) about() string {
	switch {
	case d.Program == nil:
		return ""
	case d.Instance == nil:
		return *d.Program
	}
	return reconcile.InstanceID{Program: *d.Program, Index: *d.Instance}.String()
}

func (a *app) hooksRetryCommand() *cobra.Command {
	var seq uint64
	cmd := &cobra.Command{
		Use: "retry [HOOK]", Short: "Try again what failed for good: of one hook, or of all",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ask := map[string]any{}
			if len(args) == 1 {
				ask["hook"] = args[0]
			}
			if seq > 0 {
				ask["seq"] = seq
			}
			var reply struct {
				Retried int `json:"retried"`
			}
			return a.show(cmd.Context(), "hooks_retry", ask, &reply, func() error {
				a.put(fmt.Sprintf("%d due again", reply.Retried))
				return nil
			})
		},
	}
	cmd.Flags().Uint64Var(&seq, "seq", 0, "only the event with this `SEQ`")
	return cmd
}

func (a *app) hooksOutputCommand() *cobra.Command {
	return &cobra.Command{
		Use: "output HOOK", Short: "Print what a hook's commands wrote last",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var reply struct {
				Data []byte `json:"data"`
			}
			return a.show(cmd.Context(), "hooks_output", map[string]any{"hook": args[0]}, &reply, func() error {
				_, err := fmt.Fprint(a.out, safeLines(string(reply.Data)))
				return err
			})
		},
	}
}
