// Command go is a procnanny client with plain libraries: one msgpack map out,
// one back.
//
//	go run ./examples/clients/go status
//	go run ./examples/clients/go fizzle                                  (no such method)
//	go run ./examples/clients/go restart program="hello world" instance=0
//	go run ./examples/clients/go create program=nap command=sleep args='["60"]'
//	go run ./examples/clients/go follow state. 3                         (three events)
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pebbe/zmq4"
	"github.com/vmihailenco/msgpack/v5"
)

func main() {
	words := os.Args[1:]
	if len(words) == 0 {
		fail(errors.New("usage: client METHOD [KEY=VALUE]... | client follow [TOPIC [COUNT]]"))
	}
	if words[0] == "follow" {
		fail(follow(words[1:]))
		return
	}
	reply, err := call(words[0], words[1:])
	fail(err)
	fmt.Println(reply) // maps are printed in the order of their keys
	if _, refused := reply["error"]; refused {
		os.Exit(1)
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// endpoint is what the variable says, or a socket of the default run directory.
func endpoint(variable, socket string) string {
	run := os.Getenv("PROCNANNY_RUN")
	switch {
	case os.Getenv(variable) != "":
		return os.Getenv(variable)
	case run == "" && os.Getuid() == 0:
		run = "/run/procnanny"
	case run == "":
		run = os.Getenv("XDG_RUNTIME_DIR") + "/procnanny"
	}
	return "ipc://" + run + "/" + socket
}

func call(method string, words []string) (map[any]any, error) {
	request := map[string]any{"request": method}
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			return nil, fmt.Errorf("expected key=value, found %s", word)
		}
		var v any = value // a value that is JSON is that, anything else is a string
		_ = json.Unmarshal([]byte(value), &v)
		request[key] = v
	}
	body, err := msgpack.Marshal(request)
	if err != nil {
		return nil, err
	}
	where := endpoint("PROCNANNY_CONNECT", "rpc.sock")
	socket, err := connect(zmq4.REQ, where)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	if err := socket.SetRcvtimeo(10 * time.Second); err != nil {
		return nil, err
	}
	if _, err := socket.SendBytes(body, 0); err != nil {
		return nil, err
	}
	if body, err = socket.RecvBytes(0); err != nil {
		return nil, fmt.Errorf("no answer from %s: %w", where, err)
	}
	return decode(body)
}

func follow(words []string) error {
	topic, count := "", math.MaxInt
	if len(words) > 0 {
		topic = words[0]
	}
	if len(words) > 1 {
		count, _ = strconv.Atoi(words[1])
	}
	socket, err := connect(zmq4.SUB, endpoint("PROCNANNY_EVENTS", "events.sock"))
	if err != nil {
		return err
	}
	defer socket.Close()
	if err := socket.SetSubscribe(topic); err != nil {
		return err
	}
	for range count {
		frames, err := socket.RecvMessageBytes(0) // topic, map
		if err != nil {
			return err
		}
		event, err := decode(frames[len(frames)-1])
		if err != nil {
			return err
		}
		fmt.Println(event)
	}
	return nil
}

func connect(kind zmq4.Type, where string) (*zmq4.Socket, error) {
	socket, err := zmq4.NewSocket(kind)
	if err != nil {
		return nil, err
	}
	if err := socket.SetLinger(0); err != nil {
		return nil, err
	}
	if strings.HasPrefix(where, "tcp:") && os.Getenv("PROCNANNY_KEY") != "" {
		if err := secure(socket); err != nil {
			return nil, err
		}
	}
	return socket, socket.Connect(where)
}

// secure gives a socket the keys that TCP needs, from files of `procnanny keygen`.
func secure(socket *zmq4.Socket) error {
	own, err := keys("PROCNANNY_KEY")
	if err != nil {
		return err
	}
	server, err := keys("PROCNANNY_SERVER_KEY")
	if err != nil {
		return err
	}
	return socket.ClientAuthCurve(server["public"], own["public"], own["secret"])
}

func keys(variable string) (map[string]string, error) {
	text, err := os.ReadFile(os.Getenv(variable))
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, m := range keyLine.FindAllStringSubmatch(string(text), -1) {
		found[m[1]] = m[2]
	}
	return found, nil
}

var keyLine = regexp.MustCompile(`(?m)^\s*(public|secret)-key = "(.*)"$`)

// decode reads a map with keys of any type: instance numbers are integers.
func decode(body []byte) (map[any]any, error) {
	d := msgpack.NewDecoder(bytes.NewReader(body))
	d.SetMapDecoder(func(d *msgpack.Decoder) (any, error) { return d.DecodeUntypedMap() })
	return d.DecodeUntypedMap()
}
