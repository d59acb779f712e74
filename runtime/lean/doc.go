// Package lean keeps a process that waits most of its life small.
//
// # Decisions
//
//   - Two thirds of what an idle keeper or control has in memory are pages of
//     its own text and libraries that only its start touched, 64 KiB around
//     each page that was really used. Dropping them is safe (they are clean, and
//     the page cache has them) and halves the figure that `ps` and the kernel's
//     memory accounting show. Refused: a static libzmq of our own, which would
//     save less and cost a second source of truth for security updates.
//   - A mapping with a single written page is left alone.
package lean
