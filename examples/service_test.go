package examples_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/runtime/daemontest"
)

// The unit says what keeps programs alive when only procnannyd ends, and gives
// it only flags that it knows.
func TestSystemdUnit(t *testing.T) {
	raw, err := os.ReadFile("systemd/procnanny.service")
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			keys[key] = value
		}
	}
	for key, want := range map[string]string{
		"Type": "notify", "KillMode": "process", "OOMPolicy": "continue", "Delegate": "yes", "Restart": "always", "RuntimeDirectoryPreserve": "yes",
	} {
		if keys[key] != want {
			t.Errorf("%s=%s, expected %s", key, keys[key], want)
		}
	}
	args := strings.Fields(keys["ExecStart"])
	out, err := exec.Command(bin+"/procnannyd", append(args[1:], "--check-upgrade")...).CombinedOutput()
	if err != nil {
		t.Errorf("procnannyd does not know %q: %v\n%s", args[1:], err, out)
	}
}

// What the container runs ends with its main program, whose output is the
// container's.
func TestContainer(t *testing.T) {
	config, dir := t.TempDir(), t.TempDir()
	copyFiles(t, config, "container/main.cue")
	if out, err := vet(t, config); err != nil {
		t.Fatalf("procnanny vet: %v\n%s", err, out)
	}
	text, err := os.ReadFile(config + "/main.cue")
	if err != nil {
		t.Fatal(err)
	}
	quick := strings.Replace(string(text), "sleep 5;", "sleep 0.1;", 1)
	if err := os.WriteFile(config+"/main.cue", []byte(quick), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin+"/procnannyd", "--config", config, "--state", dir+"/state", "--run", dir+"/run", "--log-dir", dir+"/log")
	cmd.Env = daemontest.Environ()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(string(out), "working\n") {
		t.Errorf("expected exit code 3 and the program's output, found %v:\n%s", err, out)
	}
}
