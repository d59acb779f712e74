package specfile

import (
	"bufio"
	"bytes"
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
	raw, err := encode(e.finish(host))
	if err != nil {
		return fmt.Errorf("cannot encode the verdict: %w", err)
	}
	if _, err = out.Write(append(raw, '\n')); err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("cannot write the verdict: %w", err)
	}
	return nil
}

// encode is a result as JSON. A program whose short form is known is written in
// that, which is a quarter of the long one with all its defaults, and is read
// back as the same program.
func encode(res spec.EvalResult, short map[string][]byte) ([]byte, error) {
	if res.Spec == nil {
		return json.Marshal(res)
	}
	rest, frame := res, *res.Spec
	rest.Spec, frame.Programs = nil, map[string]spec.Program{}
	after, err := json.Marshal(rest)
	if err != nil {
		return nil, err
	}
	around, err := json.Marshal(frame)
	if err != nil {
		return nil, err
	}
	around, ok := bytes.CutPrefix(around, []byte(`{"programs":{}`))
	if !ok {
		return json.Marshal(res)
	}
	b := append(make([]byte, 0, 1024+512*len(res.Spec.Programs)), `{"spec":{"programs":{`...)
	for i, name := range sortedKeys(res.Spec.Programs) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, name), ':')
		raw := short[name]
		if raw == nil {
			if raw, err = json.Marshal(res.Spec.Programs[name]); err != nil {
				return nil, err
			}
		}
		b = append(b, raw...)
	}
	b = append(append(b, '}'), around...)
	if len(after) > len("{}") {
		b = append(b, ',')
	}
	return append(b, after[1:]...), nil
}
