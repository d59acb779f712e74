package engine

import (
	"container/heap"
	"time"
)

// wakes holds the next deadline of each program. Setting one is O(log n); an
// entry that was superseded is dropped when it comes to the top.
type wakes struct {
	at   map[string]time.Time
	heap wakeHeap
}

type wakeEntry struct {
	at      time.Time
	program string
}

type wakeHeap []wakeEntry

func (h wakeHeap) Len() int           { return len(h) }
func (h wakeHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h wakeHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *wakeHeap) Push(x any)        { *h = append(*h, x.(wakeEntry)) }
func (h *wakeHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

func newWakes() *wakes { return &wakes{at: map[string]time.Time{}} }

// set makes at the deadline of program; zero is none.
func (w *wakes) set(program string, at time.Time) {
	if old, ok := w.at[program]; ok && old.Equal(at) {
		return
	}
	if at.IsZero() {
		delete(w.at, program)
		return
	}
	w.at[program] = at
	heap.Push(&w.heap, wakeEntry{at, program})
}

// next is the earliest deadline; zero is none.
func (w *wakes) next() time.Time {
	for len(w.heap) > 0 {
		if top := w.heap[0]; w.at[top.program].Equal(top.at) {
			return top.at
		}
		heap.Pop(&w.heap)
	}
	return time.Time{}
}

// due takes out the programs whose deadline has come.
func (w *wakes) due(now time.Time) []string {
	var out []string
	for at := w.next(); !at.IsZero() && !at.After(now); at = w.next() {
		e := heap.Pop(&w.heap).(wakeEntry)
		delete(w.at, e.program)
		out = append(out, e.program)
	}
	return out
}
