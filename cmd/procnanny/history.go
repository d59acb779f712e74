package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
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
	Commit     string  `json:"commit"`
	CPU        float64 `json:"cpu"`
	PeakMemory int64   `json:"peak_memory"`
}

// totalsView are sums over a time.
type totalsView struct {
	Instance  *int         `json:"instance"`
	Since     float64      `json:"since"`
	Until     float64      `json:"until"`
	Wall      float64      `json:"wall"`
	Up        float64      `json:"up"`
	Down      float64      `json:"down"`
	UpShare   float64      `json:"up_share"`
	Starts    int          `json:"starts"`
	Crashes   int          `json:"crashes"`
	Ends      int          `json:"ends"`
	CPU       float64      `json:"cpu"`
	Instances []totalsView `json:"instances"`
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
	if reconcile.Cause(r.Cause).Crash() {
		look = red
	}
	return cell{e.text(time.Time{}), look}
}

func (a *app) historyCommand() *cobra.Command {
	var since, until, outcome string
	var limit int
	var totals bool
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
			if until != "" {
				at, err := sinceTime(until, a.now())
				if err != nil {
					return err
				}
				ask["until"] = float64(at.UnixMicro()) / 1e6
			}
			if outcome != "" {
				ask["outcome"] = outcome
			}
			if totals {
				ask["totals"] = true
			}
			var reply struct {
				Runs   []runView  `json:"runs"`
				Totals totalsView `json:"totals"`
			}
			return a.show(cmd.Context(), "history", ask, &reply, func() error {
				if totals {
					return a.grid(totalsTable(t[0].Program, reply.Totals))
				}
				return a.grid(historyTable(reply.Runs))
			})
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "only what began since then: a `TIME` such as 2h (ago), \"2006-01-02 15:04\" or seconds since 1970")
	cmd.Flags().StringVar(&until, "until", "", "only what began until then: a `TIME`")
	cmd.Flags().StringVar(&outcome, "outcome", "", "only what ended so: crash, exit, stopped, unknown, or alive")
	cmd.Flags().BoolVar(&totals, "totals", false, "instead, how often and how long it ran: up and down add up to the time looked at")
	cmd.Flags().IntVar(&limit, "limit", 1000, "how many at most")
	register(cmd, "outcome", cobra.FixedCompletions(slices.Sorted(maps.Keys(rpc.Outcomes)), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func historyTable(runs []runView) *table {
	t := &table{head: []string{"RUN", "INSTANCE", "PID", "STARTED", "BECAUSE", "LIVED", "ENDED", "BECAUSE", "CPU", "MEMORY", "GENERATION", "BY"}}
	for _, r := range runs {
		pid := ""
		if r.PID > 0 {
			pid = strconv.Itoa(r.PID)
		}
		id := reconcile.InstanceID{Program: r.Program, Index: r.Instance}.String()
		row := plainCells(fmt.Sprint(r.RunID), id, pid, clock(r.Start), r.StartCause, span(seconds(r.Duration)))
		t.add(append(append(row, r.end()), plainCells(r.Cause, r.cpu(), r.memory(), r.under(), r.By.text())...)...)
	}
	return t
}

func (r runView) cpu() string {
	if r.CPU == 0 {
		return ""
	}
	return span(seconds(r.CPU))
}

func (r runView) memory() string {
	if r.PeakMemory == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f MiB", float64(r.PeakMemory)/(1<<20))
}

// under is the generation, with its commit where that is known.
func (r runView) under() string {
	if r.Commit == "" {
		return fmt.Sprint(r.Generation)
	}
	return fmt.Sprintf("%d (%s)", r.Generation, short(r.Commit))
}

func totalsTable(program string, all totalsView) *table {
	t := &table{head: []string{"INSTANCE", "FROM", "TO", "UP", "DOWN", "SHARE", "STARTS", "CRASHES", "CPU"}}
	add := func(name string, v totalsView) {
		t.add(plainCells(name, clock(v.Since), clock(v.Until), span(seconds(v.Up)), span(seconds(v.Down)),
			fmt.Sprintf("%.2f %%", 100*v.UpShare), strconv.Itoa(v.Starts), strconv.Itoa(v.Crashes), span(seconds(v.CPU)))...)
	}
	for _, v := range all.Instances {
		if v.Instance != nil {
			add(reconcile.InstanceID{Program: program, Index: *v.Instance}.String(), v)
		}
	}
	if len(all.Instances) != 1 {
		add("all", all)
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
