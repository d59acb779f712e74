package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/runtime/place"
)

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitChanges     = 2
	exitUnreachable = 3
	exitNotRunning  = 4
)

// exit is an error that carries an exit code. A nil cause is silent: what there
// is to say was printed.
type exit struct {
	code  int
	cause error
}

func (e *exit) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.cause.Error()
}

func (e *exit) Unwrap() error { return e.cause }

// unreachable says that no daemon answered at endpoint, and how to get one.
func unreachable(endpoint string, cause error) error {
	hint := "start one with: procnannyd --config PATH (or name another with --run or --connect)"
	if errors.Is(cause, syscall.EACCES) {
		hint = "only root, the daemon's own user and the members of its groups may open that socket"
	} else if dir, ok := runDir(endpoint); ok {
		if pid, _ := place.Holder(dir); pid != 0 {
			hint = fmt.Sprintf("procnannyd lives there (pid %d) and may be busy: see what it logs, or try again", pid)
		} else if system := place.Defaults(0, nil).Run; dir != system && exists(system) {
			hint += "\nthe system's daemon is asked with: --run " + system
		}
	}
	return &exit{exitUnreachable, fmt.Errorf("cannot reach procnannyd at %s: %w\n%s", endpoint, cause, hint)}
}

// unknown says that the daemon's control process ended while it was asked for a
// change.
func unknown(endpoint, method string) error {
	return &exit{exitUnreachable, fmt.Errorf("procnannyd at %s was gone before it answered: nobody knows whether %s was carried out\nsee status and overrides before you ask again", endpoint, method)}
}

// runDir is the directory of an ipc endpoint.
func runDir(endpoint string) (string, bool) {
	path, ok := strings.CutPrefix(endpoint, "ipc://")
	return filepath.Dir(path), ok
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// code prints why a command did not end well, and says its exit code.
func code(w io.Writer, err error) int {
	var e *exit
	var refused *rpc.Error
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &e):
		if e.cause != nil {
			report(w, e.cause.Error())
		}
		return e.code
	case errors.Is(err, context.Canceled):
		return exitFailed // ctrl-C: its sender knows
	case errors.As(err, &refused):
		reportRefused(w, err.Error(), refused)
		return exitFailed
	}
	report(w, err.Error())
	return exitFailed
}

// reportRefused prints why a daemon refused: each problem once, with its source
// line, which the message that speaks of the first one does not have.
func reportRefused(w io.Writer, message string, refused *rpc.Error) {
	rest := refused.Problems
	switch {
	case len(rest) > 0 && strings.HasSuffix(message, rest[0].Error()):
		report(w, strings.TrimSuffix(message, rest[0].Error())+rest[0].Text())
		rest = rest[1:]
	case len(rest) == 0 || refused.Message != rest.Error():
		report(w, message)
	}
	for _, p := range rest {
		report(w, p.Text())
	}
}

func report(w io.Writer, message string) {
	_, _ = fmt.Fprintln(w, "procnanny: "+safeLines(strings.TrimRight(message, "\n"))) // to whom, if not there
}
