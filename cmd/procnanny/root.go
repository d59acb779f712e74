package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/procnanny/procnanny/runtime/place"
	"github.com/procnanny/procnanny/spec"
)

// commands is every command, in the order of the help: looking, changing,
// configuration, records, the daemon.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.statusCommand(), a.whyCommand(), a.logsCommand(), a.eventsCommand(), a.historyCommand(), a.hooksCommand(),
		a.planCommand(), a.applyCommand(), a.vetCommand(), a.simCommand(), a.diffCommand(), a.generationsCommand(), a.rollbackCommand(),
		a.scaleCommand(), a.startCommand(), a.stopCommand(), a.restartCommand(), a.signalCommand(),
		a.setCommand(), a.createCommand(), a.deleteCommand(), a.overridesCommand(), a.resetCommand(), a.exportCommand(),
		a.statesCommand(), a.schemaCommand(), a.methodsCommand(), a.callCommand(),
		a.doctorCommand(), a.keygenCommand(), a.versionCommand(), a.upgradeCommand(), a.shutdownCommand(), a.completionCommand(),
	}
}

// elsewhere are words of other supervisors' clients, by the command that does the
// same here: who types them is told so.
var elsewhere = map[string][]string{
	"status":   {"list", "ls", "ps", "services", "svstat", "pid", "stats", "top", "monit"},
	"why":      {"info", "describe", "show", "inspect"},
	"logs":     {"log", "tail", "journal"},
	"events":   {"notices", "changes", "maintail", "monitor"},
	"history":  {"svdt"},
	"plan":     {"reread", "diff-config", "dry-run"},
	"apply":    {"reload", "update", "reloadconfig", "daemon-reload", "replan", "up"},
	"vet":      {"validate", "verify", "check", "lint", "test"},
	"scale":    {"incr", "decr", "numprocesses", "resize"},
	"start":    {"enable", "run", "resume"},
	"stop":     {"disable", "down", "pause", "mask"},
	"signal":   {"kill", "sendsignal", "hup"},
	"create":   {"add", "new"},
	"delete":   {"remove", "rm", "del"},
	"export":   {"save", "dump"},
	"shutdown": {"quit", "exit", "halt", "stop-all"},
}

const rootLong = `See and change what procnannyd runs.

A TARGET is a program ("web"), one instance ("web/2"), or a glob ("w*", "*/0").
Exit codes: 0 done, 1 refused or failed, 2 plan and diff found changes,
3 the daemon cannot be reached, 4 status --check found what does not run.`

// root is the whole command tree.
func (a *app) root() *cobra.Command {
	cobra.EnableCommandSorting = false
	root := &cobra.Command{
		Use:               "procnanny",
		Short:             "See and change what procnannyd runs",
		Long:              rootLong,
		Version:           version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.checkFlags() },
	}
	root.SetVersionTemplate("procnanny {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(helpCommand())
	f := root.PersistentFlags()
	f.SortFlags, root.Flags().SortFlags = false, false
	f.StringVarP(&a.output, "output", "o", "text", "`FORMAT` of what is printed: text for people; json or yaml, stable, for scripts")
	f.StringVar(&a.place.Run, "run", "", "the daemon's run `DIR` (default $PROCNANNY_RUN, or as for procnannyd)")
	f.StringVar(&a.place.Connect, "connect", "", "instead, the daemon's `ENDPOINT`, ipc://PATH or tcp://ADDRESS:PORT (default $PROCNANNY_CONNECT or $PROCNANNY_LISTEN)")
	f.StringVar(&a.place.Events, "events", "", "where it publishes events, an `ENDPOINT` (default $PROCNANNY_EVENTS, or beside an ipc endpoint)")
	f.StringVar(&a.place.Key, "key", "", "our key pair, a `FILE` that \"keygen client\" made, for a tcp endpoint (default $PROCNANNY_KEY)")
	f.StringVar(&a.place.ServerKey, "server-key", "", "the daemon's public `KEY`, or a file with it (default $PROCNANNY_SERVER_KEY)")
	f.DurationVar(&a.timeout, "timeout", 0, "how long to wait for an answer, a `DURATION` (default 10s, with --wait 60s)")
	f.BoolP("help", "h", false, "print help")
	root.Flags().Bool("version", false, "print the version of this command")
	register(root, "output", cobra.FixedCompletions(outputs, cobra.ShellCompDirectiveNoFileComp))
	for _, cmd := range a.commands() {
		cmd.Flags().SortFlags = false
		cmd.SuggestFor = elsewhere[cmd.Name()]
		root.AddCommand(cmd)
		expects(cmd)
	}
	return root
}

// helpCommand is help, of what there is.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]...", Short: "Print the help of a command",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			below, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var out []string
			for _, c := range below.Commands() {
				if strings.HasPrefix(c.Name(), word) {
					out = append(out, c.Name()+"\t"+c.Short)
				}
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			of, left, err := cmd.Root().Find(args)
			if err == nil && len(left) > 0 && of.HasSubCommands() {
				err = fmt.Errorf("unknown command %q for %q", left[0], of.CommandPath())
			}
			if err != nil {
				return err
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	}
}

// expects has a command, and those below it, say how it is used when the number
// of its arguments is wrong, instead of counting them.
func expects(cmd *cobra.Command) {
	for _, below := range cmd.Commands() {
		expects(below)
	}
	count := cmd.Args
	if count == nil || cmd.HasSubCommands() {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if count(cmd, args) == nil {
			return nil
		}
		usage := strings.TrimSuffix(cmd.UseLine(), " [flags]")
		return fmt.Errorf("expected: %s (%s --help says more)", usage, cmd.CommandPath())
	}
}

// flagKinds are the types of flags that only say how they cannot be parsed.
var flagKinds = map[string]string{"int": "an integer", "uint64": "an integer, 0 or more", "duration": "a duration such as 10s"}

// negatives are what is meant by a number behind a dash, which is no flag of ours,
// where people write one.
var negatives = map[string]func(digits string) error{
	"scale":    func(digits string) error { return errCount("-" + digits) },
	"rollback": func(digits string) error { return errGeneration("-" + digits) },
	"diff":     func(digits string) error { return errGeneration("-" + digits) },
	"set": func(digits string) error {
		return fmt.Errorf("cannot set -%s: a negative value is written KEY=-%[1]s", digits)
	},
	"logs": func(digits string) error { return fmt.Errorf("cannot show -%s: the last lines are -n %[1]s", digits) },
}

// flagError says more about a flag that cannot be used.
func flagError(cmd *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		digits := unknown.GetSpecifiedShortnames()
		if meant := negatives[cmd.Name()]; meant != nil && digits != "" && digits[0] >= '0' && digits[0] <= '9' {
			return meant(digits)
		}
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if n := spec.Nearest(unknown.GetSpecifiedName(), names); n != "" {
			return fmt.Errorf("%w (did you mean --%s? %s --help lists the flags)", err, n, cmd.CommandPath())
		}
	}
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		if kind := flagKinds[invalid.GetFlag().Value.Type()]; kind != "" {
			err = fmt.Errorf("--%s expects %s, found %q", invalid.GetFlag().Name, kind, invalid.GetValue())
		}
	}
	return fmt.Errorf("%w (%s --help lists the flags)", err, cmd.CommandPath())
}

var outputs = []string{"text", "json", "yaml"}

func (a *app) checkFlags() error {
	if !slices.Contains(outputs, a.output) {
		return fmt.Errorf("cannot use -o %s: expected text, json or yaml", safe(a.output))
	}
	if a.timeout < 0 {
		return fmt.Errorf("cannot use --timeout %v: it is negative", a.timeout)
	}
	return nil
}

// The times to wait when nobody said one. A request with wait gets both: what
// the daemon waits, and then the time for its answer.
const (
	answerTimeout = 10 * time.Second
	waitTimeout   = 60 * time.Second
)

// answerIn is how long to wait for an answer.
func (a *app) answerIn(args map[string]any) time.Duration {
	if a.timeout > 0 && args["wait"] != true {
		return a.timeout
	}
	return answerTimeout
}

// waitFor is how long the daemon is asked to wait.
func (a *app) waitFor() time.Duration {
	if a.timeout > 0 {
		return a.timeout
	}
	return waitTimeout
}

// endpoint is where the daemon is asked.
func (a *app) endpoint() (string, error) {
	return place.ClientEndpoint(a.place, a.uid, a.getenv)
}

// register sets the completion of a flag's values; that the flag exists is
// known here.
func register(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err)
	}
}
