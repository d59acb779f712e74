package main

import (
	"strings"
	"testing"
	"time"
)

func init() { time.Local = time.UTC }

func TestStatusText(t *testing.T) {
	f := newFake(t)
	f.file("status")
	s := f.run("status")
	golden(t, "status.txt", s.out.String())
	if s.code != 0 || s.err.String() != "" {
		t.Error(s.code, s.err.String())
	}
	golden(t, "status-terminal-80.txt", f.onTerminal(80, "status").out.String())
	if out := f.onTerminal(80, "status").out.String(); !strings.Contains(out, "\x1b[31mbackoff\x1b[0m") {
		t.Error("no colour on a terminal")
	}
}
