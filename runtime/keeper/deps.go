package keeper

import (
	"path/filepath"
	"time"

	"github.com/procnanny/procnanny/runtime/launch"
	"github.com/procnanny/procnanny/runtime/output"
	"github.com/procnanny/procnanny/spec"
)

// sink takes the bytes of one stream to its file; see output.Sink.
type sink interface {
	Drain(pipe, limit int) (n int, more bool, err error)
	Delay() time.Duration
	Dropped() int64
	Device() uint64
	SetPolicy(o Output)
	BeginRun(run uint64)
	EndRun()
	Idle()
	Close()
}

// deps are the neighbours, as functions: a test that needs a full disk or a
// control of its own puts another one in.
type deps struct {
	start       func(*launch.Request, launch.Stdio, int) (launch.Process, error)
	preflight   func(*launch.Request) error
	tune        func(pid int, t spec.Tuning, cgroup string) map[string]string
	limit       func(cgroup string, c *spec.Cgroup) error
	newSink     func(program string, index int, stream string, o Output) sink
	device      uint64 // of the log directory
	closeOutput func()
	control     func() (pid, pidfd, sock int, err error)
}

func realDeps(c Config) (deps, error) {
	dir, err := output.Open(c.LogDir, c.LogGID)
	if err != nil {
		return deps{}, err
	}
	dir.OnAlarm(func(a output.Alarm) {
		c.Log.Warn("the log directory is not as it was left", "program", a.Program, "file", a.File, "error", a.Err)
	})
	if err := dir.Witness(filepath.Join(c.RunDir, "output.witness")); err != nil {
		c.Log.Debug("output of fast programs is moved in the slower way", "error", err)
	}
	return deps{
		start: launch.Start, preflight: launch.Preflight, tune: launch.Tune, limit: launch.SetCgroup,
		newSink: func(program string, index int, stream string, o Output) sink {
			return fileSink{dir.Sink(program, index, stream, o.policy())}
		},
		device:      dir.Device(),
		closeOutput: dir.Close,
		control:     func() (int, int, int, error) { return forkControl(c.Control) },
	}, nil
}

type fileSink struct{ *output.Sink }

func (s fileSink) SetPolicy(o Output) { s.Sink.SetPolicy(o.policy()) }

func (o Output) policy() output.Policy {
	return output.Policy{
		RotateBytes: o.RotateBytes, Keep: o.Keep, Drop: o.Drop, Timestamps: o.Timestamps,
		RotateAge: time.Duration(o.AgeNS), TotalBytes: o.TotalBytes,
	}
}
