package main

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// fold breaks a text at blanks into lines of at most limit columns; 0 is no
// limit.
func fold(text string, limit int) []string {
	if limit <= 0 {
		return []string{text}
	}
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case columns(line)+1+columns(word) <= limit:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}

// document prints a reply that is one text under a key. In a pipe it is exact:
// it is there to be stored.
func (a *app) document(ctx context.Context, method, key string, ask map[string]any) error {
	tree, err := a.call(ctx, method, ask)
	if err != nil {
		return err
	}
	return a.printDocument(tree, key)
}

func (a *app) printDocument(tree any, key string) error {
	return a.emit(tree, func() error {
		m, _ := tree.(map[string]any)
		text, ok := m[key].(string)
		if !ok {
			return fmt.Errorf("cannot read the daemon's answer: it has no %s", key)
		}
		if a.terminal.is {
			text = safeLines(text)
		}
		if !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		_, err := io.WriteString(a.out, text)
		return err
	})
}
