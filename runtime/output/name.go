package output

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/procnanny/procnanny/spec"
)

// Names of files, in the directory of their program. base is "0", "0.stdout"
// or "0.stderr":
//
//	0.log                        what is written now
//	0.log.00000000000010485760   put aside: its first byte is number 10485760
//	0.log.00000000000010485760.gz the same, compressed by somebody, see unpack.go
//	0.idx                        times and runs
//	0.stage                      a chunk on its way, see stage.go
//	0.drop                       how much was dropped and not yet told, see drop.go
//	0.log.aside.1                something that was in our way
const (
	logSuffix   = ".log"
	indexSuffix = ".idx"
	asideSuffix = ".aside."
	// offsetDigits hold every int64 with leading zeros, so that the names sort
	// in the order of writing.
	offsetDigits = 20
)

// streams are the streams there can be: "" is both in one.
var streams = []string{"", "stdout", "stderr"}

// stream names the files of one stream of one instance.
type stream struct {
	program string
	base    string
}

// newStream checks what it is given: a name becomes a path here.
func newStream(program string, index int, name string) (stream, error) {
	st := stream{program: program, base: strconv.Itoa(index)}
	if name != "" {
		st.base += "." + name
	}
	if err := spec.CheckRunName(program); err != nil {
		return st, fmt.Errorf("cannot keep the output of %q: %w", program, err)
	}
	if index < 0 {
		return st, fmt.Errorf("cannot keep the output of %s: there is no instance %d", program, index)
	}
	if !slices.Contains(streams, name) {
		return st, fmt.Errorf("cannot keep the output of %s: there is no stream %q", program, name)
	}
	return st, nil
}

func (st stream) live() string  { return st.base + logSuffix }
func (st stream) index() string { return st.base + indexSuffix }

func (st stream) segment(start int64) string {
	return fmt.Sprintf("%s%s.%0*d", st.base, logSuffix, offsetDigits, start)
}

// path is relative to the log directory.
func (st stream) path(name string) string { return st.program + "/" + name }

func (st stream) String() string { return st.path(st.live()) }

// parseSegment takes the name of a put aside file apart, which may be compressed.
func parseSegment(name string) (base string, start int64, ok bool) {
	name = strings.TrimSuffix(name, packedSuffix)
	base, digits, ok := strings.Cut(name, logSuffix+".")
	if !ok || base == "" || len(digits) != offsetDigits {
		return "", 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' { // ParseInt takes signs
			return "", 0, false
		}
	}
	start, err := strconv.ParseInt(digits, 10, 64)
	return base, start, err == nil
}
