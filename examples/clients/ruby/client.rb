#!/usr/bin/env ruby
# A procnanny client: one msgpack map out, one back.
#
#   ruby client.rb status
#   ruby client.rb fizzle                                  (no such method)
#   ruby client.rb restart program="hello world" instance=0
#   ruby client.rb create program=nap command=sleep args='["60"]'
#   ruby client.rb follow state. 3                         (three events)
#
# Needs (Debian): ruby-ffi-rzmq ruby-msgpack
require "ffi-rzmq"
require "json"
require "msgpack"

run = ENV["PROCNANNY_RUN"] ||
  (Process.uid.zero? ? "/run/procnanny" : "#{ENV["XDG_RUNTIME_DIR"]}/procnanny")
RPC = ENV["PROCNANNY_CONNECT"] || "ipc://#{run}/rpc.sock"
EVENTS = ENV["PROCNANNY_EVENTS"] || "ipc://#{run}/events.sock"

# The keys in a file of `procnanny keygen`.
def keys(variable)
  File.read(ENV.fetch(variable)).scan(/^\s*(public|secret)-key = "(.*)"$/).to_h
end

def secure(s)
  own = keys("PROCNANNY_KEY")
  s.setsockopt(ZMQ::CURVE_PUBLICKEY, own["public"])
  s.setsockopt(ZMQ::CURVE_SECRETKEY, own["secret"])
  s.setsockopt(ZMQ::CURVE_SERVERKEY, keys("PROCNANNY_SERVER_KEY")["public"])
end

def socket(type, endpoint, timeout)
  s = ZMQ::Context.new.socket(type)
  s.setsockopt(ZMQ::LINGER, 0)
  s.setsockopt(ZMQ::RCVTIMEO, timeout)
  secure(s) if endpoint.start_with?("tcp:") && ENV["PROCNANNY_KEY"]
  s.connect(endpoint).zero? or abort "cannot connect to #{endpoint}: #{ZMQ::Util.error_string}"
  s
end

def receive(socket, endpoint)
  parts = []
  socket.recv_strings(parts) >= 0 or abort "nothing from #{endpoint}: #{ZMQ::Util.error_string}"
  parts
end

# key=value; a value that is JSON is that, anything else is a string.
def arguments(words)
  words.to_h do |word|
    key, value = word.split("=", 2)
    value or abort "expected key=value, found #{word}"
    [key, begin JSON.parse(value) rescue value end]
  end
end

def call(method, args)
  s = socket(ZMQ::REQ, RPC, 10_000)
  s.send_string({"request" => method, **args}.to_msgpack)
  MessagePack.unpack(receive(s, RPC).first)
ensure
  s&.close # the context waits for its sockets when ruby ends
end

def follow(topic, count)
  s = socket(ZMQ::SUB, EVENTS, -1)
  s.setsockopt(ZMQ::SUBSCRIBE, topic)
  count.times do
    _topic, body = receive(s, EVENTS)
    p MessagePack.unpack(body)
    $stdout.flush
  end
ensure
  s&.close
end

method, *words = ARGV
case method
when nil then abort "usage: client.rb METHOD [KEY=VALUE]... | client.rb follow [TOPIC [COUNT]]"
when "follow" then follow(words[0] || "", (words[1] || 1 << 60).to_i)
else
  reply = call(method, arguments(words))
  p reply
  exit 1 if reply.key?("error")
end
