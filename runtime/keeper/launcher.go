package keeper

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/runtime/launch"
)

// pending is a start between its note and the news of it.
type pending struct {
	order   *Start
	run     *run
	note    int // see notes.begin
	io      launch.Stdio
	cgroup  int
	process launch.Process
	err     error
}

// maxPending bounds the starts that are prepared and not yet told.
const maxPending = 4

// launcher has processes made on a thread of its own. Whoever makes one sleeps
// until it executes (CLONE_VFORK), which is half of the time of a start; so where
// starts follow each other the loop prepares the next one meanwhile. A start that
// is alone is made by the loop itself: to wake a thread would take longer.
//
// That thread makes the process and touches nothing else of the keeper's. The two
// pass starts by eventfds and not by channels, which would bring Go's scheduler
// and its threads between them.
type launcher struct {
	room         [maxPending]*pending
	todo, done   int // eventfds that count
	given, taken int // starts so far
	finished     atomic.Int64
	// follows is true while the next order is a start, too.
	follows bool
}

// launch has the process of p made; launched is called before settle returns.
func (k *keeper) launch(p *pending) {
	l := &k.launcher
	if l.given == l.taken && !l.follows {
		p.process, p.err = k.deps.start(&p.order.Launch, p.io, p.cgroup)
		quickPause()
		k.launched(p)
		return
	}
	l.room[l.given%maxPending] = p
	l.given++
	countUp(l.todo)
	// What is finished is taken at once: until then nobody but us holds it.
	for l.given-l.taken == maxPending || int64(l.taken) < l.finished.Load() {
		k.takeLaunched()
	}
}

// startLauncher makes the second thread.
func (k *keeper) startLauncher() error {
	l := &k.launcher
	for _, fd := range []*int{&l.todo, &l.done} {
		var err error
		if *fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_SEMAPHORE); err != nil {
			return fmt.Errorf("cannot make an eventfd: %w", err)
		}
	}
	go l.work(&k.deps)
	return nil
}

// work makes processes, one after the other, until there is none to make.
func (l *launcher) work(d *deps) {
	runtime.LockOSThread()
	for n := 0; ; n++ {
		countDown(l.todo)
		p := l.room[n%maxPending]
		if p == nil {
			return
		}
		p.process, p.err = d.start(&p.order.Launch, p.io, p.cgroup)
		l.finished.Add(1)
		countUp(l.done)
	}
}

// close ends the thread; nothing is under way.
func (l *launcher) close() {
	l.room[l.given%maxPending] = nil
	countUp(l.todo)
}

// countUp adds one to an eventfd.
func countUp(fd int) { _, _ = unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

// countDown waits until an eventfd is not zero, and takes one off.
func countDown(fd int) {
	var b [8]byte
	for {
		if _, err := unix.Read(fd, b[:]); err != unix.EINTR {
			return
		}
	}
}

// takeLaunched waits for the oldest start under way.
func (k *keeper) takeLaunched() {
	l := &k.launcher
	countDown(l.done)
	p := l.room[l.taken%maxPending]
	l.taken++
	k.launched(p)
}

// settle waits until no start is under way: before anything but a start is done,
// and before the turn ends.
func (k *keeper) settle() {
	for k.launcher.taken < k.launcher.given {
		k.takeLaunched()
	}
}

// settleFor settles if a start of the same instance or run is under way.
func (k *keeper) settleFor(s *Start) {
	for n := k.launcher.taken; n < k.launcher.given; n++ {
		p := k.launcher.room[n%maxPending]
		if p.run.id == s.Run || p.run.in.instanceKey == (instanceKey{s.Program, s.Index}) {
			k.settle()
			return
		}
	}
}

// launched registers a process, and tells of it or why there is none.
func (k *keeper) launched(p *pending) {
	r, in := p.run, p.run.in
	closeStdio(p.io)
	if p.cgroup >= 0 {
		unix.Close(p.cgroup)
	}
	if p.err != nil {
		k.notes.abandon(r, p.note)
		in.killed = in.killed || errors.Is(p.err, unix.EINTR)
		k.closePipes(in)
		k.startFailed(in, p.order, p.err)
		return
	}
	r.pid, r.pidfd, r.started = p.process.PID, p.process.PidFD, BootTime()
	r.inode = pidfdInode(r.pidfd)
	k.register(r)
	crashpoint.Here(crashpoint.StartCloned)
	text := k.noteOf(r).text()
	k.giveNow(r, text) // before all else: until control holds it too, its end and output are ours alone
	k.notes.finish(k, r, p.note, text)
	crashpoint.Here(crashpoint.StartFinished)
	k.set(alarmTidy, 3*time.Second)
	f := r.fact(FactStarted)
	f.AtNS = r.started
	k.tell(f)
}
