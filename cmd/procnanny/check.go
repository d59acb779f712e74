package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/procnanny/procnanny/reconcile"
)

// checkText is the part of the help that says what --check judges.
const checkText = `

With --check the exit code says whether it runs, for scripts and monitors: 0 when
every instance that shall be up is running, or did what it was to do and is done;
else 4, and stderr names what does not. What a person stopped, or scaled to
nothing, shall not be up; asked for by name, it counts as not running.`

// checked is the error of a status of what does not run as it shall; nil is that
// all does.
func checked(reply statusReply, want []pattern) error {
	const few = 5
	var not []string
	for _, name := range slices.Sorted(maps.Keys(reply.Programs)) {
		if wanted(want, name) {
			not = append(not, notRunning(name, reply.Programs[name], want)...)
		}
	}
	if len(not) == 0 {
		return nil
	}
	text := strings.Join(not[:min(few, len(not))], ", ")
	if n := len(not) - few; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return &exit{exitNotRunning, errors.New("not running: " + text)}
}

// notRunning says what of a program does not run, of what is asked for.
func notRunning(name string, p programStatus, want []pattern) (not []string) {
	byName := named(want, name)
	if p.Desired == 0 && byName {
		return []string{name + " (no instance of it shall be)"}
	}
	for _, t := range want {
		if t.Program == name && t.Index != nil && *t.Index >= p.Desired {
			not = append(not, t.String()+" (on its way out)")
		}
	}
	for index := range p.Desired {
		if !wantedInstance(want, name, index) {
			continue
		}
		i, ok := p.Instances[index]
		if !ok {
			i.State = "new"
		}
		if why := i.notUp(byName); why != "" {
			not = append(not, fmt.Sprintf("%s (%s)", reconcile.InstanceID{Program: name, Index: index}, why))
		}
	}
	return not
}

// notUp says why an instance is not up that shall be; empty is that it is, or need
// not be.
func (i instanceStatus) notUp(named bool) string {
	e := i.LastExit
	switch {
	case i.State == "running" && i.AdminState != "down":
		return ""
	case i.AdminState == "down" && !named:
		return ""
	case i.AdminState == "down":
		return "stopped"
	case i.Finished == "done" && e != nil && e.Cause == "exit":
		return "" // a success
	case i.Finished == "done":
		return "ended, and not well"
	case i.Finished != "":
		return i.Finished
	}
	return i.State
}
