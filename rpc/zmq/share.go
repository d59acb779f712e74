package zmq

// #cgo pkg-config: libzmq
// #include <errno.h>
// #include <string.h>
// #include <zmq.h>
//
// static int hold(zmq_msg_t *held, const void *data, size_t size) {
// 	if (zmq_msg_init_size(held, size) != 0) return -1;
// 	memcpy(zmq_msg_data(held), data, size);
// 	return 0;
// }
//
// static int send_held(void *socket, zmq_msg_t *held) {
// 	zmq_msg_t m;
// 	zmq_msg_init(&m);
// 	if (zmq_msg_copy(&m, held) == 0 && zmq_msg_send(&m, socket, ZMQ_DONTWAIT) >= 0) return 0;
// 	int why = errno;
// 	zmq_msg_close(&m);
// 	errno = why;
// 	return -1;
// }
import "C"

import (
	"errors"
	"reflect"
	"unsafe"
	"weak"

	zmq4 "github.com/pebbe/zmq4"
	"golang.org/x/sys/unix"
)

// shareLeast is how many bytes a reply has that is worth holding.
const shareLeast = 32 << 10

// share sends a large reply that was sent before without copying it again: what
// libzmq holds in a message may be in several (zmq_msg_copy(3)), and zmq4 has no
// messages, only bytes. A client that asks for the status of a thousand programs
// again and again then gets as many replies as from a server in C that does no more.
//
// What is held is one reply, and only after it was sent twice: a page of a history
// or a log is not asked for again. It belongs to the thread of the sockets.
type share struct {
	// msg, if held, comes first: C wants it where a pointer may be, and Go takes a
	// union of C for bytes, which it puts anywhere.
	msg  C.zmq_msg_t
	held bool
	last weak.Pointer[byte] // where the last large reply begins; it may be gone
	size int
}

// send sends the last frame of a reply, whose bytes never change again.
func (s *share) send(socket *zmq4.Socket, reply []byte) error {
	if len(reply) < shareLeast || !s.again(reply) || !s.hold(reply) {
		_, err := socket.SendBytes(reply, zmq4.DONTWAIT)
		return err
	}
	for {
		n, err := C.send_held(handle(socket), &s.msg)
		if n == 0 {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return zmq4.AsErrno(err)
		}
	}
}

// hold gives libzmq a copy to keep; false is no memory.
func (s *share) hold(reply []byte) bool {
	s.held = s.held || C.hold(&s.msg, unsafe.Pointer(unsafe.SliceData(reply)), C.size_t(len(reply))) == 0
	return s.held
}

// again reports whether a reply is the last one. No other can be where that was
// as long as it lives, and a weak pointer to what is gone equals no other.
func (s *share) again(reply []byte) bool {
	at := weak.Make(unsafe.SliceData(reply))
	if at == s.last && len(reply) == s.size {
		return true
	}
	s.drop()
	s.last, s.size = at, len(reply)
	return false
}

// drop lets go of what is held. libzmq frees it once it is sent.
func (s *share) drop() {
	if s.held {
		C.zmq_msg_close(&s.msg)
	}
	*s = share{}
}

// handle is libzmq's socket, which zmq4 keeps to itself.
func handle(s *zmq4.Socket) unsafe.Pointer {
	return reflect.ValueOf(s).Elem().FieldByName("soc").UnsafePointer()
}
