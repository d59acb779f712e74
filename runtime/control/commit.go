package control

import "github.com/procnanny/procnanny/rpc"

// committed records the git commit of files that were saved first, and committed
// when they were applied already.
func (d *desk) committed(commit string) {
	if commit == "" || d.newest.Commit != "" {
		return
	}
	if err := d.c.store.SetCommit(d.newest.Number, commit); err != nil {
		d.c.log.Error("cannot keep the commit of a generation", "generation", d.newest.Number, "error", err)
		return
	}
	d.newest.Commit = commit
	if d.current.Number == d.newest.Number {
		d.current.Commit = commit
	}
	d.c.emit("config", rpc.Map{
		{Key: "event", Value: "committed"}, {Key: "generation", Value: d.newest.Number}, {Key: "digest", Value: d.newest.Digest}, {Key: "commit", Value: commit},
	})
}
