package control

import (
	"context"
	"time"

	"github.com/procnanny/procnanny/runtime/watch"
	"github.com/procnanny/procnanny/spec"
)

// Files that nobody could judge or keep, for want of memory, descriptors or room,
// are tried again: nobody will save them again only because there is some.
const (
	mostTries = 6
	firstTry  = 500 * time.Millisecond
)

// refused rejects files, and tries again what they are not to blame for. At the
// very first start that is waited for, as there is nothing else to run.
func (d *desk) refused(ctx context.Context, r watch.Reading, unjudged bool, err error) {
	_, theirs := err.(spec.Problems) //nolint:errorlint // accept returns it bare
	if (unjudged || !theirs) && d.tries < mostTries {
		time.AfterFunc(firstTry<<d.tries, d.c.watch.Kick)
		d.tries++
		if !theirs && d.current.Number == 0 {
			d.c.log.Warn("the files could not be judged; trying again", "error", err)
			return
		}
	}
	d.reject(ctx, problemsOf(err, r))
}

// problemsOf makes any error of accepting the files a list of problems.
func problemsOf(err error, r watch.Reading) spec.Problems {
	if ps, ok := err.(spec.Problems); ok { //nolint:errorlint // accept returns it bare
		return ps
	}
	return spec.Problems{{File: r.Source.Root, Message: err.Error()}}
}
