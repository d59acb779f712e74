package keeper

import (
	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/crashpoint"
)

// giveRuns is how many runs' descriptors go in one message: the kernel takes
// 253 of them at once, a run has 3 at most.
const giveRuns = 60

// giveAll queues everything that control shall hold besides us.
func (k *keeper) giveAll() {
	k.ctl.holds, k.ctl.giveLocks, k.ctl.giveEscrow = true, len(k.c.Locks) > 0, true
	for _, r := range k.runs {
		k.giveLater(r)
	}
}

// giveLater queues a run whose descriptors control shall hold besides us: they
// go after the news of this turn, of which they are no part.
func (k *keeper) giveLater(r *run) {
	if !k.ctl.holds {
		r.note = nil
		return
	}
	k.ctl.give = append(k.ctl.give, r)
}

// giveNow gives the descriptors of a run at once, if it can: control keeps them
// for us, and does not act on it. News may wait for the end of the turn, in which
// other programs may be started, and we may be killed.
func (k *keeper) giveNow(r *run, note []byte) {
	r.note = note
	k.giveLater(r)
	k.give()
	if len(k.ctl.give) == 0 {
		r.note = nil
	}
}

// give sends what is queued, as far as the socket takes it.
func (k *keeper) give() {
	if k.ctl.giveEscrow && k.ctl.sock >= 0 && !k.ctl.full && len(k.ctl.out) == 0 {
		// By itself: a control that knows no escrow then drops this one alone.
		if !k.post(&Fact{Kind: FactHeld, Hello: &Hello{Escrow: 1}}, []int{k.escrow.out}) {
			return
		}
		k.ctl.giveEscrow = false
	}
	for k.ctl.sock >= 0 && !k.ctl.full && len(k.ctl.out) == 0 && (k.ctl.giveLocks || len(k.ctl.give) > 0) {
		n := min(len(k.ctl.give), giveRuns)
		f, fds := k.parcel(k.ctl.give[:n])
		if len(fds) > 0 && !k.post(&f, fds) {
			return
		}
		k.ctl.giveLocks, k.ctl.give = false, k.ctl.give[n:]
		crashpoint.Here(crashpoint.StartGiven)
	}
	if len(k.ctl.give) == 0 {
		k.ctl.give = nil
	}
}

// parcel is a fact with the descriptors that belong to it. A run that has ended
// meanwhile has none.
func (k *keeper) parcel(list []*run) (f Fact, fds []int) {
	h := &Hello{}
	if k.ctl.giveLocks {
		h.Locks, fds = len(k.c.Locks), append(fds, k.c.Locks...)
	}
	for _, r := range list {
		v := Run{Run: r.id, Program: r.in.program, Index: r.in.index, PID: r.pid}
		for i, fd := range r.descriptors() {
			if fd >= 0 {
				v.Held |= 1 << i
				fds = append(fds, fd)
			}
		}
		if v.Held == 0 {
			continue
		}
		if r.note == nil {
			r.note = k.noteOf(r).text()
		}
		v.Note, r.note = string(r.note), nil
		h.Runs = append(h.Runs, v)
	}
	return Fact{Kind: FactHeld, Hello: h}, fds
}

// descriptors are what there is only as long as somebody holds it: the pidfd,
// which also tells how its process ended, and the pipes.
func (r *run) descriptors() [3]int {
	out := [3]int{r.pidfd, -1, -1}
	if r.in.run == r && !r.emptied {
		out[1], out[2] = r.in.streams[0].fd, r.in.streams[1].fd
	}
	return out
}

// post sends a fact with descriptors. Without room it waits for its turn; when
// the kernel will not carry them, control does without.
func (k *keeper) post(f *Fact, fds []int) (done bool) {
	b, err := AppendFact(nil, f)
	if err != nil {
		k.log.Error("cannot describe descriptors to control", "error", err)
		return true
	}
	for {
		n, err := unix.SendmsgN(k.ctl.sock, b, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
		switch err {
		case nil:
			k.ctl.out = append(k.ctl.out, b[n:]...)
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			k.ctl.full = true
			k.poll.change(k.ctl.sock, unix.EPOLLIN|unix.EPOLLOUT)
			return false
		default:
			k.log.Warn("control does not hold the descriptors of some programs", "error", err)
			return true
		}
	}
}

// farewell tells control that we end on purpose, so that it raises no other.
func (k *keeper) farewell() {
	if k.ctl.sock < 0 {
		return
	}
	k.ctl.listening = true
	k.tell(Fact{Kind: FactFarewell, AtNS: BootTime()})
	k.flush()
}
