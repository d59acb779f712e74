package zmq

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/procnanny/procnanny/rpc"
)

// keyDir is a directory of keys as a daemon has one.
type keyDir struct {
	t      testing.TB
	dir    string
	server KeyPair
}

func newKeyDir(t testing.TB) *keyDir {
	t.Helper()
	if !HasCurve() {
		t.Skip("this libzmq was built without CURVE")
	}
	k := &keyDir{t: t, dir: t.TempDir(), server: newKey(t)}
	if err := k.server.WriteSecret(k.keys().Server, ""); err != nil {
		t.Fatal(err)
	}
	k.allow("")
	return k
}

func newKey(t testing.TB) KeyPair {
	t.Helper()
	k, err := NewKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *keyDir) keys() Keys {
	return Keys{Server: filepath.Join(k.dir, "server.key"), Allow: filepath.Join(k.dir, "clients")}
}

// allow writes the list as an editor does, so that it counts at once.
func (k *keyDir) allow(text string) {
	k.t.Helper()
	tmp := filepath.Join(k.dir, "new")
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
	if err := os.Rename(tmp, k.keys().Allow); err != nil {
		k.t.Fatal(err)
	}
}

func (k *keyDir) line(role rpc.Access, key KeyPair, name string) string {
	k.t.Helper()
	line, err := AllowLine(role, key.Public, name)
	if err != nil {
		k.t.Fatal(err)
	}
	return line
}

func (k *keyDir) as(own KeyPair) *ClientKeys { return &ClientKeys{Own: own, Server: k.server.Public} }

// refusals collects what a server refuses.
type refusals struct {
	mu   sync.Mutex
	list []rpc.Refusal
}

func (r *refusals) add(x rpc.Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, x)
}

func (r *refusals) have(fits func(rpc.Refusal) bool) func() bool {
	return func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return slices.ContainsFunc(r.list, fits)
	}
}

func (r *refusals) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%+v", r.list)
}

// listenTelling is listen with a record of refusals.
func listenTelling(t testing.TB, c Config, rights rpc.Rights) (*Server, *refusals) {
	t.Helper()
	r := &refusals{}
	s, err := Listen(c, rpc.NewServer(rpc.Options{Backend: &fakeBackend{view: programs(1)}, Access: rights, OnRefusal: r.add}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, r
}

// ask calls a method once and says its code; empty is that it was carried out.
func ask(t testing.TB, endpoint string, keys *ClientKeys, method string, patience time.Duration) (code rpc.Code, err error) {
	t.Helper()
	c, err := DialKeys(endpoint, patience, keys)
	if err != nil {
		return "", err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = c.Call(ctx, method, nil, nil)
	if refused, ok := errors.AsType[*rpc.Error](err); ok {
		return refused.Code, nil
	}
	return "", err
}

const long = 30 * time.Second

func TestKeysAndRoles(t *testing.T) {
	k := newKeyDir(t)
	admin, reader, stranger := newKey(t), newKey(t), newKey(t)
	k.allow(k.line("admin", admin, "alice") + "# a comment\n\n" + k.line("read", reader, "the dashboard"))
	s, refused := listenTelling(t, Config{RPC: []string{"tcp://127.0.0.1:*"}, Keys: k.keys()}, rpc.Rights{Own: ownUID})
	at := s.Endpoints()[0]

	for _, c := range []struct {
		key    KeyPair
		method string
		code   rpc.Code
	}{{admin, "dance", ""}, {reader, "dance", ""}, {reader, "shutdown", rpc.CodeForbidden}, {admin, "shutdown", rpc.CodeInternal}} {
		if code, err := ask(t, at, k.as(c.key), c.method, long); err != nil || code != c.code { // internal: the fake backend has none
			t.Errorf("%s: %q, %v, want %q", c.method, code, err, c.code)
		}
	}
	if !refused.have(func(r rpc.Refusal) bool {
		return r.Act == rpc.ActMethod && r.Method == "shutdown" && r.Peer.Name == "the dashboard" && r.Peer.Key == reader.Public && r.Peer.Address == "127.0.0.1"
	})() {
		t.Errorf("the refused method is not told: %v", refused)
	}

	if _, err := ask(t, at, k.as(stranger), "dance", long); err == nil || !strings.Contains(err.Error(), "does not allow the key "+stranger.Public) {
		t.Errorf("a key that is not in the list: %v", err)
	}
	waitUntil(t, "the refused key is told", refused.have(func(r rpc.Refusal) bool {
		return r.Act == rpc.ActConnect && r.Peer.Key == stranger.Public && r.Peer.Address == "127.0.0.1"
	}))
	other := &ClientKeys{Own: admin, Server: stranger.Public}
	if _, err := ask(t, at, other, "dance", 3*time.Second); err == nil || !strings.Contains(err.Error(), "the daemon's public key") {
		t.Errorf("a wrong key of the server: %v", err)
	}
	if _, err := ask(t, at, nil, "dance", 3*time.Second); err == nil || !strings.Contains(err.Error(), "--key") {
		t.Errorf("no key: %v", err)
	}
	waitUntil(t, "what spoke no CURVE is told", refused.have(func(r rpc.Refusal) bool {
		return r.Act == rpc.ActConnect && r.Peer.Key == "" && r.Peer.Address == "127.0.0.1" && r.Endpoint == at
	}))
}

// TestListIsReadAgain: a key that is added may connect, one whose role is less
// may do less, and one that is gone may do nothing, on the connection it has.
func TestListIsReadAgain(t *testing.T) {
	k := newKeyDir(t)
	key, other := newKey(t), newKey(t)
	s, refused := listenTelling(t, Config{RPC: []string{"tcp://127.0.0.1:*"}, Keys: k.keys()}, rpc.Rights{Own: ownUID})
	at := s.Endpoints()[0]
	if _, err := ask(t, at, k.as(key), "dance", long); err == nil {
		t.Error("an empty list lets somebody in")
	}
	k.allow(k.line("admin", key, "alice"))
	c, err := DialKeys(at, long, k.as(key)) // the list is new: it is told to try again
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	code := func() rpc.Code {
		var e *rpc.Error
		if err := c.Call(context.Background(), "shutdown", nil, nil); !errors.As(err, &e) {
			t.Fatalf("got %v, want a refusal", err)
		}
		return e.Code
	}
	if got := code(); got != rpc.CodeInternal {
		t.Errorf("as admin: %s", got)
	}
	k.allow(k.line("read", key, "alice"))
	waitUntil(t, "the role is less", func() bool { return code() == rpc.CodeForbidden })
	if err := c.Call(context.Background(), "dance", nil, nil); err != nil {
		t.Errorf("as reader: %v", err)
	}
	k.allow(k.line("read", other, "bob") + "root nonsense\nread too-short x\n")
	waitUntil(t, "the key is gone", func() bool {
		e, ok := errors.AsType[*rpc.Error](c.Call(context.Background(), "dance", nil, nil))
		return ok && e.Code == rpc.CodeForbidden
	})
	for _, bad := range []string{"line 2: expected the role", "line 3: after the role"} {
		if !refused.have(func(r rpc.Refusal) bool { return r.Act == rpc.ActAllow && strings.Contains(r.Why, bad) })() {
			t.Errorf("%q is not told: %v", bad, refused)
		}
	}
	if _, err := ask(t, at, k.as(other), "dance", long); err != nil {
		t.Errorf("the good line beside bad ones: %v", err)
	}
	if err := os.Remove(k.keys().Allow); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, at, k.as(other), "dance", long); err == nil {
		t.Error("without a list somebody gets in")
	}
}

// TestEventsAreForAllowedKeys: and a subscriber whose key is taken away hears
// nothing more, while the others go on.
func TestEventsAreForAllowedKeys(t *testing.T) {
	k := newKeyDir(t)
	stays, goes, never := newKey(t), newKey(t), newKey(t)
	list := k.line("read", stays, "stays")
	k.allow(list + k.line("admin", goes, "goes"))
	s, refused := listenTelling(t, Config{Events: []string{"tcp://127.0.0.1:*"}, Keys: k.keys()}, rpc.Rights{})
	subs := map[string]*Subscription{}
	for name, key := range map[string]KeyPair{"stays": stays, "goes": goes, "never": never} {
		sub, err := SubscribeKeys(s.Endpoints()[0], []string{name}, k.as(key))
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		subs[name] = sub
	}
	hears := func(name string, patience time.Duration) bool {
		deadline := time.Now().Add(patience)
		for time.Now().Before(deadline) { // it may be in the middle of connecting
			s.Publish([]rpc.Message{{Topic: name, Body: []byte("\x80")}})
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			_, _, err := subs[name].Next(ctx)
			cancel()
			if err == nil {
				return true
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				return false
			}
		}
		return false
	}
	if !hears("stays", long) || !hears("goes", long) {
		t.Fatal("allowed keys hear nothing")
	}
	waitUntil(t, "the third is refused", refused.have(func(r rpc.Refusal) bool { return r.Peer.Key == never.Public }))
	if hears("never", time.Second) {
		t.Error("a key that is not allowed hears events")
	}
	k.allow(list)
	waitUntil(t, "the key that is gone is refused", func() bool {
		s.Publish([]rpc.Message{{Topic: "x", Body: []byte("\x80")}, {Topic: "stays", Body: []byte("\x80")}}) // looking is done when there is something to tell
		return refused.have(func(r rpc.Refusal) bool { return r.Peer.Key == goes.Public })()
	})
	if hears("goes", time.Second) {
		t.Error("it still hears events")
	}
	if !hears("stays", long) {
		t.Error("the one that may hears nothing any more")
	}
}

func TestEndpointsWithoutKeys(t *testing.T) {
	k := newKeyDir(t)
	handler := rpc.NewServer(rpc.Options{Backend: &fakeBackend{view: programs(1)}})
	loose := k.keys()
	loose.Server = filepath.Join(k.dir, "loose.key")
	if err := os.WriteFile(loose.Server, []byte(k.server.text("")), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		keys Keys
		want string
	}{
		"none":          {Keys{}, "procnanny keygen server"},
		"not made yet":  {Keys{Server: filepath.Join(k.dir, "nope"), Allow: filepath.Join(k.dir, "clients")}, "procnanny keygen server"},
		"too open":      {loose, "others can reach it (mode 0644)"},
		"not ours":      {Keys{Server: k.keys().Server, Trust: func(string) error { return errors.New("cannot trust it") }}, "cannot trust it"},
		"no secret key": {Keys{Server: k.keys().Allow}, "no secret key"},
	} {
		for _, config := range []Config{{RPC: []string{"tcp://127.0.0.1:*"}}, {Events: []string{"tcp://*:*"}}, {LegacyEvents: []string{"tcp://[::1]:*"}}, {RPC: []string{"tcp://0.0.0.0:*"}, InsecureLoopback: true}} {
			config.Keys = c.keys
			s, err := Listen(config, handler)
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), k.server.Secret) {
				t.Errorf("%s: %v, want an error with %q", name, err, c.want)
			}
		}
	}
}
