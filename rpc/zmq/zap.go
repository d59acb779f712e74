package zmq

import (
	"fmt"

	zmq4 "github.com/pebbe/zmq4"

	"github.com/procnanny/procnanny/rpc"
)

// userID is the metadata that carries what the ZAP handler answered. A property
// of that name in a peer's own handshake never overrides it; without ZAP it
// would be the peer's word alone.
const userID = "User-Id"

const (
	zapEndpoint = "inproc://zeromq.zap.01"
	zapVersion  = "1.0"
	zapDomain   = "procnanny"
)

// Status codes of ZAP, rfc.zeromq.org/spec/27. After 300 libzmq's client tries
// again, after 400 it does not.
const (
	zapOK    = "200"
	zapLater = "300"
	zapNo    = "400"
)

// zap answers libzmq's question whether a peer with some key may connect. It is
// asked for the sockets with CURVE only, which have a context of their own: a
// handler would be asked about all sockets of its context.
type zap struct {
	socket *zmq4.Socket
	keys   *keyring
	tell   func(rpc.Refusal)
}

func newZAP(ctx *zmq4.Context, keys *keyring, tell func(rpc.Refusal)) (*zap, error) {
	s, err := newSocket(ctx, zmq4.REP, []option{{"linger", func(s *zmq4.Socket) error { return s.SetLinger(0) }}})
	if err != nil {
		return nil, err
	}
	if err := s.Bind(zapEndpoint); err != nil {
		s.Close()
		return nil, fmt.Errorf("cannot answer for keys: %w", err)
	}
	return &zap{socket: s, keys: keys, tell: tell}, nil
}

// answer takes a burst of questions.
func (z *zap) answer() {
	for range burst {
		q, err := z.socket.RecvMessageBytes(zmq4.DONTWAIT)
		if err != nil {
			return
		}
		id, code, key := []byte(nil), zapNo, ""
		if len(q) > 1 {
			id = q[1]
			code, key = z.judge(q)
		}
		_, _ = z.socket.SendMessageDontwait(zapVersion, id, code, "", key, "") // its asker may be gone
	}
}

// judge decides about version, id, domain, address, identity, mechanism and
// credentials, which are the key.
func (z *zap) judge(q [][]byte) (code, key string) {
	if len(q) != 7 || string(q[0]) != zapVersion || string(q[2]) != zapDomain || string(q[5]) != "CURVE" || len(q[6]) != keyBytes {
		z.tell(rpc.Refusal{Act: rpc.ActConnect, Why: "libzmq asks about a connection in a way that we do not know"})
		return zapNo, ""
	}
	key = z85Encode(q[6])
	if _, ok := z.keys.list[key]; ok {
		return zapOK, key
	}
	if z.keys.fresh {
		return zapLater, ""
	}
	z.tell(rpc.Refusal{
		Peer: rpc.Peer{UID: rpc.NoID, GID: rpc.NoID, Known: true, Key: key, Address: address(string(q[3]))},
		Act:  rpc.ActConnect, Why: "this key is not allowed",
	})
	return zapNo, ""
}
