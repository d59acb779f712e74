// Package store keeps what must outlive the control process, in two places:
//
//   - The run directory, which lives as long as the machine runs (a tmpfs), has
//     the journal: one write(2) for each turn of the engine, no fsync. A control
//     that was killed finds the world in it exactly as it was.
//   - The state directory, which survives a reboot, has procnanny.db (overrides,
//     generations, the pin: on disk before anybody is told that it was done) and
//     history.db (runs, events, the last state of each instance: written behind
//     the journal by one goroutine, many at a time).
//
// Promises:
//
//   - Record never waits for a disk. What the disk does not take is kept in
//     memory and in the journal, within bounds; above them the oldest is given
//     up, counted, and named through Config.Lost and Recovered.Loss.
//   - Events are numbered without a gap. A number that was given out never comes
//     again, also when the machine loses its power and the journal with it: then
//     counting goes on above everything that may have been given out, and the
//     loss says from where on. A run's id never comes again either.
//   - A full run directory keeps nobody from opening: until there is room, what
//     happens is in memory and in the history. The journal that says less is
//     renamed, which takes no room: a later start believes a newer history more,
//     and no number in it.
//   - Queries see everything that Record has returned for.
//   - Totals (Tallies) are of every run there ever was, each counted once.
//   - No byte in any of the files can crash or hang us. What is broken is put
//     aside under another name and begun anew from what is still known; a file
//     that is deleted, replaced or truncated under us is written again. Only what
//     a newer version wrote is refused.
//   - History is bounded by count, bytes and age; memory by constants.
//   - With nothing to write there is no timer.
//
// # Decisions
//
//   - A journal and a database, not a database alone: an fsync in the way of a
//     restart costs milliseconds on a good disk and seconds on a bad one, and
//     what must only survive our own death needs none. Not a journal alone:
//     history is asked by program and by number, and bbolt does that.
//   - Two databases: what people decided is small and precious, history is
//     large and can be missed. A page of history that goes bad, a full history or
//     a long transaction touches no override.
//   - bbolt trusts its file. So each value carries a checksum, the pages are
//     walked before bbolt sees them (it would recurse without end on a page that
//     points to its parent), and everything inside runs with faults turned into
//     panics and panics into errors. After the first one nobody goes in again:
//     bbolt may hold its locks for ever. Where a transaction's fsync fails, the
//     file is written anew instead of being asked again.
//   - A start reads only the heads of the generations that are kept. To read all
//     of twenty, of a thousand programs each, took half a second in which nobody
//     could ask for the status.
//   - The journal is msgpack by field name in frames with checksums: fields come
//     and go with versions. It is rewritten when it is four times as large as what
//     it says. Refused: a snapshot by fork, and segments, for a file of a few
//     megabytes in memory.
//   - What is packed is packed by hand, and read by reflection: to write a turn
//     down comes before every restart and before the news of it, with cold caches
//     each time, and the library takes 24 us of them for one instance where this
//     takes 4. A test holds each type to the library's bytes. Refused: the
//     library's own primitives, which write each byte through an interface, and
//     the forms of rpc, whose strings and times are other ones.
//   - A stop of many leaves its journal beside the database (history.rest), for the
//     next start to bring in: the transaction took a sixth of the CPU of a stop of a
//     thousand while somebody waited, the copy takes a tenth of that. Until then
//     nobody asks for what is in it. Refused: an end without either, which a reboot
//     would forget.
//   - Numbers run at most 65,536 ahead of what a database knows, as long as the
//     disk takes anything at all; skipping that many after a power cut was chosen
//     over an fsync for each event.
//   - The program with the most history gives first: one that crashes all day
//     takes nothing from the others.
//   - Totals are kept for each instance and know the last run in them: to sum up
//     the runs that are kept would end with them, and to count at each end would
//     count twice what a journal tells again. A version that knows no totals may
//     write in between: the number of the last event that they know shows it, and
//     what is kept since is counted when they are next needed.
//   - The journal says by which clock it is dated, as the time of the boot: who
//     finds the clock set meanwhile moves what it remembers. History is not
//     moved: it was told so. And by age history goes only when the clock has gone
//     evenly for an hour: one that is wrong at a boot must not take it all away.
//   - After a reboot the runs that lived ended at the boot at the latest; how
//     they ended nobody knows, and nothing is guessed.
//   - A generation is packed in pieces of about 32 programs, each a gzip member of
//     its own, and those that hold the same programs as the last time are taken
//     over: of 1000 programs, one of them edited, it takes 2 ms of CPU instead of
//     18, of 5000 10 instead of 75. What reads it sees one text, as before.
//     Refused: to desire first and to write after.
package store
