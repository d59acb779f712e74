package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/rpc/zmq"
	"github.com/procnanny/procnanny/runtime/place"
)

// keys are those to use for an endpoint; nil is none.
func (a *app) keys(endpoint string) (*zmq.ClientKeys, error) {
	file, server, err := place.ClientKeys(a.place, endpoint, a.getenv)
	if err != nil || file == "" {
		return nil, err
	}
	own, err := zmq.ReadKeyPair(file)
	if err != nil {
		return nil, err
	}
	public, err := zmq.PublicKey(server)
	if err != nil {
		return nil, err
	}
	return &zmq.ClientKeys{Own: own, Server: public}, nil
}

// keyMaker makes keys. It prints public halves only: a secret goes into a file
// of its own and nowhere else.
type keyMaker struct {
	app              *app
	dir, state       string
	role, name, file string
}

func (a *app) keygenCommand() *cobra.Command {
	k := &keyMaker{app: a}
	cmd := &cobra.Command{
		Use: "keygen", Short: "Make the keys that TCP endpoints need",
		Long: `Make the keys that TCP endpoints need. It needs no daemon, prints no secret and
never replaces a file.

  procnanny keygen server                          once, where procnannyd runs, as its user
  procnanny keygen client FILE --name NAME         for each client, where it is used
  procnanny keygen allow KEY --name NAME --role R  where procnannyd runs: let it in

Then procnannyd is started with --listen tcp://ADDRESS:PORT and --events
tcp://ADDRESS:PORT, and the client with --connect, --events, --key FILE and
--server-key KEY.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(k.serverCommand(), k.clientCommand(), k.allowCommand())
	return cmd
}

func (k *keyMaker) serverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "server", Short: "Make the daemon's own key, and an empty list of allowed keys", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return k.server() },
	}
	k.dirFlags(cmd)
	return cmd
}

func (k *keyMaker) clientCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "client FILE", Short: "Make a key for a client: FILE with the secret, FILE.pub without", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { k.file = args[0]; return k.client() },
	}
	k.whoFlags(cmd)
	return cmd
}

func (k *keyMaker) allowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "allow KEY", Short: "Let a client's public KEY in: the key itself, or a file with it", Args: cobra.ExactArgs(1),
		Long: `Add a client's public key to the list of allowed keys, a text file with a line
for each: ROLE PUBLIC-KEY NAME. To take a key away, or to change its role, edit
that file. A running daemon follows at once.`,
		RunE: func(_ *cobra.Command, args []string) error { return k.allowKey(args[0]) },
	}
	k.whoFlags(cmd)
	k.dirFlags(cmd)
	return cmd
}

func (k *keyMaker) whoFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&k.name, "name", "", "whose key it is, a `NAME` for the log and for status (default USER@HOST)")
	cmd.Flags().StringVar(&k.role, "role", string(rpc.AccessRead), "what it may do, a `ROLE`: read, or admin")
	register(cmd, "role", cobra.FixedCompletions([]string{string(rpc.AccessRead), string(rpc.AccessAdmin)}, cobra.ShellCompDirectiveNoFileComp))
}

func (k *keyMaker) dirFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&k.dir, "keys", "", "the daemon's `DIR` of keys (default $PROCNANNY_KEYS, or STATE/keys)")
	cmd.Flags().StringVar(&k.state, "state", "", "instead, the daemon's state `DIR` (default as for procnannyd)")
}

// places are the files of the daemon's keys.
func (k *keyMaker) places() (*place.Daemon, error) {
	if !zmq.HasCurve() {
		return nil, errors.New("cannot use keys: this libzmq was built without CURVE")
	}
	dir, err := place.KeysDir(k.dir, k.state, k.app.uid, k.app.getenv)
	return &place.Daemon{Keys: dir}, err
}

func (k *keyMaker) server() error {
	d, err := k.places()
	if err != nil {
		return err
	}
	if exists(d.ServerKey()) {
		return fmt.Errorf("cannot make %s: it is there already; clients know the daemon by it, so it is never replaced", d.ServerKey())
	}
	err = os.MkdirAll(filepath.Dir(filepath.Dir(d.Keys)), 0o755)
	if err == nil {
		err = os.Mkdir(filepath.Dir(d.Keys), 0o700)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot make the directory %s: %w", filepath.Dir(d.Keys), cause(err))
	}
	if err := place.PrepareKeys(d.Keys); err != nil {
		return err
	}
	pair, err := zmq.NewKeyPair()
	if err != nil {
		return err
	}
	if err := pair.WriteSecret(d.ServerKey(), ""); err != nil {
		return err
	}
	if err := os.Remove(d.ServerPublic()); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a key that is gone
		return err
	}
	if err := pair.WritePublic(d.ServerPublic(), ""); err != nil {
		return err
	}
	if err := zmq.NewAllowed(d.AllowedKeys()); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return k.app.emit(map[string]any{"public_key": pair.Public, "keys": d.Keys}, func() error {
		k.app.put("the daemon's public key: " + pair.Public)
		k.app.put(safe("it is in " + d.ServerPublic() + " as well, for --server-key of clients"))
		return k.app.say("who may connect stands in %s: procnanny keygen allow", d.AllowedKeys())
	})
}

func (k *keyMaker) client() error {
	name := k.owner()
	pair, err := zmq.NewKeyPair()
	if err != nil {
		return err
	}
	line, err := zmq.AllowLine(rpc.Access(k.role), pair.Public, name)
	if err != nil {
		return err
	}
	public := k.file + ".pub"
	if exists(public) {
		return fmt.Errorf("cannot make %s: it is there already", public)
	}
	if err := pair.WriteSecret(k.file, name); err != nil {
		return err
	}
	if err := pair.WritePublic(public, name); err != nil {
		return err
	}
	return k.app.emit(map[string]any{"public_key": pair.Public, "file": k.file, "name": name, "line": line}, func() error {
		k.app.put("the public key: " + pair.Public)
		k.app.put("where procnannyd runs, let it in:")
		k.app.put("  procnanny keygen allow --name " + place.Quote(name) + " --role " + k.role + " -- " + place.Quote(pair.Public))
		return nil
	})
}

func (k *keyMaker) allowKey(text string) error {
	d, err := k.places()
	if err != nil {
		return err
	}
	key, err := zmq.PublicKey(text)
	if err != nil {
		return err
	}
	line, err := zmq.AllowLine(rpc.Access(k.role), key, k.owner())
	if err != nil {
		return err
	}
	if !exists(d.Keys) {
		return fmt.Errorf("cannot allow a key: there is no %s; make the daemon's own first: procnanny keygen server", d.Keys)
	}
	if err := zmq.NewAllowed(d.AllowedKeys()); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := d.CheckKeyFile(d.AllowedKeys()); err != nil {
		return err
	}
	if err := addLine(d.AllowedKeys(), key, line); err != nil {
		return fmt.Errorf("cannot allow a key in %s: %w", d.AllowedKeys(), err)
	}
	return k.app.emit(map[string]any{"allowed": key, "role": k.role, "name": k.owner()}, func() error {
		return k.app.say("%s may connect, as %s", k.owner(), k.role)
	})
}

// addLine appends a line in one write, unless the key is there.
func addLine(path, key, line string) error {
	list, err := zmq.ReadAllowed(path)
	if err != nil {
		return err
	}
	if role, ok := list[key]; ok {
		return fmt.Errorf("the key is there already, as %s: edit the file to change that", role)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	if end, err := f.Seek(-1, io.SeekEnd); err == nil {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, end); err == nil && last[0] != '\n' {
			line = "\n" + line
		}
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Sync(), f.Close())
}

// owner is whose key it is.
func (k *keyMaker) owner() string {
	if k.name != "" {
		return k.name
	}
	name := "?"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}
