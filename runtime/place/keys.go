package place

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Names of what TCP endpoints need.
const (
	keysDir     = "keys" // in the state directory, unless --keys says another
	serverKey   = "server.key"
	serverPub   = "server.pub"
	allowedKeys = "clients"
)

// ServerKey is the file of the daemon's own key pair.
func (d *Daemon) ServerKey() string { return filepath.Join(d.Keys, serverKey) }

// ServerPublic is the file of its public half, to give away.
func (d *Daemon) ServerPublic() string { return filepath.Join(d.Keys, serverPub) }

// AllowedKeys is the list of who may connect.
func (d *Daemon) AllowedKeys() string { return filepath.Join(d.Keys, allowedKeys) }

// KeysDir is where the keys of uid's daemon are: what was said, else what the
// variables say, else beside its state.
func KeysDir(said, state string, uid int, getenv func(string) string) (string, error) {
	for _, dir := range []string{said, keysIn(state), getenv(variable("keys")), keysIn(getenv(variable("state"))), keysIn(Defaults(uid, getenv).State)} {
		if dir != "" {
			return filepath.Abs(dir)
		}
	}
	return "", errors.New("cannot find a default for --keys: HOME is not set")
}

func keysIn(state string) string {
	if state == "" {
		return ""
	}
	return filepath.Join(state, keysDir)
}

// PrepareKeys makes the directory of keys, which only its owner can enter.
func PrepareKeys(dir string) error {
	if err := (dirPlan{"keys", dir, 0o700, -1}).make(nil); err != nil {
		return fmt.Errorf("cannot use --keys %s: %w", dir, err)
	}
	return nil
}

// CheckKeys says why an endpoint cannot be served for want of keys: none were
// made, or others can reach them.
func (d *Daemon) CheckKeys() error {
	for _, list := range d.endpoints() {
		for _, endpoint := range list.endpoints {
			if !d.NeedsKeys(endpoint) {
				continue
			}
			if err := d.checkKeys(endpoint); err != nil {
				return fmt.Errorf("cannot use --%s %s: %w", list.flag, endpoint, err)
			}
		}
	}
	return nil
}

func (d *Daemon) checkKeys(endpoint string) error {
	info, err := os.Lstat(d.ServerKey())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		text := "tcp does not say who connects, so it needs keys, and there is no " + d.ServerKey() + ": make them with: procnanny keygen server"
		if address := endpoint[len("tcp://"):]; loopback(address) {
			text += "; or accept with --insecure-loopback that every local user can do everything"
		}
		return errors.New(text)
	case err != nil:
		return err
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("others can reach %s (mode %04o): chmod 600 it", d.ServerKey(), info.Mode().Perm())
	}
	if err := d.CheckKeyFile(d.ServerKey()); err != nil {
		return err
	}
	if err := d.CheckKeyFile(d.AllowedKeys()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// CheckKeyFile says why a file of keys cannot be trusted: somebody else than
// root and us can write it, or, for root, its place.
func (d *Daemon) CheckKeyFile(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	w := walk{wanted: path, trusted: d.TrustConfig}
	if err := w.judgeInfo(path, info, true); err != nil {
		return err
	}
	if privileged() {
		return CheckTrust(path, d.TrustConfig)
	}
	return nil
}
