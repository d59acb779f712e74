package rpc

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/procnanny/procnanny/spec"
)

// Caller is one way to reach a daemon: the zmq client, or a fake in tests.
// args are the request's other keys; the reply is decoded into reply (a
// pointer), or into map[string]any / map[any]any shapes when it points to any.
// A refusal by the daemon is an *Error.
type Caller interface {
	Call(ctx context.Context, method string, args map[string]any, reply any) error
	Close() error
}

// EncodeRequest is a request as bytes: `request` first, then args sorted by
// name. A value that the wire has no type for is sent in its JSON form.
func EncodeRequest(method string, args map[string]any) ([]byte, error) {
	m := make(Map, 0, 1+len(args))
	m = append(m, Field{"request", method})
	for _, k := range sortedKeys(args) {
		if k != "request" {
			m = append(m, Field{k, args[k]})
		}
	}
	b, err := Append(nil, m)
	if err == nil {
		return b, nil
	}
	for i, f := range m {
		raw, err := json.Marshal(f.Value)
		if err != nil {
			return nil, fmt.Errorf("cannot encode %s: %w", f.Key, err)
		}
		if _, err := Append(nil, f.Value); err != nil {
			m[i].Value = json.RawMessage(raw)
		}
	}
	return Append(nil, m)
}

// DecodeReply decodes a reply into what reply points to (see [Caller]); nil is
// not interested. A refusal is returned as an *Error.
func DecodeReply(msg []byte, reply any) error {
	if err := GuardReply(msg); err != nil {
		return fmt.Errorf("cannot decode the reply: %w", err)
	}
	if refused := refusal(msg); refused != nil {
		return refused
	}
	switch reply := reply.(type) {
	case nil:
		return nil
	case *any:
		v, err := DecodeValue(msg)
		*reply = v
		return err
	case *Raw:
		*reply = msg
		return nil
	}
	dec := newDecoder(msg)
	dec.SetCustomStructTag("json") // where there is no msgpack tag
	if err := dec.Decode(reply); err != nil {
		return fmt.Errorf("cannot decode the reply: %w", err)
	}
	return nil
}

// errorKey is how every refusal begins: a map of 3 or 4 pairs, whose first key
// no other reply has.
const errorKey = "\xa5error"

// refusal decodes an error reply; nil when msg is none.
func refusal(msg []byte) *Error {
	if len(msg) < 1+len(errorKey) || msg[0]&0xf0 != 0x80 || string(msg[1:1+len(errorKey)]) != errorKey {
		return nil
	}
	var r struct {
		Error    string             `msgpack:"error"`
		Request  msgpack.RawMessage `msgpack:"request"`
		Code     Code               `msgpack:"code"`
		Problems spec.Problems      `msgpack:"problems"`
	}
	if err := msgpack.Unmarshal(msg, &r); err != nil {
		return &Error{Code: CodeInternal, Message: fmt.Sprintf("cannot decode the daemon's refusal: %v", err)}
	}
	request, err := DecodeValue(r.Request)
	if err != nil {
		request = nil
	}
	return &Error{Message: r.Error, Code: r.Code, Request: request, Problems: r.Problems}
}
