package keeper

import (
	"fmt"
	"testing"

	"github.com/procnanny/procnanny/spec"
)

func TestExitCodes(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		for _, code := range []int{0, 1, 77, 255} {
			started := r.begin(0, fmt.Sprintf("echo bye %d; exit %d", code, code))
			f := r.next(FactExited, started.Run)
			if f.Code != code || f.Signal != 0 || f.Core || f.Left != 0 || f.PID != started.PID || f.AtNS < started.AtNS {
				t.Errorf("exit %d: %+v", code, f)
			}
			r.next(FactEmptied, started.Run)
			if text := r.logged(0, fmt.Sprintf("bye %d\n", code)); text == "" {
				t.Error("nothing was logged")
			}
		}
	})
}

func TestSignalsAreReported(t *testing.T) {
	r := startRig(t, testConfig{})
	for _, sig := range []spec.Signal{1, 2, 3, 6, 9, 10, 11, 13, 14, 15, 34, 64} {
		started := r.begin(0, fmt.Sprintf("ulimit -c 0; kill -%d $$", sig))
		f := r.next(FactExited, started.Run)
		if f.Code != -1 || f.Signal != sig || f.Core {
			t.Errorf("signal %v: %+v", sig, f)
		}
		r.next(FactEmptied, started.Run)
	}
}
