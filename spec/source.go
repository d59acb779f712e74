package spec

import (
	"fmt"
	"sort"
	"strings"
)

// Source is a consistent copy of the configuration files, as the evaluator
// gets it through a pipe.
type Source struct {
	// Root is the absolute path that the files' names are relative to. It is
	// for messages only: the evaluator opens nothing.
	Root string `json:"root"`
	// Single is the name of the only file to use when the configuration is one
	// file; empty means all files in the root directory.
	Single string `json:"single,omitempty"`
	// Files maps a slash-separated path below Root to the file's bytes.
	// Subdirectories are here because CUE may import them.
	Files map[string][]byte `json:"files"`
}

// Problem is one thing wrong with a configuration, with its place.
type Problem struct {
	File string `json:"file,omitempty" msgpack:"file"`
	Line int    `json:"line,omitempty" msgpack:"line"`
	// Column counts bytes from 1.
	Column int `json:"column,omitempty" msgpack:"column"`
	// Path is the dotted key, e.g. programs.web.nice.
	Path    string `json:"path,omitempty" msgpack:"path"`
	Message string `json:"message" msgpack:"message"`
	// SourceLine is the text of the line; empty under env, which may hold
	// secrets.
	SourceLine string `json:"source_line,omitempty" msgpack:"source_line"`
	// Also are further places that take part, as file:line:column.
	Also []string `json:"also,omitempty" msgpack:"also"`
	// Hint is what the user probably meant.
	Hint string `json:"hint,omitempty" msgpack:"hint"`
	// Warning marks something that is accepted all the same.
	Warning bool `json:"warning,omitempty" msgpack:"warning"`
}

// Place is file:line:column, or what of it is known.
func (p Problem) Place() string {
	switch {
	case p.File == "":
		return ""
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Error is the problem on one line: place, path, message, hint.
func (p Problem) Error() string {
	var b strings.Builder
	if place := p.Place(); place != "" {
		b.WriteString(place + ": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	if len(p.Also) > 0 {
		b.WriteString(" (see also " + strings.Join(p.Also, ", ") + ")")
	}
	return b.String()
}

// Text is the problem as people read it: the line above, then the source line
// with a caret under the column.
func (p Problem) Text() string {
	if p.SourceLine == "" {
		return p.Error()
	}
	pad := strings.Map(func(r rune) rune {
		if r == '\t' {
			return '\t'
		}
		return ' '
	}, p.SourceLine[:min(max(p.Column-1, 0), len(p.SourceLine))])
	return p.Error() + "\n    " + p.SourceLine + "\n    " + pad + "^"
}

// Problems is a list of problems as one error.
type Problems []Problem

// Errors returns those that are no warnings.
func (ps Problems) Errors() Problems {
	var out Problems
	for _, p := range ps {
		if !p.Warning {
			out = append(out, p)
		}
	}
	return out
}

// Sort orders by file, line, column, path.
func (ps Problems) Sort() {
	sort.SliceStable(ps, func(i, j int) bool {
		a, b := ps[i], ps[j]
		if a.File != b.File {
			return a.File < b.File
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		if a.Column != b.Column {
			return a.Column < b.Column
		}
		return a.Path < b.Path
	})
}

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// EvalRequest opens the dialogue with the evaluator, one JSON value a line:
// the evaluator answers with EvalNames, gets Resolved, and ends with
// EvalResult.
type EvalRequest struct {
	Source Source `json:"source"`
	// Overrides to judge against the files' own constraints, as if each value
	// stood in the file in place of the one there. FieldAdmin is not judged.
	Overrides []Override `json:"overrides,omitempty"`
}

// EvalNames lists the user and group names that the files use.
type EvalNames struct {
	Users  []UserRef `json:"users"`
	Groups []string  `json:"groups"`
}

// UserRef is a user by name, or by number when Name is empty.
type UserRef struct {
	Name string `json:"name,omitempty"`
	UID  uint32 `json:"uid,omitempty"`
}

// Resolved is what the host knows of those names. A missing key is an unknown
// name.
type Resolved struct {
	// Users is keyed by name; ByUID by number, for those that passwd knows.
	Users map[string]Identity `json:"users"`
	ByUID map[uint32]Identity `json:"by_uid"`
	Group map[string]uint32   `json:"group"`
	// Self is the identity of the daemon, which a program without user gets;
	// Switch is false in it.
	Self Identity `json:"self"`
	// NrOpen is the most descriptors that any process of this host can have,
	// fs.nr_open; 0 is unknown.
	NrOpen uint64 `json:"nr_open,omitempty"`
	// Lenient makes an unknown name a warning: vet without --host.
	Lenient bool `json:"lenient,omitempty"`
}

// EvalResult is the verdict. Spec is set only when Problems has no error.
type EvalResult struct {
	Spec     *Spec    `json:"spec,omitempty"`
	Problems Problems `json:"problems,omitempty"`
	// Refused maps an override's Key to why the files' constraints refuse it.
	Refused map[string]Problems `json:"refused,omitempty"`
	// Identities are who the programs of overrides run as with the overrides in
	// force, by program.
	Identities map[string]Identity `json:"identities,omitempty"`
	// Defined says where the files define a program, for messages: file:line,
	// several joined by commas. A program whose name is computed is missing.
	Defined map[string]string `json:"defined,omitempty"`
	// Unjudged means that the evaluator came to no verdict: the files may be good
	// all the same. Whoever ran it says so.
	Unjudged bool `json:"-"`
}
