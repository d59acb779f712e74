package rpc

import "github.com/procnanny/procnanny/reconcile"

// stateNames are the states as the wire has said them since 2011.
var stateNames = [...]string{
	reconcile.StateUnset:    "unknown",
	reconcile.StateNew:      "new",
	reconcile.StateStarting: "starting",
	reconcile.StateRunning:  "running",
	reconcile.StateStopping: "stopping",
	reconcile.StateExited:   "exited",
	reconcile.StateBackoff:  "backoff",
}

func stateText(s reconcile.State) string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return stateNames[reconcile.StateUnset]
}
