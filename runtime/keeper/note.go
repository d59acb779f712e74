package keeper

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/spec"
)

// notes is the directory <run>/keeper: a file for each live run, named by its
// number, so that a keeper after us finds what lives. A note is begun before the
// start and finished, by a second line, right after it: whenever we are killed,
// there is either no process or a note of it. It is removed when control says
// that it has written the end down; one that waits long for that gets the end as
// a third line. Each line is one write(2); and after a reboot a note means
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
	// OOMKills is what the kernel counted in its cgroup before the start; nil is
	// not known.
	OOMKills *int64 `json:"oom_kills,omitempty"`
	// Ended and Emptied, with Exit as a frame, are in a note whose end control
	// has not acknowledged.
	Ended   bool   `json:"ended,omitempty"`
	Emptied bool   `json:"emptied,omitempty"`
	Exit    []byte `json:"exit,omitempty"`
}

func openNotes(runDir string) (notes, error) {
	n := notes{filepath.Join(runDir, "keeper")}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return n, fmt.Errorf("cannot make the directory of notes: %w", err)
	}
	return n, nil
}

func (n notes) path(id uint64) string { return n.dir + "/" + strconv.FormatUint(id, 10) }

// write writes a run's note, or writes it again. Without a note the run goes on
// all the same; a keeper after us would not find it.
func (n notes) write(k *keeper, r *run) {
	r.noted, r.note = true, nil
	if err := n.replace(r, k.noteOf(r).text()); err != nil {
		k.log.Error("cannot note a run", "program", r.in.program, "instance", r.in.index, "error", err)
	}
}

// begin notes a run that is about to start. The descriptor is for finish or
// abandon; -1 is that there is no note. A cgroup tells what it is all the same;
// where there is none, nothing may start that the next keeper would start again.
func (n notes) begin(k *keeper, r *run) (fd int, err error) {
	fd, err = open(n.path(r.id), unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	if errors.Is(err, fs.ErrNotExist) && os.MkdirAll(n.dir, 0o700) == nil { // somebody removed the directory
		fd, err = open(n.path(r.id), unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	}
	if err == nil {
		r.noted = true
		var room [noteRoom]byte
		if _, err = unix.Write(fd, append(k.noteOf(r).append(room[:0]), '\n')); err == nil {
			return fd, nil
		}
	}
	if _, sweeping := k.box.(*sweep); sweeping {
		n.abandon(r, fd)
		return -1, stepError("noting the run", underlying(err))
	}
	k.log.Error("cannot note a run", "program", r.in.program, "instance", r.in.index, "error", err)
	return fd, nil
}

// finish says which process the run got.
func (n notes) finish(k *keeper, r *run, fd int, text []byte) {
	if fd >= 0 {
		n.line(k, r, fd, text)
		unix.Close(fd)
	}
}

// abandon removes the note of a start that failed.
func (n notes) abandon(r *run, fd int) {
	r.noted = false
	if fd >= 0 {
		unix.Close(fd)
		_ = unix.Unlink(n.path(r.id))
	}
}

func (n notes) line(k *keeper, r *run, fd int, text []byte) {
	if _, err := unix.Write(fd, append(text, '\n')); err != nil {
		k.log.Error("cannot note a run", "program", r.in.program, "instance", r.in.index, "error", err)
	}
}

// noteRoom is more than the note of a run that lives has as a rule, in bytes.
const noteRoom = 512

// text is a note as it is written down.
func (v note) text() []byte { return v.append(make([]byte, 0, noteRoom)) }

// append appends the note's JSON, to the byte as encoding/json has it: that one
// goes through all types anew for each of the two notes of a start.
func (v note) append(b []byte) []byte {
	b = appendText(append(b, `{"boot":`...), v.Boot)
	b = strconv.AppendUint(append(b, `,"run":`...), v.Run, 10)
	b = appendText(append(b, `,"program":`...), v.Program)
	b = appendInt(append(b, `,"index":`...), v.Index)
	b = appendInt(append(b, `,"pid":`...), v.PID)
	if v.Inode != 0 {
		b = strconv.AppendUint(append(b, `,"inode":`...), v.Inode, 10)
	}
	if v.Start != 0 {
		b = strconv.AppendUint(append(b, `,"start":`...), v.Start, 10)
	}
	b = appendInt(append(b, `,"started_ns":`...), v.StartedNS)
	b = appendText(append(b, `,"launch":`...), v.LaunchDigest)
	b = appendText(append(b, `,"tuning":`...), v.TuningDigest)
	b = strconv.AppendUint(append(b, `,"generation":`...), v.Generation, 10)
	b = appendText(append(b, `,"cookie":`...), v.Cookie)
	if v.Stopping {
		b = append(b, `,"stopping":true`...)
	}
	b = v.Output.append(append(b, `,"output":`...))
	b = strconv.AppendUint(append(b, `,"pipes":[`...), v.Pipes[0], 10)
	b = append(strconv.AppendUint(append(b, ','), v.Pipes[1], 10), ']')
	if v.OOMKills != nil {
		b = appendInt(append(b, `,"oom_kills":`...), *v.OOMKills)
	}
	return append(v.appendEnd(b), '}')
}

func (v note) appendEnd(b []byte) []byte {
	if v.Ended {
		b = append(b, `,"ended":true`...)
	}
	if v.Emptied {
		b = append(b, `,"emptied":true`...)
	}
	if len(v.Exit) > 0 {
		b = append(base64.StdEncoding.AppendEncode(append(b, `,"exit":"`...), v.Exit), '"')
	}
	return b
}

func (o *Output) append(b []byte) []byte {
	b = appendInt(append(b, `{"RotateBytes":`...), o.RotateBytes)
	b = appendInt(append(b, `,"Keep":`...), o.Keep)
	b = strconv.AppendBool(append(b, `,"Drop":`...), o.Drop)
	b = strconv.AppendBool(append(b, `,"Timestamps":`...), o.Timestamps)
	b = appendInt(append(b, `,"AgeNS":`...), o.AgeNS)
	return append(appendInt(append(b, `,"TotalBytes":`...), o.TotalBytes), '}')
}

func appendInt[N int | int64](b []byte, n N) []byte { return strconv.AppendInt(b, int64(n), 10) }

// appendText appends a string. What needs more than quotes is left to who knows
// how it is done; of ours that is hardly any.
func appendText[S ~string](b []byte, text S) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			odd, _ := json.Marshal(string(text)) // a string always has a JSON form
			return append(b, odd...)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

// noteOf is what the next keeper must know of a run.
func (k *keeper) noteOf(r *run) note {
	v := note{
		Boot: k.boot, Run: r.id, Program: r.in.program, Index: r.in.index, PID: r.pid, Inode: r.inode, StartedNS: r.started,
		LaunchDigest: r.launch, TuningDigest: r.tuning, Generation: r.generation, Cookie: r.cookie, Stopping: r.stopping,
		Output: r.in.output,
	}
	if r.in.oomKnown {
		v.OOMKills = new(r.in.oomKills)
	}
	if r.inode == 0 && r.pid > 0 {
		v.Start = readStat(r.pid).start
	}
	for i := range r.in.streams {
		if r.in.streams[i].fd >= 0 {
			v.Pipes[i] = r.in.streams[i].inode
		}
	}
	if r.ended {
		v.Ended, v.Emptied, v.Exit = true, r.emptied, exitFrame(r.exit)
	}
	return v
}

// endWait is how long control may take to acknowledge an end before the end is
// noted: then it may be stopped, or dead, and die with us. While everything is
// being stopped a thousand ends come at once, and it takes them in turn. All that
// waiting risks is how something ended, where both of us are killed meanwhile: the
// next keeper finds a note without an end and nobody, and says that nobody knows.
const (
	endWait     = 50 * time.Millisecond
	endWaitStop = 500 * time.Millisecond
)

func (k *keeper) ackWait() time.Duration {
	if k.stopping() {
		return endWaitStop
	}
	return endWait
}

// noteEnds notes the ends that control has not acknowledged.
func (k *keeper) noteEnds() {
	for _, r := range k.unheard {
		if k.runs[r.id] == r && r.noted {
			k.notes.end(k, r)
		}
	}
	k.unheard = nil
}

func (n notes) end(k *keeper, r *run) {
	fd, err := open(n.path(r.id), unix.O_WRONLY|unix.O_APPEND)
	if errors.Is(err, fs.ErrNotExist) {
		return // somebody removed it
	}
	if err != nil {
		k.log.Error("cannot note the end of a run", "program", r.in.program, "instance", r.in.index, "error", err)
		return
	}
	n.line(k, r, fd, k.noteOf(r).text())
	unix.Close(fd)
	crashpoint.Here(crashpoint.ExitNoted)
}

// replace puts another note in the place of a run's first one.
func (n notes) replace(r *run, b []byte) error {
	next := filepath.Join(n.dir, "next")
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return err
	}
	return os.Rename(next, n.path(r.id))
}

// remove removes a run's note, unless the run's number is another's by now.
func (n notes) remove(k *keeper, r *run) {
	if other := k.runs[r.id]; r.noted && (other == nil || other == r) {
		r.noted = false
		_ = unix.Unlink(n.path(r.id)) // a note of nobody is found out and removed
	}
}

// How long, and how often, we try to read a note that is there: without it a
// program that runs would be taken for one that does not.
const (
	readTries = 30
	readPause = 100 * time.Millisecond
)

// read returns the notes of this boot, by run, and removes the others. What the
// kernel does not let us read now is no reason to go on without it.
func (n notes) read(k *keeper) (list []note, err error) {
	var entries []os.DirEntry
	if err := patiently(func() (err error) { entries, err = os.ReadDir(n.dir); return err }); err != nil {
		return nil, fmt.Errorf("cannot read the notes of a former keeper: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(n.dir, e.Name())
		var text []byte
		if err := patiently(func() (err error) { text, err = os.ReadFile(path); return err }); err != nil {
			return nil, fmt.Errorf("cannot read the note of a former keeper: %w", err)
		}
		v, err := parseNote(text)
		if err == nil && v.Boot == k.boot && e.Name() == strconv.FormatUint(v.Run, 10) {
			list = append(list, v)
			continue
		}
		if err != nil {
			k.log.Warn("a former keeper's note makes no sense", "file", path, "error", err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			k.log.Warn("cannot remove a note", "file", path, "error", err)
		}
	}
	slices.SortFunc(list, func(a, b note) int { return cmp.Compare(a.Run, b.Run) })
	return list, nil
}

// patiently tries again what fails for want of descriptors or memory, or by an
// error of the disk.
func patiently(do func() error) (err error) {
	for range readTries {
		if err = do(); err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return err
		}
		time.Sleep(readPause)
	}
	return err
}

// parseNote reads the last line that is whole.
func parseNote(b []byte) (v note, err error) {
	err = errors.New("it is empty")
	for line := range bytes.Lines(b) {
		var next note
		if nerr := json.Unmarshal(line, &next); nerr == nil {
			v, err = next, nil
		} else if err != nil {
			err = nerr
		}
	}
	return v, err
}
