package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/reconcile"
)

// runView is one process life.
type runView struct {
	RunID      uint64  `json:"run_id"`
	Program    string  `json:"program"`
	Instance   int     `json:"instance"`
	PID        int     `json:"pid"`
	Start      float64 `json:"start"`
	End        float64 `json:"end"`
	Duration   float64 `json:"duration"`
	ExitCode   *int    `json:"exitcode"`
	ExitSignal any     `json:"exitsignal"`
	Core       bool    `json:"core"`
	Cause      string  `json:"cause"`
	StartCause string  `json:"start_cause"`
	Generation uint64  `json:"generation"`
	By         *byView `json:"by"`
	Error      string  `json:"error"`
	Unknown    bool    `json:"exit_unknown"`
}

// end is how a run ended, as people say it.
func (r runView) end() cell {
	if r.End == 0 {
		return cell{"lives", green}
	}
	if r.Error != "" {
		return cell{r.Error, red}
	}
	e := exitView{Code: r.ExitCode, Signal: r.ExitSignal, Core: r.Core, Unknown: r.Unknown}
	look := none
	if r.Cause == string(reconcile.CauseCrashed) {
		look = red
	}
	return cell{e.text(time.Time{}), look}
}

func (a *app) historyCommand() *cobra.Command {
	var since string
	var limit int
	cmd := &cobra.Command{
		Use: "history TARGET", Short: "List the process lives of a program or an instance",
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeTargets(true, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := parseTargets(args)
			if err != nil {
				return err
			}
			ask := map[string]any{"program": t[0].Program, "limit": limit}
			if t[0].Index != nil {
				ask["instance"] = *t[0].Index
			}
			if since != "" {
				at, err := sinceTime(since, a.now())
				if err != nil {
					return err
				}
				ask["since"] = float64(at.UnixMicro()) / 1e6
			}
			var reply struct {
				Runs []runView `json:"runs"`
			}
			return a.show(cmd.Context(), "history", ask, &reply, func() error { return a.grid(historyTable(reply.Runs)) })
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "only what began since then: a `TIME` such as 2h (ago), \"2006-01-02 15:04\" or seconds since 1970")
	cmd.Flags().IntVar(&limit, "limit", 1000, "how many at most")
	return cmd
}

func historyTable(runs []runView) *table {
	t := &table{head: []string{"RUN", "INSTANCE", "PID", "STARTED", "BECAUSE", "LIVED", "ENDED", "BECAUSE", "GENERATION", "BY"}}
	for _, r := range runs {
		pid := ""
		if r.PID > 0 {
			pid = strconv.Itoa(r.PID)
		}
		id := reconcile.InstanceID{Program: r.Program, Index: r.Instance}.String()
		row := plainCells(fmt.Sprint(r.RunID), id, pid, clock(r.Start), r.StartCause, span(seconds(r.Duration)))
		t.add(append(append(row, r.end()), plainCells(r.Cause, fmt.Sprint(r.Generation), r.By.text())...)...)
	}
	return t
}

// sinceTime reads a duration before now, a local time, or seconds since 1970.
func sinceTime(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil && s >= 0 && s < 1e11 {
		return epoch(s), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("cannot read the time %q: expected 2h, \"2006-01-02 15:04\" or seconds since 1970", text)
}
