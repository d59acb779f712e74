package keeper

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/output"
)

const (
	// drainTurn bounds what one pipe may move in a turn, so that a loud process
	// does not keep others waiting; bytes.
	drainTurn = output.Turn
	// drainAlone is for one beside whom no other waits: a few milliseconds.
	drainAlone = 4 << 20
	// drainEnd bounds what is moved at a main process's end: more than any pipe
	// holds, so that all it wrote is in the file before its end is told, while
	// a grandchild that goes on writing cannot hold us; bytes.
	drainEnd = 2 << 20

	// retryFirst is the least time between tries of a sink that can take no more.
	retryFirst = 20 * time.Millisecond

	// droppedEvery is how often control hears how much was dropped.
	droppedEvery = 5 * time.Second
)

// flow is what a pipe's output takes to its sink. It is the mover's; who else
// wants something from the sink does it between two moves: see do.
type flow struct {
	m   *mover
	key flowKey
	s   *stream // for the loop alone

	// These are guarded by mover.mu.
	todo     []job  // before the next move
	jobs     bool   // it is busy with some of them
	busy     bool   // a thread has it, and all below
	again    bool   // serve it again at once
	armed    bool   // the kernel tells when there is something
	waits    bool   // in line for its device
	touched  bool   // written since the last look for idle ones
	much     bool   // the last move was a large one
	slow     bool   // people heard that a move takes too long
	index    int    // in mover.due, -1: it is not
	at       int64  // when it is due
	since    int64  // when it became busy
	entered  uint64 // the device it was counted on
	device   uint64 // of the file
	leaving  int32  // how often it is being forgotten, at the moment
	dropping bool   // the sink drops what it cannot write
	// enteredMuch is much when it became busy.
	enteredMuch bool

	// These are whoever's that has it busy.
	sink    sink   // nil until there is something to write
	run     uint64 // whose output comes
	pipe    int    // -1: none
	life    uint64 // of the pipe: who began to watch it, as the loop counts
	output  Output
	err     error // why, or why it drops
	told    int64 // when the loop last heard of drops
	letGo   bool  // its program is being stopped: rather drop than wait
	blocked bool  // the sink could take no more
	wrote   bool  // since the run began
	used    bool  // the sink was given something
	looked  bool  // there is nothing that a former keeper left on a stage
}

// moved is what came of a move.
type moved struct {
	n     int
	more  bool
	delay time.Duration // not before this, ask for more
}

// job is something to be done between two moves.
type job struct {
	quick bool // it waits for nothing; mu is held
	do    func()
}

// flowKey names a flow's files.
type flowKey struct {
	instanceKey
	stream string
}

// flow makes the flow of a stream. One that is being forgotten is taken on again,
// so that nobody else writes to its files meanwhile.
func (m *mover) flow(s *stream) *flow {
	key := flowKey{s.in.instanceKey, s.name}
	m.mu.Lock()
	f := m.leaving[key]
	delete(m.leaving, key)
	m.mu.Unlock()
	if f == nil {
		return &flow{m: m, s: s, key: key, pipe: -1, index: -1, device: m.device}
	}
	f.do(true, func() { f.s = s })
	return f
}

// forget closes the sink, and drops the flow unless somebody takes it on again.
func (f *flow) forget() {
	f.m.mu.Lock()
	f.leaving++
	f.m.leaving[f.key] = f
	f.m.mu.Unlock()
	f.do(true, func() { delete(f.m.open, f) })
	f.do(false, f.closeSink)
	f.do(true, func() {
		if f.leaving--; f.leaving == 0 && f.m.leaving[f.key] == f {
			delete(f.m.leaving, f.key)
		}
	})
}

// do has something done between two moves, in the order of the calls: at once if
// it is quick and nobody has the flow, else on a thread of the mover.
func (f *flow) do(quick bool, what func()) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if quick && !f.busy && len(f.todo) == 0 {
		what()
		return
	}
	f.todo = append(f.todo, job{quick, what})
	f.m.queue(f, sinceBegan())
}

// work does jobs.
func (f *flow) work(jobs []job) {
	for _, j := range jobs {
		if j.quick {
			f.m.mu.Lock()
		}
		j.do()
		if j.quick {
			f.m.mu.Unlock()
		}
	}
}

// acquire makes the caller the one who has the flow. It waits no longer than
// most.
func (f *flow) acquire(most time.Duration) bool {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.busy {
		late := time.AfterFunc(most, f.m.idle.Broadcast)
		defer late.Stop()
	}
	for deadline := time.Now().Add(most); f.busy; f.m.idle.Wait() {
		if !time.Now().Before(deadline) {
			return false
		}
	}
	f.m.enter(f)
	return true
}

func (f *flow) release() {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.m.leave(f)
	now := sinceBegan()
	if len(f.todo) > 0 || f.again {
		f.m.plan(f, now)
	}
	if f.m.waiting > 0 && len(f.m.due) > 0 {
		f.m.ring(max(f.m.due[0].at, now)) // the loop does not look itself
	}
}

// begin is for a new run: whose output comes from now on, and how it is kept.
func (f *flow) begin(run uint64, o Output) {
	f.do(true, func() {
		f.run, f.output, f.letGo, f.wrote = run, o, false, false
		if f.sink != nil {
			f.sink.SetPolicy(o)
			f.sink.BeginRun(run)
		}
	})
}

func (f *flow) setOutput(o Output) {
	f.do(true, func() {
		f.output = o
		if f.sink != nil {
			f.sink.SetPolicy(o)
		}
	})
}

// end is for a run whose main process has ended and whose pipe was emptied.
func (f *flow) end() {
	f.m.mu.Lock()
	silent := !f.busy && len(f.todo) == 0 && !f.wrote
	f.m.mu.Unlock()
	if !silent { // else the file knows nothing of it
		f.do(false, func() {
			if f.sink != nil {
				f.sink.EndRun()
			}
		})
	}
}

// attach has a pipe's output moved from now on.
func (f *flow) attach(pipe int, life uint64) {
	f.do(true, func() {
		f.life = life
		if f.pipe == pipe {
			return // what the former run left in it is waited for already
		}
		f.pipe = pipe
		if err := f.m.watch(f); err != nil {
			f.m.log.Error("cannot watch output", "program", f.s.in.program, "instance", f.s.in.index, "error", err)
		}
		if f.staging() {
			f.m.queue(f, sinceBegan())
		}
	})
}

// detach closes the pipe.
func (f *flow) detach(pipe int) {
	f.do(true, func() {
		if f.pipe == pipe {
			f.unwatch()
		}
		unix.Close(pipe)
	})
}

// unwatch lets the pipe go; mu is held.
func (f *flow) unwatch() {
	f.m.unwatch(f)
	f.pipe, f.blocked = -1, false
}

// stop lets output of a program that is being stopped flow: what cannot be
// written is dropped and counted.
func (f *flow) stop() {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.busy || len(f.todo) > 0 {
		f.todo = append(f.todo, job{true, func() { f.letGo = true }})
	} else {
		f.letGo = true
	}
	if f.busy || f.blocked {
		f.m.queue(f, sinceBegan())
	}
}

// empty reports whether nothing is to be moved, so far as can be known without
// waiting: poll(2) does not lock the pipe.
func (f *flow) empty() bool {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.busy || len(f.todo) > 0 {
		return false
	}
	if f.pipe < 0 {
		return true
	}
	more, err := quickPoll(f.pipe)
	return err == nil && !more
}

// flush moves all that is in the pipe, then has the loop do something.
func (f *flow) flush(then func(*keeper)) {
	f.do(false, func() {
		for n := 0; f.pipe >= 0 && n < drainEnd; {
			what := f.move(drainTurn)
			if n += what.n; !what.more {
				break
			}
		}
		f.post(then)
	})
}

func (f *flow) post(do func(*keeper)) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.m.post(do)
}

// move moves what is there, at most limit bytes. When the sink can take no
// more, the pipe is left alone until a later try, and its writer waits.
func (f *flow) move(limit int) (what moved) {
	if f.pipe < 0 || f.sink == nil && !f.staging() && quiet(f.pipe) {
		return what
	}
	n, more, dropped, err := f.drain(limit)
	what = moved{n: n, more: more, delay: f.sink.Delay()}
	if err != nil && dropped {
		what.more = n > 0 // there may be more, unless nothing came
	}
	f.device = f.sink.Device()
	f.judge(err, dropped)
	switch {
	case f.blocked:
		what.more, what.delay = false, max(what.delay, retryFirst)
	case n == 0 && !what.more && hungUp(f.pipe):
		if !f.used { // it never said anything
			f.closeSink()
		}
		f.finish()
	}
	return what
}

// drain gives the sink what is there; dropped says that it does not keep what it
// cannot write.
func (f *flow) drain(limit int) (n int, more, dropped bool, err error) {
	f.needSink()
	dropped = f.output.Drop
	if n, more, err = f.sink.Drain(f.pipe, limit); err != nil && !dropped && f.letGo {
		f.sink.SetPolicy(f.output.dropping())
		n, more, err = f.sink.Drain(f.pipe, limit)
		dropped = true
	}
	f.wrote, f.looked = f.wrote || n > 0, f.looked || err == nil
	f.used = f.used || n > 0 || err != nil
	return n, more, dropped, err
}

// finish is the end of a pipe. The loop closes it, when nobody gives its number
// away any more.
func (f *flow) finish() {
	s, life := f.s, f.life
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.unwatch()
	f.m.post(func(k *keeper) { k.pipeEnded(s, f, life) })
}

// judge tells the loop once that output cannot be written, that it is dropped,
// and that it flows again.
func (f *flow) judge(err error, dropped bool) {
	now := sinceBegan()
	blocked, dropping := err != nil && !dropped, err != nil && dropped
	news := blocked != f.blocked || dropping != (f.err != nil && !f.blocked)
	f.blocked, f.err = blocked, err
	if !news && !(dropping && now-f.told > int64(droppedEvery)) {
		return
	}
	f.told = now
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.dropping = dropping
	f.report()
}

// errSlow is a disk that neither takes output nor says why.
var errSlow = errors.New("the disk does not answer")

// tellSlow is called with mu held, by another thread.
func (f *flow) tellSlow() {
	s, err := f.s, fmt.Errorf("cannot write output: %w", errSlow)
	f.m.post(func(k *keeper) { k.reported(s, f, report{err: err, slow: true}) })
}

// report tells the loop how it stands; mu is held.
func (f *flow) report() {
	s, r := f.s, report{err: f.err, dropping: f.dropping}
	if f.sink != nil {
		r.dropped = f.sink.Dropped()
	}
	f.slow = false
	f.m.post(func(k *keeper) { k.reported(s, f, r) })
}

// report is how a flow stands.
type report struct {
	err      error
	dropping bool
	slow     bool
	dropped  int64
}

func (o Output) dropping() Output {
	o.Drop = true
	return o
}
