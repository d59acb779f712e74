package zmq

import (
	"context"
	"errors"
	"sync"

	zmq4 "github.com/pebbe/zmq4"

	"github.com/procnanny/procnanny/rpc"
)

// Subscription receives events until Close. It reconnects by itself when the
// daemon comes back; seq and prev of the events show what was missed, and the
// `events` method has it.
type Subscription struct {
	mu     sync.Mutex
	socket *dialled
}

// Subscribe connects to an events endpoint. topics are prefixes; none is all.
func Subscribe(endpoint string, topics []string) (*Subscription, error) {
	return SubscribeKeys(endpoint, topics, nil)
}

// SubscribeKeys is Subscribe with keys, for TCP endpoints; nil is none.
func SubscribeKeys(endpoint string, topics []string, keys *ClientKeys) (*Subscription, error) {
	s, err := connect(zmq4.SUB, endpoint, keys, false)
	if err != nil {
		return nil, err
	}
	if len(topics) == 0 {
		topics = []string{""}
	}
	for _, t := range topics {
		if err := s.SetSubscribe(t); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return &Subscription{socket: s}, nil
}

// Next waits for the next event. The event is a map as [rpc.DecodeValue] gives
// it.
func (s *Subscription) Next(ctx context.Context) (topic string, event any, err error) {
	topic, body, err := s.NextRaw(ctx)
	if err != nil {
		return "", nil, err
	}
	if err := rpc.GuardReply(body); err != nil {
		return "", nil, err
	}
	event, err = rpc.DecodeValue(body)
	return topic, event, err
}

// NextRaw is Next without decoding.
func (s *Subscription) NextRaw(ctx context.Context) (topic string, body []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socket == nil {
		return "", nil, errors.New("the subscription is closed")
	}
	if err := ctx.Err(); err != nil {
		return "", nil, err
	}
	isEvent := func(frames [][]byte) bool { return len(frames) == 2 }
	// What is there needs no waiting, which costs more than all the rest.
	if frames, err := s.socket.RecvMessageBytes(zmq4.DONTWAIT); err == nil && isEvent(frames) {
		return string(frames[0]), frames[1], nil
	}
	w, err := newWaiter(ctx, s.socket)
	if err != nil {
		return "", nil, err
	}
	defer w.close()
	frames, err := w.receive(ctx, isEvent)
	if err != nil {
		return "", nil, err
	}
	return string(frames[0]), frames[1], nil
}

// Close ends it. A Next that waits must be ended by its context first.
func (s *Subscription) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socket == nil {
		return nil
	}
	err := s.socket.close()
	s.socket = nil
	return err
}
