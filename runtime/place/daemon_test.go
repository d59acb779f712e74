package place

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// env is a getenv of a map; HOME is always there.
func env(kv ...string) func(string) string {
	m := map[string]string{"HOME": "/home/mu"}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return func(k string) string { return m[k] }
}

func parse(t *testing.T, getenv func(string) string, args ...string) Daemon {
	t.Helper()
	d, err := ParseDaemon("procnannyd", args, getenv, &strings.Builder{})
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return d
}

func TestDefaultsOfRootAndOfAUser(t *testing.T) {
	if got, want := Defaults(0, env()), (Dirs{"/etc/procnanny", "/var/lib/procnanny", "/run/procnanny", "/var/log/procnanny"}); got != want {
		t.Errorf("root: %v", got)
	}
	want := Dirs{"/home/mu/.config/procnanny", "/home/mu/.local/state/procnanny", "/tmp/procnanny-7", "/home/mu/.local/state/procnanny/log"}
	if got := Defaults(7, env("XDG_RUNTIME_DIR", "relative")); got != want {
		t.Errorf("user: %v", got)
	}
	want = Dirs{"/c/procnanny", "/s/procnanny", "/r/procnanny", "/s/procnanny/log"}
	if got := Defaults(7, env("XDG_RUNTIME_DIR", "/r", "XDG_STATE_HOME", "/s", "XDG_CONFIG_HOME", "/c")); got != want {
		t.Errorf("user with XDG: %v", got)
	}
}

func TestFlagsBeatVariablesBeatDefaults(t *testing.T) {
	vars := env("PROCNANNY_RUN", "/r", "PROCNANNY_LISTEN", "ipc:///a,ipc:///b", "PROCNANNY_APPLY", "manual", "PROCNANNY_ON_EXIT", "", "PROCNANNY_INSECURE_LOOPBACK", "1")
	d := parse(t, vars, "--apply=auto", "--config", "c", "--events", "ipc:///e", "-state", "/s")
	wd, _ := os.Getwd()
	want := Daemon{
		Config: filepath.Join(wd, "c"), State: "/s", Run: "/r", LogDir: d.LogDir, Apply: "auto", OnExit: "stop", Supervised: "auto",
		Listen: []string{"ipc:///a", "ipc:///b"}, Events: []string{"ipc:///e"}, Keys: "/s/keys", InsecureLoopback: true,
	}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("got  %+v\nwant %+v", d, want)
	}
	if d := parse(t, env("PROCNANNY_RUN", "/r")); d.Listen[0] != "ipc:///r/rpc.sock" || d.Events[0] != "ipc:///r/events.sock" {
		t.Errorf("endpoints follow the run directory: %+v", d)
	}
}

func TestArgsSayEverything(t *testing.T) {
	hostile := env("PROCNANNY_CONFIG", "/x", "PROCNANNY_LISTEN", "ipc:///x", "PROCNANNY_LEGACY_EVENTS", "ipc:///x", "PROCNANNY_APPLY", "manual",
		"PROCNANNY_TRUST_CONFIG", "77", "PROCNANNY_ADMIN_GROUP", "x", "PROCNANNY_INSECURE_LOOPBACK", "true", "PROCNANNY_SHUTDOWN_TIMEOUT", "9s", "PROCNANNY_KEYS", "/x")
	for _, args := range [][]string{
		nil,
		{"--config", "/a b,c", "--state", "/s", "--run", "/r", "--log-dir", "/l", "--on-exit", "leave", "--trust-config", "1000", "--keys", "/k"},
		{"--listen", "ipc:///a,b", "--listen", "tcp://127.0.0.1:9", "--legacy-events", "ipc:///l", "--insecure-loopback", "--admin-group", "5", "--log-group", "adm", "--supervised", "yes", "--shutdown-timeout", "1m", "--oom-score-adj", "-500"},
	} {
		d := parse(t, env(), args...)
		if got := parse(t, hostile, d.Args()...); !reflect.DeepEqual(got, d) {
			t.Errorf("%q\nfirst  %+v\nsecond %+v", args, d, got)
		}
	}
	// Every field but Version and CheckUpgrade is some flag's.
	if got, want := len(flags()), reflect.TypeFor[Daemon]().NumField()-2; got != want {
		t.Errorf("%d flags for %d fields", got, want)
	}
}

func TestPID1HasLittleTime(t *testing.T) {
	getpid = func() int { return 1 }
	defer func() { getpid = os.Getpid }()
	if d := parse(t, env()); d.ShutdownTimeout != 8*time.Second {
		t.Error(d.ShutdownTimeout)
	}
	if d := parse(t, env("PROCNANNY_SHUTDOWN_TIMEOUT", "0")); d.ShutdownTimeout != 0 {
		t.Error(d.ShutdownTimeout)
	}
}

func TestBadValuesNameTheirFlagOrVariable(t *testing.T) {
	long := "/" + strings.Repeat("x", 120)
	for _, c := range []struct {
		vars []string
		args []string
		want string
	}{
		{nil, []string{"--apply", "never"}, `cannot use --apply "never": expected auto or manual`},
		{[]string{"PROCNANNY_APPLY", "never"}, nil, `cannot use PROCNANNY_APPLY "never": expected auto or manual`},
		{nil, []string{"--on-exit=x"}, `expected stop or leave`},
		{nil, []string{"--config="}, `cannot use --config "": expected a path`},
		{nil, []string{"--shutdown-timeout", "-1s"}, `cannot use --shutdown-timeout "-1s": expected a duration such as 30s, or 0`},
		{nil, []string{"--trust-config", "no such user"}, `expected a uid, or the name of a user`},
		{nil, []string{"--trust-config", "4294967295"}, `expected a uid`},
		{[]string{"PROCNANNY_INSECURE_LOOPBACK", "maybe"}, nil, `cannot use PROCNANNY_INSECURE_LOOPBACK "maybe": expected true or false`},
		{nil, []string{"--listen", "http://x"}, `cannot use --listen "http://x": expected ipc://PATH or tcp://ADDRESS:PORT, found http://`},
		{[]string{"PROCNANNY_EVENTS", "ipc:///a,b"}, nil, `cannot use PROCNANNY_EVENTS "ipc:///a,b": b: expected ipc://PATH`},
		{nil, []string{"--listen", "rubbish"}, `expected ipc://PATH`},
		{nil, []string{"--events", "tcp://example.org:5"}, `cannot use --events "tcp://example.org:5": expected an address such as 127.0.0.1 or [::1], or * for all, found "example.org"`},
		{nil, []string{"--insecure-loopback", "--events", "tcp://[::1]:99999"}, `expected a port`},
		{nil, []string{"--run", long}, `the path of a socket has at most 107 bytes, this one has 130: choose a shorter --run`},
		{nil, []string{"--run", "/x", "--state", "/x"}, `cannot use /x for both --state and --run`},
		{nil, []string{"--on-exti=leave"}, `not defined: --on-exti (did you mean --on-exit? procnannyd --help`},
		{nil, []string{"--fizzle"}, `flag provided but not defined: --fizzle (procnannyd --help lists the flags)`},
		{nil, []string{"extra"}, `procnannyd takes only flags, found "extra"`},
	} {
		_, err := ParseDaemon("procnannyd", c.args, env(c.vars...), &strings.Builder{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %q:\n got %v\nwant %s", c.vars, c.args, err, c.want)
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	var out strings.Builder
	if _, err := ParseDaemon("procnannyd", []string{"--help"}, env(), &out); !errors.Is(err, flag.ErrHelp) {
		t.Error(err)
	}
	for _, f := range flags() {
		if !strings.Contains(out.String(), "  --"+f.name+" ") {
			t.Errorf("the help does not know --%s:\n%s", f.name, out.String())
		}
	}
	if d := parse(t, env("PROCNANNY_APPLY", "bad"), "--version"); !d.Version {
		t.Error("no version wanted")
	}
}

func TestClientFindsItsDaemon(t *testing.T) {
	for _, c := range []struct {
		client Client
		vars   []string
		want   string
	}{
		{Client{}, nil, "ipc:///run/procnanny/rpc.sock"},
		{Client{}, []string{"PROCNANNY_RUN", "/r"}, "ipc:///r/rpc.sock"},
		{Client{}, []string{"PROCNANNY_LISTEN", "ipc:///l,ipc:///m"}, "ipc:///l"},
		{Client{}, []string{"PROCNANNY_RUN", "/r", "PROCNANNY_CONNECT", "tcp://127.0.0.1:1"}, "tcp://127.0.0.1:1"},
		{Client{}, []string{"PROCNANNY_LISTEN", "tcp://0.0.0.0:1,ipc:///m"}, "ipc:///m"},
		{Client{}, []string{"PROCNANNY_RUN", "/r", "PROCNANNY_LISTEN", "ipc:///l"}, "ipc:///l"},
		{Client{}, []string{"PROCNANNY_CONNECT", "ipc:///c", "PROCNANNY_LISTEN", "ipc:///l"}, "ipc:///c"},
		{Client{Run: "/f"}, []string{"PROCNANNY_LISTEN", "ipc:///l"}, "ipc:///f/rpc.sock"},
		{Client{Run: "/f"}, []string{"PROCNANNY_CONNECT", "tcp://127.0.0.1:1"}, "ipc:///f/rpc.sock"},
		{Client{Connect: "tcp://example.org:1"}, nil, "tcp://example.org:1"},
		{Client{Run: "/f", Connect: "ipc:///c"}, nil, "ipc:///c"},
	} {
		got, err := ClientEndpoint(c.client, 0, env(c.vars...))
		if err != nil || got != c.want {
			t.Errorf("%+v %q: %s, %v", c.client, c.vars, got, err)
		}
	}
	for _, bad := range []Client{{Connect: "x"}, {Connect: "http://x"}, {Connect: "tcp://127.0.0.1"}, {Connect: "tcp://127.0.0.1:"}, {Connect: "tcp://[::1]:x"}, {Connect: "tcp://a:0"}, {Run: "/" + strings.Repeat("r", 100)}} {
		if got, err := ClientEndpoint(bad, 0, env()); err == nil {
			t.Errorf("%+v: %s", bad, got)
		}
	}
}

func TestClientFindsEvents(t *testing.T) {
	const rpc, tcp = "ipc:///r/rpc.sock", "tcp://127.0.0.1:1"
	for _, c := range []struct {
		client         Client
		endpoint, vars string
		want           string
	}{
		{Client{}, rpc, "", "ipc:///r/events.sock"},
		{Client{}, rpc, "ipc:///e", "ipc:///e"}, // as the daemon with the same variable
		{Client{Run: "/r"}, rpc, "ipc:///e", "ipc:///r/events.sock"},
		{Client{Events: "tcp://a:3"}, tcp, "tcp://127.0.0.1:2", "tcp://a:3"},
		{Client{}, tcp, "ipc:///e,tcp://127.0.0.1:2", "tcp://127.0.0.1:2"},
		{Client{Connect: tcp}, tcp, "tcp://127.0.0.1:2", "tcp://127.0.0.1:2"},
		{Client{}, "ipc:///l", "", ""},
	} {
		if got := ClientEvents(c.client, c.endpoint, env("PROCNANNY_EVENTS", c.vars)); got != c.want {
			t.Errorf("%+v %s %q: %q instead of %q", c.client, c.endpoint, c.vars, got, c.want)
		}
	}
}

func TestLibexecAndLogger(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PROCNANNY_LIBEXEC", dir)
	if _, err := Libexec("procnanny-eval"); err == nil || !strings.Contains(err.Error(), dir) {
		t.Error(err)
	}
	path := filepath.Join(dir, "procnanny-eval")
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := Libexec("procnanny-eval"); err != nil || got != path {
		t.Error(got, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	Logger(w).Info("hello", "a", 1)
	w.Close()
	b := make([]byte, 200)
	n, _ := r.Read(b)
	if !strings.HasPrefix(string(b[:n]), `{"time":`) {
		t.Errorf("no JSON in a pipe: %s", b[:n])
	}
}
