// Package zmq carries rpc over ZeroMQ: [Listen] serves requests on ROUTER
// sockets and publishes events on XPUB sockets; [Dial] and [Subscribe] are the
// other ends.
//
// Promises of the server: one locked thread owns every socket, and lends them to
// who publishes while it sleeps. What only reads the picture is answered on it at
// once; everything else runs on a bounded number of goroutines, few for each
// connection, and never holds up another client. [Server.Publish] never blocks. Every queue is bounded and counts
// what it drops. [Server.Close] lets what is queued reach its client.
//
// Who a peer is, the kernel says (SO_PEERCRED, as the metadata Peer-Address of
// each message). A message without it, such as one of ZMTP 1.0, is refused.
// Who a peer over TCP is, its key says (CURVE): the list of allowed keys has a
// role for each, is read again when it changes, and holds for the next message
// and the next connection. TCP without keys is for loopback addresses with
// [Config.InsecureLoopback] only; its peers count as the daemon's own uid. Each of
// the three has sockets of its own, so that nobody is taken for another's peer.
// What is refused is told to the handler ([rpc.Refusal]).
//
// Duties of the caller: hold the lock of the run directory before Listen,
// because a name that another daemon serves would be taken over.
//
// # Decisions
//
//   - The thread waits in poll(2) on the sockets' own descriptors and an eventfd,
//     not in zmq_poll with an inproc socket: a wake-up from another goroutine is
//     one write, and costs no second socket hop.
//   - Who publishes sends with its own hands while the thread sleeps: libzmq allows
//     it behind a lock, and a subscriber hears a twentieth of a millisecond sooner.
//     A send that takes long gives the work back to the thread. After a short one
//     the processor is given away once: libzmq's own thread may wait for it.
//   - ipc sockets are bound, given their mode and listened on by us, under
//     another name, then renamed and handed to libzmq (ZMQ_USE_FD). libzmq's own
//     bind unlinks whatever file is in its way and makes the name visible before
//     its mode is right.
//   - libzmq 4.3.4 aborts the process when accept(2) finds no free descriptor.
//     So before the last fifth of RLIMIT_NOFILE is touched the sockets' names
//     are taken away from new clients until descriptors are free again. Refused:
//     unbind, which ends all connections (its listener owns them). Over tcp libzmq
//     survives the lack of descriptors, and spins: connections over tcp may have
//     half of the descriptors; beyond that all of them are ended, and come again. A
//     network must not keep out who is on the machine. What is left of the danger,
//     and the memory that endless multi-part messages or subscriptions of somebody
//     with access to the socket may take inside libzmq, is why this runs in
//     control, whose death no program notices.
//   - CURVE sockets have a libzmq context of their own: a ZAP handler is asked
//     about every socket of its context, and on ipc the kernel's word is better.
//     What ZAP answers, the key, comes with each message as User-Id; where there is
//     no ZAP that name would be the peer's own word, so nobody looks at it there.
//   - A key that is taken away is refused at its next request. A subscriber makes
//     none, and libzmq cannot end one connection; so all of that endpoint are
//     ended, and come again.
//   - A list that cannot be read or trusted allows nobody; a bad line allows
//     nobody, and the others hold. Refused: to keep the former list, which would
//     keep a key that was to be taken away.
//   - Key files are CZMQ certificates: pyzmq and others read them. Keys are made
//     with crypto/ecdh (they are X25519's), which also checks that the halves of a
//     file belong together.
//   - A connection that failed is told with its address, which libzmq only
//     gives as a descriptor with two other messages of its monitor: see monitor.
//   - A reply that a slow reader has no room for waits in our queue, up to a
//     bound; then requests get `busy`, then nothing. Refused: a high water mark of
//     thousands inside libzmq, which would keep a copy of each reply.
//   - A large reply that is sent again is held by libzmq once and shared by its
//     messages (share.go): zmq4 would copy it each time. Refused: to lend libzmq Go's
//     memory, which would have to be pinned until a thread of C says that it is sent.
//   - The client is a DEALER with request ids: a late reply is not taken for the
//     next one, and no timeout leaves it stuck as it would a REQ.
//   - When the connection breaks under a request, the client knows from the
//     socket's monitor. What only reads is sent again, five times at most: it may
//     be what the daemon dies of. A change is not: nobody knows whether it was
//     carried out, and somebody else may have changed the same since. Refused:
//     request ids that the daemon remembers, which would have to be as durable as
//     what they protect.
package zmq
