package zmq

import (
	"fmt"
	"strings"

	zmq4 "github.com/pebbe/zmq4"

	"github.com/procnanny/procnanny/rpc"
)

// listen binds endpoints of one use: one socket for all of a kind, because a
// socket's peers are judged alike.
func (l *loop) listen(texts []string, c Config, open func(kind) (*zmq4.Socket, error)) error {
	opened := map[kind]*zmq4.Socket{}
	for _, text := range texts {
		e, err := parseEndpoint(text, c.InsecureLoopback)
		if err != nil {
			return err
		}
		if err := l.unlock(e, c); err != nil {
			return err
		}
		if opened[e.kind] == nil {
			if opened[e.kind], err = open(e.kind); err != nil {
				return err
			}
		}
		if e.kind == kindIPC {
			if err := e.listen(c.Group); err != nil {
				return err
			}
		}
		l.doors = append(l.doors, e)
		if err := e.bind(opened[e.kind]); err != nil {
			return err
		}
		l.server.endpoints = append(l.server.endpoints, e.text)
	}
	return nil
}

// unlock gets what an endpoint with keys needs, once.
func (l *loop) unlock(e *endpoint, c Config) (err error) {
	if e.kind != kindCurve || l.zap != nil {
		return nil
	}
	if l.keys, err = newKeyring(c.Keys, l.allowed); err != nil {
		return fmt.Errorf("cannot listen on %s: %w", e.text, err)
	}
	if l.curve, err = newContext(); err != nil {
		return err
	}
	l.zap, err = newZAP(l.curve, l.keys, l.server.handler.Refused)
	return err
}

// allowed tells of a list of allowed keys that was read.
func (l *loop) allowed(list map[string]allowed, problems []string) {
	l.server.log.Info("read the list of allowed keys", "keys", len(list), "problems", len(problems))
	for _, p := range problems {
		l.server.handler.Refused(rpc.Refusal{Act: rpc.ActAllow, Why: p})
	}
}

// context is that of sockets of a kind.
func (l *loop) context(k kind) *zmq4.Context {
	if k == kindCurve {
		return l.curve
	}
	return l.zmq
}

// newListener makes a socket for endpoints of a kind.
func (l *loop) newListener(of zmq4.Type, k kind, options []option) (*zmq4.Socket, error) {
	if k != kindCurve {
		return newSocket(l.zmq, of, commonOptions, options)
	}
	return newSocket(l.curve, of, commonOptions, options, []option{
		{"domain", func(s *zmq4.Socket) error { return s.SetZapDomain(zapDomain) }},
		{"side of CURVE", func(s *zmq4.Socket) error { return s.SetCurveServer(1) }},
		{"key", func(s *zmq4.Socket) error { return s.SetCurveSecretkey(l.keys.server.Secret) }},
	})
}

func (l *loop) openRouter(k kind) (*zmq4.Socket, error) {
	s, err := l.newListener(zmq4.ROUTER, k, routerOptions)
	if err != nil {
		return nil, err
	}
	l.routers = append(l.routers, &router{index: len(l.routers), socket: s, kind: k})
	return s, nil
}

func (l *loop) openPublisher(subs *subscriptions, legacy bool) func(kind) (*zmq4.Socket, error) {
	return func(k kind) (*zmq4.Socket, error) {
		s, err := l.newListener(zmq4.XPUB, k, publisherOptions)
		if err != nil {
			return nil, err
		}
		l.publishers = append(l.publishers, &publisher{socket: s, kind: k, subs: subs, legacy: legacy})
		return s, nil
	}
}

// endpointsOf says where a socket listens.
func (l *loop) endpointsOf(s *zmq4.Socket) string {
	var texts []string
	for _, e := range l.doors {
		if e.socket == s {
			texts = append(texts, e.text)
		}
	}
	return strings.Join(texts, ", ")
}
