package keeper

import (
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Movers is how many threads move output. One that waits for a slow disk is
	// missed by nobody as long as another is free.
	Movers    = 4
	maxOpen   = 512 // sinks with open files
	idleAfter = 2 * time.Second
	// slowAfter is how long one move may take before people hear of it.
	slowAfter = 5 * time.Second
)

// mover moves output on threads of its own, so that a disk which makes its
// writers wait holds up neither the loop nor the output of others. A flow is
// with one thread at a time. Nobody waits for a disk, or for a pipe, while he
// holds mu.
type mover struct {
	log   *slog.Logger
	ep    int    // pipes, one-shot, and the timers
	timer int    // rings for what is due
	clock int    // rings every idleAfter while files are open
	tell  func() // wakes whoever takes news
	// newSink makes the sink of a flow, which is mostly on device.
	newSink func(flowKey, Output) sink
	device  uint64

	mu      sync.Mutex
	idle    *sync.Cond // a flow is no longer busy, for acquire
	slots   []flowSlot // by descriptor
	gen     int32
	due     flowHeap          // what is to be served at a time, or now
	rings   int64             // when the timer rings; 0: never
	waiting int               // threads without work
	leaving map[flowKey]*flow // being forgotten
	busy    map[*flow]struct{}
	on      map[uint64]*traffic // by device
	open    map[*flow]struct{}  // sinks with open files
	clocked bool                // clock is on
	news    []func(*keeper)
	ended   bool
}

// flowSlot is what is watched at one descriptor number; see slot.
type flowSlot struct {
	f   *flow
	gen int32
}

// newMover makes the threads at once: later there may be none to be had.
func newMover(log *slog.Logger, tell func()) (*mover, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make an epoll set: %w", err)
	}
	timer, err := newTimer(ep)
	if err != nil {
		unix.Close(ep)
		return nil, err
	}
	clock, err := newTimer(ep)
	if err != nil {
		unix.Close(ep)
		unix.Close(timer)
		return nil, err
	}
	m := &mover{
		log: log, ep: ep, timer: timer, clock: clock, tell: tell,
		leaving: map[flowKey]*flow{}, busy: map[*flow]struct{}{}, on: map[uint64]*traffic{}, open: map[*flow]struct{}{},
	}
	m.idle = sync.NewCond(&m.mu)
	for range Movers {
		go m.run()
	}
	return m, nil
}

// newTimer makes a timer each ring of which wakes one thread; nobody need read it.
func newTimer(ep int) (int, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("cannot make a timer: %w", err)
	}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("cannot watch a timer: %w", err)
	}
	return fd, nil
}

// run is one thread.
func (m *mover) run() {
	runtime.LockOSThread()
	// A signal that lands on a thread which waits for a disk would wait with it.
	blockSignals(append([]unix.Signal{unix.SIGCHLD}, handOver...))
	var last [1]unix.EpollEvent
	m.mu.Lock()
	for turn := 0; !m.ended; turn++ {
		// By turns, so that neither who has much to say nor who has little waits
		// for the other.
		var f *flow
		if turn&1 == 0 {
			f = m.next()
		}
		if f == nil {
			f = m.wait(last[:])
		}
		if f != nil && !m.ended {
			m.serve(f)
		}
	}
	m.mu.Unlock()
}

// next takes the next flow that is due.
func (m *mover) next() *flow {
	now := sinceBegan()
	for len(m.due) > 0 && m.due[0].at <= now {
		f := m.due.pop()
		f.again = f.busy // whoever has it sees to that
		if f.busy || !m.admit(f) {
			continue
		}
		if m.waiting > 0 && len(m.due) > 0 {
			m.ring(m.due[0].at) // another one is to take it, now or then
		}
		return f
	}
	return nil
}

// wait waits for a pipe or the timer, or only looks when something is due.
func (m *mover) wait(events []unix.EpollEvent) *flow {
	timeout := -1
	switch {
	case len(m.due) == 0:
	case m.due[0].at <= sinceBegan():
		timeout = 0
	default:
		m.ring(m.due[0].at)
	}
	m.waiting++
	m.mu.Unlock()
	n, err := unix.EpollWait(m.ep, events, timeout)
	m.mu.Lock()
	m.waiting--
	if err != nil || n == 0 {
		return nil
	}
	ev := events[0]
	switch int(ev.Fd) {
	case m.timer:
		m.rings = 0
		return m.next()
	case m.clock:
		m.sweep(sinceBegan())
		return nil
	}
	s := m.slots[ev.Fd]
	if s.f == nil || s.gen != ev.Pad {
		return nil // it is no longer watched
	}
	s.f.armed, s.f.again = false, s.f.busy
	if s.f.busy || s.f.index >= 0 || !m.admit(s.f) {
		return nil // it is looked at soon anyway
	}
	return s.f
}

// serve does what a flow has to do. It lets mu go meanwhile.
func (m *mover) serve(f *flow) {
	m.enter(f)
	jobs := f.todo
	f.todo, f.again, f.jobs = nil, false, len(f.todo) > 0
	turn := m.turn(f)
	m.mu.Unlock()
	f.work(jobs)
	what := f.move(turn)
	m.mu.Lock()
	m.leave(f)
	m.settle(f, what)
}

// turn is how much a flow may move now: more while nobody waits for it to end.
func (m *mover) turn(f *flow) int {
	if f.much && len(m.due) == 0 && len(m.on[f.entered].loudWait) == 0 {
		return drainAlone
	}
	return drainTurn
}

// settle decides when a flow is served again.
func (m *mover) settle(f *flow, what moved) {
	if what.n > 0 {
		m.touch(f)
	}
	f.much = what.n >= loud
	if f.slow {
		f.report()
	}
	now := sinceBegan()
	switch {
	case len(f.todo) > 0 || f.again:
		m.plan(f, now)
	case f.pipe < 0:
	case what.more:
		if f.much {
			m.ignore(f)
		}
		m.plan(f, now)
	case what.delay > 0:
		if f.much {
			m.ignore(f)
		}
		m.plan(f, now+int64(what.delay))
	default:
		m.arm(f)
	}
}

// touch notes that a sink has its files open. They are closed when nothing came
// for a while, or when too many are.
func (m *mover) touch(f *flow) {
	f.touched = true
	if _, ok := m.open[f]; ok {
		return
	}
	if len(m.open) >= maxOpen {
		for other := range m.open { // any: maps iterate in no order
			m.closeFiles(other)
			break
		}
	}
	m.open[f] = struct{}{}
}

func (m *mover) closeFiles(f *flow) {
	delete(m.open, f)
	f.todo = append(f.todo, job{false, func() {
		if f.sink != nil {
			f.sink.Idle()
		}
	}})
	m.queue(f, sinceBegan())
}

// sweep closes the files of sinks that were not written for a while, and tells
// of moves that take too long.
func (m *mover) sweep(now int64) {
	for f := range m.busy {
		if now-f.since > int64(slowAfter) && !f.slow {
			f.slow = true
			f.tellSlow()
		}
	}
	for f := range m.open {
		switch {
		case f.touched || f.busy:
		case f.dropping: // a quiet program's mark is written, too
			m.queue(f, now)
		default:
			m.closeFiles(f)
		}
		f.touched = false
	}
	m.clocked = false
	if len(m.open)+len(m.busy) > 0 {
		m.wind()
	}
}

// wind has somebody sweep in a while.
func (m *mover) wind() {
	m.clocked = true
	setTimer(m.clock, idleAfter)
}

// setTimer sets a timer to ring once.
func setTimer(fd int, after time.Duration) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(after))}
	_ = unix.TimerfdSettime(fd, 0, &spec, nil) // cannot fail with these arguments
}

// post has the loop do something.
func (m *mover) post(do func(*keeper)) {
	first := len(m.news) == 0
	m.news = append(m.news, do)
	if first {
		m.tell()
	}
}

// take returns what was posted.
func (m *mover) take() []func(*keeper) {
	m.mu.Lock()
	defer m.mu.Unlock()
	news := m.news
	m.news = nil
	return news
}

// rest waits until all jobs are done, and says whether that came to be.
func (m *mover) rest(most time.Duration) bool {
	for deadline := time.Now().Add(most); ; time.Sleep(time.Millisecond) {
		if quiet := m.resting(); quiet || time.Now().After(deadline) {
			return quiet
		}
	}
}

func (m *mover) resting() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for f := range m.busy {
		if f.jobs || len(f.todo) > 0 {
			return false
		}
	}
	for _, f := range m.due {
		if len(f.todo) > 0 {
			return false
		}
	}
	return true
}

// stuck reports whether somebody has waited for his disk for so long.
func (m *mover) stuck(long time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := sinceBegan()
	for f := range m.busy {
		if now-f.since > int64(long) {
			return true
		}
	}
	return false
}

// unstuck waits until nobody waits for his disk for more than a second, so long
// at most, and says whether that is so.
func (m *mover) unstuck(most time.Duration) bool {
	const long, look = time.Second, 20 * time.Millisecond
	for end := time.Now().Add(most); m.stuck(long); time.Sleep(look) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// stop ends the threads, as far as they do not wait, and says whether none is
// at work any more.
func (m *mover) stop(most time.Duration) bool {
	m.rest(most)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	return len(m.busy) == 0
}
