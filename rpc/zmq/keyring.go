package zmq

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc"
)

// Keys says where the keys of TCP endpoints are.
type Keys struct {
	// Server is the file of the server's pair, Allow the list of allowed keys;
	// without that file nobody is.
	Server, Allow string
	// Trust says why a file cannot be trusted; nil trusts every one.
	Trust func(path string) error
}

// settle is how long a list must have been left alone before it replaces the
// one before: an editor may be in the middle of writing it.
const settle = 100 * time.Millisecond

// keyring is the server's key and who may connect. It belongs to the loop.
type keyring struct {
	keys   Keys
	server KeyPair
	list   map[string]allowed
	stamp  stamp
	// fresh: the list was changed a moment ago, and is not read yet.
	fresh bool
	// problem is why nothing is read from the list, when that is so.
	problem string
	log     func(list map[string]allowed, problems []string)
}

// stamp tells one state of a file from another.
type stamp struct {
	ino          uint64
	size         int64
	mtime, ctime unix.Timespec
}

// Check says why endpoints with keys cannot be served.
func (k Keys) Check() error {
	_, err := k.pair()
	return err
}

// pair is the server's own.
func (k Keys) pair() (KeyPair, error) {
	if k.Server == "" {
		return KeyPair{}, errors.New("it needs keys, and none are set up: procnanny keygen server")
	}
	if !HasCurve() {
		return KeyPair{}, errors.New("this libzmq was built without CURVE")
	}
	pair, err := ReadKeyPair(k.Server)
	if errors.Is(err, fs.ErrNotExist) {
		return pair, fmt.Errorf("there is no key %s: procnanny keygen server", k.Server)
	}
	if err == nil && k.Trust != nil {
		err = k.Trust(k.Server)
	}
	return pair, err
}

func newKeyring(k Keys, log func(map[string]allowed, []string)) (*keyring, error) {
	pair, err := k.pair()
	if err != nil {
		return nil, err
	}
	r := &keyring{keys: k, server: pair, log: log}
	r.stamp, r.problem = stampOf(k.Allow)
	r.read()
	return r, nil
}

// stampOf looks at a file; a missing one is the zero stamp.
func stampOf(path string) (s stamp, problem string) {
	var st unix.Stat_t
	switch err := unix.Stat(path, &st); {
	case errors.Is(err, unix.ENOENT):
		return s, ""
	case err != nil:
		return s, fmt.Sprintf("cannot read %s: %v", path, err)
	}
	return stamp{st.Ino, st.Size, st.Mtim, st.Ctim}, ""
}

// look reads the list again when it was changed, and reports whether a key is
// allowed less than before.
func (r *keyring) look(now time.Time) (less bool) {
	s, problem := stampOf(r.keys.Allow)
	if s == r.stamp && problem == r.problem {
		r.fresh = false
		return false
	}
	age := now.Sub(time.Unix(s.ctime.Unix()))
	if r.fresh = age >= 0 && age < settle; r.fresh {
		return false
	}
	before := r.list
	r.stamp, r.problem = s, problem
	r.read()
	for key, was := range before {
		if is, ok := r.list[key]; !ok || is.role != was.role && is.role == rpc.AccessRead {
			less = true
		}
	}
	return less
}

// read takes the list as it is. One that cannot be read or trusted allows
// nobody.
func (r *keyring) read() {
	var problems []string
	raw, _, err := readRegular(r.keys.Allow, maxAllowFile)
	if err == nil && r.keys.Trust != nil {
		err = r.keys.Trust(r.keys.Allow)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.list, problems = map[string]allowed{}, []string{"there is no " + r.keys.Allow}
	case err != nil:
		r.list, problems = map[string]allowed{}, []string{fmt.Sprintf("cannot use %s: %v", r.keys.Allow, err)}
	default:
		r.list, problems = parseAllow(string(raw))
		for i, p := range problems {
			problems[i] = r.keys.Allow + ": " + p
		}
	}
	r.log(r.list, problems)
}

// peer is who a message is from, by the key that ZAP let in. One that is not
// allowed any more has no role.
func (r *keyring) peer(meta map[string]string) rpc.Peer {
	key := meta[userID]
	if key == "" {
		return rpc.Peer{}
	}
	a := r.list[key]
	return rpc.Peer{UID: rpc.NoID, GID: rpc.NoID, Known: true, Key: key, Name: a.name, Role: a.role, Address: address(meta[peerAddress])}
}
