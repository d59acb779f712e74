package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/place"
)

// version is set by the linker.
var version = "unknown"

// The first thread is main's, so that the keeper's loop gets another: see
// keeper.Keep.
func init() { runtime.LockOSThread() }

func main() {
	d, err := place.ParseDaemon("procnannyd", os.Args[1:], os.Getenv, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "procnannyd:", err)
		os.Exit(2)
	case d.Version:
		fmt.Println("procnannyd", version)
		return
	}
	log := place.Logger(os.Stderr)
	code, err := run(d, log)
	if err != nil {
		log.Error("procnannyd ends", "error", err)
	}
	os.Exit(code)
}

// run prepares the places and keeps until it is told to end. The locks are held
// until the process is gone: the kernel drops them then, and not before.
func run(d place.Daemon, log *slog.Logger) (int, error) {
	runtime.GOMAXPROCS(2)
	debug.SetGCPercent(25)
	unix.Umask(0o022)
	control, err := place.Libexec("procnanny-control")
	if err != nil {
		return 1, err
	}
	if err := place.Prepare(d); err != nil {
		return 1, err
	}
	gid, err := d.LogGID()
	if err != nil {
		return 1, err
	}
	for _, dir := range slices.Compact([]string{d.Run, d.State}) {
		lock, err := place.Lock(dir)
		if err != nil {
			return 1, err
		}
		defer runtime.KeepAlive(lock)
	}
	if err := os.Chdir("/"); err != nil {
		return 1, fmt.Errorf("cannot change to /: %w", err)
	}
	return keeper.Keep(keeper.Config{
		Control:         keeper.Control{Path: control, Args: d.Args(), Env: passed(os.Environ())},
		RunDir:          d.Run,
		LogDir:          d.LogDir,
		LogGID:          gid,
		Leave:           d.OnExit == "leave",
		ShutdownTimeout: d.ShutdownTimeout,
		NotifySocket:    os.Getenv("NOTIFY_SOCKET"),
		Log:             log,
	})
}

// passed is the environment without what is meant for this process alone.
func passed(env []string) (out []string) {
	for _, v := range env {
		own := strings.HasPrefix(v, "NOTIFY_SOCKET=") || strings.HasPrefix(v, "LISTEN_") || strings.HasPrefix(v, "WATCHDOG_")
		if !own {
			out = append(out, v)
		}
	}
	return out
}
