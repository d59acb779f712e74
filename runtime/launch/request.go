package launch

import "github.com/procnanny/procnanny/spec"

// Request is one process to start, with everything resolved and expanded: no
// name is looked up, no variable replaced, no file read after this.
type Request struct {
	// Candidates are the absolute paths to try in order, as execvp(3) would:
	// one if the command has a slash, else one for each directory of PATH.
	Candidates []string
	Argv       []string
	Env        []string // KEY=value
	Dir        string
	Identity   spec.Identity
	Umask      uint32
	// Capabilities and NoNewPrivs as in the spec.
	Capabilities *spec.Capabilities
	NoNewPrivs   bool
	// Stdin is "null" or an absolute path.
	Stdin string
	// Mode says what stdout and stderr are. For merged and separate the keeper
	// supplies the pipes; Mode.File is expanded and opened as the child's user.
	Mode   spec.OutputMode
	Tuning spec.Tuning
}
