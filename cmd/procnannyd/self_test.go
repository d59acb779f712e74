package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
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

// A process that was killed counts as dead, although its number is still taken.
func TestDying(t *testing.T) {
	if dying(os.Getpid()) {
		t.Error("we are not")
	}
	cmd := exec.Command("/bin/sleep", "100")
	must(t, cmd.Start())
	must(t, cmd.Process.Kill())
	for deadline := time.Now().Add(10 * time.Second); !dying(cmd.Process.Pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a zombie lives")
		}
	}
	_ = cmd.Wait()
	if !dying(cmd.Process.Pid) {
		t.Error("nobody lives")
	}
}
