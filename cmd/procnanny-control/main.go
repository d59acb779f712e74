package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/rpc/zmq"
	"github.com/procnanny/procnanny/runtime/control"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/oom"
	"github.com/procnanny/procnanny/runtime/place"
)

var version = "unknown"

// keeperFD is where procnannyd puts the protocol's socket.
const keeperFD = 3

func main() { os.Exit(run(os.Args[1:])) }

// exits are the exit codes that the keeper understands.
var exits = []struct {
	cause error
	code  int
}{
	{control.ErrUpgrade, keeper.ExitUpgrade},
	{control.ErrRefused, keeper.ExitRefused},
}

func run(args []string) int {
	log := place.Logger(os.Stderr)
	d, err := place.ParseDaemon("procnanny-control", args, os.Getenv, os.Stderr)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "procnanny-control:", err)
		return keeper.ExitRefused
	case d.Version:
		fmt.Println("procnanny-control", version)
		return 0
	case d.CheckUpgrade:
		return printKnown(os.Stdout)
	}
	if err := keeper.CleanSignals(); err != nil {
		log.Warn("cannot unblock signals", "error", err)
	}
	_ = oom.Protect(d.OOMScoreAdj) // procnannyd has said why, if it cannot be
	if err := place.KeepSecrets(); err != nil {
		log.Warn("others of our user can read our memory", "error", err)
	}
	self := os.Getenv(keeper.SelfVariable)
	_ = os.Unsetenv(keeper.SelfVariable) // cannot fail for this name
	// Who wants us to end asks the keeper; a terminal's ctrl-C reaches us as well.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	conn, hello, err := keeper.Connect(os.NewFile(keeperFD, "keeper"))
	if err != nil {
		return stillborn(d, self, log, err)
	}
	began := time.Now()
	o := &orphan{d: d, conn: conn, hello: hello, began: began, log: log}
	o.hello.Runs = nil // who holds the list holds it for ever
	err = serve(d, conn, hello, o.hurry, log)
	if errors.Is(err, control.ErrOrphaned) {
		return o.end()
	}
	for _, e := range exits {
		if errors.Is(err, e.cause) {
			if e.code != keeper.ExitUpgrade {
				fmt.Fprintln(os.Stderr, "procnannyd:", err)
			}
			return e.code
		}
	}
	if err != nil {
		log.Error("control ends", "error", err)
		return 1
	}
	return 0
}

func serve(d place.Daemon, conn *keeper.Conn, hello keeper.Hello, orphaned func(), log *slog.Logger) error {
	eval, err := place.Libexec("procnanny-eval")
	if err != nil {
		return err
	}
	rights, err := rights(d)
	if err != nil {
		return err
	}
	if err := checkKeys(&d, len(hello.Runs) == 0, log); err != nil {
		return err
	}
	if hello.First && hello.Origin == "" && len(hello.Runs) == 0 {
		if err := tryEndpoints(d, log); err != nil {
			return err
		}
	}
	installed := hello.Exec // a function that knows hello would hold all of it
	return control.Run(context.Background(), control.Config{
		Place: d, Keeper: conn, Hello: hello, Eval: eval, Version: version, Rights: rights, Environ: os.Environ(), Log: log,
		Schema:       func() (string, error) { return schema(eval) },
		Orphaned:     orphaned,
		CheckUpgrade: func(ctx context.Context) error { return checkUpgrade(ctx, installed) },
		Listen:       func(h rpc.RequestHandler) (control.Transport, error) { return listen(d, h, log) },
	})
}

// schema asks the evaluator, which owns it.
func schema(eval string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var out strings.Builder
	cmd := exec.CommandContext(ctx, eval, "--schema")
	cmd.Stdout = &out
	if err := oom.AsBorn(cmd.Start); err != nil {
		return "", err
	}
	err := cmd.Wait()
	return out.String(), err
}

func listen(d place.Daemon, h rpc.RequestHandler, log *slog.Logger) (control.Transport, error) {
	gid, err := d.AdminGID()
	if err != nil {
		return nil, err
	}
	s, err := zmq.Listen(endpoints(d, gid, log), h)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// rights say who may do what.
func rights(d place.Daemon) (rpc.Rights, error) {
	gid, err := d.AdminGID()
	if err != nil {
		return rpc.Rights{}, err
	}
	return rpc.Rights{Own: uint32(os.Geteuid()), Group: gid, Groups: groupsOf}, nil
}

// groupsOf lists the groups of a uid; the kernel tells only a peer's primary one.
func groupsOf(uid uint32) []uint32 {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return nil
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil
	}
	var out []uint32
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			out = append(out, uint32(n))
		}
	}
	return out
}
