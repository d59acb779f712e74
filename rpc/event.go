package rpc

import (
	"fmt"
	"strings"
)

// SourceMerged is the source of output that is stdout and stderr in one.
const SourceMerged = "merged"

// TopicKinds are what topics begin with, all but that of output, which is a
// thousand times as much: who wants to know everything else subscribes to these.
func TopicKinds() []string {
	return []string{
		"command", "config", "drain", "drift", "flapping", "full", "held", "hook", "ignored", "keeper", "override", "pending", "security",
		"state", "store",
	}
}

// EscapeTopic keeps a program's name one part of a topic: . and % are %-escaped.
func EscapeTopic(program string) string {
	if strings.IndexByte(program, '.') < 0 && strings.IndexByte(program, '%') < 0 {
		return program // as nearly all are, and the tables below are cold
	}
	return topicEscapes.Replace(program)
}

var topicEscapes = strings.NewReplacer("%", "%25", ".", "%2E")

// EncodeEvent is the map of an event as subscribers get it: its fields in
// their order, then seq, prev, time and topic. Output has no seq: its offset
// says where it belongs.
func EncodeEvent(e *Event) ([]byte, error) {
	n := len(e.Fields) + 2
	if e.Seq != 0 {
		n += 2
	}
	b, err := appendPairs(appendMapLen(make([]byte, 0, eventRoom), n), e.Fields)
	if e.Seq != 0 {
		b = appendUint(appendStr(b, "seq"), e.Seq)
		b = appendUint(appendStr(b, "prev"), e.Prev)
	}
	b = appendTime(appendStr(b, "time"), e.Time)
	return appendStr(appendStr(b, "topic"), e.Topic), err
}

// eventRoom is for one that tells of an exit, in bytes.
const eventRoom = 256

// rawEvent is the same for an event that may be encoded already.
func rawEvent(e *Event) (Raw, error) {
	if len(e.Body) > 0 {
		return e.Body, nil
	}
	return EncodeEvent(e)
}

// EncodeLegacyEvent is the event as it was published in 2011: one frame, five
// pairs, `event` first so that a prefix subscription can filter, and data as a
// string, because msgpack had no bytes then. nil means that 2011 had no such
// event.
func EncodeLegacyEvent(e *Event) []byte {
	m := Map(e.Fields)
	event, program, instance := m.Get("event"), m.Get("program"), m.Get("instance")
	if event == nil || program == nil || instance == nil {
		return nil
	}
	pairs := Map{{"event", event}, {"program", program}, {"instance", instance}}
	switch {
	case m.Get("data") != nil:
		pairs[0].Value = "data"
		source := m.Get("source")
		if source == SourceMerged {
			source = "unknown" // as 2011 called what may be either
		}
		pairs = append(pairs, Map{{"source", source}, {"data", m.Get("data")}}...)
	case m.Get("state") != nil && m.Get("state") == event:
		pairs = append(pairs, Field{"state", event})
		if signal := m.Get("signal"); signal != nil {
			pairs = append(pairs, Field{"signal", signal})
		} else {
			pairs = append(pairs, Field{"code", m.Get("code")})
		}
	default:
		return nil
	}
	return appendOld(pairs)
}

// LegacyEvent is EncodeLegacyEvent of an event that is encoded already.
func LegacyEvent(body []byte) []byte {
	if GuardReply(body) != nil {
		return nil
	}
	v, err := DecodeValue(body)
	if err != nil {
		return nil
	}
	fields, _ := v.(map[string]any)
	e := &Event{}
	for key, value := range fields { // their order does not matter here
		e.Fields = append(e.Fields, Field{key, value})
	}
	return EncodeLegacyEvent(e)
}

// appendOld writes pairs with the types of 2011; a value that it did not have
// is written as text.
func appendOld(pairs Map) []byte {
	b := appendMapLen(nil, len(pairs))
	for _, f := range pairs {
		b = appendStr(b, f.Key)
		switch v := f.Value.(type) {
		case string:
			b = appendStr(b, v)
		case []byte:
			b = appendStr(b, string(v))
		case nil, bool, int, int64, uint32, uint64:
			b, _ = appendScalar(b, v)
		default:
			b = appendStr(b, fmt.Sprint(v))
		}
	}
	return b
}
