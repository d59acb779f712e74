package spec

import "strings"

// Expand replaces $(NAME) by its value, as Kubernetes does for container
// commands: $$(NAME) is a literal $(NAME), and a name that lookup does not
// know stays as written. Percent signs mean nothing, and so does a $$ that
// no parenthesis follows: it is the shell's process id.
func Expand(text string, lookup func(name string) (string, bool)) string {
	if !strings.Contains(text, "$") {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		rest := text[i:]
		switch {
		case strings.HasPrefix(rest, "$$("):
			b.WriteString("$(")
			i += 3
		case strings.HasPrefix(rest, "$("):
			end := strings.IndexByte(rest, ')')
			if end < 0 {
				b.WriteString(rest)
				return b.String()
			}
			if v, ok := lookup(rest[2:end]); ok {
				b.WriteString(v)
			} else {
				b.WriteString(rest[:end+1])
			}
			i += end + 1
		default:
			b.WriteByte(text[i])
			i++
		}
	}
	return b.String()
}
