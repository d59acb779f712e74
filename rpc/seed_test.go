package rpc

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// seedView is the README of 2011: one program of one instance, killed once.
func seedView() *View {
	p := spec.Defaults()
	p.Command, p.Args = "/usr/bin/env", []string{"sleep", "1000"}
	p.Identity = spec.Identity{UID: 1000, GID: 300}
	p.Nice, p.IONice = new(-5), &spec.IONice{Class: "best-effort", Level: 4}
	i := instance("hello world", 0, reconcile.StateRunning, 300)
	i.LastExit = &reconcile.Exit{Code: -1, Signal: 15}
	return &View{Programs: []*ProgramView{{Name: "hello world", Spec: &p, Defined: true, Instances: []*InstanceView{i}}}}
}

// TestSeedReplies: the bytes of 2011, key by key. Integers are minimal, nice is
// signed, instance keys are integers, and no string gets a type of later times.
func TestSeedReplies(t *testing.T) {
	s := exampleServer(newFake())
	s.Backend = &fake{view: seedView()}
	const statusHead = "\xa8programs\x81\xabhello world\x8d" + // 7 keys of 2011, instances among them, and more behind
		"\xa7command\xac/usr/bin/env" + "\xa4args\x92\xa5sleep\xa41000" + "\xa3uid\xcd\x03\xe8" + "\xa3gid\xcd\x01\x2c" +
		"\xa4nice\xfb" + "\xa6ionice\x04" + "\xa6active\xc3" + "\xa9instances\x81\x00\x8d" +
		"\xa3pid\xcd\x05\x14" + "\xa5state\xa7running" + "\xa8exitcode\xff" + "\xaaexitsignal\x0f" + "\xabadmin_state\xa2up"
	for name, c := range map[string]struct{ request, head string }{
		"status": {"\x81\xa7request\xa6status", "\x83" + statusHead},
		"status of one": {
			"\x82\xa7request\xa6status\xa7program\xabhello world", "\x83" + statusHead,
		},
		"status, old raw strings with 16-bit length": {"\x81\xda\x00\x07request\xda\x00\x06status", "\x83" + statusHead},
		"status with keys that mean nothing":         {"\x82\xa7request\xa6status\x07\xc0", "\x83" + statusHead},
		"dance":                                      {"\x81\xa7request\xa5dance", "\x81\xa6danced\xc3"},
		"restart": {
			"\x82\xa7request\xa7restart\xa7program\xabhello world", "\x81\xa7results\x81\xabhello world\x81\x00\xc3",
		},
		"restart of one": {
			"\x83\xa7request\xa7restart\xa7program\xabhello world\xa8instance\x00", "\x81\xa7results\x81\xabhello world\x81\x00\xc3",
		},
		"no such method": {
			"\x81\xa7request\xa6fizzle",
			"\x83\xa5error\xb8No such method requested\xa7request\x81\xa7request\xa6fizzle\xa4code\xaeno_such_method",
		},
		"a prefix of a method": {
			"\x81\xa7request\xa1s", "\x83\xa5error\xb8No such method requested\xa7request\x81\xa7request\xa1s\xa4code",
		},
		"no request": {
			"\x81\xa1x\xcd\x00\x01", // the echo keeps even the width of the integer
			"\x83\xa5error\xbeMessage had no 'request' field\xa7request\x81\xa1x\xcd\x00\x01\xa4code\xb0no_request_field",
		},
		"request is no string": {"\x81\xa7request\x01", "\x83\xa5error\xbeMessage had no 'request' field\xa7request\x81\xa7request\x01"},
		"a prefix of request":  {"\x81\xa1r\xa6status", "\x83\xa5error\xbeMessage had no 'request' field"},
		"no map":               {"\x93\x01\x02\x03", "\x83\xa5error\xbeMessage had no 'request' field\xa7request\x93\x01\x02\x03"},
		"a missing argument": {
			"\x81\xa7request\xa7restart",
			"\x83\xa5error\xda\x00\x22Message is missing 'program' field\xa7request\x81\xa7request\xa7restart\xa4code\xb0missing_argument",
		},
		"another missing argument": {
			"\x82\xa7request\xa6create\xa7program\xa1x", "\x83\xa5error\xda\x00\x22Message is missing 'command' field",
		},
		"undecodable": {"\xc1", "\x83\xa5error\xda"},
	} {
		got := string(s.Serve(context.Background(), root, []byte(c.request)))
		if !strings.HasPrefix(got, c.head) {
			t.Errorf("%s:\n got %q\nwant %q...", name, got, c.head)
		}
	}
}

// TestOldReadersReadTheRepliesTheyKnow: a string of any length has a form of
// 2011 (fixed, 16 or 32 bits), and nothing else of later times is there.
func TestOldReadersReadTheRepliesTheyKnow(t *testing.T) {
	v := seedView()
	v.Programs[0].Spec.Args = []string{strings.Repeat("a", 31), strings.Repeat("b", 32), strings.Repeat("c", 300), strings.Repeat("d", 70_000)}
	s := exampleServer(&fake{view: v})
	for _, request := range []string{"\x81\xa7request\xa6status", "\x81\xa7request\xa7restart", "\x80"} {
		r := bytes.NewReader(s.Serve(context.Background(), root, []byte(request)))
		dec := msgpack.NewDecoder(r)
		if bad := modern(dec); bad != 0 {
			t.Errorf("%q: the reply has the type %#x", request, bad)
		}
	}
}

// modern returns the first type of a value that 2011 did not have, or 0.
func modern(dec *msgpack.Decoder) byte {
	c, err := dec.PeekCode()
	n := 0
	switch {
	case err != nil:
		return 0xff
	case c == msgpcode.Str8 || msgpcode.IsBin(c) || msgpcode.IsExt(c):
		return c
	case msgpcode.IsFixedMap(c) || c == msgpcode.Map16:
		n, _ = dec.DecodeMapLen()
		n *= 2
	case msgpcode.IsFixedArray(c) || c == msgpcode.Array16:
		n, _ = dec.DecodeArrayLen()
	default:
		_ = dec.Skip()
	}
	for range n {
		if bad := modern(dec); bad != 0 {
			return bad
		}
	}
	return 0
}

// TestLegacyEvents: one frame, five pairs, event first, and only the types that
// msgpack had in 2011.
func TestLegacyEvents(t *testing.T) {
	state := Event{Topic: "state.web.3", Seq: 9, Fields: Map{
		{"event", "exited"}, {"program", "web"}, {"instance", 3}, {"state", "exited"}, {"signal", "TERM"}, {"run_id", uint64(1)},
	}}
	coded := Event{Fields: Map{{"event", "exited"}, {"program", "web"}, {"instance", 300}, {"state", "exited"}, {"code", 1}}}
	started := Event{Fields: Map{{"event", "starting"}, {"program", "web"}, {"instance", 0}, {"state", "starting"}}}
	output := Event{Topic: "output.web.3.stdout", Fields: Map{
		{"event", "output"}, {"program", "web"}, {"instance", 3}, {"source", "stdout"}, {"data", []byte("\xff" + strings.Repeat("x", 99))}, {"offset", 5},
	}}
	for name, c := range map[string]struct {
		event *Event
		want  string
	}{
		"state with signal": {&state, "\x85\xa5event\xa6exited\xa7program\xa3web\xa8instance\x03\xa5state\xa6exited\xa6signal\xa4TERM"},
		"state with code":   {&coded, "\x85\xa5event\xa6exited\xa7program\xa3web\xa8instance\xcd\x01\x2c\xa5state\xa6exited\xa4code\x01"},
		"state":             {&started, "\x85\xa5event\xa8starting\xa7program\xa3web\xa8instance\x00\xa5state\xa8starting\xa4code\xc0"},
		"output": {&output, "\x85\xa5event\xa4data\xa7program\xa3web\xa8instance\x03\xa6source\xa6stdout\xa4data\xda\x00\x64\xff" +
			strings.Repeat("x", 99)},
		"output of both": {&Event{Fields: Map{
			{"event", "output"}, {"program", "web"}, {"instance", 3}, {"source", SourceMerged}, {"data", []byte("x")}, {"offset", 5},
		}}, "\x85\xa5event\xa4data\xa7program\xa3web\xa8instance\x03\xa6source\xa7unknown\xa4data\xa1x"},
		"what 2011 did not have": {&Event{Fields: Map{{"event", "accepted"}, {"generation", 7}}}, ""},
	} {
		if got := string(EncodeLegacyEvent(c.event)); got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", name, got, c.want)
		}
		if got := string(LegacyEvent(mustEncode(t, c.event))); got != c.want {
			t.Errorf("%s, from today's bytes:\n got %q\nwant %q", name, got, c.want)
		}
	}
	if LegacyEvent([]byte("\xc1")) != nil || LegacyEvent([]byte("\x93\x01\x02\x03")) != nil {
		t.Error("bytes that are no event became one")
	}
	if got := wireJSON(mustEncode(t, &state)); got !=
		`{"event": "exited", "program": "web", "instance": 3, "state": "exited", "signal": "TERM", "run_id": 1, "seq": 9, "prev": 0, "time": null, "topic": "state.web.3"}` {
		t.Errorf("the event of today is %s", got)
	}
}

func mustEncode(t *testing.T, e *Event) []byte {
	t.Helper()
	b, err := EncodeEvent(e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
