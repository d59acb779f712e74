// Package lean keeps a process that waits most of its life small, and asleep.
//
// # Decisions
//
//   - Two thirds of what an idle keeper or control has in memory are pages of
//     its own text and libraries that only its start touched, 64 KiB around
//     each page that was really used. Dropping them is safe (they are clean, and
//     the page cache has them) and halves the figure that `ps` and the kernel's
//     memory accounting show. Refused: a static libzmq of our own, which would
//     save less and cost a second source of truth for security updates.
//   - Those who look at something from time to time do so on one beat: what wakes a
//     process is counted, not how many look then. Refused: one goroutine that does it
//     for all, which would have to know them.
//   - The beat is Go's timers, and a timerfd beside them that makes them punctual (see
//     Pulse). Refused: timerfds instead of timers, one for each that waits.
//   - A private mapping with a single written page is left alone; a shared one is
//     the file's, written or not.
//   - Large mappings are cut into pieces of 64 KiB: since Linux 6.18 a page fault
//     maps the whole folio of the page cache, and all of the text came back for
//     the little that an idle process runs. It costs a hundred areas of the
//     address space, 200 bytes each. Refused: MADV_RANDOM, which would also turn
//     off reading ahead.
package lean
