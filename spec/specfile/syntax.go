package specfile

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"cuelang.org/go/cue/errors"

	"github.com/procnanny/procnanny/spec"
)

// syntax turns a parser's errors into problems.
func (t *tree) syntax(name string, err error) {
	for _, ce := range errors.Errors(err) {
		p := spec.Problem{File: name}
		places := t.positions(ce)
		if len(places) > 0 {
			p = t.problemAt(places[0])
			for _, also := range places[1:] {
				p.Also = append(p.Also, t.problemAt(also).Place())
			}
		}
		p.Message = syntaxMessage(ce)
		if p.Line == 0 && isYAML(name) {
			t.yamlPlace(&p)
		}
		if t.parsed[name] == nil && t.underEnv(p.File, p.Line) {
			p.SourceLine, p.Message = "", t.withoutText(p.File, p.Message)
		}
		t.problems = append(t.problems, p)
	}
}

// syntaxMessage is what the parser said, without the wrappings of CUE.
func syntaxMessage(ce errors.Error) string {
	format, args := ce.Msg()
	message := fmt.Sprintf(format, args...)
	inner := errors.Unwrap(ce)
	switch {
	case inner == nil:
		return message
	case strings.HasPrefix(format, "invalid JSON"):
		return "invalid JSON: " + inner.Error()
	case message == "":
		return inner.Error()
	}
	return message
}

var (
	yamlLine   = regexp.MustCompile(`(?s)^.*?\.ya?ml:(?:([0-9]+):)? (.*)$`)
	yamlAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// yamlPlace takes the line out of the message of YAML's parser and finds a
// better one: the parser often names where the block began.
func (t *tree) yamlPlace(p *spec.Problem) {
	data := t.files[p.File]
	p.Line = 1
	if m := yamlLine.FindStringSubmatch(p.Message); m != nil {
		p.Message = m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			p.Line = n
		}
	}
	if m := yamlAnchor.FindStringSubmatch(p.Message); m != nil {
		if i := bytes.Index(data, []byte("*"+m[1])); i >= 0 {
			p.Line = 1 + bytes.Count(data[:i], []byte("\n"))
			p.Column = i - bytes.LastIndexByte(data[:i], '\n')
		}
	} else if n := firstBadLine(data); n > 0 {
		p.Line = n
	}
	p.SourceLine = t.quote(p.File, p.Line)
	text := strings.TrimLeft(p.SourceLine, " \t")
	if p.Column == 0 {
		p.Column = 1 + len(p.SourceLine) - len(text)
	}
	if indent := p.SourceLine[:len(p.SourceLine)-len(text)]; strings.Contains(indent, "\t") {
		p.Hint = "YAML is indented with spaces, not with tabs"
	}
}

// Bounds of the search for a line.
const (
	searchMax   = 128 << 10 // bytes of a file
	searchTries = 60
	searchAhead = 20 // lines that a value may go on
)

// firstBadLine is the line with which a YAML file stops being good, by trying
// how far it is; 0 if it was not found.
func firstBadLine(data []byte) int {
	if len(data) > searchMax {
		return 0
	}
	lines, tries := bytes.SplitAfter(data, []byte("\n")), 0
	good := func(n int) bool {
		tries++
		_, err := extractYAML("", bytes.Join(lines[:n], nil))
		return err == nil
	}
	pass := 0
	for tries < searchTries {
		low, fail := pass, len(lines)
		for low+1 < fail {
			if mid := (low + fail) / 2; good(mid) {
				low = mid
			} else {
				fail = mid
			}
		}
		// A value of several lines is bad until its end.
		next := 0
		for n := fail + 1; n < len(lines) && n <= fail+searchAhead && next == 0 && tries < searchTries; n++ {
			if good(n) {
				next = n
			}
		}
		if next == 0 {
			return fail
		}
		pass = next
	}
	return 0
}
