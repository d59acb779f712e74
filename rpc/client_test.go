package rpc

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// direct is a Caller without a wire.
type direct struct{ server *Server }

func (d direct) Call(ctx context.Context, method string, a map[string]any, reply any) error {
	request, err := EncodeRequest(method, a)
	if err != nil {
		return err
	}
	return DecodeReply(d.server.Serve(ctx, root, request), reply)
}

func (d direct) Close() error { return nil }

// seen is some of a reply to `status`, as a client in Go may want it.
type seen struct {
	Programs map[string]struct {
		Args      []string `json:"args"`
		Instances map[int]struct {
			PID      int    `json:"pid"`
			State    string `json:"state"`
			ExitCode *int   `json:"exitcode"`
		} `json:"instances"`
	} `msgpack:"programs"`
	Config struct {
		Generation uint64 `json:"generation"`
	} `json:"config"`
}

// TestRepliesBecomeStructs: keys by the msgpack tag, else by the json tag.
func TestRepliesBecomeStructs(t *testing.T) {
	c := direct{exampleServer(newFake())}
	ctx := context.Background()
	var st seen
	err := c.Call(ctx, "status", nil, &st)
	web := st.Programs["web"]
	if err != nil || len(st.Programs) != 2 || web.Instances[1].State != "backoff" || *web.Instances[0].ExitCode != 0 || web.Args[0] != "-p" || st.Config.Generation != 7 {
		t.Errorf("status: %+v, %v", st, err)
	}
	var v struct {
		Version string `json:"version"`
		Keeper  struct {
			PID int `json:"pid"`
		} `json:"keeper"`
	}
	if err := c.Call(ctx, "version", nil, &v); err != nil || v.Version != "1.0.0" || v.Keeper.PID != 100 {
		t.Errorf("version: %+v, %v", v, err)
	}
	var did struct {
		Results map[string]map[int]any `msgpack:"results"`
	}
	if err := c.Call(ctx, "signal", args{"targets": []string{"hello*"}, "signal": "HUP"}, &did); err != nil || did.Results["hello world"][2] != "it is stopped: start it" {
		t.Errorf("signal: %v, %v", did, err)
	}
}

func TestRefusalsReachTheClient(t *testing.T) {
	f := newFake()
	f.refuse = spec.Problems{{File: "a.cue", Line: 1, Message: "no", Also: []string{"b.cue:2"}, Warning: false}}
	err := direct{exampleServer(f)}.Call(context.Background(), "scale", args{"program": "web", "instances": 99}, nil)
	var refused *Error
	if !errors.As(err, &refused) || refused.Code != CodeRefused || len(refused.Problems) != 1 || refused.Problems[0].Also[0] != "b.cue:2" {
		t.Errorf("got %#v", err)
	}
	if request, _ := refused.Request.(map[string]any); request["instances"] != int64(99) {
		t.Errorf("the echo is %v", refused.Request)
	}
}

func TestEncodeRequestTakesWhatJSONTakes(t *testing.T) {
	msg, err := EncodeRequest("set", args{"program": "web", "value": spec.IONice{Class: "idle", Level: 3}, "timeout": time.Second, "list": []int{1, 2}, "small": int8(-3)})
	if err != nil {
		t.Fatal(err)
	}
	if got := wireJSON(msg); got != `{"request": "set", "list": [1, 2], "program": "web", "small": -3, "timeout": 1, "value": {"class": "idle", "level": 3}}` {
		t.Errorf("got %s", got)
	}
	if _, err := EncodeRequest("set", args{"value": make(chan int)}); err == nil {
		t.Error("a channel was encoded")
	}
}

func TestDecodeValueHasOneTypeForEach(t *testing.T) {
	in := Map{{"a", 1}, {"b", -1}, {"c", uint64(1) << 63}, {"d", 1.5}, {"e", []byte{1}}, {"f", IntMap{{0, true}, {300, nil}}}, {"g", []any{"x"}}}
	msg, err := Append(nil, in)
	if err != nil {
		t.Fatal(err)
	}
	v, err := DecodeValue(msg)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"a": int64(1), "b": int64(-1), "c": uint64(1) << 63, "d": 1.5, "e": []byte{1}, "f": map[any]any{int64(0): true, int64(300): nil}, "g": []any{"x"},
	}
	if fmt.Sprintf("%#v", v) != fmt.Sprintf("%#v", want) {
		t.Errorf("got %#v", v)
	}
}

func TestRepliesThatAreNotSound(t *testing.T) {
	for _, msg := range []string{"", "\xc1", "\xdd\xff\xff\xff\xff", "\x81\xa5error\x01", "\x83\xa5error\xa1x\xa7request\xc0\xa4code\x07"} {
		var v any
		if err := DecodeReply([]byte(msg), &v); err == nil {
			t.Errorf("%q was accepted: %v", msg, v)
		}
	}
}

// FuzzReply: a client gets a value, a refusal or an error, whatever comes in the
// name of a daemon.
func FuzzReply(f *testing.F) {
	for _, m := range Methods() {
		f.Add(direct{exampleServer(newFake())}.server.Serve(context.Background(), root, exampleBytes(f, m)))
	}
	for _, msg := range hostile {
		if len(msg) < 1000 {
			f.Add([]byte(msg))
		}
	}
	f.Add([]byte("\x83\xa5error\xa1x\xa7request\x81\x01\x02\xa4code\xa1y"))
	f.Fuzz(func(_ *testing.T, msg []byte) {
		var v any
		var raw Raw
		var status seen
		var generations struct {
			Generations []Generation `msgpack:"generations"`
		}
		for _, reply := range []any{nil, &v, &raw, &status, &generations} {
			_ = DecodeReply(msg, reply) // it may fail, and nothing else
		}
	})
}
