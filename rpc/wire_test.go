package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// wireJSON prints a message as JSON with its keys in the order of the wire.
func wireJSON(msg []byte) string {
	var b strings.Builder
	dec := msgpack.NewDecoder(bytes.NewReader(msg))
	if err := printValue(&b, dec); err != nil {
		return fmt.Sprintf("%s <%v>", b.String(), err)
	}
	return b.String()
}

func printValue(b *strings.Builder, dec *msgpack.Decoder) error {
	c, err := dec.PeekCode()
	if err != nil {
		return err
	}
	switch {
	case msgpcode.IsFixedMap(c) || c == msgpcode.Map16 || c == msgpcode.Map32:
		n, err := dec.DecodeMapLen()
		b.WriteString("{")
		for i := 0; i < n && err == nil; i++ {
			if i > 0 {
				b.WriteString(", ")
			}
			var key any
			if key, err = dec.DecodeInterface(); err != nil {
				break
			}
			fmt.Fprintf(b, "%q: ", fmt.Sprint(key))
			err = printValue(b, dec)
		}
		b.WriteString("}")
		return err
	case msgpcode.IsFixedArray(c) || c == msgpcode.Array16 || c == msgpcode.Array32:
		n, err := dec.DecodeArrayLen()
		b.WriteString("[")
		for i := 0; i < n && err == nil; i++ {
			if i > 0 {
				b.WriteString(", ")
			}
			err = printValue(b, dec)
		}
		b.WriteString("]")
		return err
	}
	v, err := dec.DecodeInterface()
	switch x := v.(type) {
	case float64:
		b.WriteString(strconv.FormatFloat(x, 'f', -1, 64))
	case []byte:
		b.WriteString(jsonText(string(x)))
	case string:
		b.WriteString(jsonText(x))
	case nil:
		b.WriteString("null")
	default:
		fmt.Fprint(b, v)
	}
	return err
}

func jsonText(s string) string {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s)
	return strings.TrimSpace(buf.String())
}

// exampleBytes is a row's example request as a client would send it.
func exampleBytes(t testing.TB, m *Method) []byte {
	t.Helper()
	var args map[string]any
	dec := json.NewDecoder(strings.NewReader(m.Request))
	dec.UseNumber()
	if m.Request != "" {
		if err := dec.Decode(&args); err != nil {
			t.Fatalf("%s: its example request is no JSON: %v", m.Name, err)
		}
	}
	plain, _ := plainNumbers(args).(map[string]any)
	b, err := EncodeRequest(m.Name, plain)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEveryRowIsComplete(t *testing.T) {
	for _, m := range Methods() {
		switch {
		case m.Doc == "" || m.Result == "" || m.Handler == nil:
			t.Errorf("%s lacks its doc, result or handler", m.Name)
		case m.Access != AccessRead && m.Access != AccessAdmin:
			t.Errorf("%s has the access %q", m.Name, m.Access)
		case m.Reply == "":
			t.Errorf("%s lacks its example", m.Name)
		case m.Quick && needsRights(m):
			t.Errorf("%s is quick, but looks up rights, which may be slow", m.Name)
		}
		for _, a := range m.Args {
			if a.Doc == "" || converters[a.Type] == nil {
				t.Errorf("%s: the argument %s lacks its doc or has no known type", m.Name, a.Name)
			}
			if a.Name == "request" || a.Name == "error" {
				t.Errorf("%s: the argument %s is taken", m.Name, a.Name)
			}
		}
	}
}

// TestExamples serves each row's example and compares the bytes, printed as
// JSON in their order, with what the row says.
func TestExamples(t *testing.T) {
	for _, m := range Methods() {
		if m.Name == "methods" {
			continue // it would hold itself
		}
		reply := exampleServer(exampleBefore(m.Name)).Serve(context.Background(), root, exampleBytes(t, m))
		if err := GuardReply(reply); err != nil {
			t.Errorf("%s: the reply cannot be decoded: %v", m.Name, err)
		}
		if got := wireJSON(reply); got != m.Reply {
			t.Errorf("%s: the example is\n\t%s\nbut the reply\n\t%s", m.Name, m.Reply, got)
		}
		if refused := refusal(reply); refused != nil {
			t.Errorf("%s: the example is refused: %v", m.Name, refused)
		}
	}
}

// exampleBefore is the example picture, with what some examples need to have
// happened before.
func exampleBefore(method string) *fake {
	f := newFake()
	if method == "delete" {
		request := []byte("\x83\xa7request\xa6create\xa7program\xa7sleeper\xa7command\xa5sleep")
		exampleServer(f).Serve(context.Background(), root, request)
		f.told = nil
	}
	return f
}

// TestTheContractsMethodsAreThere: the list is the contract's, by hand.
func TestTheContractsMethodsAreThere(t *testing.T) {
	const contract = "status restart create delete dance version history logs start stop signal scale set reset overrides plan apply " +
		"generations rollback diff events why export schema methods states upgrade shutdown hooks hooks_retry hooks_output traffic"
	for name := range strings.FieldsSeq(contract) {
		if _, ok := LookupMethod(name); !ok {
			t.Errorf("there is no %s", name)
		}
	}
	if n := len(strings.Fields(contract)); n != len(Methods()) {
		t.Errorf("%d methods, the contract knows %d", len(Methods()), n)
	}
}

// TestMethodsDescribesAll: the reply and the reference name every row, argument
// and code.
func TestMethodsDescribesAll(t *testing.T) {
	request, _ := EncodeRequest("methods", nil)
	var reply struct {
		Methods []struct {
			Name    string `msgpack:"name"`
			Doc     string `msgpack:"doc"`
			Result  string `msgpack:"result"`
			Args    []any  `msgpack:"args"`
			Example struct {
				Request string `msgpack:"request"`
				Reply   string `msgpack:"reply"`
			} `msgpack:"example"`
		} `msgpack:"methods"`
		Codes []any `msgpack:"codes"`
	}
	if err := DecodeReply(exampleServer(newFake()).Serve(context.Background(), nobody, request), &reply); err != nil {
		t.Fatal(err)
	}
	text := WireReference()
	for i, m := range Methods() {
		got := reply.Methods[i]
		if got.Name != m.Name || got.Doc != m.Doc || got.Result != m.Result || len(got.Args) != len(m.Args) || got.Example.Reply != m.Reply {
			t.Errorf("methods describes %s as %+v", m.Name, got)
		}
		if !json.Valid([]byte(got.Example.Request)) || m.Reply != "" && m.Name != "methods" && !json.Valid([]byte(got.Example.Reply)) {
			t.Errorf("%s: the example is no JSON: %s", m.Name, got.Example.Request)
		}
		if !strings.Contains(text, "\n### "+m.Name+"\n\n"+m.Doc) {
			t.Errorf("the reference does not describe %s", m.Name)
		}
	}
	for _, c := range codeDocs {
		if !strings.Contains(text, "`"+string(c.Code)+"`") || c.Doc == "" {
			t.Errorf("the reference does not describe the code %s", c.Code)
		}
	}
	if len(reply.Codes) != len(codeDocs) {
		t.Errorf("methods lists %d codes of %d", len(reply.Codes), len(codeDocs))
	}
}

// TestAccess asks every method as everybody.
func TestAccess(t *testing.T) {
	group := uint32(600)
	rights := Rights{Own: 500, Group: &group, Groups: func(uid uint32) []uint32 {
		return map[uint32][]uint32{700: {1, 600}, 800: {1, 2}}[uid]
	}}
	peers := []struct {
		name        string
		peer        Peer
		read, admin bool
	}{
		{"root", Peer{UID: 0, GID: 0, Known: true}, true, true},
		{"the daemon's own uid", Peer{UID: 500, GID: 9, Known: true}, true, true},
		{"the admin group as primary group", Peer{UID: 900, GID: 600, Known: true}, true, true},
		{"the admin group as another group", Peer{UID: 700, GID: 700, Known: true}, true, true},
		{"another uid", Peer{UID: 800, GID: 800, Known: true}, true, false},
		{"a uid without groups", Peer{UID: 801, GID: 801, Known: true}, true, false},
		{"nobody known", Peer{}, false, false},
		{"nobody known that says root", Peer{UID: 0, Known: false}, false, false},
	}
	for _, m := range Methods() {
		request := exampleBytes(t, m)
		for _, p := range peers {
			want := p.read
			if m.Access == AccessAdmin {
				want = p.admin
			}
			f := exampleBefore(m.Name)
			s := exampleServer(f)
			s.Access = rights
			var refused *Error
			err := DecodeReply(s.Serve(context.Background(), p.peer, request), nil)
			if got := err == nil; got != want {
				t.Errorf("%s as %s: %v", m.Name, p.name, err)
			}
			if err != nil && (!errors.As(err, &refused) || refused.Code != CodeForbidden || len(f.told) > 0) {
				t.Errorf("%s as %s: %v (%v reached the backend), want forbidden and nothing else", m.Name, p.name, err, f.told)
			}
		}
	}
}

func TestAdminArgumentsAreForAdministrators(t *testing.T) {
	request, _ := EncodeRequest("plan", map[string]any{"files": map[string]any{"a.cue": "programs: {}"}, "root": "/x"})
	for _, peer := range []Peer{root, nobody} {
		f := newFake()
		err := DecodeReply(exampleServer(f).Serve(context.Background(), peer, request), nil)
		var refused *Error
		if peer == root && (err != nil || f.told[0] != "plan /x  [a.cue]") || peer == nobody && (!errors.As(err, &refused) || refused.Code != CodeForbidden) {
			t.Errorf("uid %d: %v, %v", peer.UID, err, f.told)
		}
	}
}
