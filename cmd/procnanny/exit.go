package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/procnanny/procnanny/rpc"
)

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitChanges     = 2
	exitUnreachable = 3
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
	return &exit{exitUnreachable, fmt.Errorf("cannot reach procnannyd at %s: %w\nstart one with: procnannyd --config PATH (or name another with --run or --connect)", endpoint, cause)}
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
		report(w, err.Error())
		for _, p := range refused.Problems {
			fmt.Fprintln(w, safeLines(p.Text()))
		}
		return exitFailed
	}
	report(w, err.Error())
	return exitFailed
}

func report(w io.Writer, message string) { fmt.Fprintln(w, "procnanny: "+safeLines(message)) }
