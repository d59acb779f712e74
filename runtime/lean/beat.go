package lean

import "time"

// BeatEvery is how far the beats are apart at which an idle process wakes.
const BeatEvery = 10 * time.Second

var began = time.Now()

// Beat is how long to wait instead of d, which is at least BeatEvery, so that
// those who wait for long wake together: until the last beat that is not later.
// What is shorter it leaves alone.
func Beat(d time.Duration) time.Duration {
	if d < BeatEvery {
		return d
	}
	phase := (time.Since(began)%BeatEvery + BeatEvery) % BeatEvery
	return d - (phase+d)%BeatEvery
}
