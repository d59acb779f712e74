// Package rpc is what clients can ask, whatever carries the bytes: the method
// table, the envelope with its errors, the codec with its guard, and the
// encoder of status and events.
//
// [Server.Serve] turns one request into one reply, never panics, and never
// answers with nothing. Every message is walked by [Guard] before anything
// decodes it. The table ([Methods]) is the only list of methods: dispatch,
// access, argument checks, the `methods` reply and [WireReference] come from
// its rows.
//
// # Decisions
//
//   - Replies are written by our own appending encoder ([Append]) and not by
//     reflection: key order is part of the wire, extension types cannot slip
//     in, and status for 1000 programs is one copy of cached bytes. Requests are
//     decoded by the msgpack library, behind the guard.
//   - Strings are never written with msgpack's later 8-bit length, so that the
//     replies of 2011 are the bytes of 2011. It costs a byte for a string of 32 to
//     255, and no reader can tell.
//   - An error echoes the request's own bytes. Decoding and encoding them again
//     would lose the width of integers, the order of keys and old raw strings.
//   - Unknown arguments are ignored, as in 2011: a client may send its own. Not
//     where one is nearly an argument of a change (a stop of `intance` 1 would be one
//     of the whole program), nor by `create`, whose arguments are a specification.
//   - Unknown peers are refused before anything is looked at. A method or an
//     argument for administrators says so in its row, and nowhere else.
//   - Values of env, and the url and headers of hooks, are replaced by *** in every
//     reply but `export`, which is for committing and therefore shows them to
//     administrators only.
//   - `uptime` is patched into a copy of the cached status at most once a
//     second, and only when somebody asks: an idle daemon encodes nothing.
package rpc
