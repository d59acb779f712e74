package rpc

import (
	"testing"

	"github.com/procnanny/procnanny/reconcile"
)

// A pid in status is one of a living process: whoever signals it must not hit a
// stranger.
func TestPIDIsThatOfALivingProcess(t *testing.T) {
	tests := []struct {
		state reconcile.State
		gone  bool
		want  int
	}{
		{reconcile.StateRunning, false, 7},
		{reconcile.StateStopping, false, 7},
		{reconcile.StateStopping, true, 0},
		{reconcile.StateBackoff, false, 0},
		{reconcile.StateExited, false, 0},
	}
	for _, tt := range tests {
		i := &InstanceView{Instance: reconcile.Instance{State: tt.state, PID: 7, MainGone: tt.gone}}
		if got := mainPID(i); got != tt.want {
			t.Errorf("%v, main process gone %t: pid %d, not %d", tt.state, tt.gone, got, tt.want)
		}
		i.StartedAt = exampleNow
		_, uptimeAt, err := appendInstance(nil, i)
		if err != nil || (uptimeAt > 0) != (tt.want > 0) {
			t.Errorf("%v, main process gone %t: an uptime that runs: %t (%v)", tt.state, tt.gone, uptimeAt > 0, err)
		}
	}
}
