package keeper

import "time"

// alarm is a reason to wake up by the clock. There is one of each, and none is
// set while nothing waits: an idle keeper sleeps for ever.
type alarm uint8

const (
	alarmControl  alarm = iota // start control (again)
	alarmSweep                 // look who is left, without cgroups
	alarmExit                  // ask again how an adopted process ended
	alarmOutput                // somebody has waited long for his output to be moved
	alarmShutdown              // somebody asked us to stop, and it takes too long
	alarmTidy                  // give memory back after a burst of starts
	alarmNotes                 // note ends that control has not acknowledged
	alarmWatchdog              // tell the service manager that we are not stuck
	alarmChild                 // hear of each child's end again
	alarms
)

// rings says what each alarm does; filled in init because the functions set
// alarms themselves.
var rings [alarms]func(*keeper)

func init() {
	rings = [alarms]func(*keeper){
		alarmControl:  (*keeper).startControl,
		alarmSweep:    (*keeper).sweepDying,
		alarmExit:     (*keeper).askExits,
		alarmOutput:   (*keeper).waitNoLonger,
		alarmShutdown: (*keeper).shutdownLate,
		alarmTidy:     (*keeper).tidy,
		alarmNotes:    (*keeper).noteEnds,
		alarmWatchdog: (*keeper).feedWatchdog,
		alarmChild:    (*keeper).unhush,
	}
}

// set sets an alarm, unless it is already set to ring sooner.
func (k *keeper) set(a alarm, after time.Duration) {
	at := k.now() + int64(after)
	if k.due[a] == 0 || at < k.due[a] {
		k.due[a] = at
	}
}

func (k *keeper) unset(a alarm) { k.due[a] = 0 }

// ring runs the alarms that are due.
func (k *keeper) ring() {
	now := int64(0)
	for a := range k.due {
		if k.due[a] == 0 {
			continue
		}
		if now == 0 {
			now = k.now()
		}
		if k.due[a] <= now {
			k.due[a] = 0
			rings[a](k)
		}
	}
}

// timeout is how long to wait for events, in milliseconds as epoll_wait(2)
// wants it, rounded up; -1 is for ever.
func (k *keeper) timeout() int {
	if k.ctl.backlog {
		return 0
	}
	first := int64(0)
	for _, at := range k.due {
		if at != 0 && (first == 0 || at < first) {
			first = at
		}
	}
	if first == 0 {
		return -1
	}
	return int(max(0, first-k.now()+int64(time.Millisecond)-1) / int64(time.Millisecond))
}

// began is what now counts from.
var began = time.Now()

// now is the monotonic clock in nanoseconds: what alarms count in. It is never 0.
func (k *keeper) now() int64 { return sinceBegan() }

// sinceBegan is now for those who have no keeper.
func sinceBegan() int64 { return int64(time.Since(began)) + 1 }
