package main

import (
	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/runtime/doctor"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Say what this machine permits, and what each lack weakens", Args: cobra.NoArgs,
		Long: `Try what procnannyd needs of the kernel and of the caller's privileges, and say
what each lack weakens. It needs no daemon, and answers for the user who asks:
what a daemon of root may do, root has to ask. It exits with 1 when procnanny
cannot run here at all.`,
		RunE: func(*cobra.Command, []string) error {
			list := doctor.This().Look()
			err := a.emit(map[string]any{"checks": list, "fit": doctor.Fit(list)}, func() error { return a.doctorText(list) })
			if err == nil && !doctor.Fit(list) {
				err = &exit{code: exitFailed}
			}
			return err
		},
	}
}

// doctorStyles show how bad it is.
var doctorStyles = map[doctor.State]style{doctor.OK: green, doctor.Weak: yellow, doctor.Missing: red}

func (a *app) doctorText(list []doctor.Check) error {
	t := &table{head: []string{"CHECK", "STATE", "FOUND"}}
	lacks := 0
	for _, c := range list {
		t.add(cell{text: c.Name}, cell{text: string(c.State), style: doctorStyles[c.State]}, cell{text: c.Found})
		if c.State != doctor.OK {
			lacks++
		}
	}
	if err := a.grid(t); err != nil {
		return err
	}
	if lacks == 0 {
		return a.say("\nnothing is weakened")
	}
	a.put("\nwhat that weakens:")
	for _, c := range list {
		if c.State != doctor.OK {
			for _, line := range fold(safe("  "+c.Name+": "+c.Weakens), a.limit()) {
				a.put(line)
			}
		}
	}
	return nil
}
