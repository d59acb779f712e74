package specfile

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"github.com/procnanny/procnanny/spec"
)

// Serve speaks the evaluator's side of the dialogue, one JSON value a line:
// EvalRequest in, EvalNames out, Resolved in, EvalResult out. It fails only when
// the dialogue itself breaks; a bad configuration is a result.
func Serve(r io.Reader, w io.Writer) error {
	in, out := json.NewDecoder(bufio.NewReaderSize(r, 1<<16)), bufio.NewWriterSize(w, 1<<16)
	say := func(v any) error {
		if err := json.NewEncoder(out).Encode(v); err != nil {
			return fmt.Errorf("cannot write %T: %w", v, err)
		}
		if err := out.Flush(); err != nil {
			return fmt.Errorf("cannot write %T: %w", v, err)
		}
		return nil
	}
	var req spec.EvalRequest
	if err := in.Decode(&req); err != nil {
		return fmt.Errorf("cannot read the request: %w", err)
	}
	e := Start(req)
	if err := say(e.Names()); err != nil {
		return err
	}
	var host spec.Resolved
	if err := in.Decode(&host); err != nil {
		return fmt.Errorf("cannot read the resolved names: %w", err)
	}
	return say(e.Finish(host))
}
