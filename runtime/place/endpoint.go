package place

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// The sockets in the run directory.
const (
	rpcSocket    = "rpc.sock"
	eventsSocket = "events.sock"
)

// maxSocketPath is how long the path of a Unix socket can be: sun_path has 108
// bytes, one of them for the end.
const maxSocketPath = 107

// flagged are the endpoints that a flag names.
type flagged struct {
	flag      string
	endpoints []string
}

func (d *Daemon) endpoints() []flagged {
	return []flagged{{"listen", d.Listen}, {"events", d.Events}, {"legacy-events", d.LegacyEvents}}
}

// parseEndpoint checks one endpoint and makes its path absolute.
func parseEndpoint(text string) (string, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	switch {
	case !ok || rest == "":
		return "", errors.New("expected ipc://PATH or tcp://ADDRESS:PORT")
	case scheme == "ipc":
		return socketEndpoint(rest)
	case scheme == "tcp":
		_, err := splitTCP(rest)
		return text, err
	}
	return "", fmt.Errorf("expected ipc://PATH or tcp://ADDRESS:PORT, found %s://", scheme)
}

func socketEndpoint(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if len(abs) > maxSocketPath {
		return "", fmt.Errorf("the path of a socket has at most %d bytes, this one has %d: choose a shorter --run", maxSocketPath, len(abs))
	}
	return "ipc://" + abs, nil
}

// splitTCP takes the host from ADDRESS:PORT. A name is no address: whose it is
// may change.
func splitTCP(address string) (host string, err error) {
	port := ""
	if i := strings.LastIndexByte(address, ':'); i >= 0 {
		host, port = address[:i], address[i+1:]
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil && port != "*" {
		return "", fmt.Errorf("expected a port from 0 to 65535, found %q", port)
	}
	if host == "*" || host == "localhost" {
		return host, nil
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil {
		return "", fmt.Errorf("expected an address such as 127.0.0.1 or [::1], or * for all, found %q", host)
	}
	return host, nil
}

// NeedsKeys reports whether an endpoint is served to those with a key only: tcp,
// unless it is a loopback address and the user said so.
func (d *Daemon) NeedsKeys(endpoint string) bool {
	address, ok := strings.CutPrefix(endpoint, "tcp://")
	return ok && !(d.InsecureLoopback && loopback(address))
}

func loopback(address string) bool {
	host, err := splitTCP(address)
	ip, perr := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && (host == "localhost" || perr == nil && ip.IsLoopback())
}

// Client is how a client was told to find its daemon.
type Client struct {
	// Run is the daemon's run directory, Connect an endpoint; both may be empty.
	Run, Connect string
	// Events is where events are published; empty is where ClientEvents thinks.
	Events string
	// Key is the file of the client's key pair, ServerKey the daemon's public
	// key or a file with it: both or none, for endpoints that need keys.
	Key, ServerKey string
}

// ClientKeys are the files of the keys to use for an endpoint: what the flags
// say, or else PROCNANNY_KEY and PROCNANNY_SERVER_KEY. Both are empty when none
// are wanted, as for a socket of this machine.
func ClientKeys(c Client, endpoint string, getenv func(string) string) (key, serverKey string, err error) {
	if !strings.HasPrefix(endpoint, "tcp://") {
		return "", "", nil
	}
	key, serverKey = cmp.Or(c.Key, getenv("PROCNANNY_KEY")), cmp.Or(c.ServerKey, getenv("PROCNANNY_SERVER_KEY"))
	if (key == "") != (serverKey == "") {
		return "", "", errors.New("--key FILE and --server-key KEY belong together: our own key, and the one that the daemon must have")
	}
	return key, serverKey, nil
}

// ClientEndpoint is where a client finds its daemon: --connect, --run, then
// PROCNANNY_CONNECT, then where a daemon with the same variables listens.
func ClientEndpoint(c Client, uid int, getenv func(string) string) (string, error) {
	connect, run := c.Connect, c.Run
	if connect == "" && run == "" {
		connect = cmp.Or(getenv("PROCNANNY_CONNECT"), nearest(getenv("PROCNANNY_LISTEN"), "ipc"))
		run = getenv("PROCNANNY_RUN")
	}
	if connect != "" {
		return clientEndpoint(connect)
	}
	if run == "" {
		run = Defaults(uid, getenv).Run
		if err := checkFallback(run, uid); err != nil {
			return "", err
		}
	}
	return socketEndpoint(filepath.Join(run, rpcSocket))
}

func clientEndpoint(text string) (string, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || rest == "" || scheme != "ipc" && scheme != "tcp" {
		return "", fmt.Errorf("cannot connect to %q: expected ipc://PATH or tcp://ADDRESS:PORT", text)
	}
	if scheme == "ipc" {
		return socketEndpoint(rest)
	}
	port := rest[strings.LastIndexByte(rest, ':')+1:]
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port == rest {
		return "", fmt.Errorf("cannot connect to %q: expected a port from 1 to 65535, found %q", text, strings.TrimPrefix(port, rest))
	}
	return text, nil // the host may be a name: whose it is, keys tell
}

// nearest is the endpoint of a variable's list that a client is best off with:
// the first of a transport, or else the first.
func nearest(list, scheme string) string {
	all := strings.Split(list, ",")
	for _, e := range all {
		if strings.HasPrefix(e, scheme+"://") {
			return e
		}
	}
	return all[0]
}

// ClientEvents is where the daemon that answers at endpoint publishes events:
// what was said, else what PROCNANNY_EVENTS says, else beside its socket. A
// variable is not about a daemon that a flag names, unless nothing else is
// known. Empty is not known.
func ClientEvents(c Client, endpoint string, getenv func(string) string) string {
	if c.Events != "" {
		return c.Events
	}
	scheme, _, _ := strings.Cut(endpoint, "://")
	said := nearest(getenv("PROCNANNY_EVENTS"), scheme)
	if said != "" && c.Run == "" && c.Connect == "" {
		return said
	}
	if dir, ok := strings.CutSuffix(endpoint, "/"+rpcSocket); ok && scheme == "ipc" {
		return dir + "/" + eventsSocket
	}
	return said
}

// checkFallback keeps a client from a run directory in /tmp that somebody else
// made in its place.
func checkFallback(run string, uid int) error {
	if run != fallbackRun(uid) {
		return nil
	}
	info, err := os.Lstat(run)
	if err != nil {
		return nil // there is no daemon; the connect says so
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(st.Uid) != uid {
		return fmt.Errorf("cannot use %s: it is not a directory of uid %d; remove it, or set XDG_RUNTIME_DIR", run, uid)
	}
	return nil
}
