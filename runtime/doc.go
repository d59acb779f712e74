// Package runtime holds no code: it is the floor on which the rooms stand that
// touch the outside world, one package for each thing touched.
//
//   - [github.com/procnanny/procnanny/runtime/launch] starts one process.
//   - [github.com/procnanny/procnanny/runtime/output] moves its output to files.
//   - [github.com/procnanny/procnanny/runtime/keeper] is the parent of all of them.
//   - [github.com/procnanny/procnanny/runtime/proc] is the reconciler's view of them.
//   - [github.com/procnanny/procnanny/runtime/store] outlives the reconciler.
//   - [github.com/procnanny/procnanny/runtime/watch] turns saved files into a generation.
//   - [github.com/procnanny/procnanny/runtime/engine] is the single writer in the middle.
//   - [github.com/procnanny/procnanny/runtime/sink] does what the configuration's hooks ask for.
//   - [github.com/procnanny/procnanny/runtime/control] assembles the reconciler's process.
//   - [github.com/procnanny/procnanny/runtime/sim] is a machine in virtual time, to foretell and to test.
//   - [github.com/procnanny/procnanny/runtime/doctor] says what the machine permits.
//   - [github.com/procnanny/procnanny/runtime/place] knows flags, directories, trust and locks.
//   - [github.com/procnanny/procnanny/runtime/lean] gives memory back.
//   - [github.com/procnanny/procnanny/runtime/crashpoint] ends a process at a named step, for tests.
//
// Who may import whom is a table in arch_test.go beside this file, with the
// reason for each line; a test holds it against what `go list` says.
//
// # Decisions
//
//   - The rooms meet in control and in cmd. Any other that needs something from a
//     neighbour which it may not import declares the interface itself, so that
//     each can be read, tested and replaced alone. Refused: a shared "core" package,
//     which ends up importing and being imported by everything.
//   - The architecture test lives here and not in a linter's configuration,
//     because it must fail in `go test` on any machine, with its reason.
package runtime
