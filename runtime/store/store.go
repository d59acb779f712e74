package store

import (
	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// Store is everything that outlives the control process. Its methods may be
// called from any goroutine.
type Store struct{}

// Open finds what was recorded and goes on from there.
func Open(c Config) (*Store, Recovered, error) { panic("not written yet") }

// Record writes a turn down so that it survives our death, numbers the drafts
// and returns them as events. It makes one write(2) and never waits for a disk.
func (s *Store) Record(b reconcile.Batch, drafts []Draft) []Event { panic("not written yet") }

// SetOverrides replaces the overrides; they are on disk when it returns nil.
func (s *Store) SetOverrides(os []spec.Override) error { panic("not written yet") }

// Overrides are those set last.
func (s *Store) Overrides() []spec.Override { panic("not written yet") }

// AddGeneration numbers g and keeps it; the oldest go when there are more than
// 20. It is on disk when it returns.
func (s *Store) AddGeneration(g Generation) (Generation, error) { panic("not written yet") }

// SetPinned remembers the generation that a rollback pinned; 0 is none.
func (s *Store) SetPinned(n uint64) error { panic("not written yet") }

// Generation is generation n with its Spec.
func (s *Store) Generation(n uint64) (Generation, error) { panic("not written yet") }

// Generations lists those kept, oldest first, without Spec.
func (s *Store) Generations() []Generation { panic("not written yet") }

// Runs lists past and living runs of a program, oldest first.
func (s *Store) Runs(q RunQuery) ([]Run, error) { panic("not written yet") }

// Events lists events after since, oldest first, at most limit.
func (s *Store) Events(since uint64, limit int) ([]Event, error) { panic("not written yet") }

// Close commits what is queued and lets go of the files.
func (s *Store) Close() error { panic("not written yet") }
