package main

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/rpc/zmq"
	"github.com/procnanny/procnanny/runtime/control"
	"github.com/procnanny/procnanny/runtime/place"
)

// tryEndpoints refuses to begin where an endpoint cannot be had: then nothing is
// started, and whoever started the daemon is told. Those in the run directory are
// ours, by its lock. Where programs live already they matter more: there the
// endpoints are tried until they can be had.
func tryEndpoints(d place.Daemon, log *slog.Logger) error {
	others := func(e string) bool { return !strings.HasPrefix(e, "ipc://"+d.Run+"/") }
	if !slices.ContainsFunc(slices.Concat(d.Listen, d.Events, d.LegacyEvents), others) {
		return nil
	}
	gid, err := d.AdminGID()
	if err != nil {
		return err
	}
	s, err := zmq.Listen(endpoints(d, gid, log), early{})
	if err != nil {
		return refusal{err}
	}
	return s.Close()
}

func endpoints(d place.Daemon, gid *uint32, log *slog.Logger) zmq.Config {
	return zmq.Config{
		RPC: d.Listen, Events: d.Events, LegacyEvents: d.LegacyEvents, InsecureLoopback: d.InsecureLoopback, Keys: keys(d), Group: gid, Log: log,
	}
}

// refusal is a reason not to begin at all.
type refusal struct{ error }

func (refusal) Is(target error) bool { return target == control.ErrRefused }

// early answers those who ask before there is anything to tell.
type early struct{}

func (early) Begin(_ rpc.Peer, msg []byte) ([]byte, func(context.Context) []byte) {
	return rpc.Refuse(rpc.CodeUnavailable, "the daemon is starting", msg), nil
}

func (early) Refused(rpc.Refusal) {}
