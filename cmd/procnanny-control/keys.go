package main

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/procnanny/procnanny/rpc/zmq"
	"github.com/procnanny/procnanny/runtime/control"
	"github.com/procnanny/procnanny/runtime/place"
)

// keys are where the keys of TCP endpoints lie.
func keys(d place.Daemon) zmq.Keys {
	return zmq.Keys{Server: d.ServerKey(), Allow: d.AllowedKeys(), Trust: d.CheckKeyFile}
}

// checkKeys refuses to begin with keys that are no good. Where programs live
// already they matter more: then the endpoints that need keys are left out.
func checkKeys(d *place.Daemon, begin bool, log *slog.Logger) error {
	needs := func(e string) bool { return d.NeedsKeys(e) }
	lists := []*[]string{&d.Listen, &d.Events, &d.LegacyEvents}
	if !slices.ContainsFunc(lists, func(list *[]string) bool { return slices.ContainsFunc(*list, needs) }) {
		return nil
	}
	err := keys(*d).Check()
	switch {
	case err == nil:
		return nil
	case begin:
		return fmt.Errorf("%w: cannot serve tcp: %w", control.ErrRefused, err)
	}
	log.Error("endpoints that need keys are not served until procnannyd is started again with good ones", "error", err)
	for _, list := range lists {
		*list = slices.DeleteFunc(slices.Clone(*list), needs)
	}
	return nil
}
