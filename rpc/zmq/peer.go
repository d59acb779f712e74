package zmq

import (
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/procnanny/procnanny/rpc"
)

// peerAddress is the metadata that libzmq fills in from SO_PEERCRED (ipc) or
// getpeername (tcp). A peer cannot forge it.
const peerAddress = "Peer-Address"

// ownUID is what a peer of insecure loopback counts as.
var ownUID = uint32(os.Getuid())

// who says whose a message is, by what libzmq knows of its connection.
func (l *loop) who(k kind, meta map[string]string) rpc.Peer {
	switch k {
	case kindIPC:
		return parsePeer(meta[peerAddress])
	case kindPlain:
		return loopbackPeer(meta[peerAddress])
	case kindCurve:
		return l.keys.peer(meta)
	}
	return rpc.Peer{}
}

// loopbackPeer is who a message over TCP without keys is from. A peer without
// an address speaks ZMTP 1.0, as a web page can make a browser do; it gets
// nothing.
func loopbackPeer(at string) rpc.Peer {
	if at == "" {
		return rpc.Peer{}
	}
	return rpc.Peer{UID: ownUID, GID: uint32(os.Getgid()), Known: true, Address: address(at)}
}

// address writes what libzmq knows of a network peer as people do: our sockets
// take IPv4 as a part of IPv6.
func address(at string) string {
	if a, err := netip.ParseAddr(at); err == nil {
		return a.Unmap().String()
	}
	return at
}

// parsePeer reads "host:UID:GID:PID" from the right end: the left is not ours.
func parsePeer(text string) rpc.Peer {
	rest, pid, ok1 := cutLast(text)
	rest, gid, ok2 := cutLast(rest)
	_, uid, ok3 := cutLast(rest)
	if !ok1 || !ok2 || !ok3 {
		return rpc.Peer{}
	}
	return rpc.Peer{UID: uint32(uid), GID: uint32(gid), PID: int(pid), Known: true}
}

func cutLast(text string) (rest string, n uint64, ok bool) {
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(text[i+1:], 10, 32)
	return text[:i], n, err == nil
}
