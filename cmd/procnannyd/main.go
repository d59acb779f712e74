package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/oom"
	"github.com/procnanny/procnanny/runtime/place"
)

// version is set by the linker.
var version = "unknown"

// The first thread is main's, so that the keeper's loop gets another: see
// keeper.Keep.
func init() { runtime.LockOSThread() }

func main() {
	d, err := place.ParseDaemon("procnannyd", os.Args[1:], os.Getenv, os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "procnannyd:", err)
		os.Exit(2)
	case d.Version:
		fmt.Println("procnannyd", version)
		return
	case d.CheckUpgrade:
		os.Exit(checkUpgrade(os.Stdout))
	}
	log := place.Logger(os.Stderr)
	code, err := run(d, log)
	if err != nil {
		log.Error("procnannyd ends", "error", err)
	}
	os.Exit(code)
}

// run prepares the places and keeps until it is told to end. The locks are held
// until the process is gone: the kernel drops them then, and not before, unless
// control holds them too.
func run(d place.Daemon, log *slog.Logger) (int, error) {
	runtime.GOMAXPROCS(2 + keeper.Movers)
	unix.Umask(0o022)
	if err := oom.Protect(d.OOMScoreAdj); err != nil {
		level := slog.LevelDebug // an ordinary user's cannot be
		if os.Geteuid() == 0 || d.OOMScoreAdj != nil {
			level = slog.LevelInfo
		}
		log.Log(context.Background(), level, "the OOM killer may take us as it takes others", "reason", err)
	}
	if os.Geteuid() == 0 { // an ordinary user's could not set oom_score_adj then; and its programs can read each other anyway
		if err := place.KeepSecrets(); err != nil {
			log.Warn("our memory can be read by others", "error", err)
		}
	}
	self, err := selfPath()
	if err != nil {
		return 1, err
	}
	control, err := place.Libexec("procnanny-control")
	if err != nil {
		return 1, err
	}
	will, err := keeper.Inherit()
	if err != nil {
		return 1, err
	}
	if err := place.Prepare(d); err != nil {
		return 1, err
	}
	if will == nil { // one of us has run like this already: programs matter more
		if err := d.CheckKeys(); err != nil {
			return 1, err
		}
	}
	gid, err := d.LogGID()
	if err != nil {
		return 1, err
	}
	locks, will, err := lock(d, will)
	if err != nil {
		return 1, err
	}
	defer runtime.KeepAlive(locks)
	if err := os.Chdir("/"); err != nil {
		return 1, fmt.Errorf("cannot change to /: %w", err)
	}
	managed := supervised(d)
	return keeper.Keep(keeper.Config{
		Control:         keeper.Control{Path: control, Args: d.Args(), Env: controlEnv(self, managed)},
		RunDir:          d.Run,
		LogDir:          d.LogDir,
		LogGID:          gid,
		Leave:           d.OnExit == place.OnExitLeave,
		ShutdownTimeout: d.ShutdownTimeout,
		NotifySocket:    os.Getenv("NOTIFY_SOCKET"),
		Watchdog:        watchdog(),
		Self:            keeper.Exec{Path: self, Args: d.Args(), Env: os.Environ()},
		Locks:           descriptors(locks),
		Will:            will,
		Supervised:      managed,
		Release:         version,
		Log:             log,
	})
}

func supervised(d place.Daemon) bool {
	if d.Supervised == place.SupervisedAuto {
		return os.Getenv("NOTIFY_SOCKET") != ""
	}
	return d.Supervised == place.SupervisedYes
}

// watchdog is how often the service manager wants to hear from us,
// sd_watchdog_enabled(3).
func watchdog() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	usec, err := strconv.ParseUint(os.Getenv("WATCHDOG_USEC"), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(usec) * time.Microsecond
}

// controlEnv is what control gets. It is told what to execute should we die
// before we have told it anything else.
func controlEnv(self string, managed bool) []string {
	env := passed(os.Environ())
	if !managed {
		env = append(env, keeper.SelfVariable+"="+self)
	}
	return env
}

// passed is the environment without what is meant for this process alone.
func passed(env []string) (out []string) {
	for _, v := range env {
		own := strings.HasPrefix(v, "NOTIFY_SOCKET=") || strings.HasPrefix(v, "LISTEN_") || strings.HasPrefix(v, "WATCHDOG_") ||
			strings.HasPrefix(v, keeper.SelfVariable+"=")
		if !own {
			out = append(out, v)
		}
	}
	return out
}
