package rpc

import (
	"context"
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
