package keeper

const (
	// What may be under way on one device: of all, and of those that move much.
	// The rest is for other devices, and for those who have a line to say.
	deviceMost = Movers - 1
	deviceLoud = Movers - 2
	// loud is how much in one go makes a pipe a loud one; bytes.
	loud = 64 << 10
)

// traffic is what is under way on a device, and what waits until less is.
type traffic struct {
	moving, loud int
	quietWait    []*flow
	loudWait     []*flow
}

// admit says whether a flow may go on now. If too much is under way on its
// device already, it waits in line.
func (m *mover) admit(f *flow) bool {
	if f.waits {
		return false
	}
	t := m.on[f.device]
	switch {
	case t == nil:
	case f.much && t.loud >= deviceLoud:
		t.loudWait = append(t.loudWait, f)
		f.waits = true
	case t.moving >= deviceMost:
		t.quietWait = append(t.quietWait, f)
		f.waits = true
	}
	return !f.waits
}

// enter and leave keep the books of a device. The books of none are thrown away.
func (m *mover) enter(f *flow) {
	t := m.on[f.device]
	if t == nil {
		t = &traffic{}
		m.on[f.device] = t
	}
	t.moving++
	if f.much {
		t.loud++
	}
	f.busy, f.since, f.entered, f.enteredMuch = true, sinceBegan(), f.device, f.much
	m.busy[f] = struct{}{}
	if !m.clocked {
		m.wind()
	}
}

func (m *mover) leave(f *flow) {
	delete(m.busy, f)
	f.busy = false
	t := m.on[f.entered]
	t.moving--
	if f.enteredMuch {
		t.loud--
	}
	var next *flow
	switch {
	case len(t.quietWait) > 0:
		next, t.quietWait = t.quietWait[0], t.quietWait[1:]
	case len(t.loudWait) > 0 && t.loud < deviceLoud:
		next, t.loudWait = t.loudWait[0], t.loudWait[1:]
	}
	if next != nil {
		next.waits = false
		m.plan(next, sinceBegan())
	}
	m.idle.Broadcast()
}
