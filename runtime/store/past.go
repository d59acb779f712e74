package store

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/procnanny/procnanny/reconcile"
)

// past is what a journal says.
type past struct {
	found   bool
	behind  bool  // the run directory took no more of it
	err     error // what follows it is lost; an unfinished last record is none
	boot    string
	history string
	m       *image
	events  []Event
	runs    map[reconcile.RunID]*Run
	after   uint64 // events up to it are in the database
	base    uint64 // in a rest: what the database had when it was left; see rest.go

	droppedEvents, droppedRuns uint64
}

// readJournals reads the journal or, where there is none, the one that was given up.
func (s *Store) readJournals(after uint64) (*past, error) {
	p, err := readJournal(s.j.path, after)
	if err != nil || p.found || p.err != nil {
		return p, err
	}
	if p, err = readJournal(s.j.behind, after); err == nil {
		p.behind = p.found
	}
	return p, err
}

// readJournal fails only for a journal that a newer version wrote.
func readJournal(path string, after uint64) (*past, error) {
	p := &past{m: newImage(), runs: map[reconcile.RunID]*Run{}, after: after}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		p.err = err
		return p, nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		p.err = err
		return p, nil
	}
	p.read(f, info.Size())
	if errors.Is(p.err, errVersion) {
		return nil, fmt.Errorf("cannot read %s: %w", path, p.err)
	}
	return p, nil
}

func (p *past) read(r io.Reader, size int64) {
	err := replay(r, size, func(payload []byte) error { return items(payload, p.take) })
	if !errors.Is(err, errTail) {
		p.err = err
	}
}

// take is one item of the journal; the rows say what each kind means.
func (p *past) take(kind byte, r *reader) error {
	if !p.found && kind != itemHeader {
		return errors.New("it does not begin with a header")
	}
	if read := pastItems[kind]; read != nil {
		if err := read(p, r); err != nil {
			return err
		}
	}
	return r.err
}

var pastItems = [256]func(*past, *reader) error{
	itemHeader:   (*past).header,
	itemInstance: (*past).instance,
	itemGone:     (*past).gone,
	itemProgram:  (*past).program,
	itemCounters: (*past).counters,
	itemEvent:    (*past).event,
	itemRun:      (*past).run,
	itemDropped:  (*past).dropped,
	itemNote:     (*past).note,
	itemClock:    (*past).clock,
	itemRest:     (*past).rest,
}

func (p *past) header(r *reader) error {
	p.found, p.boot, p.history = true, r.string(), r.string()
	return nil
}

func (p *past) instance(r *reader) error {
	id := r.id()
	if r.err != nil {
		return r.err
	}
	p.m.instances[id] = append([]byte(nil), r.b...)
	var i reconcile.Instance
	if unpack(r.b, &i) != nil {
		return nil // another version's, perhaps; image.world counts it
	}
	i.ID = id
	ended, living := p.m.instance(&i)
	for _, run := range []*Run{ended, living} {
		if run != nil {
			v := *run
			p.runs[run.Run] = &v
		}
	}
	return nil
}

func (p *past) gone(r *reader) error {
	p.m.forget(r.id())
	return nil
}

func (p *past) program(r *reader) error {
	name := r.string()
	if r.err == nil && len(r.b) > 0 {
		p.m.programs[name] = append([]byte(nil), r.b...)
	} else {
		delete(p.m.programs, name)
	}
	return nil
}

func (p *past) note(r *reader) error {
	name := r.string()
	if r.err == nil && len(r.b) > 0 {
		p.m.notes[name] = append([]byte(nil), r.b...)
	} else {
		delete(p.m.notes, name)
	}
	return nil
}

func (p *past) clock(r *reader) error {
	p.m.booted = r.time()
	return nil
}

func (p *past) rest(r *reader) error {
	p.base = r.uvarint()
	return nil
}

func (p *past) counters(r *reader) error {
	p.m.nextRun = max(p.m.nextRun, reconcile.RunID(r.uvarint()))
	p.m.seq = max(p.m.seq, r.uvarint())
	return nil
}

func (p *past) event(r *reader) error {
	e, err := parseEvent(r.b)
	if err != nil {
		return err
	}
	p.m.seq = max(p.m.seq, e.Seq)
	if e.Seq > p.after {
		p.events = append(p.events, e)
	}
	return nil
}

func (p *past) run(r *reader) error {
	run, err := decodeRun(r.b)
	if err != nil {
		return err
	}
	if run.PID != 0 || !run.End.IsZero() {
		p.runs[run.Run] = &run
	}
	switch at := p.m.living[run.ID]; {
	case run.End.IsZero():
		p.m.living[run.ID] = clone(&run)
	case at != nil && at.Run == run.Run:
		delete(p.m.living, run.ID)
	}
	return nil
}

func (p *past) dropped(r *reader) error {
	p.droppedEvents += r.uvarint()
	p.droppedRuns += r.uvarint()
	return nil
}
