package zmq

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/procnanny/procnanny/rpc"
)

// Whoever sends, the publisher with its own hands or the thread when it is
// awake: nothing is overtaken.
func TestEventsKeepTheirOrderWhoeverSendsThem(t *testing.T) {
	endpoint := endpointIn(t)
	s := listen(t, Config{RPC: []string{endpoint + "r"}, Events: []string{endpoint}}, &fakeBackend{view: programs(1)})
	sub := subscribe(t, endpoint)
	waitUntil(t, "it is subscribed", func() bool { return s.Subscribed("x") })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := dial(t, endpoint+"r")
	asked := make(chan struct{})
	go func() { // keeps the thread awake now and then
		defer close(asked)
		for ctx.Err() == nil && client.Call(ctx, "dance", nil, nil) == nil {
			time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
		}
	}()
	const events = 20_000
	next := uint64(0)
	for sent := uint64(0); sent < events; {
		list := make([]rpc.Message, 1+rand.IntN(2*burst))
		for i := range list {
			sent++
			list[i] = rpc.Message{Topic: "x", Body: binary.BigEndian.AppendUint64(nil, sent)}
		}
		s.Publish(list)
		for next+eventWater/2-3*burst < sent { // libzmq learns of each half of its high water that was taken
			_, body, err := sub.NextRaw(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if next++; binary.BigEndian.Uint64(body) != next {
				t.Fatalf("event %d came in place of %d", binary.BigEndian.Uint64(body), next)
			}
		}
	}
	cancel()
	<-asked
	waitUntil(t, "all are published", func() bool { c := s.Traffic(); return c.Published >= events && c.Dropped == 0 })
}
