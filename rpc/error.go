package rpc

import (
	"context"
	"errors"
	"fmt"

	"github.com/procnanny/procnanny/spec"
)

// Code names a kind of error. Codes are stable: scripts may compare them.
type Code string

// The codes.
const (
	CodeNoSuchMethod    Code = "no_such_method"
	CodeNoRequestField  Code = "no_request_field"
	CodeMissingArgument Code = "missing_argument"
	CodeBadArgument     Code = "bad_argument"
	CodeUndecodable     Code = "undecodable"
	CodeForbidden       Code = "forbidden"
	CodeNotFound        Code = "not_found"
	CodeConflict        Code = "conflict"
	CodeStalePlan       Code = "stale_plan"
	CodeRefused         Code = "refused" // by the files' constraints: see problems
	CodeTooLarge        Code = "too_large"
	CodeBusy            Code = "busy"
	CodeTimeout         Code = "timeout"
	CodeFailed          Code = "failed" // it was done, and did not come to a good end
	CodeUnavailable     Code = "unavailable"
	CodeInternal        Code = "internal"
)

// codeDocs says when a code is sent; the wire reference prints it.
var codeDocs = []struct {
	Code Code
	Doc  string
}{
	{CodeNoSuchMethod, "no method has that name"},
	{CodeNoRequestField, "the message is no map, or has no `request` that is a string"},
	{CodeMissingArgument, "a required argument is missing"},
	{CodeBadArgument, "an argument has the wrong type, range or meaning"},
	{CodeUndecodable, "the bytes are no single msgpack value within the limits; `request` is nil"},
	{CodeForbidden, "the peer's uid or key may not do that, or is unknown"},
	{CodeNotFound, "no such program, instance or generation"},
	{CodeConflict, "it contradicts what the files define or what exists"},
	{CodeStalePlan, "the plan is no longer what would happen; nothing was done"},
	{CodeRefused, "the configuration's own constraints refuse it; `problems` lists why"},
	{CodeTooLarge, "the reply would not fit one message; ask for less"},
	{CodeBusy, "too many requests of this peer are being served; try again"},
	{CodeTimeout, "what was asked for is under way but had not happened in time"},
	{CodeFailed, "what was asked for was tried and failed"},
	{CodeUnavailable, "the daemon is starting or ending"},
	{CodeInternal, "a defect in the daemon, or a failure of its disk"},
}

// Error is a refusal, as a method returns it and as a client gets it.
type Error struct {
	Message string
	Code    Code
	// Request is the request that was refused, as it came.
	Request any
	// Problems say what the constraints refuse: CodeRefused.
	Problems spec.Problems
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// asError gives any error its code.
func asError(err error) *Error {
	var e *Error
	var problems spec.Problems
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &problems):
		return &Error{Code: CodeRefused, Message: problems.Error(), Problems: problems}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: CodeTimeout, Message: err.Error()}
	case errors.Is(err, context.Canceled):
		return &Error{Code: CodeUnavailable, Message: "the daemon is ending"}
	}
	return &Error{Code: CodeInternal, Message: err.Error()}
}

// reply is the error as bytes. request is the request's own encoding, or nil
// when it could not be read.
func (e *Error) reply(request []byte) []byte {
	if len(request) == 0 {
		request = []byte{0xc0}
	}
	m := Map{{"error", e.Message}, {"request", Raw(request)}, {"code", string(e.Code)}}
	if len(e.Problems) > 0 {
		m = append(m, Field{"problems", problemMaps(e.Problems)})
	}
	b, err := Append(nil, m)
	if err != nil { // only strings, raw bytes and problems: cannot happen
		return (&Error{Code: CodeInternal, Message: err.Error()}).reply(nil)
	}
	return b
}

// Refuse is the reply of a transport that turns a request down before any
// method sees it. The echo is left out when reading the request would cost more
// than its answer.
func Refuse(code Code, message string, request []byte) []byte {
	if len(request) > quickRequest || Guard(request) != nil {
		request = nil
	}
	return Errorf(code, "%s", message).reply(request)
}
