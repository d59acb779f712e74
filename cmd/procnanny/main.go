package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/rpc/zmq"
)

// version is set by the linker.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	a := newApp()
	c := run(ctx, a, os.Args[1:])
	stop()
	os.Exit(c)
}

// newApp is the app of a real process.
func newApp() *app {
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv, now: time.Now, uid: os.Geteuid(),
		terminal: terminal{
			is: term.IsTerminal(int(os.Stdout.Fd())), err: term.IsTerminal(int(os.Stderr.Fd())), size: terminalSize,
		},
	}
	a.whileRead = func(ctx context.Context) (context.Context, context.CancelFunc) { return whileRead(ctx, os.Stdout) }
	a.dial = func(endpoint string, timeout time.Duration) (rpc.Caller, error) {
		keys, err := a.keys(endpoint)
		if err != nil {
			return nil, err
		}
		return zmq.DialKeys(endpoint, timeout, keys)
	}
	a.subscribe = func(endpoint string, topics []string) (subscription, error) {
		keys, err := a.keys(endpoint)
		if err != nil {
			return nil, err
		}
		s, err := zmq.SubscribeKeys(endpoint, topics, keys)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	return a
}

// terminalSize is the size of stdout, or the one that terminals always had.
func terminalSize() (width, height int) {
	w, h, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil || w <= 0 || h <= 0 {
		return 80, 24
	}
	return w, h
}

// run carries out one command line and says its exit code.
func run(ctx context.Context, a *app, args []string) int {
	out := &faithful{Writer: a.out}
	a.out = out
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	err := root.ExecuteContext(ctx)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err == nil {
		err = out.err
	}
	return code(a.err, err)
}
