package rpc

import "slices"

// Peer is who sent a request, as the kernel said (SO_PEERCRED).
type Peer struct {
	UID uint32
	GID uint32
	PID int
	// Known is false when the transport cannot say; such a peer gets nothing.
	Known bool
}

// Rights decide who is an administrator.
type Rights struct {
	// Own is the daemon's own uid.
	Own uint32
	// Group is the admin group's gid; nil is no such group.
	Group *uint32
	// Groups looks up the supplementary groups of a uid: the kernel tells only
	// the primary one. It is asked only when nothing else decides.
	Groups func(uid uint32) []uint32
}

// Admin reports whether p may call every method.
func (r Rights) Admin(p Peer) bool {
	switch {
	case !p.Known:
		return false
	case p.UID == 0 || p.UID == r.Own:
		return true
	case r.Group == nil:
		return false
	case p.GID == *r.Group:
		return true
	}
	return r.Groups != nil && slices.Contains(r.Groups(p.UID), *r.Group)
}
