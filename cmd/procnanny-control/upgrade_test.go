package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// installed is a procnannyd that runs a script.
func installed(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "procnannyd")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// Who ended well has answered, however late the end of its output is seen.
func TestALateAnswerIsAnAnswer(t *testing.T) {
	var answer strings.Builder
	if printKnown(&answer) != 0 {
		t.Fatal("we do not say what we know")
	}
	path := installed(t, "(sleep 1.3; echo '"+answer.String()+"') &\n")
	if err := checkUpgrade(t.Context(), path); err != nil {
		t.Error(err)
	}
	path = installed(t, "echo broken >&2; exit 3\n")
	if err := checkUpgrade(t.Context(), path); err == nil || !strings.HasSuffix(err.Error(), "exit status 3: broken") {
		t.Errorf("it failed, and is told as %v", err)
	}
}
