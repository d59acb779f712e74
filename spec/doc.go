// Package spec says what the user wants: plain Go values and pure functions on
// them. It knows no CUE, no operating system and no other package of ours.
//
// A [Program] is split by what a change of it costs:
//
//   - [Launch] is fixed at exec: another value needs another process.
//   - [Tuning] is what the kernel can change on a live pid.
//   - [Policy] is ours alone: nobody is touched.
//
// Comparing the three structs is the diff. There is no hand-kept list of what
// restarts what.
//
// # Decisions
//
//   - A Program's JSON form is exactly the form people write in a file: one
//     flat object with the contract's keys. So overrides, export, plan and the
//     store share one encoding and one decoder.
//   - Defaults are applied here, not in the schema, because a default in a CUE
//     schema fights with a default in the user's own templates.
//   - Admin (up or down) is part of the desired program: a stop is a wish, kept
//     as an override, and not a state of the process.
package spec
