package place

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMain is also the second process of TestLockOfTwoProcesses.
func TestMain(m *testing.M) {
	if dir := os.Getenv("PLACE_TEST_LOCK"); dir != "" {
		f, err := Lock(dir)
		fmt.Println(err)
		_, _ = io.Copy(io.Discard, os.Stdin) // until the test is done with us
		if f != nil {
			f.Close()
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// locker is a process that tries to lock dir; it ends when in is closed.
func locker(t *testing.T, dir string) (said string, cmd *exec.Cmd, in io.Closer) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PLACE_TEST_LOCK="+dir)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	return strings.TrimSpace(line), cmd, stdin
}

func TestLockOfTwoProcesses(t *testing.T) {
	dir := ownDir(t)
	said, first, _ := locker(t, dir)
	if said != "<nil>" {
		t.Fatal(said)
	}
	want := fmt.Sprintf("cannot lock %s: another procnannyd, pid %d, has it", dir, first.Process.Pid)
	if said, _, _ := locker(t, dir); said != want {
		t.Errorf("got  %s\nwant %s", said, want)
	}
	if _, err := Lock(dir); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if pid, known := Holder(dir); pid != first.Process.Pid || !known {
		t.Errorf("the holder is %d, %v", pid, known)
	}
	// A killed holder leaves nothing behind.
	must(t, first.Process.Kill())
	_ = first.Wait()
	if pid, known := Holder(dir); pid != 0 || !known {
		t.Errorf("a dead process holds the lock: %d, %v", pid, known)
	}
	f, err := Lock(dir)
	must(t, err)
	defer f.Close()
	if said, _, _ := locker(t, dir); !strings.Contains(said, fmt.Sprintf("pid %d,", os.Getpid())) {
		t.Error(said)
	}
}

func TestLockDoesNotFollowLinks(t *testing.T) {
	dir := ownDir(t)
	must(t, os.WriteFile(dir+"/precious", []byte("x"), 0o600))
	must(t, os.Symlink("precious", dir+"/lock"))
	if _, err := Lock(dir); err == nil {
		t.Error("the lock followed a link")
	}
	if raw, _ := os.ReadFile(dir + "/precious"); string(raw) != "x" {
		t.Error("the link's target was written")
	}
}
