package rpc

import (
	"fmt"
	"strings"
)

// WireReference is the method table as Markdown, for people who write clients.
func WireReference() string {
	var b strings.Builder
	b.WriteString("| Method | access | what it does |\n|---|---|---|\n")
	for _, m := range ordered {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s |\n", m.Name, m.Name, m.Access, cell(firstSentence(m.Doc)))
	}
	for _, m := range ordered {
		m.reference(&b)
	}
	b.WriteString("\n### Errors\n\n")
	b.WriteString("A refusal is `{\"error\": text, \"request\": the whole request, \"code\": code}`, with `problems` when a configuration is at fault. Codes are stable:\n\n")
	b.WriteString("| code | when |\n|---|---|\n")
	for _, c := range codeDocs {
		fmt.Fprintf(&b, "| `%s` | %s |\n", c.Code, cell(c.Doc))
	}
	return b.String()
}

// AccessReference says who may do what, as Markdown.
func AccessReference() string {
	names := map[Access][]string{}
	var restricted []string
	for _, m := range ordered {
		names[m.Access] = append(names[m.Access], "`"+m.Name+"`")
		for _, a := range m.Args {
			if a.Admin {
				restricted = append(restricted, "`"+a.Name+"` of `"+m.Name+"`")
			}
		}
	}
	return fmt.Sprintf(`| Methods | root, the daemon's own uid, members of --admin-group | other local users who can open the socket | a key with the role admin | a key with the role read | anybody else |
|---|---|---|---|---|---|
| %s | yes | yes | yes | yes | no |
| %s | yes | no | yes | no | no |
| the arguments %s | yes | no | yes | no | no |
| events (SUB) | yes | yes | yes | yes | no |
`, strings.Join(names[AccessRead], ", "), strings.Join(names[AccessAdmin], ", "), strings.Join(restricted, ", "))
}

func (m *Method) reference(b *strings.Builder) {
	fmt.Fprintf(b, "\n### %s\n\n%s (%s)\n", m.Name, m.Doc, m.Access)
	if len(m.Args) > 0 {
		b.WriteString("\n| argument | type | |\n|---|---|---|\n")
		for _, a := range m.Args {
			fmt.Fprintf(b, "| `%s` | %s | %s |\n", a.Name, cell(a.typeText()), cell(a.notes()))
		}
	}
	if m.AnyKey != "" {
		fmt.Fprintf(b, "\nFurther keys: %s.\n", m.AnyKey)
	}
	fmt.Fprintf(b, "\nReply: %s\n", m.Result)
	fmt.Fprintf(b, "\n```json\n%s\n%s\n```\n", m.exampleRequest(), m.Reply)
}

// notes is the doc of an argument with what its flags mean.
func (a Arg) notes() string {
	text := a.Doc
	if a.Required {
		text += " (required)"
	}
	if a.Admin {
		text += " (administrators only)"
	}
	return text
}

func firstSentence(s string) string {
	if first, _, ok := strings.Cut(s, ". "); ok {
		return first + "."
	}
	return s
}

// cell keeps a text inside its cell of a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
