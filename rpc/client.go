package rpc

import "context"

// Caller is one way to reach a daemon: the zmq client, or a fake in tests.
// args are the request's other keys; the reply is decoded into reply (a
// pointer), or into map[string]any / map[any]any shapes when it points to any.
// A refusal by the daemon is an *Error.
type Caller interface {
	Call(ctx context.Context, method string, args map[string]any, reply any) error
	Close() error
}
