package crashpoint

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

const roleVar = "CRASHPOINT_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleVar) != "" {
		Here(StartNoted)
		Here(StartCloned)
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// Who passes an armed point dies there, once.
func TestHere(t *testing.T) {
	dir := t.TempDir()
	run := func(env ...string) syscall.WaitStatus {
		t.Helper()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(env, roleVar+"=1", "GORACE=atexit_sleep_ms=0")
		_ = cmd.Run()
		return cmd.ProcessState.Sys().(syscall.WaitStatus)
	}
	if err := Arm(dir, StartCloned); err != nil {
		t.Fatal(err)
	}
	if st := run(); st.ExitStatus() != 3 || !Armed(dir, StartCloned) {
		t.Errorf("without the variable: %v", st)
	}
	if st := run(Variable + "=" + dir); !st.Signaled() || st.Signal() != syscall.SIGKILL || Armed(dir, StartCloned) {
		t.Errorf("armed: %v", st)
	}
	if st := run(Variable + "=" + dir); st.ExitStatus() != 3 {
		t.Errorf("a second time: %v", st)
	}
}

// The table is whole, and each of its points stands in the code once.
func TestTable(t *testing.T) {
	names := map[string]bool{}
	for p, s := range All() {
		switch {
		case s.Name == "" || s.Process == "" || s.Change == "" || s.Moment == "":
			t.Errorf("point %d lacks something: %+v", p, s)
		case names[s.Name] || !strings.HasPrefix(s.Name, s.Process+"."):
			t.Errorf("%s: the name is taken, or not of its process", s.Name)
		}
		names[s.Name] = true
	}
	if len(names) < 30 {
		t.Errorf("%d points", len(names))
	}
	use := regexp.MustCompile(`crashpoint\.Here\(crashpoint\.(\w+)\)`)
	used := map[string]int{}
	for _, dir := range []string{"..", "../../cmd"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range use.FindAllStringSubmatch(string(text), -1) {
				used[m[1]]++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(used) != len(names) {
		t.Errorf("%d points stand in the code, the table has %d", len(used), len(names))
	}
	for name, n := range used {
		if n != 1 {
			t.Errorf("%s stands in the code %d times", name, n)
		}
	}
}

// BenchmarkOff is a point that nobody can arm.
func BenchmarkOff(b *testing.B) {
	for b.Loop() {
		Here(StartNoted)
	}
}
