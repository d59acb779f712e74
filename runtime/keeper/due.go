package keeper

import (
	"container/heap"

	"golang.org/x/sys/unix"
)

// first is when something is due; 0 is never.
func (m *mover) first() int64 {
	at := m.sweepAt
	if len(m.due) > 0 && (at == 0 || m.due[0].at < at) {
		at = max(m.due[0].at, 1)
	}
	return at
}

// ring has the timer wake a thread at a time.
func (m *mover) ring(at int64) {
	if m.rings != 0 && m.rings <= at {
		return
	}
	m.rings = at
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, at-sinceBegan()))}
	_ = unix.TimerfdSettime(m.timer, 0, &spec, nil) // cannot fail with these arguments
}

// queue has a flow served at a time; a thread that waits is woken for it.
func (m *mover) queue(f *flow, at int64) {
	switch {
	case f.busy:
		f.again = true
		return
	case f.waits:
		return // for a device: it will be served then
	case f.index >= 0 && f.at <= at:
		return
	case f.index >= 0:
		f.at = at
		heap.Fix(&m.due, f.index)
	default:
		f.at = at
		heap.Push(&m.due, f)
	}
	if m.waiting > 0 && f.index == 0 {
		m.ring(at)
	}
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
