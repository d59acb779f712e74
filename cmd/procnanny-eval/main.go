package main

import (
	"fmt"
	"os"

	"github.com/procnanny/procnanny/spec/specfile"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "procnanny-eval:", err)
		os.Exit(1)
	}
}

// run serves the dialogue, or prints what the flag asks for.
func run(args []string) error {
	switch {
	case len(args) == 0:
		if err := limit(); err != nil {
			return err // never evaluate without limits
		}
		return specfile.Serve(os.Stdin, os.Stdout)
	case len(args) == 1 && args[0] == "--schema":
		fmt.Print(specfile.Schema())
		return nil
	case len(args) == 1 && args[0] == "--reference":
		fmt.Print(specfile.Reference())
		return nil
	}
	return fmt.Errorf("cannot start: expected no argument, --schema or --reference, found %q", args)
}
