package rpc

import (
	"cmp"
	"fmt"
	"slices"
)

// Peer is who sent a request: as the kernel said (SO_PEERCRED), or by the key
// that it proved to have.
type Peer struct {
	UID uint32
	GID uint32
	PID int
	// Known is false when the transport cannot say; such a peer gets nothing.
	Known bool
	// Key is the public key of a peer of CURVE, whose uid is then nobody's.
	// Name is what the list of allowed keys calls it, Role what it may; none is
	// that it is not allowed, or no longer.
	Key, Name string
	Role      Access
	// Address is where it connects from, when that is over a network.
	Address string
}

// NoID is the uid and gid of a peer that is known by its key: nobody's.
const NoID = ^uint32(0)

// String is who it is, in words.
func (p Peer) String() string {
	switch {
	case !p.Known:
		return "somebody unknown"
	case p.Key != "":
		return "the key of " + cmp.Or(p.Name, p.Key)
	}
	return fmt.Sprintf("uid %d", p.UID)
}

// Refusal is an act that was refused for want of rights: what the security
// events tell.
type Refusal struct {
	Peer Peer
	// Act is what was tried: one of the Act constants. Method is set for
	// ActMethod, Endpoint for ActConnect.
	Act, Method, Endpoint string
	Why                   string
}

// The acts that can be refused.
const (
	ActMethod  = "method"  // a request for a method, or with an argument, beyond its rights
	ActRequest = "request" // any request: nobody knows whose it is
	ActConnect = "connect" // a connection: no key, a wrong one, or not the protocol
	ActAllow   = "allow"   // a line, or all, of the list of allowed keys
)

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

// Read reports whether p may ask at all.
func (r Rights) Read(p Peer) bool {
	return p.Known && (p.Key == "" || p.Role == AccessRead || p.Role == AccessAdmin)
}

// Admin reports whether p may call every method.
func (r Rights) Admin(p Peer) bool {
	switch {
	case !p.Known:
		return false
	case p.Key != "":
		return p.Role == AccessAdmin
	case p.UID == 0 || p.UID == r.Own:
		return true
	case r.Group == nil:
		return false
	case p.GID == *r.Group:
		return true
	}
	return r.Groups != nil && slices.Contains(r.Groups(p.UID), *r.Group)
}
