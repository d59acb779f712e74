package rpc

import "context"

// Client is the typed form of the methods that programs use most, over any
// Caller. What it has no method for, Call does.
type Client struct{ Caller }

// TargetArgs say which instances a command is about.
type TargetArgs struct {
	// Program and Instance (nil: all), or Targets.
	Program  string
	Instance *int
	Targets  []string
	// Wait waits until it has happened, Timeout seconds at most (0: 60).
	Wait    bool
	Timeout float64
}

func (t TargetArgs) args() map[string]any {
	m := map[string]any{}
	if t.Program != "" {
		m["program"] = t.Program
	}
	if t.Instance != nil {
		m["instance"] = *t.Instance
	}
	if len(t.Targets) > 0 {
		m["targets"] = t.Targets
	}
	if t.Wait {
		m["wait"] = true
	}
	if t.Timeout > 0 {
		m["timeout"] = t.Timeout
	}
	return m
}

// Results are what a command does to each instance, by program and index:
// true, or the reason why not.
type Results map[string]map[int]any

func (c Client) command(ctx context.Context, method string, args map[string]any) (Results, error) {
	var r struct {
		Results Results `msgpack:"results"`
	}
	err := c.Call(ctx, method, args, &r)
	return r.Results, err
}

// Restart gives instances new processes.
func (c Client) Restart(ctx context.Context, t TargetArgs) (Results, error) {
	return c.command(ctx, "restart", t.args())
}

// Start wants instances up.
func (c Client) Start(ctx context.Context, t TargetArgs) (Results, error) {
	return c.command(ctx, "start", t.args())
}

// Stop wants instances down.
func (c Client) Stop(ctx context.Context, t TargetArgs) (Results, error) {
	return c.command(ctx, "stop", t.args())
}

// Signal sends a signal (a name or a number) to main processes.
func (c Client) Signal(ctx context.Context, t TargetArgs, signal string) (Results, error) {
	args := t.args()
	args["signal"] = signal
	return c.command(ctx, "signal", args)
}

// Scale wants n instances of a program.
func (c Client) Scale(ctx context.Context, program string, n int) error {
	return c.Call(ctx, "scale", map[string]any{"program": program, "instances": n}, nil)
}

// Status is the reply to `status`, without what only people read.
type Status struct {
	Programs   map[string]ProgramStatus `msgpack:"programs"`
	Config     ConfigStatus             `msgpack:"config"`
	ObservedAt float64                  `msgpack:"observed_at"`
}

// ConfigStatus is the state of the configuration.
type ConfigStatus struct {
	State      string `msgpack:"state"`
	Generation uint64 `msgpack:"generation"`
	Digest     string `msgpack:"digest"`
	Error      string `msgpack:"error"`
	Pinned     uint64 `msgpack:"pinned"`
	Ahead      bool   `msgpack:"ahead"`
}

// ProgramStatus is one program.
type ProgramStatus struct {
	Command    string                 `msgpack:"command"`
	Args       []string               `msgpack:"args"`
	UID        uint32                 `msgpack:"uid"`
	GID        uint32                 `msgpack:"gid"`
	Nice       int                    `msgpack:"nice"`
	IONice     int                    `msgpack:"ionice"`
	Active     bool                   `msgpack:"active"`
	Instances  map[int]InstanceStatus `msgpack:"instances"`
	Generation uint64                 `msgpack:"generation"`
	Flapping   bool                   `msgpack:"flapping"`
	Desired    int                    `msgpack:"desired"`
	Held       string                 `msgpack:"held"`
}

// InstanceStatus is one instance. ExitCode and ExitSignal are nil when the
// kernel could not tell.
type InstanceStatus struct {
	PID         int               `msgpack:"pid"`
	State       string            `msgpack:"state"`
	ExitCode    *int              `msgpack:"exitcode"`
	ExitSignal  *int              `msgpack:"exitsignal"`
	AdminState  string            `msgpack:"admin_state"`
	RunID       uint64            `msgpack:"run_id"`
	Since       float64           `msgpack:"since"`
	Uptime      float64           `msgpack:"uptime"`
	Starts      int               `msgpack:"starts"`
	NextStart   float64           `msgpack:"next_start"`
	Containment string            `msgpack:"containment"`
	Pending     map[string]string `msgpack:"pending"`
	Drift       map[string]string `msgpack:"drift"`
	OutputFault string            `msgpack:"output_fault"`
	Finished    string            `msgpack:"finished"`
}

// Status asks for all programs, or for one.
func (c Client) Status(ctx context.Context, program string) (Status, error) {
	args := map[string]any{}
	if program != "" {
		args["program"] = program
	}
	var s Status
	err := c.Call(ctx, "status", args, &s)
	return s, err
}

// Version is the reply to `version`.
type Version struct {
	Version string `msgpack:"version"`
	Keeper  struct {
		PID int `msgpack:"pid"`
	} `msgpack:"keeper"`
	Control struct {
		PID int `msgpack:"pid"`
	} `msgpack:"control"`
}

// Version asks what runs there.
func (c Client) Version(ctx context.Context) (Version, error) {
	var v Version
	err := c.Call(ctx, "version", nil, &v)
	return v, err
}
