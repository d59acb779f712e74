package zmq

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	zmq4 "github.com/pebbe/zmq4"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/spec"
)

// fakeBackend has a picture; what it lacks panics, which a server survives.
type fakeBackend struct {
	rpc.Backend
	view *rpc.View
	runs func(ctx context.Context) ([]rpc.Run, error)
}

func (b *fakeBackend) View() *rpc.View { return b.view }

func (b *fakeBackend) Overrides() []spec.Override { return nil }

func (b *fakeBackend) Fresh(context.Context) (*rpc.View, error) { return b.view, nil }

func (b *fakeBackend) Runs(ctx context.Context, _ rpc.RunQuery) ([]rpc.Run, error) {
	return b.runs(ctx)
}

// programs is a picture of n programs of one running instance each.
func programs(n int) *rpc.View {
	started := time.Now().Add(-time.Hour)
	v := &rpc.View{Version: "1", KeeperPID: 1, ControlPID: 2, Config: rpc.ConfigView{State: "ok", Generation: 1, Digest: "abc"}}
	for i := range n {
		p := spec.Defaults()
		p.Command, p.Args = "/usr/bin/env", []string{"PORT=$(instance)", "sleep", "1000"}
		name := fmt.Sprintf("program-%05d", i)
		v.Programs = append(v.Programs, &rpc.ProgramView{
			Name: name, Spec: &p, Defined: true, Generation: 1,
			Instances: []*rpc.InstanceView{{
				Instance: reconcile.Instance{
					ID: reconcile.InstanceID{Program: name}, State: reconcile.StateRunning, Run: reconcile.RunID(i + 1), PID: 1000 + i,
					Since: started, StartedAt: started, Starts: 1, Generation: 1,
				},
				Containment: "cgroup",
			}},
		})
	}
	return v
}

// endpointIn is an ipc endpoint in a short temporary directory: a socket's name
// has at most 107 bytes, and t.TempDir's may be longer.
func endpointIn(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return "ipc://" + filepath.Join(dir, "run", "s")
}

func listen(t testing.TB, c Config, b *fakeBackend) *Server {
	t.Helper()
	s, err := Listen(c, rpc.NewServer(rpc.Options{Backend: b, Access: rpc.Rights{Own: ownUID}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// connected is a socket of a client, without keys.
func connected(kind zmq4.Type, endpoint string) (*zmq4.Socket, error) {
	d, err := connect(kind, endpoint, nil, false)
	if err != nil {
		return nil, err
	}
	return d.Socket, nil
}

func dial(t testing.TB, endpoint string) rpc.Caller {
	t.Helper()
	c, err := Dial(endpoint, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
