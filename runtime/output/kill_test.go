package output

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	roles["drain"] = roleDrain
}

// roleDrain drains descriptor 3 to DIR until its end, as the keeper would; it
// says on stdout when it begins.
func roleDrain(args []string) {
	d, err := Open(args[0], -1)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	d.OnAlarm(func(a Alarm) { fmt.Fprintln(os.Stderr, "alarm:", a.Err); os.Exit(1) })
	size, _ := strconv.ParseInt(args[1], 10, 64)
	s := d.Sink("web", 0, "", Policy{RotateBytes: size, Keep: 1 << 30, Timestamps: args[2] == "true"})
	s.BeginRun(1)
	if len(args) > 3 {
		if err := d.Witness(args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fmt.Println("ready")
	most := Turn
	if d.witness != nil {
		most = 2 * carryMost
	}
	for {
		s.pace.pipe, s.pace.fast = 3, d.witness != nil
		n, more, err := s.Drain(3, 1+rand.IntN(most))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if more {
			continue
		}
		fds := []unix.PollFd{{Fd: 3, Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == nil && fds[0].Revents&unix.POLLIN == 0 && n == 0 {
			return
		}
	}
}

// kills is how many times the drainer is killed; more by hand.
func kills(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("OUTPUT_TEST_KILLS"))
	if err != nil {
		n = 30
	}
	if testing.Short() {
		n = 10
	}
	t.Logf("%d kills (OUTPUT_TEST_KILLS)", n)
	return n
}

// killLoop lets a writer write numbered lines while drainers are killed one
// after the other. It returns how many lines were written.
func killLoop(t *testing.T, dir string, rotate int, stamps bool, witness ...any) int {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	start := func() (*exec.Cmd, io.ReadCloser) {
		cmd := helper("drain", append([]any{dir, rotate, stamps}, witness...)...)
		cmd.ExtraFiles = []*os.File{r}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
			t.Fatalf("the drainer did not begin: %v", err)
		}
		return cmd, out
	}
	stop, wrote := make(chan struct{}), make(chan int, 1)
	go numberedLines(w, stop, wrote)
	for range kills(t) {
		cmd, _ := start()
		time.Sleep(time.Duration(rand.IntN(4000)) * time.Microsecond) // any instruction
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); cmd.ProcessState.Sys().(interface{ Signaled() bool }).Signaled() == false {
			t.Fatalf("the drainer ended by itself: %v", err)
		}
	}
	close(stop)
	cmd, _ := start()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatalf("the last drainer: %v", err)
		}
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Signal(unix.SIGQUIT) // tell where
		t.Fatalf("the last drainer does not end: %v", <-ended)
	}
	return <-wrote
}

// numberedLines writes "0\n", "1 ..\n", ... until stop, in writes of all sizes.
func numberedLines(w *os.File, stop chan struct{}, wrote chan int) {
	defer w.Close()
	b, i := []byte{}, 0
	for {
		select {
		case <-stop:
			wrote <- i
			return
		default:
		}
		b = b[:0]
		for range 1 + rand.IntN(30) {
			b = strconv.AppendInt(b, int64(i), 10)
			b = append(b, " ............................................."[:rand.IntN(40)]...)
			b = append(b, '\n')
			i++
		}
		if _, err := w.Write(b); err != nil {
			wrote <- -1
			return
		}
	}
}

// files are a stream's files in the order of their names, the live one last.
func files(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "web", "0.log.*"))
	if err != nil {
		t.Fatal(err)
	}
	return append(list, filepath.Join(dir, "web", "0.log"))
}

// readFiles opens all files of a stream as one, and checks that each begins
// where the one before ended; stamp bytes of each line do not count.
func readFiles(t *testing.T, dir string, stamp int) io.Reader {
	t.Helper()
	var at int64
	var all []io.Reader
	for _, name := range files(t, dir) {
		if _, start, ok := parseSegment(filepath.Base(name)); ok && start != at {
			t.Errorf("%s should begin at %d", name, at)
		}
		b, err := os.ReadFile(name)
		must(t, err)
		at += int64(len(b) - stamp*bytes.Count(b, []byte("\n")))
		all = append(all, bytes.NewReader(b))
	}
	return io.MultiReader(all...)
}

func TestKilledDrainerLosesAndRepeatsNothing(t *testing.T) {
	for _, rotate := range []int{3_000, 200_000} {
		t.Run(strconv.Itoa(rotate), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "log")
			countLines(t, dir, killLoop(t, dir, rotate, false))
			list := files(t, dir)
			t.Logf("%d files", len(list))
			for _, name := range list[:len(list)-1] {
				checkSegment(t, name, int64(rotate))
			}
		})
	}
}

// The same where bytes are in the file and in the pipe for a while.
func TestKilledCarrierLosesAndRepeatsNothing(t *testing.T) {
	for _, rotate := range []int{300_000, 0} {
		t.Run(strconv.Itoa(rotate), func(t *testing.T) {
			t.Parallel()
			dir, witness := filepath.Join(t.TempDir(), "log"), filepath.Join(memoryDir(t), "witness")
			countLines(t, dir, killLoop(t, dir, rotate, false, witness))
		})
	}
}

// countLines checks that all numbered lines are there, once and in order.
func countLines(t *testing.T, dir string, lines int) {
	t.Helper()
	next := 0
	for sc := bufio.NewScanner(readFiles(t, dir, 0)); sc.Scan(); next++ {
		if n, _, _ := bytes.Cut(sc.Bytes(), []byte(" ")); string(n) != strconv.Itoa(next) {
			t.Fatalf("line %d is %q", next, sc.Text())
		}
	}
	if next != lines || lines == 0 {
		t.Fatalf("%d lines were written, %d are there", lines, next)
	}
	t.Logf("%d lines", lines)
}

// checkSegment checks that a put aside file ends with a line and is not longer
// than promised.
func checkSegment(t *testing.T, name string, limit int64) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) == 0 || b[len(b)-1] != '\n' {
		t.Errorf("%s does not end with a line: %q", name, b[max(0, len(b)-20):])
	}
	if int64(len(b)) > limit+100 {
		t.Errorf("%s has %d bytes, the limit is %d", name, len(b), limit)
	}
}

func TestKilledStampingDrainerLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	lines := killLoop(t, dir, 100_000, true)
	next := 0
	for sc := bufio.NewScanner(readFiles(t, dir, stampSize)); sc.Scan(); next++ {
		var n int
		text := sc.Text()
		if _, err := time.Parse(strings.TrimSpace(stampLayout), text[:min(len(text), len(stampLayout)-1)]); err != nil {
			t.Fatalf("line %d is %q: %v", next, text, err)
		}
		if _, err := fmt.Sscanf(text[len(stampLayout):], "%d", &n); err != nil || n != next {
			t.Fatalf("line %d is %q", next, text)
		}
	}
	if next != lines || lines == 0 {
		t.Fatalf("%d lines were written, %d are there", lines, next)
	}
}

// The same at chosen moments: before the n-th call of each system call that
// changes something.
func TestKilledBeforeEverySystemCall(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace, which kills at a system call, is not here")
	}
	self, err := os.Executable()
	must(t, err)
	plain := []string{"renameat2", "openat2", "pwrite64", "splice", "ftruncate", "fchmod", "unlinkat"}
	for _, c := range []struct {
		name   string
		rotate int
		stamps bool
		carry  bool
		calls  []string
	}{
		{"splice", 200, false, false, slices.DeleteFunc(slices.Clone(plain), func(s string) bool { return s == "ftruncate" })},
		{"timestamps", 200, true, false, plain},
		{"carry", 0, false, true, []string{"tee", "pwrite64", "splice", "pread64", "readv", "ioctl", "fstat"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			args := []any{filepath.Join(t.TempDir(), "log"), c.rotate, c.stamps}
			if c.carry {
				args = append(args, filepath.Join(memoryDir(t), "witness"))
			}
			stamps := c.stamps
			dir := args[0].(string)
			r, w, err := os.Pipe()
			must(t, err)
			defer r.Close()
			line, killed := 0, 0
			for _, call := range c.calls {
				for n := 1; n <= 6; n++ {
					for range 40 {
						fmt.Fprintf(w, "%d %s\n", line, call)
						line++
					}
					cmd := helper("drain", args...)
					inject := fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n)
					cmd.Args = append([]string{strace, "-f", "-qq", "-e", "trace=" + call, "-o", "/dev/null", "-e", inject, self}, cmd.Args[1:]...)
					cmd.Path, cmd.ExtraFiles = strace, []*os.File{r}
					if runUntilQuiet(t, cmd, r) {
						killed++
					}
				}
			}
			w.Close()
			cmd := helper("drain", args...)
			cmd.ExtraFiles = []*os.File{r}
			must(t, cmd.Run())
			next := 0
			for sc := bufio.NewScanner(readFiles(t, dir, map[bool]int{true: stampSize}[stamps])); sc.Scan(); next++ {
				text := sc.Text()
				if stamps {
					_, text, _ = strings.Cut(text, " ")
				}
				if n, _, _ := strings.Cut(text, " "); n != strconv.Itoa(next) {
					t.Fatalf("line %d is %q", next, sc.Text())
				}
			}
			if next != line {
				t.Errorf("%d lines are there, %d were written", next, line)
			}
			if t.Logf("%d killed", killed); killed < 10 {
				t.Skip("strace could not kill here (no ptrace?)")
			}
		})
	}
}

// runUntilQuiet runs a drainer until it is killed (true) or has taken all there
// is: then the call did not come so often.
func runUntilQuiet(t *testing.T, cmd *exec.Cmd, pipe *os.File) bool {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		select {
		case <-ended:
			return true
		case <-time.After(2 * time.Millisecond):
		}
		left, err := unix.IoctlGetInt(int(pipe.Fd()), unix.TIOCINQ)
		must(t, err)
		if left == 0 {
			break
		}
	}
	err := unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // strace and what it traces
	<-ended
	if err == unix.ESRCH {
		return true // it was killed meanwhile
	}
	must(t, err)
	return false
}
