package daemontest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Commands are all that procnanny consists of.
var Commands = []string{"procnanny", "procnanny-eval", "procnannyd", "procnanny-control"}

// bin is where the commands are, and which of them are built; nil when somebody
// else has built them.
var bin struct {
	mu    sync.Mutex
	dir   string
	built map[string]bool
}

// Main is what TestMain does in a package that starts commands: what is to be
// ready before any test, which may use a directory that is removed at the end,
// then the tests. It returns the code to exit with.
func Main(m *testing.M, ready ...func(dir string) error) int {
	dir, err := os.MkdirTemp("/tmp", "procnanny-bin")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755) // the evaluator runs as nobody
	}
	if bin.dir = os.Getenv("PROCNANNY_TEST_BIN"); bin.dir == "" {
		bin.dir, bin.built = dir, map[string]bool{}
	}
	for _, do := range ready {
		if err == nil {
			err = do(dir)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// Bin is the path of a command, which may not be built yet.
func Bin(name string) string { return filepath.Join(bin.dir, name) }

// Build makes sure that commands are there: those that are named, or all.
func Build(names ...string) error {
	if len(names) == 0 {
		names = Commands
	}
	bin.mu.Lock()
	defer bin.mu.Unlock()
	if bin.built == nil {
		return nil
	}
	args := []string{"build", "-buildvcs=false", "-o", bin.dir + "/"}
	for _, name := range names {
		if !bin.built[name] {
			args = append(args, "github.com/procnanny/procnanny/cmd/"+name)
			bin.built[name] = true
		}
	}
	if len(args) == 4 {
		return nil
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build %v: %w\n%s", names, err, out)
	}
	return nil
}
