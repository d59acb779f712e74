package zmq

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/procnanny/procnanny/rpc"
)

// rawPeer speaks ZMTP 3.0 by hand, so that it can say what libzmq would not.
type rawPeer struct {
	net.Conn
	in *bufio.Reader
}

// Frames of ZMTP 3, rfc.zeromq.org/spec/23.
const (
	frameMore    = 1
	frameLong    = 2
	frameCommand = 4
)

// greeting is that of a client without security.
var greeting = []byte("\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00NULL" + strings.Repeat("\x00", 48))

func rawDial(path string) (*rawPeer, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(long))
	return &rawPeer{conn, bufio.NewReader(conn)}, nil
}

// frame is one frame.
func frame(flags byte, body []byte) []byte {
	if len(body) < 256 && flags&frameLong == 0 {
		return append([]byte{flags, byte(len(body))}, body...)
	}
	return append(binary.BigEndian.AppendUint64([]byte{flags | frameLong}, uint64(len(body))), body...)
}

// ready is the command with these properties: name, value, name, value...
func ready(properties ...string) []byte {
	body := []byte("\x05READY")
	for i := 0; i < len(properties); i += 2 {
		body = append(append(body, byte(len(properties[i]))), properties[i]...)
		body = append(binary.BigEndian.AppendUint32(body, uint32(len(properties[i+1]))), properties[i+1]...)
	}
	return frame(frameCommand, body)
}

// handshake greets with these properties and waits until it is accepted.
func (p *rawPeer) handshake(properties ...string) error {
	if _, err := p.Write(append(bytes.Clone(greeting), ready(properties...)...)); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, p.in, int64(len(greeting))); err != nil {
		return err
	}
	body, err := p.read()
	if err == nil && !bytes.HasPrefix(body, []byte("\x05READY")) {
		err = fmt.Errorf("got %q for a READY", body)
	}
	return err
}

// read takes one frame.
func (p *rawPeer) read() ([]byte, error) {
	flags, err := p.in.ReadByte()
	if err != nil {
		return nil, err
	}
	size := make([]byte, 1)
	if flags&frameLong != 0 {
		size = make([]byte, 8)
	}
	if _, err := io.ReadFull(p.in, size); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint64(append(make([]byte, 8-len(size)), size...))
	if n > rpc.MaxReply {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	body := make([]byte, n)
	_, err = io.ReadFull(p.in, body)
	return body, err
}

// ask sends a request in a frame and reads the reply.
func (p *rawPeer) ask(method string) ([]byte, error) {
	request, err := rpc.EncodeRequest(method, nil)
	if err != nil {
		return nil, err
	}
	if _, err := p.Write(frame(0, request)); err != nil {
		return nil, err
	}
	return p.read()
}

// forgeVariable makes the test binary a client that lies in its handshake.
const forgeVariable = "PROCNANNY_TEST_FORGE"

// forgeAll asks every method like askAll, as one who says in its handshake that
// the kernel and a ZAP handler know it as root.
func forgeAll(endpoint string) {
	for _, m := range rpc.Methods() {
		answer := map[string]string{"method": m.Name, "code": "done"}
		p, err := rawDial(strings.TrimPrefix(endpoint, "ipc://"))
		if err == nil {
			err = p.handshake("Socket-Type", "DEALER", "User-Id", "0", "Peer-Address", "localhost:0:0:1", "X-Peer-Address", "localhost:0:0:1", "Identity", "root "+m.Name)
		}
		var reply []byte
		if err == nil {
			reply, err = p.ask(m.Name)
			p.Close()
		}
		if err == nil {
			err = rpc.DecodeReply(reply, nil)
		}
		if refused, ok := errors.AsType[*rpc.Error](err); ok {
			answer["code"] = string(refused.Code)
		} else if err != nil {
			answer["code"] = err.Error()
		}
		line, _ := json.Marshal(answer)
		fmt.Println(string(line))
	}
}

func forged(endpoint string, uid uint32) func(*testing.T) map[string]string {
	return func(t *testing.T) map[string]string { return clientAs(t, forgeVariable+"="+endpoint, uid, uid) }
}

// roles are what else the test binary can be, by the variable that says so.
var roles = map[string]func(value string){
	askVariable:   askAll,
	forgeVariable: forgeAll,
	gateVariable: func(endpoint string) {
		fmt.Println(serveWithFewDescriptors(endpoint))
		os.Exit(1)
	},
}

func TestMain(m *testing.M) {
	for variable, role := range roles {
		if value := os.Getenv(variable); value != "" {
			role(value)
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// TestHandshakesHaveADeadline: whoever says nothing, or only half, is gone
// within a few seconds, and takes no place for longer.
func TestHandshakesHaveADeadline(t *testing.T) {
	endpoint := endpointIn(t)
	listen(t, Config{RPC: []string{endpoint}}, &fakeBackend{view: programs(1)})
	path := strings.TrimPrefix(endpoint, "ipc://")
	halves := [][]byte{
		nil, greeting[:1], greeting[:11], greeting, append(bytes.Clone(greeting), 4, 200),
		append(bytes.Clone(greeting), ready("Socket-Type", "DEALER")[:9]...),
	}
	start := time.Now()
	var waiting sync.WaitGroup
	for _, half := range halves {
		waiting.Go(func() {
			p, err := rawDial(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer p.Close()
			if _, err := p.Write(half); err != nil {
				t.Error(err)
			}
			if _, err := io.Copy(io.Discard, p.in); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after %d bytes it is still connected", len(half))
			}
		})
	}
	waiting.Wait()
	t.Logf("%d halves of a handshake were ended after %v", len(halves), time.Since(start))
}

// TestFramesThatAreTooLong: a frame is measured by its head, before there is
// memory for it.
func TestFramesThatAreTooLong(t *testing.T) {
	endpoint := endpointIn(t)
	listen(t, Config{RPC: []string{endpoint}}, &fakeBackend{view: programs(1)})
	for _, size := range []uint64{rpc.MaxRequest + 2048, 1 << 31, 1 << 40, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
		p, err := rawDial(strings.TrimPrefix(endpoint, "ipc://"))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if err := p.handshake("Socket-Type", "DEALER"); err != nil {
			t.Fatal(err)
		}
		if reply, err := p.ask("dance"); err != nil || !bytes.Contains(reply, []byte("danced")) {
			t.Fatalf("got %q, %v", reply, err)
		}
		if _, err := p.Write(binary.BigEndian.AppendUint64([]byte{frameLong}, size)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, p.in); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a frame of %d bytes is waited for", size)
		}
	}
	if _, err := ask(t, endpoint, nil, "dance", long); err != nil {
		t.Errorf("others: %v", err)
	}
}

// FuzzHandshake sends what a stranger may to a living socket: others are served
// meanwhile, and nobody is taken for somebody else.
func FuzzHandshake(f *testing.F) {
	endpoint := endpointIn(f)
	s := listen(f, Config{RPC: []string{endpoint}, Events: []string{endpoint + "e"}}, &fakeBackend{view: programs(1)})
	paths := []string{strings.TrimPrefix(endpoint, "ipc://"), strings.TrimPrefix(endpoint, "ipc://") + "e"}
	good := ready("Socket-Type", "DEALER", "Identity", "")
	request, _ := rpc.EncodeRequest("dance", nil)
	for _, seed := range [][]byte{
		nil, greeting, append(bytes.Clone(greeting), good...), append(append(bytes.Clone(greeting), good...), frame(0, request)...),
		append(bytes.Clone(greeting), ready("Socket-Type", "SUB")...), append(append(bytes.Clone(greeting), ready("Socket-Type", "SUB")...), "\x00\x02\x01x"...),
		append(bytes.Clone(greeting), ready("User-Id", "root", "Peer-Address", "localhost:0:0:1")...),
		{1, 0, 1, 1, 3, 0, 0x81, 0xa1},
		append(bytes.Clone(greeting), "\x04\x08\x05ERROR\x01x"...), append(append(bytes.Clone(greeting), good...), "\x04\x07\x04PING\x00\x01"...),
		append(append(bytes.Clone(greeting), good...), bytes.Repeat([]byte{1, 0}, 100)...), []byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		f.Add(seed, byte(0))
		f.Add(seed, byte(1))
	}
	client, err := Dial(endpoint, long)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { client.Close() })
	n := 0
	f.Fuzz(func(t *testing.T, sent []byte, where byte) {
		p, err := rawDial(paths[int(where)%len(paths)])
		for end := time.Now().Add(long); err != nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
			p, err = rawDial(paths[int(where)%len(paths)]) // its queue was full
		}
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		_, _ = p.Write(sent) // it may be cut off in the middle
		if n++; n%64 == 0 {
			if err := client.Call(t.Context(), "dance", nil, nil); err != nil {
				t.Fatalf("others are not served: %v", err)
			}
			s.Publish([]rpc.Message{{Topic: "x", Body: []byte("\x80")}})
		}
	})
}
