package keeper

import (
	"container/heap"
	"time"
)

// ring has the timer wake a thread at a time.
func (m *mover) ring(at int64) {
	if m.rings != 0 && m.rings <= at {
		return
	}
	m.rings = at
	setTimer(m.timer, time.Duration(max(1, at-sinceBegan())))
}

// queue has a flow served at a time; a thread that waits is woken for it.
func (m *mover) queue(f *flow, at int64) {
	if m.plan(f, at) && m.waiting > 0 && f.index == 0 {
		m.ring(at)
	}
}

// plan is queue for a thread of the mover: it looks itself what is due.
func (m *mover) plan(f *flow, at int64) bool {
	switch {
	case f.busy:
		f.again = true
		return false
	case f.waits, f.index >= 0 && f.at <= at:
		return false // for its device, or sooner
	case f.index >= 0:
		f.at = at
		heap.Fix(&m.due, f.index)
	default:
		f.at = at
		heap.Push(&m.due, f)
	}
	return true
}

// flowHeap has what is due first at its top.
type flowHeap []*flow

func (h flowHeap) Len() int           { return len(h) }
func (h flowHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h flowHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is for package heap.
func (h *flowHeap) Push(x any) {
	f := x.(*flow) //nolint:forcetypeassert // nothing else is pushed
	f.index = len(*h)
	*h = append(*h, f)
}

// Pop is for package heap.
func (h *flowHeap) Pop() any {
	list := *h
	f := list[len(list)-1]
	list[len(list)-1] = nil
	*h, f.index = list[:len(list)-1], -1
	return f
}

func (h *flowHeap) pop() *flow { return heap.Pop(h).(*flow) } //nolint:forcetypeassert // as above

func (h *flowHeap) drop(f *flow) { heap.Remove(h, f.index) }
