package proc

import (
	"cmp"
	"fmt"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
)

// OutputFact says that a stream of an instance cannot be written to its file,
// or, without a Reason, that it is again.
type OutputFact struct {
	ID     reconcile.InstanceID
	Run    reconcile.RunID
	Stream string // "", stdout, stderr
	Reason string
	// Dropping is true while it is dropped; else it waits in the pipe.
	Dropping bool
	// Dropped are all bytes of the stream that were dropped.
	Dropped int64
}

// outputFact keeps what the keeper said, and says whether it is more than a new
// count.
func (p *Proc) outputFact(f *keeper.Fact) (OutputFact, bool) {
	o := OutputFact{
		ID: reconcile.InstanceID{Program: f.Program, Index: f.Index}, Run: reconcile.RunID(f.Run),
		Stream: f.Stream, Reason: f.Reason, Dropping: f.Dropping, Dropped: f.Dropped,
	}
	streams := p.faulty[o.ID]
	if streams == nil {
		streams = map[string]OutputFact{}
		p.faulty[o.ID] = streams
	}
	before := streams[o.Stream]
	streams[o.Stream] = o
	return o, p.c.Output != nil && (before.Reason != o.Reason || before.Dropping != o.Dropping)
}

// outputState is what an observation says of an instance's output.
func (p *Proc) outputState(id reconcile.InstanceID) (s reconcile.OutputState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.faulty[id] {
		s.Dropped += o.Dropped
		switch {
		case o.Reason == "":
		case o.Dropping:
			s.Fault = fmt.Sprintf("its %s is dropped: %s", cmp.Or(o.Stream, "output"), o.Reason)
		default:
			s.Fault = fmt.Sprintf("its %s waits: %s", cmp.Or(o.Stream, "output"), o.Reason)
		}
	}
	return s
}
