package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

func (a *app) generationsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "generations", Short: "List the configurations that were accepted", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var reply struct {
				Generations []generationView `json:"generations"`
			}
			return a.show(cmd.Context(), "generations", nil, &reply, func() error {
				return a.grid(generationsTable(reply.Generations))
			})
		},
	}
}

type generationView struct {
	Generation uint64  `json:"generation"`
	Digest     string  `json:"digest"`
	Commit     *string `json:"commit"`
	At         float64 `json:"at"`
	By         *byView `json:"by"`
	Programs   int     `json:"programs"`
	Instances  int     `json:"instances"`
	Current    bool    `json:"current"`
	Pinned     bool    `json:"pinned"`
}

func generationsTable(list []generationView) *table {
	t := &table{head: []string{"GENERATION", "ACCEPTED", "BY", "COMMIT", "PROGRAMS", "INSTANCES", "DIGEST", ""}}
	for _, g := range list {
		commit, note, look := "", "", none
		if g.Commit != nil {
			commit = short(*g.Commit)
		}
		if g.Current {
			note, look = "runs", green
		}
		if g.Pinned {
			note = "runs, pinned"
		}
		t.add(append(plainCells(fmt.Sprint(g.Generation), clock(g.At), g.By.text(), commit,
			fmt.Sprint(g.Programs), fmt.Sprint(g.Instances), g.Digest[:min(len(g.Digest), 12)]), cell{note, look})...)
	}
	return t
}

// diffReply is what the text view reads of a `diff` reply.
type diffReply struct {
	Generation  uint64       `json:"generation"`
	Differences []difference `json:"differences"`
}

type difference struct {
	Program    string          `json:"program"`
	Instance   *int            `json:"instance"`
	Field      string          `json:"field"`
	Desired    json.RawMessage `json:"desired"`
	Generation json.RawMessage `json:"generation"`
}

func (a *app) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use: "diff [GENERATION]", Short: "Show how desired state differs from a generation",
		Long: `Show how what is desired now, with what was set by hand, differs from a
generation (by default from the files as they were accepted last). Exit code 2
says that it differs.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var ask map[string]any
			if len(args) > 0 {
				n, err := generation(args[0])
				if err != nil {
					return err
				}
				ask = map[string]any{"generation": n}
			}
			var reply diffReply
			tree, err := a.call(cmd.Context(), "diff", ask)
			if err != nil {
				return err
			}
			if err := into(tree, &reply); err != nil {
				return err
			}
			if err := a.emit(tree, func() error { return a.diffText(reply) }); err != nil {
				return err
			}
			if len(reply.Differences) > 0 {
				return &exit{code: exitChanges}
			}
			return nil
		},
	}
}

func (a *app) diffText(reply diffReply) error {
	if len(reply.Differences) == 0 {
		return a.say("What is desired is what generation %d says.", reply.Generation)
	}
	t := &table{head: []string{"PROGRAM", "KEY", fmt.Sprintf("GENERATION %d", reply.Generation), "NOW"}}
	for _, d := range reply.Differences {
		t.add(d.row()...)
	}
	return a.grid(t)
}

func (d difference) row() []cell {
	name := d.Program
	if d.Instance != nil {
		name = reconcile.InstanceID{Program: d.Program, Index: *d.Instance}.String()
	}
	old, now := wireText(d.Generation), wireText(d.Desired)
	if d.Field == spec.FieldProgram { // the whole of it is too much for a row
		old, now = presence(old), presence(now)
	}
	return []cell{{name, none}, {d.Field, none}, {old, red}, {now, green}}
}

func presence(text string) string {
	if text == "" {
		return "absent"
	}
	return "present"
}
