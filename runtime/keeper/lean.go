package keeper

import (
	"runtime/debug"

	"github.com/procnanny/procnanny/runtime/lean"
)

// quietGC is the collector's percentage once the first starts are over. While
// they go on it is Go's own: a collection waits for each process that is being
// started, and there would be twenty in a start of a thousand.
const quietGC = 25

// stopGC is the percentage once everything is being stopped: a collection would
// hold the loop up a dozen times, for memory that is given back in a moment anyway.
const stopGC = 400

// orderLean gives memory back. It holds the loop up for some milliseconds, so
// control asks for it when nothing has happened for a while.
func (k *keeper) orderLean(*Order) {
	debug.SetGCPercent(quietGC)
	if err := lean.Trim(); err != nil {
		k.log.Warn("cannot give memory back", "error", err)
	}
}
