package main

import (
	"io"
	"slices"
	"strings"
	"testing"
)

// Words of other clients lead to a command that there is, and hide none.
func TestWordsFromElsewhere(t *testing.T) {
	var names []string
	for _, cmd := range (&app{}).root().Commands() {
		names = append(names, cmd.Name())
	}
	seen := map[string]string{}
	for command, words := range elsewhere {
		if !slices.Contains(names, command) {
			t.Errorf("there is no command %s", command)
		}
		for _, word := range words {
			if slices.Contains(names, word) || seen[word] != "" {
				t.Errorf("%s is %s, and %s", word, command, seen[word])
			}
			seen[word] = command
			root := (&app{out: io.Discard, err: io.Discard}).root()
			root.SetArgs([]string{word})
			root.SetOut(io.Discard)
			root.SetErr(io.Discard)
			if err := root.Execute(); err == nil || !strings.Contains(err.Error(), "\t"+command+"\n") {
				t.Errorf("%s: %v", word, err)
			}
		}
	}
}
