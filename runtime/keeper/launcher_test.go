package keeper

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Starts that come together are made beside each other's preparation; what is
// told of them does not show it: in order, failures among them, one copy each.
func TestStartsThatComeTogether(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		var orders []Order
		for i := range 40 {
			o := r.shell(i/2, "sleep 1000") // each instance twice in a row
			if i%10 == 8 {
				o.Start.Launch.Candidates = []string{"/no/such/file"}
			}
			orders = append(orders, o)
		}
		// A stop behind them, in the same turn, is of a process that is there.
		last := orders[len(orders)-1].Start
		orders = append(orders, Order{Kind: OrderKill, Run: last.Run, Signal: 9})
		r.send(orders...)
		var got []Fact
		for len(got) < 40 {
			facts, err := r.conn.Recv()
			must(t, err)
			for _, f := range facts {
				if f.Kind == FactStarted || f.Kind == FactStartFailed {
					got = append(got, f)
				} else {
					r.facts = append(r.facts, f)
				}
			}
		}
		for i, f := range got {
			want := int(unix.EBUSY)
			switch {
			case i%10 == 8:
				want = int(unix.ENOENT)
			case i%2 == 0, i%10 == 9: // the first, and the second where the first failed
				want = 0
			}
			if f.Run != orders[i].Start.Run || f.Errno != want || (f.PID > 0) != (want == 0) {
				t.Errorf("start %d, of run %d: %+v, want errno %d", i, orders[i].Start.Run, f, want)
			}
		}
		r.next(FactEmptied, last.Run)
	})
}
