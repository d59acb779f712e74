package crashpoint

// Point is one step of a change.
type Point uint8

// The points, in the order of the table.
const (
	None Point = iota
	StartOrdered
	StartEntered
	StartNoted
	StartCloned
	StartFinished
	StartGiven
	ExitReaped
	ExitMoved
	ExitTold
	ExitEmptied
	ExitNoted
	ExitForgotten
	StopOrdered
	StopSent
	TuneDone
	TuneNoted
	ForgetDone
	RotateBegun
	RotateRenamed
	RotatePruned
	RotateCreated
	ControlDied
	ControlForked
	ControlListed
	ControlHolds
	UpgradeBegun
	HeirInherits
	HeirAdopted
	OrphanNotices
	OrphanWilled
	BuildBegun
	BuildOpened
	BuildDone
	AdoptDone
	ReadyDone
	RecordBegun
	RecordWritten
	OrdersSent
	EventsTold
	AcksSent
	CommitBegun
	CommitDone
	JournalRewritten
	JournalReplaced
	ReloadRead
	ReloadJudged
	ReloadKept
	ReloadDesired
	OverrideJudged
	OverrideKept
	OverrideDesired
	ResetKept
	RollbackPinned
	HookDue
	HookNoted
	HookStarted
	HookDone
	ShutdownBegun
	ShutdownStopped
	ShutdownTold
	count
)

// Step is what a point stands for.
type Step struct {
	// Name is process.change.step: the file that arms it.
	Name string
	// Process is who dies: "keeper" or "control".
	Process string
	// Change is what it is a step of.
	Change string
	// Moment is what has happened by then, and what has not.
	Moment string
}

// points is the table.
var points = [count]Step{
	None:             {"none", "", "", ""},
	StartOrdered:     {"keeper.start.ordered", "keeper", "start", "the order was read; nothing was made"},
	StartEntered:     {"keeper.start.entered", "keeper", "start", "the cgroup is ready; no pipe, no note"},
	StartNoted:       {"keeper.start.noted", "keeper", "start", "the note is begun; no process"},
	StartCloned:      {"keeper.start.cloned", "keeper", "start", "the program runs; its note does not say which process it is, control holds nothing of it"},
	StartFinished:    {"keeper.start.finished", "keeper", "start", "the note is whole; control holds the descriptors and was not told of the start"},
	StartGiven:       {"keeper.start.given", "keeper", "start", "control holds the descriptors"},
	ExitReaped:       {"keeper.exit.reaped", "keeper", "exit", "the main process was reaped; nobody was told, output may be in the pipe"},
	ExitMoved:        {"keeper.exit.moved", "keeper", "exit", "its output is in the file; nobody was told"},
	ExitTold:         {"keeper.exit.told", "keeper", "exit", "control was told of the end; nothing says that it has written it down"},
	ExitEmptied:      {"keeper.exit.emptied", "keeper", "exit", "nobody is left of the run; control was not told so"},
	ExitNoted:        {"keeper.exit.noted", "keeper", "exit", "an end that control did not acknowledge is in the note"},
	ExitForgotten:    {"keeper.exit.forgotten", "keeper", "exit", "control has acknowledged the end; the note is gone"},
	StopOrdered:      {"keeper.stop.ordered", "keeper", "stop", "control has written down that it stops the run; no signal was sent"},
	StopSent:         {"keeper.stop.sent", "keeper", "stop", "the signal was sent"},
	TuneDone:         {"keeper.tune.done", "keeper", "tune", "the process is tuned; the note has the old tuning, control was not told"},
	TuneNoted:        {"keeper.tune.noted", "keeper", "tune", "the note has the new tuning, control was not told"},
	ForgetDone:       {"keeper.forget.done", "keeper", "scale", "what was kept of an instance that is gone is gone"},
	RotateBegun:      {"keeper.rotate.begun", "keeper", "rotate", "the file is full; nothing was renamed"},
	RotateRenamed:    {"keeper.rotate.renamed", "keeper", "rotate", "the full file has its new name; there is no new file"},
	RotatePruned:     {"keeper.rotate.pruned", "keeper", "rotate", "the oldest files are gone; there is no new file"},
	RotateCreated:    {"keeper.rotate.created", "keeper", "rotate", "the new file is there, without a byte"},
	ControlDied:      {"keeper.control.died", "keeper", "hand-over", "control is dead and reaped; no other was started"},
	ControlForked:    {"keeper.control.forked", "keeper", "hand-over", "another control runs; the keeper does not watch it yet"},
	ControlListed:    {"keeper.control.listed", "keeper", "hand-over", "the new control was told what lives, and holds it"},
	ControlHolds:     {"keeper.control.holds", "keeper", "hand-over", "the new control holds all descriptors; it was not told what lives"},
	UpgradeBegun:     {"keeper.upgrade.begun", "keeper", "upgrade", "the old control is gone; the keeper did not execute itself"},
	HeirInherits:     {"keeper.heir.inherits", "keeper", "hand-over", "the new keeper has read the will; nothing was adopted"},
	HeirAdopted:      {"keeper.heir.adopted", "keeper", "hand-over", "the new keeper has adopted everything; it has no control"},
	OrphanNotices:    {"control.orphan.notices", "control", "hand-over", "the keeper is dead, control knows it"},
	OrphanWilled:     {"control.orphan.willed", "control", "hand-over", "the will is made; nobody executed it"},
	BuildBegun:       {"control.build.begun", "control", "hand-over", "control has the list of what lives; it opened nothing"},
	BuildOpened:      {"control.build.opened", "control", "hand-over", "the store is open, its journal rewritten; nothing was compared"},
	BuildDone:        {"control.build.done", "control", "hand-over", "what ended meanwhile is known; it is not recorded"},
	AdoptDone:        {"control.adopt.done", "control", "hand-over", "what was found is recorded; nothing is desired yet"},
	ReadyDone:        {"control.ready.done", "control", "hand-over", "requests are answered; the keeper was not told"},
	RecordBegun:      {"control.record.begun", "control", "record", "the turn was decided; nothing of it is written down"},
	RecordWritten:    {"control.record.written", "control", "record", "the turn is in the journal; no order was sent"},
	OrdersSent:       {"control.orders.sent", "control", "record", "the turn's orders were sent; nobody else was told"},
	EventsTold:       {"control.events.told", "control", "record", "subscribers were told; ends were not acknowledged"},
	AcksSent:         {"control.acks.sent", "control", "record", "ends were acknowledged"},
	CommitBegun:      {"control.commit.begun", "control", "record", "history is about to be written to the database"},
	CommitDone:       {"control.commit.done", "control", "record", "history is in the database, and still in the journal"},
	JournalRewritten: {"control.journal.rewritten", "control", "record", "the new journal is whole; the old one is in its place"},
	JournalReplaced:  {"control.journal.replaced", "control", "record", "the new journal is in place"},
	ReloadRead:       {"control.reload.read", "control", "reload", "the files were read; they are not judged"},
	ReloadJudged:     {"control.reload.judged", "control", "reload", "the files are good; the generation is not kept"},
	ReloadKept:       {"control.reload.kept", "control", "reload", "the generation is on disk; it is not desired"},
	ReloadDesired:    {"control.reload.desired", "control", "reload", "the generation is desired; nobody was told"},
	OverrideJudged:   {"control.override.judged", "control", "override", "the override is allowed; it is not kept"},
	OverrideKept:     {"control.override.kept", "control", "override", "the override is on disk; it is not desired"},
	OverrideDesired:  {"control.override.desired", "control", "override", "the override is desired; who asked for it has no answer"},
	ResetKept:        {"control.reset.kept", "control", "override", "the override is off the disk; it is still desired"},
	RollbackPinned:   {"control.rollback.pinned", "control", "rollback", "the generation is pinned on disk; it is not desired"},
	HookDue:          {"control.hook.due", "control", "hook", "a hook is due; that is not written down"},
	HookNoted:        {"control.hook.noted", "control", "hook", "the hook is written down; its command was not ordered"},
	HookStarted:      {"control.hook.started", "control", "hook", "the hook's command was ordered"},
	HookDone:         {"control.hook.done", "control", "hook", "the command has ended; that is not written down"},
	ShutdownBegun:    {"control.shutdown.begun", "control", "shutdown", "everything shall stop; nothing was ordered"},
	ShutdownStopped:  {"control.shutdown.stopped", "control", "shutdown", "nobody is left; the keeper was not told"},
	ShutdownTold:     {"keeper.shutdown.told", "keeper", "shutdown", "control has said that all is over; the keeper has not ended"},
}

// All are the points, each with its step.
func All() map[Point]Step {
	all := make(map[Point]Step, count-1)
	for p := None + 1; p < count; p++ {
		all[p] = points[p]
	}
	return all
}
