package keeper

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/spec"
)

// Exit codes of the control process that mean something to the keeper.
const (
	// ExitRefused: it cannot work at all (no good configuration and no last good
	// one, a lock, a directory). While nothing runs, the keeper then gives up.
	ExitRefused = 64
	// ExitUpgrade: start me again at once, my binary is new.
	ExitUpgrade = 65
)

// Control says how the control process is started. Its descriptor 3 is the
// socket; stdin is the null device, stdout and stderr are the keeper's stderr.
type Control struct {
	Path string
	Args []string // without argv[0]
	Env  []string // KEY=value
}

// Config is what the keeper must know.
type Config struct {
	Control Control
	// RunDir is where notes of live runs are kept; it names our cgroup too.
	RunDir string
	// LogDir and LogGID are for output; -1 keeps the daemon's own group.
	LogDir string
	LogGID int
	// Leave makes TERM end the keeper and leave the programs running.
	Leave bool
	// ShutdownTimeout is how long an orderly shutdown may take before
	// everything is killed; 0 is as long as it takes.
	ShutdownTimeout time.Duration
	// NotifySocket is NOTIFY_SOCKET, or empty.
	NotifySocket string
	// Watchdog is how often NotifySocket must hear from us; 0 is never.
	Watchdog time.Duration
	// Sweep makes the keeper do without cgroups.
	Sweep bool
	// Self is how to execute this program again, for an upgrade in place and
	// after our death; no Path is neither.
	Self Exec
	// Locks are descriptors of locked files, which the next keeper gets.
	Locks []int
	// Will is what a former keeper left, or nil.
	Will *Will
	// Supervised is true when somebody else starts the daemon again after its
	// death: control then waits for that one before it raises a keeper itself.
	Supervised bool
	// Release is our version, as people name it.
	Release string
	Log     *slog.Logger
}

// keeper is the state of the loop; nobody else touches it.
type keeper struct {
	c     Config
	log   *slog.Logger
	poll  *poller
	deps  deps
	box   containment
	notes notes
	boot  string
	due   [alarms]int64 // CLOCK_MONOTONIC in ns; 0 is not set

	instances map[instanceKey]*instance
	runs      map[uint64]*run // alive, or ended and not yet acknowledged
	mains     map[int]*run    // by pid: main processes whose end was not yet seen

	dying   map[*run]struct{} // main gone, others living, no cgroup to tell
	exiting map[*run]struct{} // adopted, ended, exit status not yet known
	ended   []*run            // main process reaped in this turn, see tellEnds
	gone    []*run            // the end of the main process told in this turn
	spent   []int             // pidfds of theirs that are still watched and open
	over    []*run            // emptied in this turn
	unheard []*run            // ended, and control has perhaps not written it down
	// childless is true when no orphan was ours after all were reaped whose end we
	// know: those have left nobody, and that need not be read again for each.
	childless bool
	mover     *mover
	launcher  launcher
	escrow    escrow
	// emptyings are ends that wait until output was moved.
	emptyings map[*emptying]struct{}

	ctl      control
	facts    []byte // frames of this turn for control
	asked    spec.Signal
	controls int // started so far
	tries    int // deaths of control since TERM was asked
	stage    stage
	// reapDue is true when a child has ended, of which a pidfd may not have told.
	reapDue bool

	signals *signals
	retired bool
	done    bool
	code    int
	exit    int // of the daemon, once control has said that all has ended
	err     error
}

// Keep keeps processes until it is told to end; the code is the daemon's exit
// code. It needs its process for itself: it reaps every child.
func Keep(c Config) (int, error) { return keep(c, func(*deps) {}) }

// keep is Keep with neighbours that a test may change.
//
// The loop runs on other threads than the caller's, which waits: not on the first
// one when Keep was called on that (see orphanage).
func keep(c Config, change func(*deps)) (code int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	done := make(chan struct{})
	go func() {
		defer close(done)
		code, err = keepHere(c, change)
	}()
	<-done
	return code, err
}

func keepHere(c Config, change func(*deps)) (int, error) {
	k, err := newKeeper(c)
	if err != nil {
		return 1, err
	}
	defer k.close()
	change(&k.deps)
	if err := k.adopt(); err != nil {
		return 1, err
	}
	k.tidyRuns()
	k.feedWatchdog()
	k.startControl()
	code, err := k.loop()
	k.noteEnds()
	if k.done {
		k.farewell()
	}
	return code, err
}

func newKeeper(c Config) (*keeper, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	k := &keeper{
		c: c, log: c.Log,
		instances: map[instanceKey]*instance{}, runs: map[uint64]*run{}, mains: map[int]*run{},
		dying: map[*run]struct{}{}, exiting: map[*run]struct{}{},
		emptyings: map[*emptying]struct{}{},
		ctl:       control{pidfd: -1, sock: -1},
	}
	var err error
	if k.boot, err = bootID(); err != nil {
		return nil, err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("cannot become subreaper: %w", err)
	}
	if k.notes, err = openNotes(c.RunDir); err != nil {
		return nil, err
	}
	if k.deps, err = realDeps(c); err != nil {
		return nil, err
	}
	if k.poll, err = newPoller(); err != nil {
		return nil, err
	}
	if k.signals, err = catchSignals(k.poll); err != nil {
		return nil, err
	}
	if err = k.startMover(); err != nil {
		return nil, err
	}
	if err = k.startLauncher(); err != nil {
		return nil, err
	}
	if k.escrow, err = newEscrow(); err != nil {
		return nil, err
	}
	k.box = k.newContainment()
	return k, nil
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot read the boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func (k *keeper) close() {
	k.signals.close()
	k.retire()
	k.box.close(k.nobodyLives())
	k.poll.close()
	closeSome(k.escrow.in, k.escrow.out)
}

// retire gives back what nobody needs any more once everything has ended, or the
// keeper does: what moves output, and every pipe that is left.
func (k *keeper) retire() {
	if k.retired {
		return
	}
	k.retired = true
	k.launcher.close()
	if !k.mover.stop(time.Second) {
		return // somebody hangs, in a disk perhaps, with a pipe in his hand
	}
	k.deps.closeOutput()
	for _, in := range k.instances {
		for i := range in.streams {
			closeSome(in.streams[i].fd)
			in.streams[i].fd = -1
		}
	}
}

func (k *keeper) loop() (int, error) {
	for !k.done {
		events, err := k.poll.wait(k.timeout())
		if err != nil {
			return 1, err
		}
		for _, ev := range events {
			k.poll.dispatch(k, ev)
		}
		k.tellEnds()
		if len(k.dying) > 0 {
			k.unhush() // the end of an orphan may be what they wait for
		}
		if k.ctl.backlog {
			k.obeyAll()
		}
		k.ring()
		k.checkStopped()
		k.flush()
		// Whoever hears of an end waits for the processor that we are on, as often as
		// not, and what is left to do can wait; orphans even for the next turn, which
		// comes with the answer.
		if len(k.gone) > 0 && !k.stopping() {
			quickYield()
		}
		if k.reapDue && len(k.gone) == 0 {
			k.reapDue = false
			k.reap()
			k.checkStopped()
			k.flush()
		}
		k.tidyRuns()
	}
	return k.code, k.err
}

// tidyRuns does what can wait until control has heard of the ends of this turn:
// marks in the index of the output, descriptors that nobody needs; and it sees to it that an end which control
// does not acknowledge is noted.
func (k *keeper) tidyRuns() {
	for _, r := range k.gone {
		for s := range r.in.streams {
			if f := r.in.streams[s].flow; f != nil {
				f.end()
			}
		}
	}
	if len(k.gone)+len(k.over) > 0 {
		crashpoint.Here(crashpoint.ExitTold)
		k.unheard = append(append(k.unheard, k.gone...), k.over...)
		k.set(alarmNotes, k.ackWait())
	}
	for _, fd := range k.spent {
		k.poll.removeClose(fd)
	}
	k.spent = k.spent[:0]
	clear(k.gone)
	clear(k.over)
	k.gone, k.over = k.gone[:0], k.over[:0]
}

// end leaves the loop after this turn.
func (k *keeper) end(code int, err error) { k.done, k.code, k.err = true, code, err }

// nobodyLives reports whether no process of any run is left.
func (k *keeper) nobodyLives() bool {
	for _, r := range k.runs {
		if !r.emptied {
			return false
		}
	}
	return true
}

// tell queues a fact for the end of the turn. Without a control that has asked
// for the list nobody is told: the list will say it.
func (k *keeper) tell(f Fact) {
	if !k.ctl.listening {
		return
	}
	b, err := AppendFact(k.facts, &f)
	if err != nil {
		k.log.Error("a fact was too large", "program", f.Program, "instance", f.Index, "error", err)
		return
	}
	k.facts = b
}
