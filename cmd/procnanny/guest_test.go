package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func init() { roles["guest"] = guest }

const (
	guestDirVar    = "PROCNANNY_TEST_GUEST_DIR"
	guestSourceVar = "PROCNANNY_TEST_GUEST_SOURCE"
	// guestVar is set for what runs in a guest: the machine is its own.
	guestVar = "PROCNANNY_TEST_GUEST"
	guestAll = "all" // its value where time does not matter

	guestDir    = "/run/guest" // the directory that it shares with the host
	guestSource = "/run/source"
	guestDisk   = "/run/disk"
	guestGood   = "guest: exit code 0"
)

// guest is the first process of a machine: it makes the machine usable, runs
// what the plan says, and switches the machine off.
func guest() {
	code, err := guestRun()
	if err != nil {
		fmt.Println("guest:", err)
	}
	fmt.Println("guest: exit code", code)
	unix.Sync()
	fmt.Println("guest:", unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
}

func guestRun() (int, error) {
	dir, source := os.Getenv(guestDirVar), os.Getenv(guestSourceVar)
	mounts := []struct{ what, kind, where, data string }{
		{"proc", "proc", "/proc", ""},
		{"sys", "sysfs", "/sys", ""},
		{"cgroup2", "cgroup2", "/sys/fs/cgroup", ""},
		{"run", "tmpfs", "/run", "mode=755"},
		{"none", "hostfs", guestDir, dir},
		{"none", "hostfs", guestSource, filepath.Join(source, "../..")},
		{"/dev/ubda", "ext4", guestDisk, ""},
		{"tmp", "tmpfs", "/tmp", "mode=1777"},
		{"shm", "tmpfs", "/dev/shm", "mode=1777"},
		{"pts", "devpts", "/dev/pts", ""},
	}
	for _, m := range mounts {
		if err := os.MkdirAll(m.where, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return 1, err
		}
		if name, ok := strings.CutPrefix(m.what, "/dev/ubd"); ok { // some kernels do not know that it has a cache
			_ = os.WriteFile("/sys/block/ubd"+name+"/queue/write_cache", []byte("write back"), 0)
		}
		err := unix.Mount(m.what, m.where, m.kind, 0, m.data)
		if err != nil && m.what != "/dev/ubda" {
			return 1, fmt.Errorf("cannot mount %s: %w", m.where, err)
		}
	}
	for name, target := range map[string]string{"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"} {
		if err := os.Symlink("/proc/self/fd"+target, "/dev/"+name); err != nil && !errors.Is(err, fs.ErrExist) {
			return 1, err
		}
	}
	raw, err := os.ReadFile(guestDir + "/plan")
	if err != nil {
		return 1, err
	}
	var p plan
	if err := json.Unmarshal(raw, &p); err != nil {
		return 1, err
	}
	for i := range p.Run {
		p.Run[i] = strings.ReplaceAll(p.Run[i], "%s", guestDir)
	}
	env := append([]string{
		"PATH=" + guestDir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "TZ=UTC",
		"PROCNANNY_TEST_BIN=" + guestDir, guestVar + "=" + cmp.Or(p.Count, "1"),
	}, p.Env...)
	for name, text := range p.Files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			return 1, err
		}
	}
	if err := os.Chdir(filepath.Join(guestSource, cmp.Or(p.In, "cmd/procnanny"))); err != nil {
		return 1, err
	}
	_ = exec.Command("ip", "link", "set", "lo", "up").Run() // where it is missing, who needs it says so
	if p.Init {
		return 1, unix.Exec(p.Run[0], p.Run, env)
	}
	return guestChild(p.Run, env)
}

// guestChild runs a command and reaps whatever becomes our child meanwhile.
func guestChild(run, env []string) (int, error) {
	child, err := os.StartProcess(run[0], run, &os.ProcAttr{Env: env, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return 1, err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 1, err
		case pid == child.Pid && status.Signaled():
			return 128 + int(status.Signal()), nil
		case pid == child.Pid:
			return status.ExitStatus(), nil
		}
	}
}
