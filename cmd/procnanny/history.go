package main

import (
	"cmp"
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
	s := several{app: a}
	cmd := &cobra.Command{
		Use: "history TARGET...", Short: "List the process lives of a program or an instance",
		ValidArgsFunction: a.completeTargets(true, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			ask := map[string]any{"limit": limit}
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
			answers, err := s.ask(cmd.Context(), "history", args, ask)
			if err != nil {
				return err
			}
			return a.emit(s.tree(answers), func() error { return a.history(answers, totals) })
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "only what lived then or later: a `TIME` such as 2h (ago), \"2006-01-02 15:04\" or seconds since 1970")
	cmd.Flags().StringVar(&until, "until", "", "only what began then or before: a `TIME`")
	cmd.Flags().StringVar(&outcome, "outcome", "", "only what had this `OUTCOME`: crash, exit, stopped, unknown, or alive")
	cmd.Flags().BoolVar(&totals, "totals", false, "instead, how often and how long it ran: up and down add up to the time looked at")
	cmd.Flags().IntVar(&limit, "limit", 1000, "the last `N` at most of each target")
	s.flag(cmd)
	register(cmd, "outcome", cobra.FixedCompletions(slices.Sorted(maps.Keys(rpc.Outcomes)), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// history prints what there is about one target or several, all runs in the order
// in which they began.
func (a *app) history(answers []answer, totals bool) error {
	var runs []runView
	sums := &table{head: []string{"INSTANCE", "FROM", "TO", "UP", "DOWN", "SHARE", "STARTS", "CRASHES", "CPU"}}
	for _, answer := range answers {
		var reply struct {
			Runs   []runView  `json:"runs"`
			Totals totalsView `json:"totals"`
		}
		if err := into(answer.tree, &reply); err != nil {
			return err
		}
		runs = append(runs, reply.Runs...)
		all := "all"
		if len(answers) > 1 {
			all = answer.target.Program
		}
		addTotals(sums, answer.target.Program, all, reply.Totals)
	}
	if totals {
		return a.grid(sums)
	}
	if len(answers) > 1 {
		slices.SortStableFunc(runs, func(x, y runView) int { return cmp.Compare(x.RunID, y.RunID) })
		runs = slices.CompactFunc(runs, func(x, y runView) bool { return x.RunID == y.RunID }) // web and web/0
	}
	if len(runs) == 0 {
		return a.say("There is no such run on record.")
	}
	return a.grid(historyTable(runs))
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

// addTotals adds the rows of a program; sum is the name of the one about all its
// instances.
func addTotals(t *table, program, sum string, all totalsView) {
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
		add(sum, all)
	}
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
