package sim

import (
	"container/heap"
	"time"
)

// agenda is what will happen, in the order of time; what happens at one moment
// happens in the order in which it was put down.
type agenda struct {
	heap entries
	seq  uint64
}

type entry struct {
	at  time.Time
	seq uint64
	do  func()
}

type entries []entry

func (e entries) Len() int { return len(e) }
func (e entries) Less(i, j int) bool {
	if e[i].at.Equal(e[j].at) {
		return e[i].seq < e[j].seq
	}
	return e[i].at.Before(e[j].at)
}
func (e entries) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *entries) Push(x any)   { *e = append(*e, x.(entry)) }
func (e *entries) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = entry{}
	*e = old[:len(old)-1]
	return last
}

func (a *agenda) put(at time.Time, do func()) {
	a.seq++
	heap.Push(&a.heap, entry{at, a.seq, do})
}

// next is when something happens; false is never.
func (a *agenda) next() (time.Time, bool) {
	if len(a.heap) == 0 {
		return time.Time{}, false
	}
	return a.heap[0].at, true
}

func (a *agenda) take() entry { return heap.Pop(&a.heap).(entry) }
