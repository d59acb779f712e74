package proc

import (
	"sync"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
)

// maxSlow is how many instances' files are read at once. A disk that hangs
// holds up only those whose files are there, and who wait for a place.
const maxSlow = 8

// slow are the instances with orders that need a file first. Each has a queue,
// so that their orders keep their order; there are never more entries than the
// core has ordered and not heard of.
type slow struct {
	mu      sync.Mutex
	pending map[reconcile.InstanceID][]func() (keeper.Order, error)
	waiting []task
	workers int
}

// task is one instance whose queue is to be worked off.
type task struct {
	id  reconcile.InstanceID
	run func()
}

func (s *slow) busy(id reconcile.InstanceID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.pending[id]
	return ok
}

// later puts an order behind what its instance already waits for.
func (p *Proc) later(o reconcile.Order, build func() (keeper.Order, error)) {
	s := &p.slow
	s.mu.Lock()
	defer s.mu.Unlock()
	whole := func() (keeper.Order, error) {
		var k keeper.Order
		var err error
		if executes(o) {
			err = p.users.check(o.ID.Program, o.Program)
		}
		if err == nil {
			k, err = build()
		}
		if err == nil {
			return k, nil
		}
		if f, ok := failed(o, err); ok {
			p.c.Facts([]reconcile.Fact{f})
		} else {
			p.logFailed(o, err)
		}
		return k, err
	}
	queue, busy := s.pending[o.ID]
	s.pending[o.ID] = append(queue, whole)
	if busy {
		return
	}
	s.waiting = append(s.waiting, task{o.ID, func() { p.work(o.ID) }})
	if s.workers < maxSlow {
		s.workers++
		go s.worker()
	}
}

// worker lives as long as somebody waits.
func (s *slow) worker() {
	for {
		s.mu.Lock()
		if len(s.waiting) == 0 {
			s.workers--
			s.mu.Unlock()
			return
		}
		t := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.mu.Unlock()
		t.run()
	}
}

// work sends an instance's orders one by one until none is left; only then may
// its next order go the fast way.
func (p *Proc) work(id reconcile.InstanceID) {
	s := &p.slow
	for {
		s.mu.Lock()
		queue := s.pending[id]
		if len(queue) == 0 {
			delete(s.pending, id)
			s.mu.Unlock()
			return
		}
		s.pending[id] = queue[1:]
		s.mu.Unlock()
		if k, err := queue[0](); err == nil {
			p.send([]keeper.Order{k})
		}
	}
}
