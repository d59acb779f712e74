#!/usr/bin/env node
// A procnanny client: one msgpack map out, one back.
//
//   node client.mjs status
//   node client.mjs fizzle                                  (no such method)
//   node client.mjs restart program="hello world" instance=0
//   node client.mjs create program=nap command=sleep args='["60"]'
//   node client.mjs follow state. 3                         (three events)
//
// Needs: npm ci (zeromq, @msgpack/msgpack)
import { decode, encode } from "@msgpack/msgpack";
import { readFileSync } from "node:fs";
import { Request, Subscriber } from "zeromq";

const env = process.env;
const run = env.PROCNANNY_RUN ??
  (process.getuid() === 0 ? "/run/procnanny" : `${env.XDG_RUNTIME_DIR}/procnanny`);
const RPC = env.PROCNANNY_CONNECT ?? `ipc://${run}/rpc.sock`;
const EVENTS = env.PROCNANNY_EVENTS ?? `ipc://${run}/events.sock`;

function fail(message) {
  console.error(message);
  process.exit(1);
}

// key=value; a value that is JSON is that, anything else is a string.
function argument(word) {
  const at = word.indexOf("=");
  if (at < 0) fail(`expected key=value, found ${word}`);
  const [key, value] = [word.slice(0, at), word.slice(at + 1)];
  try {
    return [key, JSON.parse(value)];
  } catch {
    return [key, value];
  }
}

// What a socket needs over TCP: the keys in files of `procnanny keygen`.
function secure(endpoint) {
  if (!endpoint.startsWith("tcp:") || !env.PROCNANNY_KEY) return {};
  const key = (file, half) => readFileSync(file, "utf8").match(new RegExp(`^\\s*${half}-key = "(.*)"$`, "m"))[1];
  return {
    curvePublicKey: key(env.PROCNANNY_KEY, "public"),
    curveSecretKey: key(env.PROCNANNY_KEY, "secret"),
    curveServerKey: key(env.PROCNANNY_SERVER_KEY, "public"),
  };
}

async function call(method, args) {
  const socket = new Request({ linger: 0, receiveTimeout: 10_000, ...secure(RPC) });
  socket.connect(RPC);
  await socket.send(encode({ request: method, ...args }));
  try {
    const [body] = await socket.receive();
    return decode(body);
  } catch (error) {
    fail(`no answer from ${RPC}: ${error.message}`);
  } finally {
    socket.close();
  }
}

async function follow(topic = "", count = Infinity) {
  const socket = new Subscriber(secure(EVENTS));
  socket.connect(EVENTS);
  socket.subscribe(topic);
  for (let seen = 0; seen < count; seen++) {
    const [, body] = await socket.receive();
    console.log(JSON.stringify(decode(body)));
  }
  socket.close();
}

const [method, ...words] = process.argv.slice(2);
if (method === undefined) {
  fail("usage: client.mjs METHOD [KEY=VALUE]... | client.mjs follow [TOPIC [COUNT]]");
} else if (method === "follow") {
  await follow(...words);
} else {
  const reply = await call(method, Object.fromEntries(words.map(argument)));
  console.log(JSON.stringify(reply)); // instance numbers become strings, as all keys in JavaScript
  if ("error" in reply) process.exitCode = 1;
}
