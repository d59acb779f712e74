package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// daemonVersion is a `version` reply.
type daemonVersion struct {
	Version string `json:"version"`
	Keeper  struct {
		PID int `json:"pid"`
	} `json:"keeper"`
	Control struct {
		PID int `json:"pid"`
	} `json:"control"`
	Traffic traffic `json:"traffic"`
}

// traffic is what matters to a person of a `traffic` reply.
type traffic struct {
	Busy    uint64 `json:"busy"`
	Unsent  uint64 `json:"unsent"`
	Dropped uint64 `json:"dropped"`
}

// losses says what the sockets did not do; empty when nothing is to be said.
func (t traffic) losses() string {
	var list []string
	for _, l := range []struct {
		n    uint64
		what string
	}{
		{t.Busy, "requests refused because too many waited"},
		{t.Unsent, "replies that nobody took"},
		{t.Dropped, "events dropped because they could not be sent fast enough"},
	} {
		if l.n > 0 {
			list = append(list, fmt.Sprintf("%d %s", l.n, l.what))
		}
	}
	return strings.Join(list, ", ")
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of this command, and of the daemon if there is one", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tree, err := a.call(cmd.Context(), "version", nil)
			var away *exit
			if err != nil && (!errors.As(err, &away) || away.code != exitUnreachable) {
				return err
			}
			reply, _ := tree.(map[string]any)
			if reply == nil {
				reply = map[string]any{"version": nil} // nobody is there, which is no failure here
			}
			reply["client"] = version
			if err == nil { // a daemon before this one does not know it
				reply["traffic"], _ = a.call(cmd.Context(), "traffic", nil)
			}
			return a.emit(reply, func() error { return a.versionText(reply, err) })
		},
	}
}

func (a *app) versionText(reply map[string]any, away error) error {
	if err := a.say("procnanny %s", version); err != nil {
		return err
	}
	if away != nil {
		return a.say("no daemon: %s", firstLine(away))
	}
	var d daemonVersion
	if err := into(reply, &d); err != nil {
		return err
	}
	if err := a.say("procnannyd %s (keeper pid %d, control pid %d)", d.Version, d.Keeper.PID, d.Control.PID); err != nil {
		return err
	}
	if lost := d.Traffic.losses(); lost != "" {
		return a.say("since control began: %s", lost)
	}
	return nil
}
