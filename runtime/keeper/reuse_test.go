package keeper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

const (
	// reuseVar is how many orders that signal are given while the number they are
	// about is another process's.
	reuseVar = "PROCNANNY_TEST_REUSED"
	// insideVar says that we are alone in a namespace of pids.
	insideVar = "KEEPER_TEST_ALONE"
	// crowd is how many programs live at once.
	crowd = 20
)

// Whatever is ordered about a program that has ended, and whose number a foreign
// process has by now: that one hears nothing, and keeps its priority.
func TestReusedPids(t *testing.T) {
	if os.Getenv(insideVar) == "" {
		reuseAlone(t)
		return
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skip("no mounts of our own:", err) // in a chroot, say
	}
	must(t, unix.Mount("proc", "/proc", "proc", 0, ""))
	want := 400
	if text := os.Getenv(reuseVar); text != "" {
		var err error
		want, err = strconv.Atoi(text)
		must(t, err)
	}
	modes(t, func(t *testing.T, c testConfig) {
		given := 0
		for batch := 0; given < want/2; batch++ {
			t.Run("batch", func(t *testing.T) {
				r := startRig(t, c)
				given += r.reuse(batch%2 == 1)
				r.leave()
			})
			if t.Failed() {
				return
			}
		}
		t.Logf("%d orders that signal", given)
	})
}

// reuseAlone runs the test again as the first process of a namespace of pids.
func reuseAlone(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestReusedPids$", "-test.v", "-test.parallel=1", "-test.timeout=0")
	cmd.Env = append(os.Environ(), insideVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, unix.EPERM):
		t.Skip("no namespace of pids of our own:", err)
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	}
	if os.Getenv(reuseVar) != "" {
		t.Logf("%s", out[max(0, len(out)-2000):])
	}
}

// reuse has a crowd of programs that a keeper has found end, gives their numbers to
// others, and orders all there is. dead is that they end while no keeper lives, so
// that the next one finds their notes. It returns how many orders there were.
func (r *rig) reuse(dead bool) (orders int) {
	t := r.t
	t.Helper()
	var all []Order
	var facts []Fact
	for i := range crowd {
		o := r.shell(i, "")
		o.Start.Launch.Candidates, o.Start.Launch.Argv = []string{"/bin/sleep"}, []string{"sleep", "1000"}
		all = append(all, o)
	}
	r.send(all...)
	for i := range all {
		facts = append(facts, r.next(FactStarted, all[i].Start.Run))
	}
	w := r.orphan()
	var others []*os.Process
	if dead {
		others = replace(t, facts)
		r.start()
		r.connect()
	} else {
		r.raise(w)
		r.halt()
		others = replace(t, facts)
	}
	w.descriptors(func(fd *int) { unix.Close(*fd) })
	all = all[:0]
	for i := range facts {
		run := facts[i].Run
		all = append(all,
			Order{Kind: OrderTune, Run: run, Tuning: &spec.Tuning{Nice: new(19), OOMScoreAdj: new(777)}},
			Order{Kind: OrderPoke, Run: run, Signal: 10},
			Order{Kind: OrderSignal, Run: run, Signal: spec.SIGTERM},
			Order{Kind: OrderSweep, Run: run, Signal: spec.SIGTERM},
			Order{Kind: OrderKill, Run: run, Signal: spec.SIGKILL},
			Order{Kind: OrderKill, Run: run, Signal: 2})
	}
	r.send(all...)
	must(t, r.cmd.Process.Signal(unix.SIGCONT))
	for i := range facts {
		if v, _ := byRun(r.hello, facts[i].Run); !v.Emptied {
			r.next(FactEmptied, facts[i].Run)
		}
	}
	o := r.shell(crowd, "exit 0") // behind all of these orders
	r.send(o)
	r.next(FactEmptied, o.Start.Run)
	for _, p := range others {
		judgeForeigner(t, p)
	}
	return len(all) - len(facts)
}

// replace ends processes and gives their numbers to others.
func replace(t testing.TB, facts []Fact) (others []*os.Process) {
	t.Helper()
	for i := range facts {
		pid := facts[i].PID
		must(t, unix.Kill(pid, unix.SIGKILL))
		_, err := syscall.Wait4(pid, nil, 0, nil)
		must(t, err) // the first process of the namespace is their parent by now
		p, err := foreigner(pid)
		if errors.Is(err, unix.EPERM) {
			t.Skip("we may not choose a pid:", err)
		}
		must(t, err)
		others = append(others, p)
	}
	return others
}

// judgeForeigner sees that nothing was done to a process, and ends it.
func judgeForeigner(t testing.TB, p *os.Process) {
	t.Helper()
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, p.Pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err != nil || info.Signo != 0 {
		t.Errorf("%d, a foreign process, was signalled: %+v, %v", p.Pid, info, err)
	}
	ours, err := unix.Getpriority(unix.PRIO_PROCESS, os.Getpid())
	must(t, err)
	if nice, err := unix.Getpriority(unix.PRIO_PROCESS, p.Pid); err != nil || nice != ours {
		t.Errorf("%d, a foreign process, has another priority: %d, %v", p.Pid, nice, err)
	}
	if score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.Pid)); err != nil || string(score) == "777\n" {
		t.Errorf("%d, a foreign process, was tuned: %s, %v", p.Pid, score, err)
	}
	must(t, p.Kill())
	_, err = p.Wait()
	must(t, err)
}

// foreigner starts a process whose pid is chosen: it leads a session, as programs do,
// and whatever signal it hears ends it.
func foreigner(pid int) (*os.Process, error) {
	path, err := unix.BytePtrFromString("/usr/bin/setsid")
	if err != nil {
		return nil, err
	}
	argv, err := syscall.SlicePtrFromStrings([]string{"setsid", "sleep", "1000"})
	if err != nil {
		return nil, err
	}
	envp, err := syscall.SlicePtrFromStrings([]string{"PATH=/usr/bin:/bin"})
	if err != nil {
		return nil, err
	}
	tid := int32(pid)
	args := cloneArgs{exitSignal: uint64(unix.SIGCHLD), setTID: uint64(uintptr(unsafe.Pointer(&tid))), setTIDSize: 1}
	syscall.ForkLock.Lock()
	got, errno := cloneAndExec(&args, path, &argv[0], &envp[0])
	syscall.ForkLock.Unlock()
	runtime.KeepAlive(&tid)
	if errno != 0 {
		return nil, fmt.Errorf("cannot make process %d: %w", pid, errno)
	}
	if int(got) != pid {
		return nil, fmt.Errorf("it is process %d, not %d", got, pid)
	}
	for deadline := time.Now().Add(30 * time.Second); readStat(pid).session != pid; time.Sleep(time.Millisecond / 10) {
		if time.Now().After(deadline) {
			return nil, errors.New("it does not come to lead a session")
		}
	}
	return os.FindProcess(pid)
}

// cloneArgs is the kernel's struct clone_args.
type cloneArgs struct {
	flags, pidFD, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// cloneAndExec forks with a chosen pid: what the child does are two system calls.
//
//go:norace
//go:nosplit
//go:noinline
func cloneAndExec(args *cloneArgs, path *byte, argv, envp **byte) (uintptr, syscall.Errno) {
	pid, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0)
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(argv)), uintptr(unsafe.Pointer(envp)))
	syscall.RawSyscall(unix.SYS_EXIT_GROUP, 253, 0, 0)
	return 0, 0
}

// Where there are no cgroups, the number of a run's session may be that of another
// run's process by now: what that one was executed with says so.
func TestReusedSession(t *testing.T) {
	k := &keeper{mains: map[int]*run{}}
	in := &instance{instanceKey: instanceKey{"web", 0}}
	for env, want := range map[string]bool{"PROCNANNY_RUN_ID=9": false, "PROCNANNY_RUN_ID=5": true, "NOBODY=1": true} {
		cmd := exec.Command("/bin/sleep", "1000")
		cmd.Env, cmd.SysProcAttr = []string{env}, &syscall.SysProcAttr{Setsid: true}
		must(t, cmd.Start())
		r := newRun(in, 5)
		r.pid, r.cookie = cmd.Process.Pid, "PROCNANNY_RUN_ID=5"
		if got := (&sweep{k: k}).belongs(r, r.pid, readStat(r.pid)); got != want {
			t.Errorf("%s: belongs %v", env, got)
		}
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
	}
}
