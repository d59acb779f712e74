package control

import (
	"context"
	"time"

	"github.com/procnanny/procnanny/runtime/watch"
	"github.com/procnanny/procnanny/spec"
)

// Files that nobody could judge or keep, for want of memory, descriptors or room,
// are tried again: nobody will save them again only because there is some. Where
// something else runs, those that could not be kept are tried for as long as it
// takes: a disk may be full for hours.
const (
	mostTries = 6
	firstTry  = 500 * time.Millisecond // doubles
)

// nextTry is how long to wait for it after so many; not ok is that it was the last.
func nextTry(tries int, goesOn bool) (after time.Duration, ok bool) {
	return firstTry << min(tries, mostTries-1), tries < mostTries || goesOn
}

// refused rejects files, and tries again what they are not to blame for. At the
// very first start that is waited for, as there is nothing else to run.
func (d *desk) refused(ctx context.Context, r watch.Reading, unjudged bool, err error) {
	_, theirs := err.(spec.Problems) //nolint:errorlint // accept returns it bare
	goesOn := !theirs && d.current.Number > 0
	if after, ok := nextTry(d.tries, goesOn); ok && (unjudged || !theirs) {
		time.AfterFunc(after, d.c.watch.Kick)
		d.tries++
		if !theirs && d.current.Number == 0 {
			d.c.log.Warn("the files could not be judged; trying again", "error", err)
			return
		}
	}
	problems := problemsOf(err, r)
	if goesOn && d.config.State == "rejected" && d.config.Error == problems.Errors()[0].Error() {
		return // that is told
	}
	d.reject(ctx, problems)
}

// problemsOf makes any error of accepting the files a list of problems.
func problemsOf(err error, r watch.Reading) spec.Problems {
	if ps, ok := err.(spec.Problems); ok { //nolint:errorlint // accept returns it bare
		return ps
	}
	return spec.Problems{{File: r.Source.Root, Message: err.Error()}}
}
