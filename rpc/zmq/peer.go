package zmq

import (
	"strconv"
	"strings"

	"github.com/procnanny/procnanny/rpc"
)

// peerAddress is the metadata that libzmq fills in from SO_PEERCRED (ipc) or
// getpeername (tcp). A peer cannot forge it.
const peerAddress = "Peer-Address"

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
