package place

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// The values of Daemon.Apply, Daemon.OnExit and Daemon.Supervised.
const (
	ApplyAuto   = "auto"
	ApplyManual = "manual"
	OnExitStop  = "stop"
	OnExitLeave = "leave"

	SupervisedAuto = "auto" // when NOTIFY_SOCKET is set
	SupervisedYes  = "yes"
	SupervisedNo   = "no"
)

// Daemon is what a daemon was told at its start. Paths are absolute.
type Daemon struct {
	// Config is a file or a directory; State outlives a reboot; Run holds sockets
	// and what must outlive only our processes; LogDir holds output files.
	Config, State, Run, LogDir string
	// Listen and Events are endpoints, at least one each.
	Listen, Events []string
	// LegacyEvents are endpoints of the form of 2011, usually none.
	LegacyEvents []string
	// Apply is auto (a save is applied) or manual (it waits for apply).
	Apply string
	// OnExit is what TERM does to programs: stop or leave.
	OnExit string
	// ShutdownTimeout is how long stopping everything may take; 0 is no limit.
	ShutdownTimeout time.Duration
	// TrustConfig is a uid that may own or write our places; nil is none.
	TrustConfig *uint32
	// AdminGroup may use every method, LogGroup may read output files; names or
	// numbers, empty is none.
	AdminGroup, LogGroup string
	// Keys is the directory of the keys that tcp endpoints need.
	Keys string
	// InsecureLoopback lets tcp endpoints on loopback addresses go without keys.
	InsecureLoopback bool
	// Supervised says whether a service manager starts the daemon again when it
	// dies: auto, yes or no.
	Supervised string
	// OOMScoreAdj is our own oom_score_adj; nil: what runtime/oom thinks good.
	OOMScoreAdj *int
	// Version is set when only the version is wanted; the rest is then not set.
	Version bool
	// CheckUpgrade is set when only the formats are wanted that a binary knows.
	CheckUpgrade bool
}

// getpid is a variable so that a test can be PID 1.
var getpid = os.Getpid

// ParseDaemon reads a daemon's flags; what they do not say the variables do,
// and then the defaults. --help prints the help and returns flag.ErrHelp.
func ParseDaemon(name string, args []string, getenv func(string) string, help io.Writer) (Daemon, error) {
	given, err := split(name, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		printHelp(help, name, defaults(getenv))
		return Daemon{}, err
	case err != nil:
		return Daemon{}, err
	case given.version:
		return Daemon{Version: true}, nil
	}
	d := defaults(getenv)
	d.CheckUpgrade = given.checkUpgrade
	for _, f := range flags() {
		if err := f.take(&d, given.values[f.name], getenv); err != nil {
			return Daemon{}, err
		}
	}
	if err := d.complete(); err != nil {
		return Daemon{}, err
	}
	return d, nil
}

// defaults is a Daemon before anybody said anything, without endpoints.
func defaults(getenv func(string) string) Daemon {
	dirs := Defaults(os.Geteuid(), getenv)
	d := Daemon{
		Config: dirs.Config, State: dirs.State, Run: dirs.Run, LogDir: dirs.LogDir,
		Apply: ApplyAuto, OnExit: OnExitStop, Supervised: SupervisedAuto,
	}
	if getpid() == 1 {
		d.ShutdownTimeout = pid1Timeout
	}
	return d
}

// pid1Timeout stays below the ten seconds that container runtimes wait before
// they kill.
const pid1Timeout = 8 * time.Second

// given is what stood on the command line.
type given struct {
	values       map[string][]string
	version      bool
	checkUpgrade bool
}

// split takes the command line apart; values stay text.
func split(name string, args []string) (given, error) {
	g := given{values: map[string][]string{}}
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.BoolVar(&g.version, "version", false, "")
	set.BoolVar(&g.checkUpgrade, "check-upgrade", false, "")
	for _, f := range flags() {
		add := func(text string) error {
			g.values[f.name] = append(g.values[f.name], text)
			return nil
		}
		if f.boolean {
			set.BoolFunc(f.name, "", add)
		} else {
			set.Func(f.name, "", add)
		}
	}
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return g, err
		}
		return g, fmt.Errorf("cannot read the command line: %s (%s%s --help lists the flags)", dashes(err.Error()), meant(set, err), name)
	}
	if set.NArg() > 0 {
		return g, fmt.Errorf("cannot read the command line: %s takes only flags, found %q", name, set.Arg(0))
	}
	return g, nil
}

// dashes writes a flag of the flag package's messages as everybody else does.
func dashes(message string) string {
	head, name, ok := strings.Cut(message, ": -")
	if !ok || strings.HasPrefix(name, "-") {
		return message
	}
	return head + ": --" + name
}

// meant names the flag that an unknown one probably is.
func meant(set *flag.FlagSet, err error) string {
	_, unknown, ok := strings.Cut(err.Error(), "not defined: -")
	if !ok {
		return ""
	}
	var names []string
	set.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	if n := spec.Nearest(strings.TrimLeft(unknown, "-"), names); n != "" {
		return "did you mean --" + n + "? "
	}
	return ""
}

// complete fills in what follows from the rest, and checks what spans flags.
func (d *Daemon) complete() error {
	if d.Keys == "" && d.State != "" {
		d.Keys = filepath.Join(d.State, keysDir)
	}
	for _, p := range []struct {
		flag string
		path *string
	}{{"config", &d.Config}, {"state", &d.State}, {"run", &d.Run}, {"log-dir", &d.LogDir}, {"keys", &d.Keys}} {
		if *p.path == "" {
			return fmt.Errorf("cannot find a default for --%s: HOME is not set", p.flag)
		}
		abs, err := filepath.Abs(*p.path)
		if err != nil {
			return fmt.Errorf("cannot use --%s %q: %w", p.flag, *p.path, err)
		}
		*p.path = abs
	}
	if d.State == d.Run {
		return fmt.Errorf("cannot use %s for both --state and --run: what outlives a reboot must be apart from what does not", d.Run)
	}
	for _, list := range []struct {
		socket string
		ends   *[]string
	}{{rpcSocket, &d.Listen}, {eventsSocket, &d.Events}} {
		if len(*list.ends) > 0 {
			continue
		}
		end, err := socketEndpoint(filepath.Join(d.Run, list.socket))
		if err != nil {
			return fmt.Errorf("cannot use --run %s: %w", d.Run, err)
		}
		*list.ends = []string{end}
	}
	return nil
}

// Args is d as a command line.
func (d Daemon) Args() []string {
	var out []string
	for _, f := range flags() {
		values := f.get(d)
		if len(values) == 0 && f.late {
			continue
		}
		if len(values) == 0 {
			values = []string{""} // said, so that no variable says otherwise
		}
		for _, v := range values {
			out = append(out, "--"+f.name+"="+v)
		}
	}
	return out
}
