package zmq

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/procnanny/procnanny/rpc"
)

// allowed is a line of the list of allowed keys.
type allowed struct {
	role rpc.Access
	name string
}

// Bounds of the list.
const (
	maxAllowFile = 1 << 20
	maxName      = 128
)

// allowHead is what a new list begins with.
const allowHead = `# Who may connect over TCP, one key a line:
#
#   ROLE  PUBLIC-KEY  NAME
#
# ROLE is "admin" (every method) or "read" (looking only). The name is for the
# log and for status: it says who did what. Changes hold at once.
`

// AllowLine is how a key stands in the list of allowed keys.
func AllowLine(role rpc.Access, key, name string) (string, error) {
	line := fmt.Sprintf("%-5s  %s  %s", role, key, name)
	list, problems := parseAllow(line)
	if len(problems) > 0 {
		return "", fmt.Errorf("cannot allow that key: %s", strings.TrimPrefix(problems[0], "line 1: "))
	}
	if _, ok := list[key]; !ok {
		return "", fmt.Errorf("cannot allow that key: %q cannot be its name", name)
	}
	return line + "\n", nil
}

// NewAllowed makes an empty list; one that exists is not touched.
func NewAllowed(path string) error { return writeNew(path, allowHead, secretMode) }

// ReadAllowed reads a list: the role of each key.
func ReadAllowed(path string) (map[string]rpc.Access, error) {
	raw, _, err := readRegular(path, maxAllowFile)
	if err != nil {
		return nil, err
	}
	list, _ := parseAllow(string(raw))
	out := make(map[string]rpc.Access, len(list))
	for key, a := range list {
		out[key] = a.role
	}
	return out, nil
}

// parseAllow reads a list. What cannot be read allows nobody, and is a problem;
// the other lines hold. Of a key that is there twice the lesser role counts.
func parseAllow(text string) (list map[string]allowed, problems []string) {
	list = map[string]allowed{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, a, err := parseAllowed(line)
		if err != nil {
			problems = append(problems, fmt.Sprintf("line %d: %v", number, err))
			continue
		}
		if was, twice := list[key]; twice {
			problems = append(problems, fmt.Sprintf("line %d: the key is there twice; the lesser role counts", number))
			if was.role == rpc.AccessRead {
				a = was
			}
		}
		list[key] = a
	}
	return list, problems
}

func parseAllowed(line string) (key string, a allowed, err error) {
	role, rest := cutWord(line)
	key, a.name = cutWord(rest)
	a.role = rpc.Access(role)
	if a.role != rpc.AccessAdmin && a.role != rpc.AccessRead {
		return "", a, fmt.Errorf("expected the role admin or read, found %q", clip(role))
	}
	if _, err := z85Decode(key); err != nil {
		return "", a, fmt.Errorf("after the role comes the public key: %w", err)
	}
	if len(a.name) > maxName || strings.ContainsFunc(a.name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", a, fmt.Errorf("a name has at most %d bytes, all of them printable", maxName)
	}
	return key, a, nil
}

// cutWord takes the first word of a line.
func cutWord(line string) (word, rest string) {
	i := strings.IndexFunc(line, unicode.IsSpace)
	if i < 0 {
		return line, ""
	}
	return line[:i], strings.TrimSpace(line[i:])
}

// clip keeps a message short whatever it quotes.
func clip(text string) string {
	const most = 20
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}
