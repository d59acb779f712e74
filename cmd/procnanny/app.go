package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/rpc/zmq"
	"github.com/procnanny/procnanny/runtime/place"
)

// app is what every command shares: the streams, the global flags, and the way
// to the daemon. Tests replace the functions.
type app struct {
	in        io.Reader
	out, err  io.Writer
	getenv    func(string) string
	now       func() time.Time
	dial      func(endpoint string, timeout time.Duration) (rpc.Caller, error)
	subscribe func(endpoint string, topics []string) (subscription, error)
	// whileRead, unless nil, ends a context when nobody reads out any more.
	whileRead func(context.Context) (context.Context, context.CancelFunc)
	terminal  terminal
	// uid is ours: it decides where a daemon is looked for.
	uid int

	// The global flags. A timeout of 0 is the default, see answerIn.
	place   place.Client
	output  string
	timeout time.Duration
}

// terminal is what is known of stdout.
type terminal struct {
	// is says whether stdout is a terminal at all, err whether stderr is.
	is, err bool
	// size returns its columns and rows, asked anew for each picture.
	size func() (width, height int)
}

// subscription delivers published events until closed.
type subscription interface {
	Next(ctx context.Context) (topic string, event any, err error)
	Close() error
}

// paint says whether colours are wanted: on a terminal that has them, and
// nobody said no.
func (a *app) paint() painter { return painter(a.terminal.is && a.colours()) }

// paintErr is the same for stderr.
func (a *app) paintErr() painter { return painter(a.terminal.err && a.colours()) }

func (a *app) colours() bool { return a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb" }

// limit is how wide a line may be: the terminal's width, or 0 in a pipe.
func (a *app) limit() int {
	if !a.terminal.is || a.terminal.size == nil {
		return 0
	}
	w, _ := a.terminal.size()
	return w
}

// eventsEndpoint is where events are published.
func (a *app) eventsEndpoint() (string, error) {
	endpoint, err := a.endpoint()
	if err != nil {
		return "", err
	}
	if e := place.ClientEvents(a.place, endpoint, a.getenv); e != "" {
		return e, nil
	}
	return "", errors.New("cannot tell where events are published: say --events, or set PROCNANNY_EVENTS")
}

// call asks the daemon and returns its answer as a tree.
func (a *app) call(ctx context.Context, method string, args map[string]any) (any, error) {
	c, endpoint, err := a.open(ctx, a.answerIn(args))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return ask(ctx, c, endpoint, method, args)
}

// open connects to the daemon; timeout is for each answer.
func (a *app) open(ctx context.Context, timeout time.Duration) (rpc.Caller, string, error) {
	endpoint, err := a.endpoint()
	if err != nil {
		return nil, "", err
	}
	if _, err := a.keys(endpoint); err != nil {
		return nil, endpoint, err
	}
	if err := knock(ctx, endpoint, min(timeout, patience)); err != nil {
		return nil, endpoint, unreachable(endpoint, err)
	}
	c, err := a.dial(endpoint, timeout)
	if err != nil {
		return nil, endpoint, unreachable(endpoint, err)
	}
	return c, endpoint, nil
}

func ask(ctx context.Context, c rpc.Caller, endpoint, method string, args map[string]any) (any, error) {
	var reply any
	err := c.Call(ctx, method, args, &reply)
	var refused *rpc.Error
	switch {
	case err == nil:
		return normal(reply), nil
	case errors.As(err, &refused) || errors.Is(err, zmq.ErrNotAllowed):
		return nil, err
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
		return nil, ctx.Err()
	case errors.Is(err, zmq.ErrLost) && changes(method):
		return nil, unknown(endpoint, method)
	case errors.Is(err, zmq.ErrLost):
		err = errors.New("each time it is asked, the connection breaks before the answer comes")
	case errors.Is(err, zmq.ErrAway):
		err = zmq.ErrAway
	case errors.Is(err, context.DeadlineExceeded):
		err = late(err)
	}
	return nil, unreachable(endpoint, err)
}

// changes reports whether asking twice may do something twice.
func changes(method string) bool {
	m, ok := rpc.LookupMethod(method)
	return !ok || m.Access != rpc.AccessRead
}

// late says that no answer came in time, and why, when the handshake told.
func late(err error) error {
	more := "(--timeout gives it more)"
	if e, ok := errors.AsType[*zmq.NoAnswerError](err); ok && e.Hint != "" {
		more = e.Hint
	}
	return errors.New("it does not answer in time " + more)
}

// patience is how long a socket that nobody listens on is tried again: the
// daemon's control process may be on its way back, or the daemon just starts.
const patience = 2 * time.Second

// knock tries an ipc endpoint with a plain connect, so that a daemon that is not
// there is known at once, with the reason. Other transports are not tried.
func knock(ctx context.Context, endpoint string, within time.Duration) error {
	path, ok := strings.CutPrefix(endpoint, "ipc://")
	if !ok {
		return nil
	}
	deadline := time.Now().Add(within)
	for {
		conn, err := net.DialTimeout("unix", path, within)
		if err == nil {
			return conn.Close()
		}
		if !worthWaiting(path, err) || time.Now().After(deadline) {
			return reason(path, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// worthWaiting reports whether a socket may come to life: its daemon lives, or
// nobody can say.
func worthWaiting(path string, err error) bool {
	pid, known := place.Holder(filepath.Dir(path))
	switch {
	case errors.Is(err, syscall.EAGAIN): // a full queue: somebody is there
		return true
	case errors.Is(err, syscall.ECONNREFUSED):
		return pid != 0 || !known
	case errors.Is(err, syscall.ENOENT):
		return pid != 0
	}
	return false
}

// reason says in words what a connect ended with.
func reason(path string, err error) error {
	st, statErr := os.Stat(path)
	switch {
	case statErr == nil && st.Mode()&fs.ModeSocket == 0:
		return errors.New("that is no socket")
	case errors.Is(err, syscall.ENOENT):
		return errors.New("there is no such socket")
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("nobody listens on that socket")
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("there is a socket, but %w", syscall.EACCES)
	}
	return err
}

// emit prints a tree as the user wants it; text is called for -o text.
func (a *app) emit(tree any, text func() error) error {
	switch a.output {
	case "json":
		return writeJSON(a.out, tree)
	case "yaml":
		return writeYAML(a.out, tree)
	}
	return text()
}

// show asks the daemon, reads the answer into view, and prints either.
func (a *app) show(ctx context.Context, method string, args map[string]any, view any, text func() error) error {
	tree, err := a.call(ctx, method, args)
	if err != nil {
		return err
	}
	return a.emit(tree, func() error {
		if err := into(tree, view); err != nil {
			return err
		}
		return text()
	})
}

// put prints a line as it is. That it could not be printed, out remembers.
func (a *app) put(line string) { _, _ = io.WriteString(a.out, line+"\n") }

// faithful remembers the first error of a writer: a full disk must not look
// like success, whoever prints.
type faithful struct {
	io.Writer
	err error
}

func (f *faithful) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("cannot print: %w", err)
	}
	return n, err
}

// say prints one line for people.
func (a *app) say(format string, args ...any) error {
	_, err := fmt.Fprintln(a.out, safe(fmt.Sprintf(format, args...)))
	return err
}

// grid prints a table for people.
func (a *app) grid(t *table) error { return t.write(a.out, a.paint(), 0) }
