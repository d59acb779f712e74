package proc

import (
	"reflect"
	"testing"
)

func TestParseEnv(t *testing.T) {
	tests := []struct {
		text string
		want map[string]string
		line int
	}{
		{"", map[string]string{}, 0},
		{"A=1\nB=2", map[string]string{"A": "1", "B": "2"}, 0},
		{"# c\n\n ; c\n  A = x y \r\n", map[string]string{"A": "x y"}, 0},
		{"export A=1\n", map[string]string{"A": "1"}, 0},
		{"A=\nB=''\nC=\"\"\n", map[string]string{"A": "", "B": "", "C": ""}, 0},
		{"A=a#b\nB=$HOME\nC=a=b\n", map[string]string{"A": "a#b", "B": "$HOME", "C": "a=b"}, 0},
		{`A="a \"b\" \$c \\ \n" # c` + "\nB=2\n", map[string]string{"A": `a "b" $c \ \n`, "B": "2"}, 0},
		{`A='a "b" \'` + "\n", map[string]string{"A": `a "b" \`}, 0},
		{"A='1\n2'\nB=\"3\n4\"\nC=\"5\\\n6\"\n", map[string]string{"A": "1\n2", "B": "3\n4", "C": "56"}, 0},
		{"A=1\nA=2\n", map[string]string{"A": "2"}, 0},
		{"A=it's\n", map[string]string{"A": "it's"}, 0},
		{"A=1\nB\n", nil, 2},
		{"=1\n", nil, 1},
		{"1A=1\n", nil, 1},
		{"A-B=1\n", nil, 1},
		{"A='1\n2\nB=3\n", nil, 1},
		{"X=1\n\nA='1\n2' tail\nB=3\n", nil, 3},
		{"A='1\n2'\nbad\n", nil, 3},
		{"A=\x00\n", nil, 1},
		{"A='\x00'\n", nil, 1},
	}
	for _, tt := range tests {
		got, line := parseEnv(tt.text)
		if line != tt.line || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q gives %q and line %d, should give %q and line %d", tt.text, got, line, tt.want, tt.line)
		}
	}
}

// Whatever is in the file, what comes out is an environment.
func FuzzParseEnv(f *testing.F) {
	for _, text := range []string{"A=1\n", "A='x\ny' # c\nB=\"\\\"\"", "export =", "A=\"\\", "\xff=1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		vars, line := parseEnv(text)
		if (vars == nil) != (line > 0) {
			t.Fatalf("%q and line %d", vars, line)
		}
		for name, value := range vars {
			if !isName(name) {
				t.Errorf("name %q", name)
			}
			for i := range len(value) {
				if value[i] == 0 {
					t.Errorf("%s has a NUL byte", name)
				}
			}
		}
	})
}
