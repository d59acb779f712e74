package proc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/procnanny/procnanny/runtime/launch"
)

// maxEnvFile is as large as an env file may be, in bytes.
const maxEnvFile = 1 << 20

// readEnvFile reads NAME=value lines. Its errors never quote the file, which
// may hold secrets.
func readEnvFile(name string) (map[string]string, error) {
	raw, err := readBounded(name)
	if err != nil {
		return nil, err
	}
	vars, line := parseEnv(string(raw))
	if line > 0 {
		return nil, &launch.StepError{Step: fmt.Sprintf("parsing env file %s, line %d", name, line), Errno: syscall.EINVAL}
	}
	return vars, nil
}

// readBounded opens without waiting: a FIFO must not hold a start up for ever.
func readBounded(name string) ([]byte, error) {
	step := "reading env file " + name
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, &launch.StepError{Step: step, Errno: errnoOf(err)}
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, &launch.StepError{Step: step + ", which is no regular file", Errno: syscall.EINVAL}
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxEnvFile+1))
	if err != nil {
		return nil, &launch.StepError{Step: step, Errno: errnoOf(err)}
	}
	if len(raw) > maxEnvFile {
		return nil, &launch.StepError{Step: step, Errno: syscall.EFBIG}
	}
	return raw, nil
}

func errnoOf(err error) syscall.Errno {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return syscall.EIO
}

// parseEnv reads the format that systemd's EnvironmentFile and shells share:
//
//	# comment, as is a line that begins with ;
//	NAME=value          white space around the value is dropped
//	export NAME=value   as a shell would have it
//	NAME="a \"b\" $c"   \ before " \ $ ` and a line's end quotes; may go over lines
//	NAME='a "b" \c'     everything as it is; may go over lines
//
// Nothing is replaced in values. It returns the number of the first line that
// is none of these, or 0.
func parseEnv(text string) (map[string]string, int) {
	vars := map[string]string{}
	s := envScanner{rest: text, line: 1}
	for s.rest != "" {
		line := s.line
		head := strings.TrimLeft(s.rest, " \t\r")
		if head == "" || head[0] == '\n' || head[0] == '#' || head[0] == ';' {
			s.skipLine()
			continue
		}
		name, ok := s.name()
		if !ok {
			return nil, line
		}
		value, ok := s.value()
		if !ok {
			return nil, line
		}
		vars[name] = value
	}
	return vars, 0
}

// envScanner is a place in an env file.
type envScanner struct {
	rest string
	line int
}

func (s *envScanner) skipLine() {
	_, s.rest, _ = strings.Cut(s.rest, "\n")
	s.line++
}

// name takes up to and with the equals sign.
func (s *envScanner) name() (string, bool) {
	line, _, _ := strings.Cut(s.rest, "\n")
	name, _, ok := strings.Cut(line, "=")
	s.rest = s.rest[min(len(name)+1, len(s.rest)):]
	name = strings.TrimPrefix(strings.TrimSpace(name), "export ")
	name = strings.TrimSpace(name)
	return name, ok && isName(name)
}

func isName(name string) bool {
	for i, c := range name {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// value takes up to and with the end of the line.
func (s *envScanner) value() (string, bool) {
	s.rest = strings.TrimLeft(s.rest, " \t")
	if s.rest != "" && (s.rest[0] == '"' || s.rest[0] == '\'') {
		return s.quoted(s.rest[0])
	}
	line, rest, _ := strings.Cut(s.rest, "\n")
	s.rest = rest
	s.line++
	return strings.TrimSpace(line), !strings.Contains(line, "\x00")
}

// quoted takes a quoted value; only white space or a comment may follow it.
func (s *envScanner) quoted(quote byte) (string, bool) {
	var b strings.Builder
	for i := 1; i < len(s.rest); i++ {
		c := s.rest[i]
		switch {
		case c == quote:
			line, rest, _ := strings.Cut(s.rest[i+1:], "\n")
			s.rest = rest
			s.line++
			line = strings.TrimSpace(line)
			return b.String(), line == "" || line[0] == '#'
		case c == 0:
			return "", false
		case c == '\\' && quote == '"' && i+1 < len(s.rest) && strings.IndexByte("\"\\$`\n", s.rest[i+1]) >= 0:
			i++
			if s.rest[i] != '\n' {
				b.WriteByte(s.rest[i])
				continue
			}
			s.line++
		default:
			if c == '\n' {
				s.line++
			}
			b.WriteByte(c)
		}
	}
	return "", false // the quote never ends
}
