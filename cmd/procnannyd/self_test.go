package main

import (
	"os"
	"path/filepath"
	"testing"
)

// What is executed again is what was asked for, if that is what runs.
func TestSelfPath(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	dir := t.TempDir()
	must(t, os.Symlink(self, filepath.Join(dir, "link")))
	must(t, os.WriteFile(filepath.Join(dir, "other"), []byte("#!/bin/sh\n"), 0o755))
	given := os.Args[0]
	defer func() { os.Args[0] = given }()
	for arg, want := range map[string]string{
		filepath.Join(dir, "link"): filepath.Join(dir, "link"), filepath.Join(dir, "other"): self, "-procnannyd": self, "": self,
	} {
		os.Args[0] = arg
		if got, err := selfPath(); err != nil || got != want {
			t.Errorf("started as %q: %q, %v", arg, got, err)
		}
	}
}
