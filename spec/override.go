package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The fields of an Override that are no key of a program.
const (
	// FieldAdmin is up or down, for a program or for one index of it.
	FieldAdmin = "admin"
	// FieldProgram is a whole program that no file defines; Value is its JSON.
	FieldProgram = "program"
)

// Requester is who asked for something: the peer of a socket, or without ids what
// did, such as a file or a signal.
type Requester struct {
	How string `json:"how" msgpack:"how"` // rpc, file, signal, exit_when
	UID int    `json:"uid" msgpack:"uid"`
	GID int    `json:"gid" msgpack:"gid"`
	PID int    `json:"pid" msgpack:"pid"`
	// Key names the owner of a CURVE key; the others are then nobody's.
	Key string `json:"key,omitempty" msgpack:"key,omitempty"`
}

// Override is one thing that a person set over RPC on top of the files.
type Override struct {
	Program string `json:"program"`
	// Index is the instance an admin override is about; nil is the program.
	Index *int `json:"instance,omitempty"`
	// Field is a dotted path of the program ("instances", "limits.nofile"), or
	// FieldAdmin, or FieldProgram.
	Field string `json:"field"`
	// Value is what was set, in the file's JSON form.
	Value json.RawMessage `json:"value"`
	// Replaced is what the file said then; nil if it said nothing. When the
	// file says something else, the file wins.
	Replaced json.RawMessage `json:"replaced,omitempty"`
	By       Requester       `json:"by"`
	At       time.Time       `json:"at"`
	// Until is when it ends by itself; UntilBoot ends it at the next boot.
	Until     time.Time `json:"until,omitzero"`
	UntilBoot bool      `json:"until_boot,omitempty"`
	// Identity is who the program runs as, for an override that decides it: the
	// host was asked when the override was accepted.
	Identity *Identity `json:"identity,omitempty"`
	Reason   string    `json:"reason,omitempty"`
}

// Key names the thing an override sets: a later one with the same key takes
// its place.
func (o Override) Key() string {
	if o.Index != nil {
		return fmt.Sprintf("%s\x00%s\x00%d", o.Program, o.Field, *o.Index)
	}
	return o.Program + "\x00" + o.Field
}

// AdminOverride is the wish that a program (index nil) or one instance is down
// or up.
func AdminOverride(program string, index *int, down bool) Override {
	value := `"up"`
	if down {
		value = `"down"`
	}
	return Override{Program: program, Index: index, Field: FieldAdmin, Value: json.RawMessage(value)}
}

func (o Override) down() bool { return string(o.Value) == `"down"` }

// With returns s with overrides on top. An override that no longer fits (its
// program is gone, its value is no value of that field) is left out: Settle
// names those.
func (s Spec) With(overrides []Override) Spec {
	if len(overrides) == 0 {
		return s
	}
	out := Spec{Programs: make(map[string]Program, len(s.Programs)), On: s.On, ExitWhen: s.ExitWhen}
	maps.Copy(out.Programs, s.Programs)
	for _, o := range overrides { // a created program first: others may sit on it
		if _, inFile := s.Programs[o.Program]; o.Field == FieldProgram && !inFile {
			var p Program
			if json.Unmarshal(o.Value, &p) == nil {
				out.Programs[o.Program] = p.as(o.Identity)
			}
		}
	}
	for _, o := range overrides {
		p, ok := out.Programs[o.Program]
		if !ok || o.Field == FieldProgram {
			continue
		}
		if q, err := p.with(o); err == nil {
			out.Programs[o.Program] = q
		}
	}
	return out
}

func (p Program) with(o Override) (Program, error) {
	if o.Field != FieldAdmin {
		q, err := p.Set(o.Field, o.Value)
		q.Admin = p.Admin
		return q.as(o.Identity), err
	}
	if o.Index == nil {
		p.Admin = Admin{Down: o.down(), Index: p.Admin.Index}
		return p, nil
	}
	index := make(map[int]bool, len(p.Admin.Index)+1)
	maps.Copy(index, p.Admin.Index)
	index[*o.Index] = o.down()
	p.Admin = Admin{Down: p.Admin.Down, Index: index}
	return p, nil
}

// as is p run by id; nil leaves it as it is.
func (p Program) as(id *Identity) Program {
	if id != nil {
		p.Identity = *id
	}
	return p
}

// Identifies reports whether the override decides who the program runs as.
func (o Override) Identifies() bool {
	switch o.Field {
	case "user", "uid", "group", "gid", "groups", FieldProgram:
		return true
	}
	return false
}

// Set returns p with the field at a dotted path set to a JSON value. JSON null
// takes the field away (it has its default again).
func (p Program) Set(path string, value json.RawMessage) (Program, error) {
	if path == "command" && string(value) == "null" {
		return p, errors.New("cannot take command away: it has no default")
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return p, err
	}
	doc, err := decodeMap(raw)
	if err != nil {
		return p, err
	}
	keys := strings.Split(path, ".")
	m := doc
	for i, key := range keys[:len(keys)-1] {
		next, ok := m[key].(map[string]any)
		if !ok {
			if m[key] == nil && string(value) == "null" {
				return p, nil // there is nothing to take away
			}
			next = map[string]any{}
			if short := m[key]; short != nil && i == 1 && keys[0] == "limits" {
				next["soft"], next["hard"] = short, short // one value stands for both
			}
			m[key] = next
		}
		m = next
	}
	last := keys[len(keys)-1]
	if string(value) == "null" {
		delete(m, last)
	} else {
		m[last] = value
	}
	if raw, err = json.Marshal(doc); err != nil {
		return p, err
	}
	var q Program
	if err := q.decodeStrict(raw); err != nil {
		return p, fmt.Errorf("cannot set %s: %w", path, err)
	}
	q.Restart.follow(path)
	return q, nil
}

// follow lets the other delay give way to the one that was set: it may be a
// default, and where it is not, the files refuse what contradicts them.
func (r *Restart) follow(path string) {
	switch path {
	case "restart.delay":
		r.MaxDelay = max(r.MaxDelay, r.Delay)
	case "restart.max_delay":
		r.Delay = min(r.Delay, r.MaxDelay)
	}
}

// Get returns the JSON value at a dotted path, or nil when it is not set.
func (p Program) Get(path string) json.RawMessage {
	raw, err := json.Marshal(p)
	if err != nil {
		return nil
	}
	var doc any
	if doc, err = decodeMap(raw); err != nil {
		return nil
	}
	for key := range strings.SplitSeq(path, ".") {
		m, ok := doc.(map[string]any)
		if !ok {
			return nil
		}
		if doc, ok = m[key]; !ok {
			return nil
		}
	}
	out, err := json.Marshal(doc)
	if err != nil {
		return nil
	}
	return out
}

func decodeMap(raw []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // 64-bit sizes keep every digit
	var doc map[string]any
	err := dec.Decode(&doc)
	return doc, err
}

// decodeStrict is UnmarshalJSON that refuses an unknown top-level key.
func (p *Program) decodeStrict(raw []byte) error {
	doc, err := decodeMap(raw)
	if err != nil {
		return err
	}
	for key := range doc {
		if !slices.Contains(Keys(), key) && key != "identity" {
			return fmt.Errorf("no such key: %s", key)
		}
	}
	return json.Unmarshal(raw, p)
}

// Settle compares overrides with what the files now say. It returns those that
// stay and those that end, each with the reason. At boot it also ends those
// that were meant until then.
func Settle(files Spec, overrides []Override, now time.Time, boot bool) (keep []Override, ended []EndedOverride) {
	created := map[string]bool{}
	for _, o := range overrides {
		if o.Field == FieldProgram && o.endsBecause(files, nil, now, boot) == "" {
			created[o.Program] = true
		}
	}
	for _, o := range overrides {
		if why := o.endsBecause(files, created, now, boot); why != "" {
			ended = append(ended, EndedOverride{o, why})
			continue
		}
		keep = append(keep, o)
	}
	return keep, ended
}

// EndedOverride is an override that no longer holds, and why.
type EndedOverride struct {
	Override
	Why string
}

func (o Override) endsBecause(files Spec, created map[string]bool, now time.Time, boot bool) string {
	p, inFile := files.Programs[o.Program]
	switch {
	case boot && o.UntilBoot:
		return "the machine was booted"
	case !o.Until.IsZero() && !now.Before(o.Until):
		return "its time is over"
	case o.Field == FieldProgram && inFile:
		return "the files define the program now"
	case o.Field != FieldProgram && !inFile && !created[o.Program]:
		return "the files no longer define the program"
	case o.Field == FieldProgram || o.Field == FieldAdmin || !inFile:
		return ""
	case !sameJSON(p.Get(o.Field), o.Replaced):
		return "the file's value changed"
	}
	return ""
}

func sameJSON(a, b json.RawMessage) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	var ca, cb bytes.Buffer
	if json.Compact(&ca, a) != nil || json.Compact(&cb, b) != nil {
		return false
	}
	return bytes.Equal(ca.Bytes(), cb.Bytes())
}

// Put returns overrides with those added in it, one after the other: each takes
// the place of one with the same key, and a program-wide admin override takes
// those of its indexes away.
func Put(overrides []Override, added ...Override) []Override {
	last, whole := map[string]int{}, map[string]int{} // the last of those added, by key, and by program
	for n, o := range added {
		last[o.Key()] = n
		if o.Field == FieldAdmin && o.Index == nil {
			whole[o.Program] = n
		}
	}
	said := map[string]json.RawMessage{} // what the file said when the first of a key was set
	displaced := func(o Override, n int) bool {
		at, again := last[o.Key()]
		if again = again && at > n; again && o.Field != FieldAdmin {
			said[o.Key()] = o.Replaced
		}
		at, all := whole[o.Program]
		return again || o.Field == FieldAdmin && all && at > n
	}
	out := make([]Override, 0, len(overrides)+len(added))
	for n, o := range slices.Concat(overrides, added) {
		if o.Replaced == nil {
			o.Replaced = said[o.Key()] // nothing yet for one that was there before
		}
		if !displaced(o, n-len(overrides)) {
			out = append(out, o)
		}
	}
	return out
}
