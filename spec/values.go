package spec

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Duration is a time span, written as a string ("10s", "500ms") in JSON.
type Duration time.Duration

// Seconds is n seconds.
func Seconds(n int) Duration { return Duration(time.Duration(n) * time.Second) }

// Milliseconds is n milliseconds.
func Milliseconds(n int) Duration { return Duration(time.Duration(n) * time.Millisecond) }

// D is d as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON writes d as time.Duration's string form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads "10s".
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("expected a duration such as \"10s\", found %s", b)
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("expected a duration such as \"10s\", found %q", s)
	}
	*d = Duration(v)
	return nil
}

// Unlimited is RLIM_INFINITY, setrlimit(2), and "max" of a cgroup file.
const Unlimited = math.MaxUint64

// Size is a count or a number of bytes; Unlimited is written "unlimited".
type Size uint64

// MarshalJSON writes a number, or "unlimited".
func (s Size) MarshalJSON() ([]byte, error) {
	if uint64(s) == Unlimited {
		return []byte(`"unlimited"`), nil
	}
	return strconv.AppendUint(nil, uint64(s), 10), nil
}

// UnmarshalJSON reads a number, or "unlimited" (or "max", the cgroup word).
func (s *Size) UnmarshalJSON(b []byte) error {
	if t := strings.Trim(string(b), `"`); t == "unlimited" || t == "max" {
		*s = Unlimited
		return nil
	}
	n, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil {
		return fmt.Errorf("expected a number or \"unlimited\", found %s", b)
	}
	*s = Size(n)
	return nil
}

// Limit is one resource limit, setrlimit(2): a number for both, or
// {"soft": n, "hard": n}.
type Limit struct {
	Soft Size `json:"soft"`
	Hard Size `json:"hard"`
}

// MarshalJSON writes one value when soft and hard agree.
func (l Limit) MarshalJSON() ([]byte, error) {
	if l.Soft == l.Hard {
		return l.Soft.MarshalJSON()
	}
	type plain Limit
	return json.Marshal(plain(l))
}

// UnmarshalJSON reads a number, "unlimited" or {"soft", "hard"}.
func (l *Limit) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		type plain Limit
		return json.Unmarshal(b, (*plain)(l))
	}
	if err := l.Soft.UnmarshalJSON(b); err != nil {
		return err
	}
	l.Hard = l.Soft
	return nil
}

// Octal is a file mode mask, written as an octal string ("022") or a number.
type Octal uint32

// MarshalJSON writes "022".
func (o Octal) MarshalJSON() ([]byte, error) { return json.Marshal(fmt.Sprintf("%03o", uint32(o))) }

// UnmarshalJSON reads "022" as octal, or a number as it is (CUE's 0o22 is 18).
func (o *Octal) UnmarshalJSON(b []byte) error {
	base, s := 10, string(b)
	if strings.HasPrefix(s, `"`) {
		base, s = 8, strings.TrimPrefix(strings.Trim(s, `"`), "0o")
	}
	n, err := strconv.ParseUint(s, base, 32)
	if err != nil || n > 0o777 {
		return fmt.Errorf("expected a mask from \"000\" to \"777\", found %s", b)
	}
	*o = Octal(n)
	return nil
}

// NameOrID is a group by name, or by number when Name is empty.
type NameOrID struct {
	Name string
	ID   uint32
}

// MarshalJSON writes the name as a string or the id as a number.
func (n NameOrID) MarshalJSON() ([]byte, error) {
	if n.Name != "" {
		return json.Marshal(n.Name)
	}
	return json.Marshal(n.ID)
}

// UnmarshalJSON reads a string as a name and a number as an id.
func (n *NameOrID) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &n.Name)
	}
	return json.Unmarshal(b, &n.ID)
}

// InheritEnv says what of the daemon's environment a child gets: nothing, all,
// or the variables that a name or glob matches.
type InheritEnv struct {
	All   bool
	Names []string
}

// IsZero reports whether nothing is inherited.
func (e InheritEnv) IsZero() bool { return !e.All && len(e.Names) == 0 }

// MarshalJSON writes true, false or the list.
func (e InheritEnv) MarshalJSON() ([]byte, error) {
	if len(e.Names) > 0 {
		return json.Marshal(e.Names)
	}
	return json.Marshal(e.All)
}

// UnmarshalJSON reads true, false or a list.
func (e *InheritEnv) UnmarshalJSON(b []byte) error {
	*e = InheritEnv{}
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, &e.Names)
	}
	return json.Unmarshal(b, &e.All)
}

// OutputMode says where stdout and stderr go: Kind is merged, separate, null,
// inherit or file; File is the path for file.
type OutputMode struct {
	Kind string
	File string
}

// IsZero reports whether no mode was given.
func (m OutputMode) IsZero() bool { return m == OutputMode{} }

// MarshalJSON writes the kind, or {"file": path}.
func (m OutputMode) MarshalJSON() ([]byte, error) {
	if m.Kind == "file" {
		return json.Marshal(map[string]string{"file": m.File})
	}
	return json.Marshal(m.Kind)
}

// UnmarshalJSON reads the kind, or {"file": path}.
func (m *OutputMode) UnmarshalJSON(b []byte) error {
	*m = OutputMode{}
	if len(b) > 0 && b[0] == '{' {
		m.Kind = "file"
		err := json.Unmarshal(b, &struct {
			File *string `json:"file"`
		}{&m.File})
		if err == nil && m.File == "" {
			err = fmt.Errorf("expected {\"file\": PATH}, found %s", b)
		}
		return err
	}
	return json.Unmarshal(b, &m.Kind)
}

// UnmarshalJSON reads an integer as a best-effort level, or {"class", "level"}.
func (n *IONice) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		type plain IONice
		return json.Unmarshal(b, (*plain)(n))
	}
	*n = IONice{Class: "best-effort"}
	return json.Unmarshal(b, &n.Level)
}

// GiveUp is after how many unplanned ends in a row an instance stays down;
// 0 is never.
type GiveUp int

// MarshalJSON writes "never" or the count.
func (g GiveUp) MarshalJSON() ([]byte, error) {
	if g == 0 {
		return []byte(`"never"`), nil
	}
	return json.Marshal(int(g))
}

// UnmarshalJSON reads "never" or a count.
func (g *GiveUp) UnmarshalJSON(b []byte) error {
	if string(b) == `"never"` {
		*g = 0
		return nil
	}
	return json.Unmarshal(b, (*int)(g))
}

// CountOrPercent is a count of instances, or a percentage of the desired count.
type CountOrPercent struct {
	N       int
	Percent bool
}

// Of returns how many of total instances that is: rounded down, at least 1.
func (c CountOrPercent) Of(total int) int {
	n := c.N
	if c.Percent {
		n = total * c.N / 100
	}
	return max(n, 1)
}

// MarshalJSON writes 3 or "25%".
func (c CountOrPercent) MarshalJSON() ([]byte, error) {
	if c.Percent {
		return json.Marshal(strconv.Itoa(c.N) + "%")
	}
	return json.Marshal(c.N)
}

// UnmarshalJSON reads 3 or "25%".
func (c *CountOrPercent) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		n, err := strconv.Atoi(strings.TrimSuffix(strings.Trim(string(b), `"`), "%"))
		if err != nil {
			return fmt.Errorf("expected a count or a percentage such as \"25%%\", found %s", b)
		}
		*c = CountOrPercent{N: n, Percent: true}
		return nil
	}
	*c = CountOrPercent{}
	return json.Unmarshal(b, &c.N)
}

// ExitSet is a set of exit codes and signals.
type ExitSet struct {
	Codes   []int
	Signals []Signal
}

// Has reports whether an end with code, or by signal when signal is not 0, is
// in the set.
func (s ExitSet) Has(code int, signal Signal) bool {
	if signal != 0 {
		return slices.Contains(s.Signals, signal)
	}
	return slices.Contains(s.Codes, code)
}

// MarshalJSON writes [0, 3, "TERM"].
func (s ExitSet) MarshalJSON() ([]byte, error) {
	out := make([]any, 0, len(s.Codes)+len(s.Signals))
	for _, c := range s.Codes {
		out = append(out, c)
	}
	for _, v := range s.Signals {
		out = append(out, v)
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads a list of codes and signal names, or one of them.
func (s *ExitSet) UnmarshalJSON(b []byte) error {
	*s = ExitSet{}
	if len(b) > 0 && b[0] != '[' {
		b = append(append([]byte("["), b...), ']')
	}
	var items []json.RawMessage
	if err := json.Unmarshal(b, &items); err != nil {
		return err
	}
	for _, item := range items {
		if item[0] == '"' {
			var v Signal
			if err := v.UnmarshalJSON(item); err != nil {
				return err
			}
			s.Signals = append(s.Signals, v)
			continue
		}
		var c int
		if err := json.Unmarshal(item, &c); err != nil {
			return err
		}
		s.Codes = append(s.Codes, c)
	}
	sort.Ints(s.Codes)
	return nil
}

// When says which ends lead to a restart: Mode is always, failure (an end that
// is not a success), never, or exits (an end in Exits).
type When struct {
	Mode  string
	Exits ExitSet
}

// MarshalJSON writes the mode, or the list.
func (w When) MarshalJSON() ([]byte, error) {
	if w.Mode == "exits" {
		return w.Exits.MarshalJSON()
	}
	return json.Marshal(w.Mode)
}

// UnmarshalJSON reads a mode, or a list of codes and signals.
func (w *When) UnmarshalJSON(b []byte) error {
	*w = When{}
	if len(b) > 0 && b[0] == '[' {
		w.Mode = "exits"
		return w.Exits.UnmarshalJSON(b)
	}
	return json.Unmarshal(b, &w.Mode)
}
