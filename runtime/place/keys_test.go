package place

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhichEndpointsNeedKeys(t *testing.T) {
	for endpoint, insecure := range map[string][2]bool{ // without and with --insecure-loopback
		"ipc:///a": {false, false}, "tcp://127.0.0.1:1": {true, false}, "tcp://[::1]:1": {true, false}, "tcp://localhost:1": {true, false},
		"tcp://0.0.0.0:1": {true, true}, "tcp://*:1": {true, true}, "tcp://192.0.2.1:1": {true, true}, "tcp://[::]:1": {true, true},
	} {
		for i, flag := range []bool{false, true} {
			d := Daemon{InsecureLoopback: flag}
			if got := d.NeedsKeys(endpoint); got != insecure[i] {
				t.Errorf("%s, --insecure-loopback %t: %t", endpoint, flag, got)
			}
		}
	}
}

// TestKeysAreChecked: the modes and owners of what decides who may connect.
func TestKeysAreChecked(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	d := Daemon{Keys: filepath.Join(dir, "keys"), Listen: []string{"ipc:///a", "tcp://127.0.0.1:1"}}
	check := func(want string) {
		t.Helper()
		err := d.CheckKeys()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	check("cannot use --listen tcp://127.0.0.1:1: tcp does not say who connects, so it needs keys, and there is no " + d.ServerKey() +
		": make them with: procnanny keygen server; or accept with --insecure-loopback")
	d.Listen[1] = "tcp://*:1"
	if err := d.CheckKeys(); err == nil || strings.Contains(err.Error(), "insecure") {
		t.Errorf("beyond loopback there is no other way: %v", err)
	}
	if err := PrepareKeys(d.Keys); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(d.Keys); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v %v", info.Mode(), err)
	}
	for path, mode := range map[string]os.FileMode{d.ServerKey(): 0o600, d.AllowedKeys(): 0o644} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	check("")
	for _, c := range []struct {
		path string
		mode os.FileMode
		want string
	}{
		{d.ServerKey(), 0o640, "others can reach"},
		{d.ServerKey(), 0o604, "others can reach"},
		{d.ServerKey(), 0o600, ""},
		{d.AllowedKeys(), 0o646, "everybody can write it"},
		{d.AllowedKeys(), 0o644, ""},
	} {
		if err := os.Chmod(c.path, c.mode); err != nil {
			t.Fatal(err)
		}
		check(c.want)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(d.AllowedKeys(), 12345, 0); err != nil {
			t.Fatal(err)
		}
		check("owned by uid 12345")
	}
	if err := os.Remove(d.AllowedKeys()); err != nil {
		t.Fatal(err)
	}
	check("") // nobody may connect yet
	d.Listen[1] = "ipc:///b"
	if err := os.RemoveAll(d.Keys); err != nil {
		t.Fatal(err)
	}
	check("")
}

func TestKeysDir(t *testing.T) {
	for _, c := range []struct {
		said, state string
		vars        []string
		want        string
	}{
		{"/k", "/s", nil, "/k"},
		{"", "/s", []string{"PROCNANNY_KEYS", "/e"}, "/s/keys"},
		{"", "", []string{"PROCNANNY_KEYS", "/e", "PROCNANNY_STATE", "/t"}, "/e"},
		{"", "", []string{"PROCNANNY_STATE", "/t"}, "/t/keys"},
		{"", "", nil, "/var/lib/procnanny/keys"},
	} {
		if got, err := KeysDir(c.said, c.state, 0, env(c.vars...)); err != nil || got != c.want {
			t.Errorf("%+v: %s, %v", c, got, err)
		}
	}
}

func TestClientKeys(t *testing.T) {
	for _, c := range []struct {
		client      Client
		endpoint    string
		vars        []string
		key, server string
		bad         bool
	}{
		{Client{}, "tcp://127.0.0.1:1", nil, "", "", false},
		{Client{Key: "k", ServerKey: "s"}, "tcp://127.0.0.1:1", []string{"PROCNANNY_KEY", "x"}, "k", "s", false},
		{Client{Key: "k"}, "tcp://127.0.0.1:1", []string{"PROCNANNY_SERVER_KEY", "v"}, "k", "v", false},
		{Client{Key: "k"}, "tcp://127.0.0.1:1", nil, "", "", true},
		{Client{ServerKey: "s"}, "tcp://127.0.0.1:1", nil, "", "", true},
		{Client{}, "ipc:///a", []string{"PROCNANNY_KEY", "x"}, "", "", false}, // an ipc socket knows us anyway
	} {
		key, server, err := ClientKeys(c.client, c.endpoint, env(c.vars...))
		if key != c.key || server != c.server || (err != nil) != c.bad {
			t.Errorf("%+v: %q %q %v", c, key, server, err)
		}
	}
}
