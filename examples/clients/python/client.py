#!/usr/bin/python3
"""A procnanny client: one msgpack map out, one back.

  client.py status
  client.py fizzle                                  (no such method)
  client.py restart program="hello world" instance=0
  client.py create program=nap command=sleep args='["60"]'
  client.py follow state. 3                         (three events)

Needs (Debian): python3-zmq python3-msgpack
"""
import itertools
import json
import os
import sys

import msgpack
import zmq
import zmq.auth

run = os.environ.get("PROCNANNY_RUN") or (
    "/run/procnanny" if os.getuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "") + "/procnanny")
RPC = os.environ.get("PROCNANNY_CONNECT", f"ipc://{run}/rpc.sock")
EVENTS = os.environ.get("PROCNANNY_EVENTS", f"ipc://{run}/events.sock")


def socket(kind, endpoint, timeout):
    s = zmq.Context.instance().socket(kind)
    s.linger = 0
    s.rcvtimeo = timeout
    if endpoint.startswith("tcp:") and "PROCNANNY_KEY" in os.environ:  # files of `procnanny keygen`
        s.curve_publickey, s.curve_secretkey = zmq.auth.load_certificate(os.environ["PROCNANNY_KEY"])
        s.curve_serverkey, _ = zmq.auth.load_certificate(os.environ["PROCNANNY_SERVER_KEY"])
    s.connect(endpoint)
    return s


def unpack(body):
    # Instance numbers are integer keys; output data may be any bytes.
    return msgpack.unpackb(body, strict_map_key=False)


def argument(word):
    """key=value; a value that is JSON is that, anything else is a string."""
    key, eq, value = word.partition("=")
    if not eq:
        sys.exit(f"expected key=value, found {word}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def call(method, args):
    s = socket(zmq.REQ, RPC, 10_000)
    s.send(msgpack.packb({"request": method, **args}))
    try:
        return unpack(s.recv())
    except zmq.Again:
        sys.exit(f"no answer from {RPC}")


def follow(topic="", count=None):
    s = socket(zmq.SUB, EVENTS, -1)
    s.subscribe(topic)
    for _ in range(int(count)) if count else itertools.count():
        _topic, body = s.recv_multipart()
        print(unpack(body), flush=True)


def main(words):
    if not words:
        sys.exit("usage: client.py METHOD [KEY=VALUE]... | client.py follow [TOPIC [COUNT]]")
    if words[0] == "follow":
        return follow(*words[1:])
    reply = call(words[0], dict(map(argument, words[1:])))
    print(reply)
    return 1 if "error" in reply else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
