package keeper

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/spec"
)

// maxOrders bounds the orders of a turn, so that exits and output are not kept
// waiting by a thousand starts: some 7 ms. Control hears of a turn's starts
// together, and looks through their program once for them.
const maxOrders = 48

// orders says what each order does. Those about a run are looked up first.
var orders [OrderStop + 1]func(*keeper, *Order)

// runOrders are about one run, which exists.
var runOrders [OrderStop + 1]func(*keeper, *run, *Order)

func init() {
	orders = [...]func(*keeper, *Order){
		OrderStart:     (*keeper).orderStart,
		OrderOutput:    (*keeper).orderOutput,
		OrderPreflight: (*keeper).orderPreflight,
		OrderForget:    (*keeper).orderForget,
		OrderShutdown:  (*keeper).orderShutdown,
		OrderReady:     (*keeper).orderReady,
		OrderList:      (*keeper).orderList,
		OrderLean:      (*keeper).orderLean,
		OrderStop:      (*keeper).orderStop,
	}
	runOrders = [...]func(*keeper, *run, *Order){
		OrderSignal: (*keeper).orderSignal,
		OrderPoke:   (*keeper).orderPoke,
		OrderSweep:  (*keeper).orderSweep,
		OrderKill:   (*keeper).orderKill,
		OrderTune:   (*keeper).orderTune,
		OrderAck:    (*keeper).orderAck,
		OrderStop:   nil,
	}
}

func (k *keeper) obey(o *Order) {
	if o.Kind != OrderStart {
		k.settle()
	}
	if int(o.Kind) >= len(orders) {
		k.log.Warn("control gave an order that this keeper does not know", "order", o.Kind)
		return
	}
	if f := orders[o.Kind]; f != nil {
		f(k, o)
		return
	}
	f, r := runOrders[o.Kind], k.runs[o.Run]
	if f == nil || r == nil {
		return // a run that is over and acknowledged: nothing is left to do to it
	}
	f(k, r, o)
}

// orderSignal asks the run to stop: its main process's group hears it, and is
// woken so that one that job control holds does too. It is not enough to look
// whether main is held: it may wait for one that is. Once main is gone, all that
// is left hears it.
func (k *keeper) orderSignal(r *run, o *Order) {
	crashpoint.Here(crashpoint.StopOrdered)
	r.stopping = true
	k.letGo(r.in)
	if r.ended {
		k.box.signal(r, o.Signal)
		return
	}
	k.box.remember(r)
	k.signalMain(r, o.Signal, unix.PIDFD_SIGNAL_PROCESS_GROUP)
	if wakes(o.Signal) {
		k.signalMain(r, sigCONT, unix.PIDFD_SIGNAL_PROCESS_GROUP)
	}
	crashpoint.Here(crashpoint.StopSent)
}

func (k *keeper) orderPoke(r *run, o *Order) {
	if !r.ended {
		k.signalMain(r, o.Signal, 0)
	}
}

// reused reports whether the number of a living main process may be another's by
// now: it has ended, we have not come to that yet, and it is not ours to reap.
func (r *run) reused() bool { return r.adopted && pollIn(r.pidfd, 0) }

// signalMain sends by pidfd, so that it never reaches a process that has only
// got the same number. Kernels before 6.9 cannot send to a group by pidfd; main
// is not reaped yet, so its number is still its own.
func (k *keeper) signalMain(r *run, sig spec.Signal, flags int) {
	err := quickSignal(r.pidfd, sig, flags)
	if errors.Is(err, unix.EINVAL) && flags == unix.PIDFD_SIGNAL_PROCESS_GROUP && !r.reused() {
		err = unix.Kill(-r.pid, unix.Signal(sig))
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		k.log.Error("cannot send a signal", "program", r.in.program, "instance", r.in.index, "pid", r.pid, "signal", sig.String(), "error", err)
	}
}

func (k *keeper) orderSweep(r *run, o *Order) {
	if !r.emptied {
		k.box.signal(r, o.Signal)
	}
}

func (k *keeper) orderKill(r *run, o *Order) {
	r.stopping = true
	k.letGo(r.in)
	if r.emptied {
		return
	}
	if o.Signal == spec.SIGKILL {
		k.box.kill(r)
	} else {
		k.box.signal(r, o.Signal)
	}
	if r.ended {
		k.lookEmpty(r)
	}
}

func (k *keeper) orderTune(r *run, o *Order) {
	f := r.fact(FactTuned)
	f.Digest = o.Digest
	if o.Tuning != nil && !r.ended && !r.reused() {
		f.Refused = k.deps.tune(r.pid, *o.Tuning, k.box.place(r.in))
		r.tuning = o.Digest
		crashpoint.Here(crashpoint.TuneDone)
		k.notes.write(k, r)
		crashpoint.Here(crashpoint.TuneNoted)
	}
	k.tell(f)
}

func (k *keeper) orderAck(r *run, _ *Order) { k.drop(r) }

func (k *keeper) orderOutput(o *Order) {
	in := k.instances[instanceKey{o.Program, o.Index}]
	if in == nil || o.Output == nil {
		return
	}
	in.output = *o.Output
	for i := range in.streams {
		if s := &in.streams[i]; s.flow != nil {
			s.flow.setOutput(in.output)
		}
	}
}

func (k *keeper) orderPreflight(o *Order) {
	f := Fact{Kind: FactPreflight, Digest: o.Digest, Program: o.Program, Index: o.Index, AtNS: BootTime()}
	if o.Start == nil {
		f.Reason = "the order names nothing to check"
	} else {
		f.Program, f.Index = o.Start.Program, o.Start.Index
		if err := k.deps.preflight(&o.Start.Launch); err != nil {
			f.Reason = err.Error()
		}
	}
	k.tell(f)
}

// orderForget drops what is kept of an instance that is gone for good.
func (k *keeper) orderForget(o *Order) {
	key := instanceKey{o.Program, o.Index}
	in := k.instances[key]
	if in == nil {
		return
	}
	if in.run != nil && !in.run.emptied {
		k.log.Error("asked to forget an instance that lives", "program", o.Program, "instance", o.Index, "run", in.run.id)
		return
	}
	k.drop(in.run)
	for i := range in.streams {
		k.forgetStream(&in.streams[i])
	}
	k.box.forget(in)
	delete(k.instances, key)
	crashpoint.Here(crashpoint.ForgetDone)
}
