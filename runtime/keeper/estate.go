package keeper

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// estate is what control holds for the next keeper: duplicates of descriptors,
// and the ends that it has heard of and not yet written down.
type estate struct {
	mu       sync.Mutex
	boot     string
	keeper   int  // its pid
	pidfd    int  // its process, -1: unknown
	dead     bool // it was dead before we could hold it
	locks    []int
	escrow   int // see escrow; -1: none
	runs     map[uint64]*holding
	asked    int
	farewell bool
	// shed are descriptors of ends, closed when the news is out.
	shed []int
	// parcels are descriptors that came, in the order of the facts they belong to.
	parcels [][]int
}

// holding is what is held of one run: a thousand of them are there all the time,
// so it is what the keeper said, as it came.
type holding struct {
	run     uint64
	program string
	index   int
	pid     int
	// note is the text of the run's note, or packed; empty is that the file has it.
	note    string
	exit    []byte // as legacy has it
	fds     [3]int32
	ended   bool
	emptied bool
}

// legacy is the holding as a will has it.
func (l *holding) legacy(boot string) legacy {
	out := legacy{Note: l.unpack(), Ended: l.ended, Emptied: l.emptied, Exit: l.exit}
	n := &out.Note
	n.Boot, n.Run, n.Program, n.Index, n.PID = boot, l.run, l.program, l.index, l.pid
	for i, fd := range l.fds {
		out.FDs[i] = int(fd)
	}
	return out
}

func newEstate() *estate { return &estate{pidfd: -1, escrow: -1, runs: map[uint64]*holding{}} }

// begin takes down what the list says. Those that had ended have nothing to hold.
func (e *estate) begin(h *Hello) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.boot, e.keeper, e.asked = h.BootID, h.PID, int(h.Asked)
	if e.pidfd < 0 {
		fd, err := unix.PidfdOpen(h.PID, 0)
		if err == nil {
			e.pidfd = fd
		}
		e.dead = err == unix.ESRCH
	}
	for i := range h.Runs {
		r := &h.Runs[i]
		if l := e.runs[r.Run]; l != nil && r.Ended && !l.ended { // its pipes came before the list
			l.ended, l.emptied, l.exit = true, r.Emptied, exitFrame(&r.Exit)
		}
		if r.Ended && e.runs[r.Run] == nil {
			l := e.entry(&Fact{Run: r.Run, Program: r.Program, Index: r.Index, PID: r.PID})
			l.note = string(note{
				StartedNS: r.StartedNS, Generation: r.Generation, Stopping: r.Stopping,
				LaunchDigest: r.LaunchDigest, TuningDigest: r.TuningDigest,
			}.text())
			l.ended, l.emptied, l.exit = true, r.Emptied, exitFrame(&r.Exit)
		}
	}
}

// entry finds or makes what is kept of a run.
func (e *estate) entry(f *Fact) *holding {
	l := e.runs[f.Run]
	if l == nil {
		l = &holding{run: f.Run, program: f.Program, index: f.Index, pid: f.PID, fds: [3]int32{-1, -1, -1}}
		e.runs[f.Run] = l
	}
	return l
}

// take keeps what a fact says. pass is false for those that are ours alone.
func (e *estate) take(f *Fact) (pass bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch f.Kind {
	case FactHeld:
		e.hold(f.Hello)
		return false
	case FactFarewell:
		e.farewell = true
		return false
	case FactAsked:
		if f.Signal == spec.SIGTERM {
			e.asked = int(f.Signal)
		}
	case FactExited:
		l := e.entry(f)
		l.ended, l.exit = true, exitFrame(f)
		e.shed = l.shed(e.shed, 0, 1)
	case FactStartFailed:
		l := e.entry(f)
		l.ended, l.emptied, l.exit = true, true, exitFrame(f)
	case FactEmptied:
		l := e.entry(f)
		l.emptied = true
		e.shed = l.shed(e.shed, 0, 3)
	default:
	}
	return true
}

// unpack keeps the descriptors of a message; fewer, or none, when we may have no more.
func (e *estate) unpack(control []byte) {
	all := rightsIn(control)
	e.mu.Lock()
	e.parcels = append(e.parcels, all)
	e.mu.Unlock()
}

// hold takes over the next parcel of descriptors.
func (e *estate) hold(h *Hello) {
	if h == nil || len(e.parcels) == 0 {
		return
	}
	fds := e.parcels[0]
	e.parcels = e.parcels[1:]
	want := h.Locks + h.Escrow
	for i := range h.Runs {
		for j := range 3 {
			want += int(h.Runs[i].Held >> j & 1)
		}
	}
	if want != len(fds) { // the kernel could not give us all of them
		closeAll(fds)
		return
	}
	if h.Locks > 0 {
		closeAll(e.locks)
		e.locks, fds = fds[:h.Locks:h.Locks], fds[h.Locks:]
	}
	if h.Escrow > 0 {
		closeSome(e.escrow)
		closeAll(fds[1:h.Escrow])
		e.escrow, fds = fds[0], fds[h.Escrow:]
	}
	for i := range h.Runs {
		r := &h.Runs[i]
		l := e.entry(&Fact{Run: r.Run, Program: r.Program, Index: r.Index, PID: r.PID})
		l.note = r.Note
		l.close(0, 3)
		for j := range l.fds {
			if r.Held>>j&1 == 1 {
				l.fds[j], fds = int32(fds[0]), fds[1:]
			}
		}
	}
}

// order takes note of what is ordered: it drops what was written down. A stop of all
// is the next keeper's, too, for this one may die before it reads of it.
func (e *estate) order(orders []Order) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range orders {
		if orders[i].Kind == OrderStop {
			e.asked = int(spec.SIGTERM)
		}
		if l := e.runs[orders[i].Run]; orders[i].Kind == OrderAck && l != nil && l.emptied {
			l.close(0, 3)
			delete(e.runs, orders[i].Run)
		}
	}
}

// tidy closes what ends have left. It comes with the next orders, of which each end
// has one that acknowledges it, and so after everybody who waits for the end; of a
// thousand that are stopped together it is left to our own end.
func (e *estate) tidy() {
	e.mu.Lock()
	shed := e.shed
	e.shed = nil
	e.mu.Unlock()
	closeAll(shed)
}

// shed takes the descriptors from i up to j out and adds them to fds.
func (l *holding) shed(fds []int, i, j int) []int {
	for ; i < j; i++ {
		if l.fds[i] >= 0 {
			fds = append(fds, int(l.fds[i]))
			l.fds[i] = -1
		}
	}
	return fds
}

// close closes the descriptors from i up to j.
func (l *holding) close(i, j int) {
	for ; i < j; i++ {
		if l.fds[i] >= 0 {
			unix.Close(int(l.fds[i]))
			l.fds[i] = -1
		}
	}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// drop closes everything: nobody will inherit.
func (e *estate) drop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.runs {
		l.close(0, 3)
	}
	closeAll(e.locks)
	closeAll(e.shed)
	for _, p := range e.parcels {
		closeAll(p)
	}
	closeSome(e.pidfd, e.escrow)
	e.pidfd, e.escrow, e.locks, e.shed, e.parcels, e.runs = -1, -1, nil, nil, nil, map[uint64]*holding{}
}

// errKeeperLives is why there is nothing to inherit.
var errKeeperLives = errors.New("the keeper lives, or has ended on purpose")

// deathWait is how long a keeper that closed its socket may take to be dead: its
// other threads, and its memory, go first.
const deathWait = 2 * time.Second

// Will is what a keeper that died left to us, once Recv has returned io.EOF. It
// is an error when that one ended on purpose. The descriptors stay ours until
// the will is executed or handed over.
func (c *Conn) Will() (*Will, error) {
	e := c.estate
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.farewell || e.pidfd < 0 && !e.dead || !e.dead && !pollIn(e.pidfd, deathWait) {
		return nil, errKeeperLives
	}
	w := &Will{Version: WillVersion, Boot: e.boot, Origin: OriginDeath, Former: e.keeper, Locks: e.locks, Asked: e.asked}
	w.Escrow = max(e.escrow, 0)
	for _, l := range e.runs {
		w.Runs = append(w.Runs, l.legacy(e.boot))
	}
	return w, nil
}

// pollIn waits until fd is readable.
func pollIn(fd int, within time.Duration) bool {
	deadline := time.Now().Add(within)
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline))/time.Millisecond))
		if err == unix.EINTR {
			continue
		}
		return err == nil && n > 0
	}
}
