package zmq

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	zmq4 "github.com/pebbe/zmq4"

	"github.com/procnanny/procnanny/rpc"
)

func TestCalls(t *testing.T) {
	endpoint := endpointIn(t)
	listen(t, Config{RPC: []string{endpoint}}, &fakeBackend{view: programs(2)})
	c := dial(t, endpoint)
	ctx := context.Background()
	var st struct {
		Programs map[string]struct {
			Instances map[int]struct {
				State string `msgpack:"state"`
			} `msgpack:"instances"`
		} `msgpack:"programs"`
	}
	if err := c.Call(ctx, "status", nil, &st); err != nil || len(st.Programs) != 2 || st.Programs["program-00001"].Instances[0].State != "running" {
		t.Errorf("status: %+v, %v", st, err)
	}
	var refused *rpc.Error
	if err := c.Call(ctx, "status", map[string]any{"program": "nope"}, nil); !errors.As(err, &refused) || refused.Code != rpc.CodeNotFound {
		t.Errorf("a program that is not there: %v", err)
	}
	var callers sync.WaitGroup
	for range 20 { // one client may be shared
		callers.Go(func() {
			var v any
			if err := c.Call(ctx, "version", nil, &v); err != nil || v.(map[string]any)["version"] != "1" {
				t.Errorf("version: %+v, %v", v, err)
			}
		})
	}
	callers.Wait()
	c.Close()
	if err := c.Call(ctx, "version", nil, nil); err == nil {
		t.Error("a closed client calls")
	}
}

func TestCallsThatNobodyAnswers(t *testing.T) {
	c, err := Dial(endpointIn(t), 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Call(context.Background(), "history", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that the time is over", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := c.Call(ctx, "history", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
}

// TestAClientGoesOnAfterATimeout: the late reply is not taken for the next.
func TestAClientGoesOnAfterATimeout(t *testing.T) {
	endpoint := endpointIn(t)
	release := make(chan struct{})
	b := &fakeBackend{view: programs(1), runs: func(context.Context) ([]rpc.Run, error) {
		<-release
		return nil, nil
	}}
	listen(t, Config{RPC: []string{endpoint}}, b)
	c := dial(t, endpoint)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := c.Call(ctx, "history", map[string]any{"program": "program-00000"}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that the time is over", err)
	}
	close(release)
	for range 3 {
		var reply any
		if err := c.Call(context.Background(), "dance", nil, &reply); err != nil || reply.(map[string]any)["danced"] != true {
			t.Errorf("got %v, %v", reply, err)
		}
	}
}

// TestRepliesOfOthersAreDropped: only the request's own id counts.
func TestRepliesOfOthersAreDropped(t *testing.T) {
	endpoint := endpointIn(t)
	router := bindRaw(t, endpoint)
	go func() {
		frames, err := router.RecvMessageBytes(0)
		if err != nil {
			return
		}
		_, _ = router.SendMessage(frames[0], "another", "", "\x81\xa6danced\xc2")
		_, _ = router.SendMessage(frames[0], "\x81\xa6danced\xc2")
		_, _ = router.SendMessage(frames[0], frames[1], "", "\x81\xa6danced\xc3")
	}()
	var reply any
	if err := dial(t, endpoint).Call(context.Background(), "dance", nil, &reply); err != nil || reply.(map[string]any)["danced"] != true {
		t.Errorf("got %v, %v", reply, err)
	}
}

// bindRaw is a daemon that the test plays itself.
func bindRaw(t *testing.T, endpoint string) *zmq4.Socket {
	t.Helper()
	ctx, err := newContext()
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSocket(ctx, zmq4.ROUTER, commonOptions)
	if err != nil {
		t.Fatal(err)
	}
	ep, err := parseEndpoint(endpoint, false)
	if err == nil {
		err = ep.listen(nil)
	}
	if err == nil {
		err = ep.bind(s)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = s.SetRcvtimeo(5 * time.Second)
	t.Cleanup(func() { s.Close(); _ = ctx.Term() })
	return s
}

// TestADaemonThatComesBack: quick questions that fell into its absence are
// asked again, and later calls find it.
func TestADaemonThatComesBack(t *testing.T) {
	endpoint := endpointIn(t)
	b := &fakeBackend{view: programs(1)}
	first := listen(t, Config{RPC: []string{endpoint}}, b)
	c := dial(t, endpoint)
	if err := c.Call(context.Background(), "status", nil, nil); err != nil {
		t.Fatal(err)
	}
	first.Close()
	answer := make(chan error, 1)
	go func() { answer <- c.Call(context.Background(), "status", nil, nil) }()
	listen(t, Config{RPC: []string{endpoint}}, b)
	if err := <-answer; err != nil {
		t.Errorf("a question that fell into the gap: %v", err)
	}
}

func TestWaitsGetTheirTime(t *testing.T) {
	for _, c := range []struct {
		args map[string]any
		want time.Duration
	}{
		{nil, 0},
		{map[string]any{"timeout": "5s"}, 0},
		{map[string]any{"wait": true}, defaultWait},
		{map[string]any{"wait": true, "timeout": "5s"}, 5 * time.Second},
		{map[string]any{"wait": true, "timeout": 2}, 2 * time.Second},
		{map[string]any{"wait": true, "timeout": 0.5}, 500 * time.Millisecond},
		{map[string]any{"wait": true, "timeout": time.Minute}, time.Minute},
		{map[string]any{"wait": true, "timeout": "soon"}, defaultWait},
	} {
		if got := waits(c.args); got != c.want {
			t.Errorf("%v waits %v, want %v", c.args, got, c.want)
		}
	}
	for _, c := range []struct {
		method string
		args   map[string]any
		want   patience
	}{
		{"status", nil, patience{again: true, often: true}},
		{"status", map[string]any{"fresh": true}, patience{again: true}},
		{"history", nil, patience{again: true}},
		{"stop", nil, patience{}},
		{"set", nil, patience{}},
		{"nope", nil, patience{}},
	} {
		if got := patienceFor(c.method, c.args); got != c.want {
			t.Errorf("%s %v: %+v", c.method, c.args, got)
		}
	}
}

func (s *subscriptions) has(prefix string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.count[prefix] > 0
}

func subscribe(t *testing.T, endpoint string, topics ...string) *Subscription {
	t.Helper()
	s, err := Subscribe(endpoint, topics)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestEvents(t *testing.T) {
	endpoint, legacy := endpointIn(t), endpointIn(t)
	s := listen(t, Config{Events: []string{endpoint}, LegacyEvents: []string{legacy}}, &fakeBackend{view: programs(1)})
	if s.Subscribed("") || s.Subscribed("output.web.0") {
		t.Error("somebody is subscribed already")
	}
	all := subscribe(t, endpoint)
	web := subscribe(t, endpoint, "state.web.", "config")
	old := rawSocket(t, zmq4.SUB, legacy)
	_ = old.SetRcvtimeo(5 * time.Second)
	if err := old.SetSubscribe("\x85\xa5event\xa6exited"); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "all are subscribed", func() bool {
		return s.events.matches("x") && s.events.has("state.web.") && s.events.has("config") && s.legacy.any()
	})
	exited, err := rpc.EncodeEvent(&rpc.Event{Fields: []rpc.Field{
		{Key: "n", Value: 2},
		{Key: "event", Value: "exited"},
		{Key: "program", Value: "web"},
		{Key: "instance", Value: 0},
		{Key: "state", Value: "exited"},
		{Key: "code", Value: 1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	list := []rpc.Message{
		{Topic: "state.db.0", Body: []byte("\x81\xa1n\x01"), Legacy: []byte("\x85\xa5event\xa7running")},
		{Topic: "state.web.0", Body: exited},
		{Topic: "config", Body: []byte("\x81\xa1n\x03")},
	}
	s.Publish(list)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for sub, want := range map[*Subscription][]int64{all: {1, 2, 3}, web: {2, 3}} {
		for _, n := range want {
			topic, event, err := sub.Next(ctx)
			if err != nil || event.(map[string]any)["n"] != n || topic != list[n-1].Topic {
				t.Errorf("got %s %v, %v; want %d", topic, event, err, n)
			}
		}
	}
	if got, err := old.RecvMessage(0); err != nil || len(got) != 1 || got[0] != string(rpc.LegacyEvent(exited)) {
		t.Errorf("a subscriber of 2011 got %q, %v", got, err)
	}
	all.Close()
	waitUntil(t, "the closed one is forgotten", func() bool { return !s.events.matches("x") })
	if !s.Subscribed("state.") || !s.Subscribed("state.web.0") || s.events.overlaps("output.") {
		t.Error("what is left is not what is wanted")
	}
}

func TestASubscriberThatReadsNothingHoldsUpNobody(t *testing.T) {
	endpoint := endpointIn(t)
	s := listen(t, Config{RPC: []string{endpoint + "r"}, Events: []string{endpoint}}, &fakeBackend{view: programs(1)})
	subscribe(t, endpoint)
	waitUntil(t, "it is subscribed", func() bool { return s.Subscribed("x") })
	body := make([]byte, 10_000)
	list := make([]rpc.Message, 100)
	for i := range list {
		list[i] = rpc.Message{Topic: "x", Body: body}
	}
	start := time.Now()
	for range 200 {
		s.Publish(list)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("publishing took %v", took)
	}
	if err := dial(t, endpoint+"r").Call(context.Background(), "dance", nil, nil); err != nil {
		t.Errorf("requests: %v", err)
	}
	waitUntil(t, "every event is published or counted as dropped", func() bool {
		c := s.Traffic()
		return c.Published+c.Dropped == 20_000
	})
}

func TestSubscriptionEndsWithItsContext(t *testing.T) {
	s := subscribe(t, endpointIn(t))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}()
	cancel()
	<-done
	s.Close()
	if _, _, err := s.Next(context.Background()); err == nil {
		t.Error("a closed subscription gave an event")
	}
}

func TestSubscriptions(t *testing.T) {
	s := newSubscriptions()
	for _, msg := range []string{"\x01state.web.", "\x01state.web.", "\x01output.web.0", "\x02own message", "", "\x00never.there"} {
		s.change([]byte(msg))
	}
	for topic, want := range map[string][2]bool{ // matches, overlaps
		"state.web.0": {true, true}, "state.": {false, true}, "output.": {false, true}, "output.web.0.stdout": {true, true},
		"output.web.1": {false, false}, "": {false, true}, "config": {false, false},
	} {
		if got := [2]bool{s.matches(topic), s.overlaps(topic)}; got != want {
			t.Errorf("%q: %v, want %v", topic, got, want)
		}
	}
	s.change([]byte("\x00state.web."))
	if !s.matches("state.web.0") {
		t.Error("one of two sockets has left, and both are forgotten")
	}
	s.change([]byte("\x00state.web."))
	s.change([]byte("\x00output.web.0"))
	if s.any() || s.overlaps("") {
		t.Error("somebody is left")
	}
	for i := range maxPrefixes + 10 {
		s.change(append([]byte{1}, strings.Repeat("x", 1+i%200)+string(rune('a'+i/200))...))
	}
	if !s.matches("anything") || len(s.sorted) > maxPrefixes {
		t.Errorf("%d prefixes, beyond %d", len(s.sorted), s.beyond)
	}
	for i := range 10 {
		s.change([]byte{0, 'z', byte(i)})
	}
	if s.matches("anything") {
		t.Error("those beyond have left, and everything still counts as wanted")
	}
}
