package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/oom"
)

// WillVersion is the format of a Will. Fields may be added without a new one:
// a reader skips what it does not know.
const WillVersion = 1

// WillVariable names the descriptor of a will to a keeper that was executed in
// the place of another process of ours.
const WillVariable = "PROCNANNY_WILL"

// How a keeper came to be: Will.Origin.
const (
	OriginUpgrade = "upgrade" // the former keeper executed it
	OriginDeath   = "death"   // the former keeper died, and its control had what it held
)

// Will is what a keeper leaves to the next one: descriptors, and what is not in
// the notes. A keeper writes it when it executes its successor, control when it
// finds its keeper dead.
type Will struct {
	Version int    `json:"version"`
	Boot    string `json:"boot"`
	Origin  string `json:"origin"`
	// Former is the pid of the keeper that held all this.
	Former int `json:"former"`
	// Raised counts keepers that died soon after control had raised them.
	Raised int `json:"raised,omitempty"`
	// Locks are the descriptors of the locked files.
	Locks []int `json:"locks"`
	// Asked is TERM once somebody asked the former keeper to stop everything.
	Asked int      `json:"asked,omitempty"`
	Runs  []legacy `json:"runs"`
	// Escrow is where those are who were being started; 0 is none.
	Escrow int `json:"escrow,omitempty"`
}

// legacy is one run of a Will. Without a run's number it is only the pipes of
// an instance, which still hold output.
type legacy struct {
	Note note `json:"note"`
	// FDs are the pidfd and the pipes; -1 is none.
	FDs [3]int `json:"fds"`
	// Child is true when its process is a child of the one that wrote the will.
	Child   bool `json:"child,omitempty"`
	Ended   bool `json:"ended,omitempty"`
	Emptied bool `json:"emptied,omitempty"`
	// Exit is the fact of its end as a frame: the wire's form, which goes with
	// versions already.
	Exit []byte `json:"exit,omitempty"`
}

// exitFrame is the end of a run for a legacy; nil while there is none.
func exitFrame(f *Fact) []byte {
	if f == nil {
		return nil
	}
	b, err := AppendFact(nil, f)
	if err != nil {
		return nil // the end is then unknown
	}
	return b
}

// exitOf is what exitFrame wrote.
func exitOf(frame []byte) *Fact {
	body, _, ok, err := cutFrame(frame)
	if err != nil || !ok {
		return nil
	}
	f, err := DecodeFact(body)
	if err != nil {
		return nil
	}
	return &f
}

// descriptors visits every descriptor, always in the same order; the escrow, which
// older readers do not know, is the last.
func (w *Will) descriptors(visit func(fd *int)) {
	for i := range w.Locks {
		visit(&w.Locks[i])
	}
	for i := range w.Runs {
		for j := range w.Runs[i].FDs {
			if w.Runs[i].FDs[j] >= 0 {
				visit(&w.Runs[i].FDs[j])
			}
		}
	}
	if w.Escrow > 0 {
		visit(&w.Escrow)
	}
}

// Exec is a program to be executed, with what it is told.
type Exec struct {
	Path string
	Args []string // without argv[0]
	Env  []string
}

// handOver are signals that wait while one program takes the place of another:
// they would end the new one before it has its handlers.
var handOver = []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT}

// Execute replaces this process by e, which finds the will under WillVariable.
// It returns only if that cannot be: then everything is as before.
func (w *Will) Execute(e Exec) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd, err := w.memfd()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	w.descriptors(func(fd *int) { _, _ = unix.FcntlInt(uintptr(*fd), unix.F_SETFD, 0) })
	old := blockSignals(handOver)
	err = exactly(func() error {
		return oom.AsBorn(func() error {
			return syscall.Exec(e.Path, append([]string{e.Path}, e.Args...), append(without(e.Env, WillVariable), WillVariable+"="+strconv.Itoa(fd)))
		})
	})
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	w.descriptors(func(fd *int) { unix.CloseOnExec(*fd) })
	return fmt.Errorf("cannot execute %s: %w", e.Path, err)
}

// blockSignals blocks signals on this thread and returns the mask before.
func blockSignals(list []unix.Signal) (old unix.Sigset_t) {
	var set unix.Sigset_t
	for _, s := range list {
		set.Val[0] |= 1 << (s - 1) // all are below 32
	}
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &set, &old) // cannot fail with these arguments
	return old
}

// CleanSignals executes this process again if it was started with blocked
// signals, as the child of a keeper that was executed in place is: Go would
// pass them on to every child of ours, and they could not be ended by TERM.
func CleanSignals() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var none, old unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, &old); err != nil || old == none {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

func without(env []string, name string) (out []string) {
	for _, v := range env {
		if len(v) <= len(name) || v[:len(name)+1] != name+"=" {
			out = append(out, v)
		}
	}
	return out
}

// memfd is the will as a file in memory that a successor inherits.
func (w *Will) memfd() (int, error) {
	b, err := json.Marshal(w)
	if err != nil {
		return -1, fmt.Errorf("cannot write a will: %w", err)
	}
	fd, err := unix.MemfdCreate("procnanny-will", 0)
	if err != nil {
		return -1, fmt.Errorf("cannot write a will: %w", err)
	}
	f := os.NewFile(uintptr(fd), "will")
	defer runtime.SetFinalizer(f, nil) // the descriptor is the caller's
	if _, err := f.Write(b); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("cannot write a will: %w", err)
	}
	return fd, nil
}

// Inherit reads the will that WillVariable names, if there is one, and forgets
// the variable. Its descriptors are this process's from now on.
func Inherit() (*Will, error) {
	text, ok := os.LookupEnv(WillVariable)
	if !ok {
		return nil, nil
	}
	if err := os.Unsetenv(WillVariable); err != nil {
		return nil, err
	}
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("cannot read the will: %s is %q", WillVariable, text)
	}
	f := os.NewFile(uintptr(fd), "will")
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxWill))
	if err != nil {
		return nil, fmt.Errorf("cannot read the will: %w", err)
	}
	w, err := decodeWill(b)
	if err != nil {
		return nil, err
	}
	w.descriptors(func(fd *int) { unix.CloseOnExec(*fd) })
	return w, nil
}

// maxWill bounds a will, bytes: a few hundred for each of 100,000 instances.
const maxWill = 256 << 20

func decodeWill(b []byte) (*Will, error) {
	w := &Will{}
	if err := json.Unmarshal(b, w); err != nil {
		return nil, fmt.Errorf("cannot read the will: %w", err)
	}
	if w.Version > WillVersion {
		return nil, fmt.Errorf("cannot read the will: it has format %d, this keeper knows %d", w.Version, WillVersion)
	}
	if boot, err := bootID(); err != nil || boot != w.Boot {
		return nil, errors.New("cannot read the will: it is of another boot")
	}
	return w, nil
}

// Nothing is the will of a keeper that died before it told anything.
func Nothing() (*Will, error) {
	boot, err := bootID()
	return &Will{Version: WillVersion, Boot: boot, Origin: OriginDeath}, err
}
