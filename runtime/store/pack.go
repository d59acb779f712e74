package store

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// What is stored is packed by hand into the very bytes that the library makes of
// these types by reflection, structs as maps by their JSON names: a field that
// another version added is skipped, one that it lacks stays zero. A test holds
// each function here to the library: a field that is added to a type needs a row.

func appendInstance(b []byte, i *reconcile.Instance) []byte {
	p := openMap(b)
	p.key("id")
	p.b = appendInstanceID(p.b, i.ID)
	p.uint("run_id", uint64(i.Run))
	p.int("pid", int64(i.PID))
	p.time("since", i.Since)
	p.time("until", i.Until)
	p.time("started_at", i.StartedAt)
	p.optStr("launch", string(i.Launch))
	p.optStr("tuning", string(i.Tuning))
	p.optUint("generation", i.Generation)
	p.int("starts", int64(i.Starts))
	p.optInt("attempt", int64(i.Attempt))
	p.optTimes("ends", i.Ends)
	p.optStr("finished", i.Finished)
	p.optStr("waits", i.Waits)
	p.optStr("held", i.Held)
	p.optStr("end_cause", string(i.EndCause))
	p.optStr("start_cause", string(i.StartCause))
	p.optRequester("by", i.By)
	p.optDrain("drain", i.Drain)
	p.optExit("last_exit", i.LastExit)
	p.optTexts("pending", i.Pending)
	p.name("state", i.State.String())
	p.optUint("tune", uint64(i.Tune))
	if i.Owed != reconcile.ActionUnset {
		p.name("owed", i.Owed.String())
	}
	p.optBool("flapping", i.Flapping)
	p.optBool("cycle", i.Cycle)
	p.optBool("at_once", i.AtOnce)
	p.optBool("rolling", i.Rolling)
	p.optBool("unjudged", i.Unjudged)
	p.optBool("draining", i.Draining)
	p.optBool("escalated", i.Escalated)
	p.optBool("main_gone", i.MainGone)
	p.optBool("revoked", i.Revoked)
	return p.close()
}

func appendInstanceID(b []byte, id reconcile.InstanceID) []byte {
	p := openMap(b)
	p.str("program", id.Program)
	p.int("instance", int64(id.Index))
	return p.close()
}

func (p *packing) optExit(key string, x *reconcile.Exit) {
	if x == nil {
		return
	}
	p.key(key)
	m := openMap(p.b)
	m.int("code", int64(x.Code))
	m.int("signal", int64(x.Signal))
	m.bool("core", x.Core)
	m.optBool("unknown", x.Unknown)
	m.optBool("out_of_memory", x.OutOfMemory)
	m.time("at", x.At)
	m.int("duration", int64(x.Duration))
	m.str("cause", string(x.Cause))
	m.optStr("error", x.Error)
	m.uint("run_id", uint64(x.Run))
	m.int("pid", int64(x.PID))
	m.time("start", x.Start)
	m.uint("generation", x.Generation)
	m.optInt("cpu", int64(x.CPU))
	m.optInt("peak_memory", x.PeakMemory)
	m.optDrain("drain", x.Drain)
	p.b = m.close()
}

func (p *packing) optDrain(key string, d *reconcile.Drain) {
	if d == nil {
		return
	}
	p.key(key)
	m := openMap(p.b)
	m.bool("ok", d.OK)
	m.str("answer", d.Answer)
	m.int("took", int64(d.Took))
	p.b = m.close()
}

func (p *packing) optRequester(key string, r *spec.Requester) {
	if r == nil {
		return
	}
	p.key(key)
	m := openMap(p.b)
	m.str("how", r.How)
	m.int("uid", int64(r.UID))
	m.int("gid", int64(r.GID))
	m.int("pid", int64(r.PID))
	m.optStr("key", r.Key)
	p.b = m.close()
}

func appendRoll(b []byte, r *reconcile.Roll) []byte {
	p := openMap(b)
	p.optStr("target", string(r.Target))
	if r.Preflight != reconcile.PreflightUnknown {
		p.name("preflight", r.Preflight.String())
	}
	p.optStr("held", r.Held)
	p.time("retry_at", r.RetryAt)
	p.optStr("forced", string(r.Forced))
	return p.close()
}

func appendRun(b []byte, r *Run) []byte {
	p := openMap(b)
	p.key("id")
	p.b = appendInstanceID(p.b, r.ID)
	p.uint("run", uint64(r.Run))
	p.optInt("pid", int64(r.PID))
	p.time("start", r.Start)
	p.time("end", r.End)
	p.optExit("exit", r.Exit)
	p.optStr("start_cause", string(r.StartCause))
	p.optUint("generation", r.Generation)
	p.optStr("commit", r.Commit)
	p.optRequester("by", r.By)
	p.optRequester("end_by", r.EndBy)
	return p.close()
}

func appendTally(b []byte, t *Tally) []byte {
	p := openMap(b)
	p.int("index", int64(t.Index))
	p.time("since", t.Since)
	p.int("up", int64(t.Up))
	p.time("until", t.Until)
	p.optInt("cpu", int64(t.CPU))
	p.int("starts", int64(t.Starts))
	p.int("ends", int64(t.Ends))
	p.optInt("crashes", int64(t.Crashes))
	p.uint("last", uint64(t.Last))
	return p.close()
}

// packing appends one map, whose pairs it counts. What is optional is left out
// where it is zero.
type packing struct {
	b    []byte
	from int // where its length stands, which close writes
	n    int
}

func openMap(b []byte) packing { return packing{append(b, 0x80), len(b), 0} }

func (p *packing) close() []byte {
	if p.n < 16 {
		p.b[p.from] |= byte(p.n)
		return p.b
	}
	p.b = append(p.b, 0, 0) // the length takes two bytes more
	copy(p.b[p.from+3:], p.b[p.from+1:])
	p.b[p.from] = 0xde
	binary.BigEndian.PutUint16(p.b[p.from+1:], uint16(p.n))
	return p.b
}

// key begins a pair. Our keys are short.
func (p *packing) key(key string) {
	p.n++
	p.b = append(append(p.b, 0xa0|byte(len(key))), key...)
}

func (p *packing) str(key, v string) {
	p.key(key)
	p.b = packStr(p.b, v)
}

// name is a value that its type writes as text: bytes, to the library.
func (p *packing) name(key, v string) {
	p.key(key)
	p.b = append(append(p.b, 0xc4, byte(len(v))), v...)
}

func (p *packing) int(key string, v int64) {
	p.key(key)
	p.b = packInt(p.b, v)
}

func (p *packing) uint(key string, v uint64) {
	p.key(key)
	p.b = packUint(p.b, v)
}

func (p *packing) bool(key string, v bool) {
	p.key(key)
	code := byte(0xc2)
	if v {
		code = 0xc3
	}
	p.b = append(p.b, code)
}

func (p *packing) time(key string, v time.Time) {
	p.key(key)
	p.b = packTime(p.b, v)
}

func (p *packing) optStr(key, v string) {
	if v != "" {
		p.str(key, v)
	}
}

func (p *packing) optInt(key string, v int64) {
	if v != 0 {
		p.int(key, v)
	}
}

func (p *packing) optUint(key string, v uint64) {
	if v != 0 {
		p.uint(key, v)
	}
}

func (p *packing) optBool(key string, v bool) {
	if v {
		p.bool(key, v)
	}
}

func (p *packing) optTimes(key string, v []time.Time) {
	if len(v) == 0 {
		return
	}
	p.key(key)
	p.b = packLen(p.b, len(v), 0x90, 0xdc)
	for _, t := range v {
		p.b = packTime(p.b, t)
	}
}

func (p *packing) optTexts(key string, v map[string]string) {
	if len(v) == 0 {
		return
	}
	p.key(key)
	p.b = packLen(p.b, len(v), 0x80, 0xde)
	for k, s := range v {
		p.b = packStr(packStr(p.b, k), s)
	}
}

func packStr(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, 0xa0|byte(n))
	case n <= math.MaxUint8:
		b = append(b, 0xd9, byte(n))
	case n <= math.MaxUint16:
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, s...)
}

func packInt(b []byte, v int64) []byte {
	switch {
	case v >= 0:
		return packUint(b, uint64(v))
	case v >= -32:
		return append(b, byte(v))
	case v >= math.MinInt8:
		return append(b, 0xd0, byte(v))
	case v >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(b, 0xd1), uint16(v))
	case v >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(b, 0xd2), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(v))
}

func packUint(b []byte, v uint64) []byte {
	switch {
	case v <= math.MaxInt8:
		return append(b, byte(v))
	case v <= math.MaxUint8:
		return append(b, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), v)
}

func packLen(b []byte, n int, short, long byte) []byte {
	switch {
	case n < 16:
		return append(b, short|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, long), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, long+1), uint32(n))
}

// packTime is the library's extension: seconds and nanoseconds, in as little as
// they need.
func packTime(b []byte, t time.Time) []byte {
	sec, nsec := uint64(t.Unix()), uint64(t.Nanosecond())
	switch {
	case sec <= math.MaxUint32 && nsec == 0:
		return binary.BigEndian.AppendUint32(append(b, 0xd6, 0xff), uint32(sec))
	case sec>>34 == 0:
		return binary.BigEndian.AppendUint64(append(b, 0xd7, 0xff), nsec<<34|sec)
	}
	b = binary.BigEndian.AppendUint32(append(b, 0xc7, 12, 0xff), uint32(nsec))
	return binary.BigEndian.AppendUint64(b, sec)
}
