package spec

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	for word, want := range map[string]string{
		"nise": "nice", "instanses": "instances", "comand": "command", "Nice": "nice", "ncie": "nice",
		"zzz": "", "": "", strings.Repeat("x", 1000): "",
	} {
		if got := Nearest(word, Keys()); got != want {
			t.Errorf("%.10s is nearest to %q, want %q", word, got, want)
		}
	}
}
