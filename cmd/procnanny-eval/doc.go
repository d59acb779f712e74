// Command procnanny-eval evaluates one set of configuration files and is gone.
//
// It reads the files as JSON from standard input and answers on standard
// output; package specfile describes the dialogue. It opens no file, and before
// it reads the first byte it gives up root if it has it, limits its own memory
// (RLIMIT_DATA 512 MiB) and CPU time (3 s), and forbids itself core files and any
// further descriptor. So a configuration that never ends or eats all memory ends
// this process, and nobody else notices. It exits with something else than 0 only
// when it could not do its work at all; a bad configuration is a result.
//
//	procnanny-eval              the dialogue
//	procnanny-eval --schema     the schema
//	procnanny-eval --reference  every key, as Markdown
//
// # Decisions
//
//   - It limits itself, although its parent could: so vet, the daemon and a test
//     get the same verdict, and there is no way to start it unlimited.
//   - RLIMIT_DATA and not RLIMIT_AS: Go's runtime reserves more than a gigabyte
//     of address space that it never touches.
//   - The wall clock is the parent's to watch; a process cannot be trusted to
//     notice that it hangs.
package main
