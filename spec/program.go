package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
)

// Spec is everything desired: what the files say, or what they say with
// overrides on top. It is a value: nobody changes a Spec that was handed on.
type Spec struct {
	Programs map[string]Program `json:"programs"`
	// On is what is done when something happens to any of them.
	On Hooks `json:"on,omitempty"`
	// ExitWhen names the program whose end ends the daemon; empty is none.
	ExitWhen string `json:"exit_when,omitempty"`
}

// Program is one desired program, split by what a change costs.
type Program struct {
	Launch
	Tuning
	Policy

	// Admin is whether a person wants it up; it comes from overrides only.
	Admin Admin `json:"-"`
}

// Launch is what is fixed at exec. A change needs a new process.
type Launch struct {
	Command      string            `json:"command"`
	Args         []string          `json:"args,omitempty"`
	User         string            `json:"user,omitempty"`
	UID          *uint32           `json:"uid,omitempty"`
	Group        string            `json:"group,omitempty"`
	GID          *uint32           `json:"gid,omitempty"`
	Groups       []NameOrID        `json:"groups,omitzero"` // empty: none, nil: the user's own
	Dir          string            `json:"dir,omitempty"`
	Umask        *Octal            `json:"umask,omitempty"`
	Env          map[string]string `json:"env,omitempty"`
	EnvFiles     []string          `json:"env_files,omitempty"`
	InheritEnv   InheritEnv        `json:"inherit_env,omitzero"`
	Capabilities *Capabilities     `json:"capabilities,omitempty"`
	NoNewPrivs   bool              `json:"no_new_privs,omitempty"`
	Stdin        string            `json:"stdin,omitempty"`
	// Mode is output.mode in the file.
	Mode OutputMode `json:"-"`
	// Identity is who User, UID, Group, GID and Groups turned out to be when
	// the configuration was accepted. It is no key of a file.
	Identity Identity `json:"-"`
}

// Tuning is what the kernel can change on a live pid. A nil field was not set:
// the child inherits, and drift is not judged.
type Tuning struct {
	Nice        *int             `json:"nice,omitempty"`
	IONice      *IONice          `json:"ionice,omitempty"`
	Limits      map[string]Limit `json:"limits,omitempty"`
	CPUs        string           `json:"cpus,omitempty"`
	Sched       *Sched           `json:"sched,omitempty"`
	OOMScoreAdj *int             `json:"oom_score_adj,omitempty"`
	Cgroup      *Cgroup          `json:"cgroup,omitempty"`
}

// Policy is what only procnanny itself reads. A change touches nobody.
type Policy struct {
	Instances   int     `json:"instances"`
	Output      Output  `json:"-"`
	Start       Start   `json:"start"`
	Restart     Restart `json:"restart"`
	Stop        Stop    `json:"stop"`
	Update      Update  `json:"update"`
	SuccessExit ExitSet `json:"success_exit"`
	Drift       string  `json:"drift"`
	// On is what is done when something happens to it.
	On Hooks `json:"on,omitempty"`
}

// Identity is a resolved user: who the child runs as.
type Identity struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
	// Switch is whether the program names a user or group at all. If not, the
	// child keeps the daemon's own credentials.
	Switch bool `json:"switch,omitempty"`
	// Name, Home and Shell become USER, LOGNAME, HOME and SHELL; empty for a
	// uid that passwd does not know.
	Name  string `json:"name,omitempty"`
	Home  string `json:"home,omitempty"`
	Shell string `json:"shell,omitempty"`
}

// Capabilities are names as in capabilities(7), with or without CAP_, any case.
type Capabilities struct {
	Ambient []string `json:"ambient,omitempty"`
	// Bounding is the most that is kept: nil is no limit, empty is nothing.
	Bounding []string `json:"bounding,omitzero"`
}

// IONice is an I/O scheduling class and level, ioprio_set(2).
type IONice struct {
	Class string `json:"class"` // none, realtime, best-effort, idle
	Level int    `json:"level"` // 0 (first served) to 7
}

// Sched is a scheduling policy, sched(7).
type Sched struct {
	Policy   string `json:"policy"` // other, batch, idle, fifo, rr
	Priority int    `json:"priority,omitempty"`
}

// Cgroup holds cgroup v2 limits, by the kernel's own names and units; see
// Documentation/admin-guide/cgroup-v2.rst. Nil or empty was not set.
type Cgroup struct {
	MemoryMax  *Size  `json:"memory_max,omitempty"`  // bytes
	MemoryHigh *Size  `json:"memory_high,omitempty"` // bytes
	CPUMax     string `json:"cpu_max,omitempty"`     // "150%", "max", or the kernel's "QUOTA PERIOD" in us
	CPUWeight  *int   `json:"cpu_weight,omitempty"`  // 1 to 10000
	PidsMax    *Size  `json:"pids_max,omitempty"`
	IOWeight   *int   `json:"io_weight,omitempty"` // 1 to 10000
}

// Output is the part of the output block that costs nothing to change.
type Output struct {
	Rotate     Rotate `json:"rotate"`
	OnFull     string `json:"on_full"` // block, drop
	Timestamps bool   `json:"timestamps"`
}

// Rotate says when a log file is put aside and how many are kept.
type Rotate struct {
	Size int64 `json:"size"` // bytes
	Keep int   `json:"keep"`
	// Age is how old a file may get; 0 is no bound.
	Age Duration `json:"age,omitzero"`
	// Total is how many bytes all old files of the program may have together; 0
	// is no bound.
	Total int64 `json:"total,omitempty"`
}

// Start says when an instance may be started, and when a process that declares
// no readiness counts as running.
type Start struct {
	MinUptime Duration `json:"min_uptime"`
	// After names the programs that must be there before an instance is started,
	// and how: AfterRunning or AfterDone.
	After map[string]string `json:"after,omitempty"`
}

// How a program that Start.After names must be there.
const (
	AfterRunning = "running" // all of it that shall be up counts as running
	AfterDone    = "done"    // all of it has ended with success, and rests
)

// Restart says whether and when an ended process comes back.
type Restart struct {
	When     When     `json:"when"`
	Delay    Duration `json:"delay"`
	Factor   float64  `json:"factor"`
	MaxDelay Duration `json:"max_delay"`
	Jitter   float64  `json:"jitter"` // share of the delay that is added at most, 0 to 1
	Flap     Flap     `json:"flap"`
	GiveUp   GiveUp   `json:"give_up"`
}

// Flap is a verdict over a window: so many unplanned exits within so long.
type Flap struct {
	Count  int      `json:"count"`
	Within Duration `json:"within"`
}

// Stop says how a process is asked to end, and what happens if it does not.
type Stop struct {
	Signal   Signal   `json:"signal"`
	Timeout  Duration `json:"timeout"`
	Escalate Signal   `json:"escalate"`
	// Before is done and awaited before Signal, when the stop is planned.
	Before *Before `json:"before,omitempty"`
}

// Update says how many instances may be away at once while they are replaced.
type Update struct {
	MaxUnavailable CountOrPercent `json:"max_unavailable"`
}

// Admin is what people asked for: up unless somebody said down. An index that
// is not in Index follows Down.
type Admin struct {
	Down  bool
	Index map[int]bool // index -> down
}

// IsDown reports whether instance index is wanted down.
func (a Admin) IsDown(index int) bool {
	if down, ok := a.Index[index]; ok {
		return down
	}
	return a.Down
}

// Defaults returns a program with every default of the contract.
func Defaults() Program {
	return Program{
		Launch: Launch{Mode: OutputMode{Kind: "merged"}},
		Policy: Policy{
			Instances: 1,
			Output:    Output{Rotate: Rotate{Size: 10 << 20, Keep: 10}, OnFull: "block"},
			Start:     Start{MinUptime: Seconds(1)},
			Restart: Restart{
				When: When{Mode: "always"}, Delay: Milliseconds(500), Factor: 2, MaxDelay: Seconds(30), Jitter: 0.1,
				Flap: Flap{Count: 5, Within: Seconds(60)},
			},
			Stop:        Stop{Signal: SIGTERM, Timeout: Seconds(10), Escalate: SIGKILL},
			Update:      Update{MaxUnavailable: CountOrPercent{N: 25, Percent: true}},
			SuccessExit: ExitSet{Codes: []int{0}},
			Drift:       "correct",
		},
	}
}

// outputJSON is the output block as people write it: mode (Launch) beside the
// rest (Policy).
type outputJSON struct {
	Mode OutputMode `json:"mode,omitzero"`
	Output
}

// programJSON is Program as one flat object. Output stands one level above the
// embedded structs, so encoding/json prefers it.
type programJSON struct {
	Launch
	Tuning
	Policy
	Output   outputJSON `json:"output"`
	Resolved *Identity  `json:"identity,omitempty"`
}

// MarshalJSON writes the program as one flat object with the contract's keys,
// defaults included, and the resolved identity as "identity".
func (p Program) MarshalJSON() ([]byte, error) {
	j := programJSON{Launch: p.Launch, Tuning: p.Tuning, Policy: p.Policy, Output: outputJSON{p.Mode, p.Policy.Output}, Resolved: &p.Identity}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON wrote, or what a file says: keys that
// are missing take their default.
func (p *Program) UnmarshalJSON(data []byte) error {
	d := Defaults()
	j := programJSON{Launch: d.Launch, Tuning: d.Tuning, Policy: d.Policy, Output: outputJSON{d.Mode, d.Policy.Output}, Resolved: &Identity{}}
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*p = Program{Launch: j.Launch, Tuning: j.Tuning, Policy: j.Policy}
	p.Mode, p.Policy.Output = j.Output.Mode, j.Output.Output
	if j.Resolved != nil {
		p.Identity = *j.Resolved
	}
	return p.Restart.giveWay(data)
}

// giveWay lets the default of one delay give way to what a program's JSON says
// of the other. What contradicts itself stays so.
func (r *Restart) giveWay(program []byte) error {
	if r.Delay <= r.MaxDelay {
		return nil
	}
	var said struct {
		Restart struct {
			Delay    *Duration `json:"delay"`
			MaxDelay *Duration `json:"max_delay"`
		} `json:"restart"`
	}
	if err := json.Unmarshal(program, &said); err != nil {
		return err
	}
	switch {
	case said.Restart.MaxDelay == nil:
		r.MaxDelay = r.Delay
	case said.Restart.Delay == nil:
		r.Delay = r.MaxDelay
	}
	return nil
}

// Digest names a value by its content: the first 16 hex digits of the SHA-256
// of its JSON form. Equal values have equal digests.
type Digest string

func digest(v any) Digest {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("cannot marshal %T: %v", v, err)) // our own plain types only
	}
	sum := sha256.Sum256(b)
	return Digest(hex.EncodeToString(sum[:8]))
}

// Digest identifies everything that is fixed at exec: two processes with equal
// launch digests were started the same way.
func (l Launch) Digest() Digest {
	return digest(struct {
		Launch
		Mode     OutputMode `json:"mode"`
		Identity Identity   `json:"identity"`
	}{l, l.Mode, l.Identity})
}

// untuned is the digest of a tuning that sets nothing, as most do.
var untuned = sync.OnceValue(func() Digest { return digest(Tuning{}) })

// Digest identifies everything that can be changed on a live pid.
func (t Tuning) Digest() Digest {
	if t.bare() {
		return untuned()
	}
	return digest(t)
}

// bare reports whether nothing is set. It is not IsZero, as Program would have that, too.
func (t Tuning) bare() bool {
	return t.Nice == nil && t.IONice == nil && len(t.Limits) == 0 && t.CPUs == "" && t.Sched == nil && t.OOMScoreAdj == nil && t.Cgroup == nil
}

// Digest identifies the whole specification.
func (s Spec) Digest() Digest { return digest(s) }
