package place

import (
	"errors"
	"fmt"
	"io"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// flagRow is one flag: how it is written, read into a Daemon, and read back.
type flagRow struct {
	name, arg, doc string
	// many may be repeated; the variable's values are separated by commas.
	many    bool
	boolean bool
	// late is one that older versions of us, to which we hand over, do not know:
	// it is left out while it says nothing.
	late bool
	set  func(d *Daemon, values []string) error
	get  func(d Daemon) []string
}

// variable is the environment variable of a flag.
func variable(flag string) string {
	return "PROCNANNY_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// flags is every flag that has a value, in the order of the help.
func flags() []flagRow {
	return []flagRow{
		text("config", "PATH", "the configuration: a file, or a directory of them", func(d *Daemon) *string { return &d.Config }),
		text("state", "DIR", "what must outlive a reboot", func(d *Daemon) *string { return &d.State }),
		text("run", "DIR", "sockets, and what must only outlive our processes", func(d *Daemon) *string { return &d.Run }),
		text("log-dir", "DIR", "the programs' output", func(d *Daemon) *string { return &d.LogDir }),
		list("listen", "ENDPOINT", "where requests are answered, ipc://PATH or tcp://ADDRESS:PORT (with keys); may be repeated (default ipc://RUN/rpc.sock)", func(d *Daemon) *[]string { return &d.Listen }),
		list("events", "ENDPOINT", "where events are published; may be repeated (default ipc://RUN/events.sock)", func(d *Daemon) *[]string { return &d.Events }),
		list("legacy-events", "ENDPOINT", "where events are published in the form of 2011; may be repeated", func(d *Daemon) *[]string { return &d.LegacyEvents }),
		choice("apply", "auto: a save is applied; manual: it waits for `procnanny apply`", []string{ApplyAuto, ApplyManual}, func(d *Daemon) *string { return &d.Apply }),
		choice("on-exit", "what TERM does to the programs", []string{OnExitStop, OnExitLeave}, func(d *Daemon) *string { return &d.OnExit }),
		choice("supervised", "whether somebody else starts the daemon again when it is killed; otherwise procnanny-control does (auto: yes where NOTIFY_SOCKET is set)",
			[]string{SupervisedAuto, SupervisedYes, SupervisedNo}, func(d *Daemon) *string { return &d.Supervised }),
		{
			name: "shutdown-timeout", arg: "DURATION", doc: "how long stopping everything may take, 0 is no limit (default 0, as PID 1 8s)",
			set: setTimeout, get: func(d Daemon) []string { return []string{d.ShutdownTimeout.String()} },
		},
		{
			name: "trust-config", arg: "UID", doc: "a user, besides root, who may write what root's daemon reads",
			set: setTrust, get: getTrust,
		},
		optional("admin-group", "GROUP", "whose members may use every method", func(d *Daemon) *string { return &d.AdminGroup }),
		optional("log-group", "GROUP", "whose members may read the programs' output", func(d *Daemon) *string { return &d.LogGroup }),
		{
			name: "keys", arg: "DIR", doc: "the keys of tcp endpoints, made by `procnanny keygen` (default STATE/keys)",
			set: text("keys", "", "", func(d *Daemon) *string { return &d.Keys }).set, get: func(d Daemon) []string { return []string{d.Keys} },
		},
		{
			name: "insecure-loopback", boolean: true,
			doc: "serve tcp endpoints on loopback addresses without keys: every local user can then do everything, as nobody can tell who asks",
			set: func(d *Daemon, v []string) (err error) { d.InsecureLoopback, err = parseBool(v[0]); return err },
			get: func(d Daemon) []string { return []string{strconv.FormatBool(d.InsecureLoopback)} },
		},
		{
			name: "oom-score-adj", arg: "N", late: true,
			doc: "our own oom_score_adj, where we may have it; programs get the one that we were started with (default -900, or less where we have less)",
			set: setOOM, get: getOOM,
		},
	}
}

func text(name, arg, doc string, field func(*Daemon) *string) flagRow {
	f := optional(name, arg, doc, field)
	f.set = func(d *Daemon, v []string) error {
		if v[0] == "" {
			return errors.New("expected a path")
		}
		if strings.ContainsRune(v[0], 0) {
			return errors.New("a path cannot contain a NUL byte")
		}
		*field(d) = v[0]
		return nil
	}
	return f
}

// optional is a text that may be empty: there is none.
func optional(name, arg, doc string, field func(*Daemon) *string) flagRow {
	return flagRow{
		name: name, arg: arg, doc: doc,
		set: func(d *Daemon, v []string) error { *field(d) = v[0]; return nil },
		get: func(d Daemon) []string { return []string{*field(&d)} },
	}
}

func list(name, arg, doc string, field func(*Daemon) *[]string) flagRow {
	return flagRow{
		name: name, arg: arg, doc: doc, many: true,
		set: func(d *Daemon, v []string) error {
			*field(d) = nil
			for _, text := range v {
				if text == "" {
					continue
				}
				endpoint, err := parseEndpoint(text)
				switch {
				case err != nil && len(v) > 1:
					return fmt.Errorf("%s: %w", text, err)
				case err != nil:
					return err
				}
				*field(d) = append(*field(d), endpoint)
			}
			return nil
		},
		get: func(d Daemon) []string { return *field(&d) },
	}
}

func choice(name, doc string, of []string, field func(*Daemon) *string) flagRow {
	f := optional(name, strings.Join(of, "|"), doc, field)
	f.set = func(d *Daemon, v []string) error {
		if !slices.Contains(of, v[0]) {
			return fmt.Errorf("expected %s", strings.Join(of, " or "))
		}
		*field(d) = v[0]
		return nil
	}
	return f
}

func setTimeout(d *Daemon, v []string) error {
	t, err := time.ParseDuration(v[0])
	if err != nil || t < 0 {
		return errors.New("expected a duration such as 30s, or 0")
	}
	d.ShutdownTimeout = t
	return nil
}

// setTrust takes a uid, or a name for convenience; what is kept is the uid.
func setTrust(d *Daemon, v []string) error {
	if v[0] == "" {
		d.TrustConfig = nil
		return nil
	}
	id := v[0]
	if u, err := user.Lookup(id); err == nil {
		id = u.Uid
	}
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil || n == 1<<32-1 {
		return errors.New("expected a uid, or the name of a user")
	}
	uid := uint32(n)
	d.TrustConfig = &uid
	return nil
}

func getTrust(d Daemon) []string {
	if d.TrustConfig == nil {
		return nil
	}
	return []string{strconv.FormatUint(uint64(*d.TrustConfig), 10)}
}

func setOOM(d *Daemon, v []string) error {
	d.OOMScoreAdj = nil
	if v[0] == "" {
		return nil
	}
	n, err := strconv.Atoi(v[0])
	if err != nil || n < -1000 || n > 1000 {
		return errors.New("expected an integer from -1000 to 1000")
	}
	d.OOMScoreAdj = &n
	return nil
}

func getOOM(d Daemon) []string {
	if d.OOMScoreAdj == nil {
		return nil
	}
	return []string{strconv.Itoa(*d.OOMScoreAdj)}
}

func parseBool(text string) (bool, error) {
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, errors.New("expected true or false")
	}
	return b, nil
}

// take sets the flag from the command line, or else from its variable.
func (f flagRow) take(d *Daemon, values []string, getenv func(string) string) error {
	from := "--" + f.name
	if len(values) == 0 {
		v := getenv(variable(f.name))
		if v == "" {
			return nil
		}
		from, values = variable(f.name), []string{v}
		if f.many {
			values = strings.Split(v, ",")
		}
	}
	if len(values) > 1 && !f.many {
		values = values[len(values)-1:] // the last one wins, as everywhere
	}
	if err := f.set(d, values); err != nil {
		return fmt.Errorf("cannot use %s %q: %w", from, strings.Join(values, ","), err)
	}
	return nil
}

// printHelp writes the help. w is a terminal or a buffer: if it fails, there is
// nobody to tell.
func printHelp(w io.Writer, name string, d Daemon) {
	var b strings.Builder
	b.WriteString("Usage: " + name + " [FLAG]...\n\n")
	t := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	line := func(flag, doc string) { _, _ = io.WriteString(t, "  --"+flag+"\t"+doc+"\n") }
	for _, f := range flags() {
		doc := f.doc
		if def := strings.Join(f.get(d), ","); def != "" && !f.boolean && !strings.Contains(doc, "(default") {
			doc += " (default " + def + ")"
		}
		line(strings.TrimSpace(f.name+" "+f.arg), doc)
	}
	line("check-upgrade", "print the formats that this binary knows; `procnanny upgrade` asks before it switches")
	line("version", "print the version")
	line("help", "print this")
	_ = t.Flush()
	b.WriteString("\nEach flag can also be given by a variable: --log-dir is " + variable("log-dir") +
		". Those that may be\nrepeated have their values separated by commas there.\n")
	_, _ = io.WriteString(w, b.String())
}
