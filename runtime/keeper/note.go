package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// notes is the directory <run>/keeper: a file for each live run, named by its
// number, so that a keeper after us finds what lives. A note is one write(2):
// being killed leaves it whole or not there; and after a reboot it means
// nothing, so nothing is synced.
type notes struct{ dir string }

// note is what the next keeper must know of a run.
type note struct {
	Boot    string `json:"boot"`
	Run     uint64 `json:"run"`
	Program string `json:"program"`
	Index   int    `json:"index"`
	PID     int    `json:"pid"`
	// Inode (pidfs, kernel 6.9) with Boot and PID identifies the process; Start
	// (clock ticks, /proc/PID/stat) is second best, for kernels before.
	Inode        uint64      `json:"inode,omitempty"`
	Start        uint64      `json:"start,omitempty"`
	StartedNS    int64       `json:"started_ns"`
	LaunchDigest spec.Digest `json:"launch"`
	TuningDigest spec.Digest `json:"tuning"`
	Generation   uint64      `json:"generation"`
	Cookie       string      `json:"cookie"`
	Stopping     bool        `json:"stopping,omitempty"`
	Output       Output      `json:"output"`
	// Pipes are the inodes of stdout's and stderr's pipe, 0 is none.
	Pipes [2]uint64 `json:"pipes"`
}

func openNotes(runDir string) (notes, error) {
	n := notes{filepath.Join(runDir, "keeper")}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return n, fmt.Errorf("cannot make the directory of notes: %w", err)
	}
	return n, nil
}

func (n notes) path(id uint64) string { return filepath.Join(n.dir, strconv.FormatUint(id, 10)) }

// write writes a run's note, or writes it again. Without a note the run goes on
// all the same; a keeper after us would not find it.
func (n notes) write(k *keeper, r *run) {
	b, err := json.Marshal(k.noteOf(r))
	if err == nil {
		err = n.put(r, b)
	}
	if err != nil {
		k.log.Error("cannot note a run", "program", r.in.program, "instance", r.in.index, "error", err)
	}
}

// noteOf is what the next keeper must know of a run.
func (k *keeper) noteOf(r *run) note {
	v := note{
		Boot: k.boot, Run: r.id, Program: r.in.program, Index: r.in.index, PID: r.pid, Inode: r.inode, StartedNS: r.started,
		LaunchDigest: r.launch, TuningDigest: r.tuning, Generation: r.generation, Cookie: r.cookie, Stopping: r.stopping,
		Output: r.in.output,
	}
	if r.inode == 0 {
		v.Start = readStat(r.pid).start
	}
	for i := range r.in.streams {
		if r.in.streams[i].fd >= 0 {
			v.Pipes[i] = r.in.streams[i].inode
		}
	}
	return v
}

// put writes a new note in place, and a second one over it by rename.
func (n notes) put(r *run, b []byte) error {
	path := n.path(r.id)
	if !r.noted {
		r.noted = true
		return writeText(path, string(b), unix.O_CREAT|unix.O_TRUNC)
	}
	next := filepath.Join(n.dir, "next")
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// remove removes a run's note, unless the run's number is another's by now.
func (n notes) remove(k *keeper, r *run) {
	if other := k.runs[r.id]; r.noted && (other == nil || other == r) {
		r.noted = false
		_ = unix.Unlink(n.path(r.id)) // a note of nobody is found out and removed
	}
}

// read returns the notes of this boot and removes the others.
func (n notes) read(k *keeper) (list []note) {
	entries, err := os.ReadDir(n.dir)
	if err != nil {
		k.log.Error("cannot read the notes of a former keeper", "error", err)
		return nil
	}
	for _, e := range entries {
		path := filepath.Join(n.dir, e.Name())
		var v note
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, &v)
		}
		if err == nil && v.Boot == k.boot && e.Name() == strconv.FormatUint(v.Run, 10) {
			list = append(list, v)
			continue
		}
		if err != nil {
			k.log.Warn("a former keeper's note is unreadable", "file", path, "error", err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			k.log.Warn("cannot remove a note", "file", path, "error", err)
		}
	}
	return list
}
