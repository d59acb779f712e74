package spec

import (
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Hooks are what is done when something happens, by the event's name. Those of
// a program are about that program only.
type Hooks map[string][]Hook

// Hook is one thing to do, and a filter. Run or Webhook is set.
type Hook struct {
	// Name is what its place in line is known by; empty: its place in the list.
	Name string `json:"name,omitempty"`
	// Programs are names and globs; top level only, empty is any.
	Programs []string `json:"programs,omitempty"`
	// Code and Signal select ends: one of either is enough.
	Code   ExitSet `json:"code,omitzero"`
	Signal ExitSet `json:"signal,omitzero"`
	// Attempt selects from that many unplanned ends in a row on.
	Attempt int `json:"attempt,omitempty"`
	// Retries is how often it is tried again before it counts as failed.
	Retries int      `json:"retries"`
	Run     *HookRun `json:"run,omitempty"`
	Webhook *Webhook `json:"webhook,omitempty"`
}

// HookRun is a command that is run once for each event.
type HookRun struct {
	Command string            `json:"command"`
	Args    []string          `json:"args,omitempty"`
	User    string            `json:"user,omitempty"`
	UID     *uint32           `json:"uid,omitempty"`
	Group   string            `json:"group,omitempty"`
	GID     *uint32           `json:"gid,omitempty"`
	Groups  []NameOrID        `json:"groups,omitzero"`
	Dir     string            `json:"dir,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
	Limits  map[string]Limit  `json:"limits,omitempty"`
	Timeout Duration          `json:"timeout"`
	// Identity is who it runs as, see Launch.Identity. No file says it.
	Identity Identity `json:"identity,omitzero"`
}

// Webhook is a POST of the event as JSON.
type Webhook struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"`
	Timeout Duration          `json:"timeout"`
	// AllowHTTP lets it go over plain http to another machine.
	AllowHTTP bool `json:"allow_http,omitempty"`
}

// Before is what is done and awaited before a process is asked to end. Run or
// Webhook is set; its timeout is the deadline.
type Before struct {
	Run     *HookRun `json:"run,omitempty"`
	Webhook *Webhook `json:"webhook,omitempty"`
}

// Timeout is how long its answer is awaited.
func (b *Before) Timeout() Duration {
	if b.Run != nil {
		return b.Run.Timeout
	}
	return b.Webhook.Timeout
}

// Defaults of hooks.
const (
	hookRetries    = 3
	hookRunTimeout = 30
	webhookTimeout = 10
)

// UnmarshalJSON reads a hook; what is missing has its default.
func (h *Hook) UnmarshalJSON(b []byte) error {
	type plain Hook
	p := plain{Retries: hookRetries}
	err := json.Unmarshal(b, &p)
	*h = Hook(p)
	return err
}

// UnmarshalJSON reads a command; what is missing has its default.
func (r *HookRun) UnmarshalJSON(b []byte) error {
	type plain HookRun
	p := plain{Timeout: Seconds(hookRunTimeout)}
	err := json.Unmarshal(b, &p)
	*r = HookRun(p)
	return err
}

// UnmarshalJSON reads a webhook; what is missing has its default.
func (w *Webhook) UnmarshalJSON(b []byte) error {
	type plain Webhook
	p := plain{Timeout: Seconds(webhookTimeout)}
	err := json.Unmarshal(b, &p)
	*w = Webhook(p)
	return err
}

// HookEvents are the names of events that hooks can be about, in reading order.
var HookEvents = []string{
	"starting", "running", "stopping", "exited", "crashed", "backoff", "gave_up", "done", "drained",
	"flapping", "stable", "held", "resumed", "pending", "drift", "override", "override_ended",
	"accepted", "rejected", "rollback",
}

// NamedHook is a hook with what it is known by.
type NamedHook struct {
	Hook
	// ID is unique in a Spec and stays the same while the hook stays where it is.
	ID string
	// Event is what it is about; Program the one it belongs to, empty for the
	// top level.
	Event, Program string
}

// AllHooks lists the hooks of a Spec, sorted by ID.
func (s Spec) AllHooks() []NamedHook {
	out := s.On.named("", nil)
	for name, p := range s.Programs {
		out = p.On.named(name, out)
	}
	slices.SortFunc(out, func(a, b NamedHook) int { return strings.Compare(a.ID, b.ID) })
	return out
}

func (h Hooks) named(program string, out []NamedHook) []NamedHook {
	for event, list := range h {
		for n, hook := range list {
			id := event + "#" + strconv.Itoa(n)
			if hook.Name != "" {
				id = hook.Name
			}
			if program != "" {
				id = program + ":" + id
			}
			out = append(out, NamedHook{Hook: hook, ID: id, Event: event, Program: program})
		}
	}
	return out
}

// Concerns reports whether events of a program are the hook's business.
func (h *NamedHook) Concerns(program string) bool {
	if h.Program != "" {
		return program == h.Program
	}
	if len(h.Programs) == 0 {
		return true
	}
	return slices.ContainsFunc(h.Programs, func(glob string) bool {
		ok, err := path.Match(glob, program)
		return program == glob || ok && err == nil
	})
}

// Selects reports whether the hook is about an end with this code or signal (0
// is none), after so many unplanned ends in a row. ended is false for an event
// that tells of no end.
func (h *Hook) Selects(ended bool, code int, signal Signal, attempt int) bool {
	if h.Attempt > 0 && attempt < h.Attempt {
		return false
	}
	if len(h.Code.Codes) == 0 && len(h.Signal.Signals) == 0 {
		return true
	}
	return ended && (signal == 0 && h.Code.Has(code, 0) || signal != 0 && h.Signal.Has(0, signal))
}

// Named reports whether the command says itself who it runs as.
func (r *HookRun) Named() bool {
	return r.User != "" || r.UID != nil || r.Group != "" || r.GID != nil || r.Groups != nil
}

// Unresolved names the first hook command of a program that names a user whose
// ids nobody has looked up: only a file can name one.
func (p Program) Unresolved() string {
	for _, n := range (Spec{Programs: map[string]Program{"": p}}).AllHooks() {
		if r := n.Run; r != nil && r.Named() && !r.Identity.Switch {
			return "on." + n.Event
		}
	}
	if b := p.Stop.Before; b != nil && b.Run != nil && b.Run.Named() && !b.Run.Identity.Switch {
		return "stop.before"
	}
	return ""
}

// HookPrefix begins the name that the runs of a hook have in the keeper and in
// the log directory: no program's name begins so.
const HookPrefix = ".hook "

// RunName is the name of the runs of a hook.
func RunName(id string) string {
	if len(id) > NameMax {
		sum := digest(id)
		id = strings.ToValidUTF8(id[:NameMax-len(sum)-1], "") + "~" + string(sum)
	}
	return HookPrefix + id
}

// CheckRunName says why name is that of no program and no hook's runs, or nil.
func CheckRunName(name string) error {
	return CheckName(strings.TrimPrefix(name, HookPrefix))
}
