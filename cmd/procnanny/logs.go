package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
)

func (a *app) logsCommand() *cobra.Command {
	l := &logReader{app: a}
	var since, until, grep string
	cmd := &cobra.Command{
		Use: "logs TARGET...", Short: "Show what instances wrote",
		Long: `Show what instances wrote to stdout and stderr: all that is kept, or the part
that the flags name; with -f go on with what they write now. Lines of several
instances come in the order of their times (which are exact to a tenth of a
second, or to the microsecond where output.timestamps is set), and begin with
whose they are.

The last lines of a crashed process:  procnanny logs web/0 --previous -n 20

What could drive a terminal is escaped. --raw prints the bytes of one instance
exactly as they were written. With -o json each line is an object.`,
		ValidArgsFunction: a.completeTargets(true, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			l.none = cmd.Flags().Changed("tail") && l.tail == 0
			if err := l.parse(since, until, grep); err != nil {
				return err
			}
			return l.run(cmd.Context(), args)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&l.follow, "follow", "f", false, "go on, until ctrl-C (begins with the last 10 lines)")
	f.BoolVar(&l.all, "all", false, "every program")
	f.BoolVar(&l.raw, "raw", false, "every byte of one instance exactly as written")
	f.IntVarP(&l.tail, "tail", "n", 0, "only the last `LINES` of each instance; with -f, 0 is only what comes")
	f.StringVar(&l.stream, "stream", "", "one `STREAM`, stdout or stderr, where output.mode is separate")
	f.StringVar(&since, "since", "", "only what came since then: a `TIME` such as 2h (ago), \"2006-01-02 15:04\" or seconds since 1970")
	f.StringVar(&until, "until", "", "only what came until then: a `TIME` as for --since")
	f.Var(runFlag{l}, "run", "only what the run with this `ID` wrote (see history); a number is an ID, anything else the daemon's run directory")
	f.BoolVarP(&l.previous, "previous", "p", false, "only what the last run wrote that has ended")
	f.StringVar(&grep, "grep", "", "only lines that a `REGEXP` (Go's syntax) matches")
	f.BoolVarP(&l.times, "timestamps", "t", false, "begin each line with when it came")
	register(cmd, "stream", cobra.FixedCompletions([]string{"stdout", "stderr"}, cobra.ShellCompDirectiveNoFileComp))
	for _, other := range []string{"grep", "timestamps"} {
		cmd.MarkFlagsMutuallyExclusive("raw", other)
	}
	return cmd
}

// followTail is how many lines following begins with.
const followTail = 10

// logReader prints output.
type logReader struct {
	app                               *app
	follow, raw, previous, times, all bool
	tail                              int
	none                              bool // not even the last line: --tail 0
	stream                            string
	since, until                      float64 // wire times; 0 is no bound
	runID                             uint64
	match                             *regexp.Regexp // nil matches all

	caller   rpc.Caller
	endpoint string
	want     []pattern
	tails    []*tail
	going    bool  // what was kept is printed
	page     int   // bytes asked for at once
	label    int   // columns of the longest label; 0 shows none
	open     *tail // whose line on the screen has no end yet, or nil
}

// runFlag is --run ID, beside the --run DIR that all commands have.
type runFlag struct{ l *logReader }

func (runFlag) Type() string { return "ID" }

func (f runFlag) String() string {
	if f.l == nil || f.l.runID == 0 {
		return ""
	}
	return strconv.FormatUint(f.l.runID, 10)
}

// Set takes a number as a run, and the rest as a directory.
func (f runFlag) Set(text string) error {
	id, err := strconv.ParseUint(text, 10, 63)
	switch {
	case err != nil:
		f.l.app.place.Run = text
	case id == 0:
		return errors.New("runs are numbered from 1")
	default:
		f.l.runID = id
	}
	return nil
}

// parse reads what flags say in words.
func (l *logReader) parse(since, until, grep string) (err error) {
	if l.since, err = l.wireTime(since); err != nil {
		return err
	}
	if l.until, err = l.wireTime(until); err != nil {
		return err
	}
	if grep != "" {
		if l.match, err = regexp.Compile(grep); err != nil {
			return fmt.Errorf("cannot read the regular expression %q: %w", grep, err)
		}
	}
	switch {
	case l.runID != 0 && l.previous:
		return errors.New("give either --run or --previous")
	case l.tail < 0:
		return fmt.Errorf("cannot show the last %d lines", l.tail)
	case l.raw && l.app.output != "text":
		return fmt.Errorf("cannot print raw bytes as %s", l.app.output)
	}
	return nil
}

// wireTime is a flag's time as the daemon wants it; 0 for none.
func (l *logReader) wireTime(text string) (float64, error) {
	if text == "" {
		return 0, nil
	}
	at, err := sinceTime(text, l.app.now())
	return float64(at.UnixMicro()) / 1e6, err
}

// logPage is how many bytes are asked for at once, all instances together.
const (
	logPage    = 256 << 10
	logPageMin = 16 << 10
	logPageAll = 8 << 20
)

func (l *logReader) run(ctx context.Context, args []string) error {
	args, err := targets(args, l.all)
	if err != nil {
		return err
	}
	if l.caller, l.endpoint, err = l.app.open(ctx, l.app.answerIn(nil)); err != nil {
		return err
	}
	defer l.caller.Close()
	if err := l.findTails(ctx, args); err != nil {
		return err
	}
	l.page = max(logPageMin, min(logPage, logPageAll/len(l.tails)))
	if l.follow && l.tail == 0 && !l.none && l.since == 0 && l.runID == 0 {
		l.tail = followTail
	}
	if l.follow {
		var cancel context.CancelFunc
		ctx, cancel = l.app.following(ctx)
		defer cancel()
	}
	news, stop := l.listen(ctx)
	defer stop()
	switch err := l.kept(ctx); {
	case l.follow && ctx.Err() != nil:
		return nil
	case err != nil || !l.follow:
		return err
	}
	return l.live(ctx, news)
}

// kept prints what there is.
func (l *logReader) kept(ctx context.Context) error {
	for _, t := range l.tails {
		if err := t.begin(ctx); err != nil {
			return err
		}
	}
	if err := l.merge(ctx, l.tails); err != nil {
		return err
	}
	for _, t := range l.tails {
		if err := t.flush(!l.follow); err != nil {
			return err
		}
	}
	return nil
}

// merge prints what some have, the oldest line first. Of lines that are equally
// old those of one stream stay together.
func (l *logReader) merge(ctx context.Context, some []*tail) error {
	for {
		var first *tail
		for _, t := range some {
			if err := t.fill(ctx); err != nil {
				return err
			}
			if len(t.lines) > 0 && (first == nil || t.lines[0].time < first.lines[0].time) {
				first = t
			}
		}
		if first == nil {
			return nil
		}
		if err := l.print(first.pop()); err != nil {
			return err
		}
	}
}

// findTails finds the streams that the targets mean.
func (l *logReader) findTails(ctx context.Context, args []string) error {
	ids, err := l.instances(ctx, args)
	if err != nil {
		return err
	}
	if l.raw && len(ids) != 1 {
		return fmt.Errorf("cannot print %d instances raw: name one, such as %s", len(ids), ids[0])
	}
	for _, id := range ids {
		run := l.runID
		if l.previous {
			if run, err = l.lastEnded(ctx, id); err != nil {
				return err
			}
			if run == 0 {
				continue
			}
		}
		if len(ids) > 1 {
			l.label = max(l.label, columns(safe(id.String())))
		}
		streams, err := l.streams(ctx, id)
		if err != nil {
			return err
		}
		for _, s := range streams {
			l.tails = append(l.tails, &tail{reader: l, id: id, stream: s, run: run})
		}
	}
	if len(l.tails) == 0 {
		return errors.New("no run has ended yet")
	}
	return nil
}

// lastEnded is the newest run of an instance that has ended; 0: none has.
func (l *logReader) lastEnded(ctx context.Context, id reconcile.InstanceID) (uint64, error) {
	tree, err := ask(ctx, l.caller, l.endpoint, "history", map[string]any{"program": id.Program, "instance": id.Index, "limit": historyLook})
	if err != nil {
		return 0, err
	}
	var reply struct {
		Runs []runView `json:"runs"`
	}
	if err := into(tree, &reply); err != nil {
		return 0, err
	}
	for _, r := range slices.Backward(reply.Runs) {
		if r.End != 0 && r.PID != 0 { // what could not start wrote nothing
			return r.RunID, nil
		}
	}
	return 0, nil
}

// historyLook is how many runs are looked at for one that ended.
const historyLook = 20

// instances are those that the targets mean. What the daemon no longer knows, or
// what is scaled to nothing, may have left files: an instance is then asked for by
// number, and a program's instances are those that history tells of.
func (l *logReader) instances(ctx context.Context, args []string) (out []reconcile.InstanceID, err error) {
	if l.want, err = parseTargets(args); err != nil {
		return nil, err
	}
	exact := func(t pattern) bool { return t.Index != nil && !t.Glob() }
	var reply statusReply
	if slices.ContainsFunc(l.want, func(t pattern) bool { return !exact(t) }) {
		tree, err := ask(ctx, l.caller, l.endpoint, "status", nil)
		if err != nil {
			return nil, err
		}
		if err := into(tree, &reply); err != nil {
			return nil, err
		}
	}
	for _, t := range l.want {
		switch one := []pattern{t}; {
		case exact(t):
			out = append(out, reconcile.InstanceID{Program: t.Program, Index: *t.Index})
		case t.Glob() || len(known(one, reply)) > 0:
			if err := missing(one, reply.Programs); err != nil {
				return nil, err
			}
			out = append(out, known(one, reply)...)
		default:
			gone, err := l.gone(ctx, t.Program)
			if err != nil {
				return nil, err
			}
			out = append(out, gone...)
		}
	}
	slices.SortFunc(out, reconcile.InstanceID.Compare)
	if out = slices.Compact(out); len(out) == 0 {
		return nil, errors.New("there is no instance to show")
	}
	return out, nil
}

// known are the instances in a status reply that are wanted.
func known(want []pattern, reply statusReply) (out []reconcile.InstanceID) {
	for name, p := range reply.Programs {
		for index := range p.Instances {
			if wantedInstance(want, name, index) {
				out = append(out, reconcile.InstanceID{Program: name, Index: index})
			}
		}
	}
	return out
}

// gone are the instances that a program had which has none now.
func (l *logReader) gone(ctx context.Context, program string) (out []reconcile.InstanceID, err error) {
	tree, err := ask(ctx, l.caller, l.endpoint, "history", map[string]any{"program": program})
	if err != nil {
		return nil, err
	}
	var reply struct {
		Runs []runView `json:"runs"`
	}
	if err := into(tree, &reply); err != nil {
		return nil, err
	}
	for _, r := range reply.Runs {
		out = append(out, reconcile.InstanceID{Program: r.Program, Index: r.Instance})
	}
	return out, nil
}

// streams are those of an instance that hold something: the merged one, or
// stdout and stderr.
func (l *logReader) streams(ctx context.Context, id reconcile.InstanceID) ([]string, error) {
	if l.stream != "" {
		return []string{l.stream}, nil
	}
	var some []string
	var failed error
	for _, s := range []string{"", "stdout", "stderr"} {
		c, err := l.read(ctx, id, map[string]any{"stream": s, "limit": 1})
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if c.next > 0 {
			some = append(some, s)
		}
	}
	switch {
	case len(some) > 0:
		return some, nil
	case l.follow && failed == nil: // nothing was written yet: everything
		return []string{"", "stdout", "stderr"}, nil
	case failed != nil:
		_, err := l.read(ctx, id, nil)
		return []string{""}, err
	}
	return []string{""}, nil
}

// followEvery is how old a line may be that -f shows where nothing tells of it.
const followEvery = 200 * time.Millisecond
