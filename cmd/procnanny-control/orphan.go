package main

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/place"
)

const (
	// managerWait is how long the service manager may take to start a daemon
	// that takes over; longer than any restart delay worth having.
	managerWait = 10 * time.Second
	// youngKeeper is how soon after its raising a keeper dies that makes us wait
	// before we raise the next, when it is not the first.
	youngKeeper = time.Second
	patience    = 5
	// raiseTries is how often we try to execute a keeper, a second apart: its
	// binary may be in the middle of being replaced.
	raiseTries = 60
)

// orphan is a control whose keeper died.
type orphan struct {
	d     place.Daemon
	conn  *keeper.Conn
	hello keeper.Hello
	began time.Time
	log   *slog.Logger
}

// hurry becomes the keeper, where nobody else is to: nothing is brought down
// before, as with any death of ours, and what the engine would order meanwhile
// would reach nobody.
func (o *orphan) hurry() {
	if o.hello.Supervised {
		return
	}
	crashpoint.Here(crashpoint.OrphanNotices)
	w, err := o.conn.Will()
	if err != nil {
		return
	}
	o.log.Error("the keeper died; its programs run on", "keeper", o.hello.PID)
	if o.hello.Origin == keeper.OriginDeath && time.Since(o.began) < youngKeeper {
		w.Raised = o.hello.Raised + 1
	}
	if w.Raised > patience {
		time.Sleep(youngKeeper)
	}
	crashpoint.Here(crashpoint.OrphanWilled)
	os.Exit(raise(w, o.hello.Exec, o.d, o.log))
}

// end hands what we hold to the daemon that the service manager starts, or else
// becomes the keeper.
func (o *orphan) end() int {
	w, err := o.conn.Will()
	if err != nil {
		o.log.Info("control ends with its keeper", "keeper", o.hello.PID)
		return 1
	}
	o.log.Error("the keeper died; its programs run on", "keeper", o.hello.PID)
	if err = w.Offer(o.d.Run, managerWait); err == nil {
		o.log.Info("another procnannyd has taken over")
		return 0
	}
	o.log.Warn("no service manager has started procnannyd again", "error", err)
	return raise(w, o.hello.Exec, o.d, o.log)
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
