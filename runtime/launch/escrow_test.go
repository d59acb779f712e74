package launch

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// escrowOf is an escrow, and the end from which it is collected.
func escrowOf(t *testing.T, keep ...int) (*Escrow, int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[0]); unix.Close(pair[1]) })
	return &Escrow{Socket: pair[0], Deposit: []byte("deposit\n"), Withdrawal: []byte("withdrawal\n"), Keep: keep}, pair[1]
}

// collect is the next message in escrow.
func collect(t *testing.T, fd int) (text string, fds []int) {
	t.Helper()
	b, room := make([]byte, 100), make([]byte, unix.CmsgSpace(16))
	n, oob, _, _, err := unix.Recvmsg(fd, b, room, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatalf("nothing was left: %v", err)
	}
	messages, err := unix.ParseSocketControlMessage(room[:oob])
	if err != nil {
		t.Fatal(err)
	}
	for i := range messages {
		more, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, more...)
	}
	return string(b[:n]), fds
}

// What the kernel says a pidfd is of.
func pidOf(t *testing.T, fd int) (pid int) {
	t.Helper()
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(info)) {
		if n, _ := fmt.Sscanf(line, "Pid: %d", &pid); n == 1 {
			return pid
		}
	}
	t.Fatalf("%d is no pidfd: %s", fd, info)
	return 0
}

// A child leaves its pidfd and what is to be kept before it executes, by clone3
// and without it; one that cannot execute says so behind it; and what it executes
// has none of all this.
func TestEscrow(t *testing.T) {
	for _, legacy := range []bool{false, true} {
		t.Run(fmt.Sprintf("legacy=%v", legacy), func(t *testing.T) {
			forceLegacy = legacy
			defer func() { forceLegacy = false }()
			var p [2]int
			if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			defer unix.Close(p[0])
			// Far above what a child gets a copy of.
			far, err := unix.FcntlInt(uintptr(p[0]), unix.F_DUPFD_CLOEXEC, 200)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(far)
			escrow, end := escrowOf(t, far, far)
			q := start(t, request("/bin/sh", "-c", "ls /proc/self/fd; exit 7"), Stdio{In: -1, Out: p[1], Err: -1, Escrow: escrow}, -1)
			unix.Close(p[1])
			text, fds := collect(t, end)
			if text != "deposit\n" || len(fds) != 3 {
				t.Fatalf("it left %q and %d descriptors", text, len(fds))
			}
			if pid := pidOf(t, fds[0]); pid != q.PID {
				t.Errorf("the pidfd is of %d, not %d", pid, q.PID)
			}
			if status := q.wait(t); status.ExitStatus() != 7 {
				t.Errorf("it ended with %v", status)
			}
			listed := make([]byte, 100)
			n, _ := unix.Read(fds[1], listed)
			if got := strings.Fields(string(listed[:n])); len(got) != 4 { // 0, 1, 2, and the directory itself
				t.Errorf("the program has descriptors %q", got)
			}
			for _, fd := range fds {
				unix.Close(fd)
			}

			if _, err := Start(request("/nowhere"), Stdio{In: -1, Out: -1, Err: -1, Escrow: escrow}, -1); err == nil {
				t.Fatal("it was started")
			}
			if text, fds = collect(t, end); text != "deposit\n" || len(fds) != 3 {
				t.Errorf("a start that fails left %q and %d descriptors", text, len(fds))
			}
			for _, fd := range fds {
				unix.Close(fd)
			}
			if text, fds = collect(t, end); text != "withdrawal\n" || len(fds) != 0 {
				t.Errorf("and behind it %q and %d descriptors", text, len(fds))
			}
		})
	}
}

// An escrow that takes nothing more, or whose other end is gone, hinders no start.
func TestFullEscrow(t *testing.T) {
	escrow, end := escrowOf(t)
	escrow.Deposit = make([]byte, 1000)
	for range 1000 { // more than any socket takes
		if _, err := unix.Write(escrow.Socket, escrow.Deposit); err != nil {
			break
		}
	}
	run := func() {
		if status := start(t, request("/bin/true"), Stdio{In: -1, Out: -1, Err: -1, Escrow: escrow}, -1).wait(t); status != 0 {
			t.Errorf("it ended with %v", status)
		}
	}
	run()
	if err := unix.Shutdown(end, unix.SHUT_RD); err != nil {
		t.Fatal(err)
	}
	run()
}
