package rpc

import (
	"context"
	"reflect"
	"strings"
	"testing"
)

// Nobody can make a reply that a strict client cannot decode, by sending what
// is echoed.
func TestEchoesAreText(t *testing.T) {
	s := NewServer(Options{Backend: newFake(), Access: Rights{}})
	for name, msg := range map[string]string{
		"method":   "\x81\xa7request\xa2\xff\xfe",
		"key":      "\x82\xa7request\xa1x\xa1\xff\xc0",
		"argument": "\x82\xa7request\xa6status\xa7program\xa1\xff",
		"nested":   "\x82\xa7request\xa1x\xa1a\x91\x81\xa1b\xa1\xff",
		"list":     "\x91\xa1\xff",
	} {
		reply := s.Serve(context.Background(), Peer{Known: true}, []byte(msg))
		v, err := DecodeValue(reply)
		m, _ := v.(map[string]any)
		if err != nil || m["code"] != string(CodeUndecodable) || m["request"] != nil {
			t.Errorf("%s: %q, %v", name, reply, err)
		}
	}
}

// Clients whose strings have no encoding send bin, for keys and for values.
func TestBytesAreText(t *testing.T) {
	s := exampleServer(newFake())
	for msg, want := range map[string]string{
		"\x81\xc4\x07request\xc4\x05dance":                                                       `{"danced": true}`,
		"\x83\xc4\x07request\xc4\x04stop\xc4\x07program\xc4\x03web\xc4\x05until\xc4\x04boot":     `{"results": {"web": {"0": true, "1": true}}}`,
		"\x83\xa7request\xa6delete\xa7program\xc4\x01\xff\xa1x\x01":                              `'program' must be a string, found bytes`,
		"\x84\xa7request\xa3set\xa7program\xa3web\xa5field\xa8env.LANG\xa5value\xc4\x01\xff":     `'env.LANG' cannot be a value of a file: its text must be UTF-8`,
		"\x84\xa7request\xa3set\xa7program\xa3web\xa5field\xa4nice\xa5value\x81\xc4\x01\xff\x01": "undecodable",
		"\x82\xa7request\xa4plan\xa5files\x81\xc4\x05a.cue\xc4\x01\xff":                          `"digest"`,
	} {
		reply := s.Serve(context.Background(), root, []byte(msg))
		if got := wireJSON(reply); !strings.Contains(got, want) {
			t.Errorf("%q: %s", msg, got)
		}
	}
}

// What is no text comes back as it came, in the echo.
func TestEchoOfBytes(t *testing.T) {
	s := NewServer(Options{Backend: newFake()})
	const msg = "\x82\xa7request\xa6fizzle\xc4\x01x\x92\xc4\x02\xff\x00\xca\x3f\xc0\x00\x00"
	reply := s.Serve(context.Background(), root, []byte(msg))
	v, err := DecodeValue(reply)
	m, _ := v.(map[string]any)
	want := map[string]any{"request": "fizzle", "x": []any{[]byte("\xff\x00"), 1.5}}
	if err != nil || m["error"] != "No such method requested" || !reflect.DeepEqual(m["request"], want) || !strings.Contains(string(reply), msg) {
		t.Errorf("%q, %v", reply, err)
	}
}

// Who names an instance or a glob where a program is meant is told so.
func TestWhatIsNoProgram(t *testing.T) {
	s := exampleServer(newFake())
	for name, want := range map[string]string{
		"nobody": "there is no program 'nobody'",
		"web/1":  "there is no program 'web/1': a program's name cannot contain '/'",
		"w*":     "there is no program 'w*': a program's name cannot contain '*'",
	} {
		if _, err := call(t, s, "scale", args{"program": name, "instances": 2}); err == nil || err.Message != want || err.Code != CodeNotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
}
