package rpc

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// uptimeAge is how old the uptime of a served status may be.
const uptimeAge = time.Second

// StatusCache keeps the encoded status. The bytes of a program are kept as
// long as its *ProgramView stays, the whole reply as long as the *View does.
// What it returns is shared and must not be changed.
type StatusCache struct {
	mu       sync.Mutex
	programs map[string]*programBytes
	view     *View
	joined   []byte
	uptimes  []uptime
	at       time.Time // what the uptimes in joined are right for
}

// programBytes is one encoded program: its name as key, then its map.
type programBytes struct {
	view    *ProgramView
	bytes   []byte
	uptimes []uptime
}

// uptime is a place in encoded bytes that holds an uptime as float64.
type uptime struct {
	offset int
	since  time.Time
}

// Whole returns the reply to `status` for v.
func (c *StatusCache) Whole(v *View, now time.Time) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view != v {
		if err := c.join(v); err != nil {
			return nil, err
		}
	} else if age := now.Sub(c.at); age >= 0 && age < uptimeAge {
		return c.joined, nil
	} else if len(c.uptimes) > 0 {
		c.joined = slices.Clone(c.joined) // the old bytes may be on their way to a client
	}
	patch(c.joined, c.uptimes, now)
	c.at = now
	return c.joined, nil
}

// One returns the reply to `status` of one program.
func (c *StatusCache) One(v *View, p *ProgramView, now time.Time) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pb, err := c.program(p)
	if err != nil {
		return nil, err
	}
	out, uptimes := appendPrograms(nil, []*programBytes{pb}, len(pb.bytes), nil, topKeys)
	patch(out, uptimes, now)
	return appendTop(out, v)
}

// Page returns the reply to `status` of at most limit programs whose names sort
// after one. It ends early when the page gets long.
func (c *StatusCache) Page(v *View, after string, limit int, now time.Time) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := sort.Search(len(v.Programs), func(i int) bool { return v.Programs[i].Name > after })
	var page []*programBytes
	size := 0
	for _, p := range v.Programs[first:] {
		if len(page) == limit || size >= pageBytes {
			break
		}
		pb, err := c.program(p)
		if err != nil {
			return nil, err
		}
		page = append(page, pb)
		size += len(pb.bytes)
	}
	keys := topKeys
	last := first+len(page) == len(v.Programs)
	if !last {
		keys++
	}
	out, uptimes := appendPrograms(nil, page, size, nil, keys)
	patch(out, uptimes, now)
	out, err := appendTop(out, v)
	if err == nil && !last {
		out = appendStr(appendStr(out, "next"), page[len(page)-1].view.Name)
	}
	return out, err
}

// pageBytes is how long a page gets before it ends early.
const pageBytes = 1 << 20

// join encodes what is new of v and puts all of it behind one another.
func (c *StatusCache) join(v *View) error {
	size := 0
	all := make([]*programBytes, len(v.Programs))
	for i, p := range v.Programs {
		pb, err := c.program(p)
		if err != nil {
			return err
		}
		all[i] = pb
		size += len(pb.bytes)
	}
	if len(c.programs) > len(all) {
		c.forget(all)
	}
	joined, uptimes := appendPrograms(nil, all, size, c.uptimes[:0], topKeys)
	joined, err := appendTop(joined, v)
	if err != nil {
		return err
	}
	c.view, c.joined, c.uptimes = v, joined, uptimes
	return nil
}

func (c *StatusCache) program(p *ProgramView) (*programBytes, error) {
	if pb := c.programs[p.Name]; pb != nil && pb.view == p {
		return pb, nil
	}
	pb, err := encodeProgram(p)
	if err != nil {
		return nil, err
	}
	if c.programs == nil {
		c.programs = map[string]*programBytes{}
	}
	c.programs[p.Name] = pb
	return pb, nil
}

func (c *StatusCache) forget(living []*programBytes) {
	clear(c.programs)
	for _, pb := range living {
		c.programs[pb.view.Name] = pb
	}
}

// appendPrograms writes the beginning of the reply: every key before `config`.
func appendPrograms(b []byte, all []*programBytes, size int, uptimes []uptime, keys int) ([]byte, []uptime) {
	b = slices.Grow(b, size+1024)
	b = appendStr(append(b, 0x80|byte(keys)), "programs")
	b = appendMapLen(b, len(all))
	for _, pb := range all {
		for _, u := range pb.uptimes {
			uptimes = append(uptimes, uptime{offset: len(b) + u.offset, since: u.since})
		}
		b = append(b, pb.bytes...)
	}
	return b, uptimes
}

// topKeys is how many keys a status reply has.
const topKeys = 3

func appendTop(b []byte, v *View) ([]byte, error) {
	b, err := Append(appendStr(b, "config"), configMap(&v.Config))
	if err != nil {
		return nil, err
	}
	return appendTime(appendStr(b, "observed_at"), v.ObservedAt), nil
}

func patch(b []byte, uptimes []uptime, now time.Time) {
	for _, u := range uptimes {
		up := max(now.Sub(u.since), 0)
		binary.BigEndian.PutUint64(b[u.offset:], math.Float64bits(up.Seconds()))
	}
}

func configMap(c *ConfigView) Map {
	m := Map{
		{"state", c.State}, {"generation", c.Generation}, {"digest", c.Digest}, {"error", orNil(c.Error)},
		{"commit", orNil(c.Commit)}, {"pinned", orNil(c.Pinned)}, {"ahead", c.Ahead},
	}
	if len(c.Problems) > 0 {
		m = append(m, Field{"problems", problemMaps(c.Problems)})
	}
	return m
}

// orNil makes a zero value nil: there is none.
func orNil[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

func problemMaps(ps spec.Problems) []Map {
	out := make([]Map, len(ps))
	for i, p := range ps {
		out[i] = Map{
			{"file", p.File}, {"line", p.Line}, {"column", p.Column}, {"path", p.Path}, {"message", p.Message},
			{"source_line", p.SourceLine}, {"also", p.Also}, {"hint", p.Hint}, {"warning", p.Warning},
		}
	}
	return out
}

// encodeProgram writes one program: first the keys of 2011 in their order.
func encodeProgram(p *ProgramView) (*programBytes, error) {
	e := &programBytes{view: p}
	ionice := effectiveIONice(p)
	head := Map{
		{"command", p.Spec.Command}, {"args", p.Spec.Args}, {"uid", p.Spec.Identity.UID}, {"gid", p.Spec.Identity.GID},
		{"nice", effectiveNice(p)}, {"ionice", ionice.Level}, {"active", active(p)},
	}
	tail := Map{
		{"ionice_class", ionice.Class}, {"generation", p.Generation}, {"flapping", p.Flapping},
		{"overrides", overrideMarks(p.Overrides)}, {"desired", desired(p)},
	}
	if !p.Defined {
		tail = append(tail, Field{"defined", false})
	}
	if p.Held != "" {
		tail = append(tail, Field{"held", p.Held})
	}
	b := appendMapLen(appendStr(nil, p.Name), len(head)+1+len(tail))
	b, err := appendPairs(b, head)
	if err != nil {
		return nil, err
	}
	b = appendMapLen(appendStr(b, "instances"), len(p.Instances))
	for _, i := range p.Instances {
		b = appendInt(b, int64(i.ID.Index))
		if b, err = e.appendInstance(b, i); err != nil {
			return nil, err
		}
	}
	e.bytes, err = appendPairs(b, tail)
	return e, err
}

func appendPairs(b []byte, m Map) ([]byte, error) {
	return appendEach(b, m, func(b []byte, f Field) ([]byte, error) { return Append(appendStr(b, f.Key), f.Value) })
}

// appendInstance writes one instance and remembers where its uptime is.
func (e *programBytes) appendInstance(b []byte, i *InstanceView) ([]byte, error) {
	code, signal := exitNumbers(i.LastExit)
	m := Map{
		{"pid", i.PID}, {"state", stateText(i.State)}, {"exitcode", code}, {"exitsignal", signal}, {"admin_state", adminState(i.Down)},
		{"run_id", uint64(i.Run)}, {"since", i.Since}, {"uptime", 0.0}, {"starts", i.Starts}, {"last_exit", lastExit(i.LastExit)},
		{"next_start", nextStart(i)}, {"containment", i.Containment}, {"pending", pending(i.Pending)},
	}
	if i.LastExit != nil && i.LastExit.Unknown {
		m = append(m, Field{"exit_unknown", true})
	}
	if len(i.Drift) > 0 {
		m = append(m, Field{"drift", i.Drift})
	}
	if i.Flapping {
		m = append(m, Field{"flapping", true})
	}
	if i.Finished != "" {
		m = append(m, Field{"finished", i.Finished})
	}
	b = appendMapLen(b, len(m))
	for _, f := range m {
		b = appendStr(b, f.Key)
		if f.Key == "uptime" && i.Alive() && !i.StartedAt.IsZero() {
			e.uptimes = append(e.uptimes, uptime{offset: len(b) + 1, since: i.StartedAt})
		}
		var err error
		if b, err = Append(b, f.Value); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// exitNumbers are exitcode and exitsignal: 0 and 0 before the first exit, nil
// and nil when the kernel could not tell.
func exitNumbers(e *reconcile.Exit) (code, signal any) {
	switch {
	case e == nil:
		return 0, 0
	case e.Unknown:
		return nil, nil
	}
	return e.Code, int(e.Signal)
}

func lastExit(e *reconcile.Exit) any {
	if e == nil {
		return nil
	}
	m := append(exitFields(e), Map{{"at", e.At}, {"duration", e.Duration}, {"cause", string(e.Cause)}}...)
	if e.Unknown {
		m = append(m, Field{"exit_unknown", true})
	}
	if e.Error != "" {
		m = append(m, Field{"error", e.Error})
	}
	return m
}

// exitFields are code, signal (its name, or nil) and core.
func exitFields(e *reconcile.Exit) Map {
	code, _ := exitNumbers(e)
	var signal any
	if e.Signal != 0 {
		signal = e.Signal.String()
	}
	return Map{{"code", code}, {"signal", signal}, {"core", e.Core}}
}

// nextStart is when an instance in backoff starts again, or nil.
func nextStart(i *InstanceView) any {
	if i.State == reconcile.StateBackoff {
		return i.Until
	}
	return nil
}

func pending(m map[string]string) any {
	if len(m) == 0 {
		return nil
	}
	return m
}

func adminState(down bool) string {
	if down {
		return "down"
	}
	return "up"
}

// active: shall run, and is not wholly stopped.
func active(p *ProgramView) bool {
	for n := range desired(p) {
		if !p.Spec.Admin.IsDown(n) {
			return true
		}
	}
	return false
}

// effectiveNice is what the spec sets, else what the kernel says, else 0.
func effectiveNice(p *ProgramView) int {
	if p.Spec.Nice != nil {
		return *p.Spec.Nice
	}
	n := 0
	if raw := observed(p, "nice"); raw != nil && json.Unmarshal(raw, &n) != nil {
		return 0
	}
	return n
}

// effectiveIONice is the same for ionice; the kernel's own default is class
// none, which it serves as level 4.
func effectiveIONice(p *ProgramView) spec.IONice {
	if p.Spec.IONice != nil {
		return *p.Spec.IONice
	}
	n := spec.IONice{Class: "none", Level: 4}
	if raw := observed(p, "ionice"); raw != nil {
		if v := (spec.IONice{}); json.Unmarshal(raw, &v) == nil && v.Class != "none" && v.Class != "" {
			return v
		}
	}
	return n
}

// observed is a value of the first living instance that was looked at.
func observed(p *ProgramView, key string) json.RawMessage {
	for _, i := range p.Instances {
		if raw, ok := i.Observed[key]; ok {
			return raw
		}
	}
	return nil
}
