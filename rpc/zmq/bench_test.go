package zmq

import (
	"context"
	"slices"
	"testing"
	"time"

	zmq4 "github.com/pebbe/zmq4"

	"github.com/procnanny/procnanny/rpc"
)

// BenchmarkStatus is one client asking for 1000 programs over ipc, as it does:
// one question after the other.
func BenchmarkStatus(b *testing.B) {
	endpoint := endpointIn(b)
	listen(b, Config{RPC: []string{endpoint}}, &fakeBackend{view: programs(1000)})
	c := dial(b, endpoint)
	var raw rpc.Raw
	if err := c.Call(context.Background(), "status", nil, &raw); err != nil {
		b.Fatal(err)
	}
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		start := time.Now()
		if err := c.Call(context.Background(), "status", nil, &raw); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(len(raw)), "bytes")
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "replies/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

// BenchmarkStatusRaw is the same with a plain REQ that only receives: what the
// server and the sockets take, without our client's check of the reply.
func BenchmarkStatusRaw(b *testing.B) {
	endpoint := endpointIn(b)
	listen(b, Config{RPC: []string{endpoint}}, &fakeBackend{view: programs(1000)})
	s := rawSocket(b, zmq4.REQ, endpoint)
	request, err := rpc.EncodeRequest("status", nil)
	if err != nil {
		b.Fatal(err)
	}
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		start := time.Now()
		if _, err := s.SendBytes(request, 0); err != nil {
			b.Fatal(err)
		}
		if _, err := s.RecvBytes(0); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "replies/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

// BenchmarkPipelined is one client that does not wait for replies, 1000 at a
// time.
func BenchmarkPipelined(b *testing.B) {
	endpoint := endpointIn(b)
	listen(b, Config{RPC: []string{endpoint}}, &fakeBackend{view: programs(1)})
	s := rawSocket(b, zmq4.DEALER, endpoint)
	request, err := rpc.EncodeRequest("status", nil)
	if err != nil {
		b.Fatal(err)
	}
	const window = 1000
	for b.Loop() {
		for range window {
			if _, err := s.SendMessage(request); err != nil {
				b.Fatal(err)
			}
		}
		for range window {
			if _, err := s.RecvMessageBytes(0); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(window*float64(b.N)/b.Elapsed().Seconds(), "replies/s")
}

func rawSocket(t testing.TB, kind zmq4.Type, endpoint string) *zmq4.Socket {
	t.Helper()
	s, err := connected(kind, endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
