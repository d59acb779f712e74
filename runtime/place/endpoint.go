package place

import (
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

// endpoint checks one endpoint and makes its path absolute.
func (d *Daemon) endpoint(text string) (string, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	switch {
	case !ok || rest == "":
		return "", errors.New("expected ipc://PATH or tcp://ADDRESS:PORT")
	case scheme == "ipc":
		return socketEndpoint(rest)
	case scheme == "tcp":
		return text, d.loopback(rest)
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

// loopback allows a tcp endpoint only where the user said so, and only on this
// machine's own addresses.
func (d *Daemon) loopback(address string) error {
	if !d.InsecureLoopback {
		return errors.New("tcp cannot tell who asks; --insecure-loopback allows it on loopback addresses, where every local user can then do everything")
	}
	host, port := address, ""
	if i := strings.LastIndexByte(address, ':'); i >= 0 {
		host, port = address[:i], address[i+1:]
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil && port != "*" {
		return fmt.Errorf("expected a port from 0 to 65535, found %q", port)
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return fmt.Errorf("expected a loopback address such as 127.0.0.1, found %q", host)
	}
	return nil
}

// Client is how a client was told to find its daemon.
type Client struct {
	// Run is the daemon's run directory, Connect an endpoint; both may be empty.
	Run, Connect string
}

// ClientEndpoint is where a client finds its daemon: --connect, --run, then
// the variables of the same names, then PROCNANNY_LISTEN, then the default.
func ClientEndpoint(c Client, uid int, getenv func(string) string) (string, error) {
	connect, run := c.Connect, c.Run
	if connect == "" && run == "" {
		connect, run = getenv("PROCNANNY_CONNECT"), getenv("PROCNANNY_RUN")
	}
	if connect == "" && run == "" {
		connect, _, _ = strings.Cut(getenv("PROCNANNY_LISTEN"), ",")
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
	return text, nil
}

// ClientEvents is where the daemon that answers at endpoint publishes events:
// beside its socket, else what PROCNANNY_EVENTS says. Empty is not known.
func ClientEvents(endpoint string, getenv func(string) string) string {
	if dir, ok := strings.CutSuffix(endpoint, "/"+rpcSocket); ok && strings.HasPrefix(dir, "ipc://") {
		return dir + "/" + eventsSocket
	}
	first, _, _ := strings.Cut(getenv("PROCNANNY_EVENTS"), ",")
	return first
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
