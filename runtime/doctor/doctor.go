package doctor

import (
	"github.com/procnanny/procnanny/runtime/keeper"
)

// State is what a check came to.
type State string

// The states, from good to bad.
const (
	OK      State = "ok"
	Weak    State = "weak"    // it works, and promises less
	Missing State = "missing" // without it procnanny does not run
)

// Check is one thing that was looked at.
type Check struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	// Found is what there is.
	Found string `json:"found"`
	// Weakens is what follows from a lack; empty when there is none.
	Weakens string `json:"weakens,omitempty"`
}

// Host is whose machine is looked at; tests have one of their own.
type Host struct {
	// Proc is the place of /proc.
	Proc string
	// Cgroup tries containment: where its cgroups would be, or why not.
	Cgroup func() (keeper.CgroupProbe, error)
}

// This is the machine we run on.
func This() *Host { return &Host{Proc: "/proc", Cgroup: keeper.ProbeCgroup} }

// finding is what a row's probe returns: good, and what it saw.
type finding struct {
	good  bool
	found string
}

// row is one check: how it is made, and what its failure means.
type row struct {
	name    string
	bad     State // what failing is
	weakens string
	probe   func(*Host) finding
}

// Look makes every check, in the order of the table.
func (h *Host) Look() []Check {
	list := make([]Check, 0, len(rows))
	for _, r := range rows {
		f := r.probe(h)
		c := Check{Name: r.name, State: OK, Found: f.found}
		if !f.good {
			c.State, c.Weakens = r.bad, r.weakens
		}
		list = append(list, c)
	}
	return list
}

// Fit reports whether procnanny runs at all.
func Fit(list []Check) bool {
	for _, c := range list {
		if c.State == Missing {
			return false
		}
	}
	return true
}
