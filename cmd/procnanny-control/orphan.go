package main

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/place"
)

const (
	// managerWait is how long the service manager may take to start a daemon
	// that takes over; longer than any restart delay worth having.
	managerWait = 10 * time.Second
	// youngKeeper is how soon after its raising a keeper that dies again makes
	// us wait before we raise the next.
	youngKeeper = time.Second
	// raiseTries is how often we try to execute a keeper, a second apart: its
	// binary may be in the middle of being replaced.
	raiseTries = 60
)

// orphaned is what control does when its keeper died: it hands what it holds to
// the daemon that the service manager starts, or else becomes the keeper.
func orphaned(d place.Daemon, conn *keeper.Conn, hello keeper.Hello, lived time.Duration, log *slog.Logger) int {
	w, err := conn.Will()
	if err != nil {
		log.Info("control ends with its keeper", "keeper", hello.PID)
		return 1
	}
	log.Error("the keeper died; its programs run on", "keeper", hello.PID, "held", len(w.Runs))
	if hello.Supervised {
		if err = w.Offer(d.Run, managerWait); err == nil {
			log.Info("another procnannyd has taken over")
			return 0
		}
		log.Warn("no service manager has started procnannyd again", "error", err)
	} else if hello.Origin == keeper.OriginDeath && lived < youngKeeper {
		time.Sleep(youngKeeper)
	}
	return raise(w, hello.Exec, d, log)
}

// raise becomes a keeper.
func raise(w *keeper.Will, path string, d place.Daemon, log *slog.Logger) int {
	for range raiseTries {
		err := w.Execute(keeper.Exec{Path: path, Args: d.Args(), Env: os.Environ()})
		log.Error("cannot raise a keeper", "error", err)
		time.Sleep(time.Second)
	}
	return 1
}

// stillborn is a control whose keeper died before it said what there is. The
// next one goes by the notes.
func stillborn(d place.Daemon, self string, log *slog.Logger, err error) int {
	log.Error("cannot talk to procnannyd (it starts this program; people do not)", "error", err)
	if !errors.Is(err, io.EOF) || self == "" {
		return 1
	}
	w, err := keeper.Nothing()
	if err != nil {
		return 1
	}
	return raise(w, self, d, log)
}
