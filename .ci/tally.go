//go:build ignore

// Tally reads `go test -json` on stdin, prints one line for each package and
// the whole output of each test that failed, and adds the counts to a file.
//
//	go test -json ./... | go run .ci/tally.go FILE
//	go run .ci/tally.go -print FILE
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
)

// event is one line of `go test -json`; go doc test2json describes it.
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

type tally struct{ Passed, Failed, Skipped int }

func main() {
	if len(os.Args) == 3 && os.Args[1] == "-print" {
		t := read(os.Args[2])
		fmt.Printf("%d passed, %d failed, %d skipped\n", t.Passed, t.Failed, t.Skipped)
		return
	}
	file := os.Args[1]
	t := read(file)
	t.count(os.Stdin)
	raw, err := json.Marshal(t)
	if err == nil {
		err = os.WriteFile(file, raw, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot keep the counts:", err)
		os.Exit(1)
	}
}

func read(file string) (t tally) {
	raw, err := os.ReadFile(file)
	if err == nil && len(raw) > 0 {
		err = json.Unmarshal(raw, &t)
	}
	if err != nil && !os.IsNotExist(err) {
		fmt.Fprintln(os.Stderr, "cannot read the counts:", err)
		os.Exit(1)
	}
	return t
}

func (t *tally) count(in *os.File) {
	output := map[string][]string{} // by package and test, until it is known how it ended
	var skipped []string
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text()) // go itself had something to say
			continue
		}
		key := e.Package + e.ImportPath + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			output[key] = append(output[key], e.Output)
		case "pass", "fail", "skip":
			if e.Test == "" {
				t.pkg(e, output[key])
			} else {
				skipped = t.test(e, output[key], skipped)
			}
			delete(output, key)
		case "build-fail":
			t.Failed++
			fmt.Print(strings.Join(output[key], ""))
		}
	}
	sort.Strings(skipped)
	for _, s := range skipped {
		fmt.Println("skipped:", s)
	}
}

func (t *tally) test(e event, output, skipped []string) []string {
	switch e.Action {
	case "pass":
		t.Passed++
	case "fail":
		t.Failed++
		fmt.Printf("--- %s\n%s", e.Package, strings.Join(output, ""))
	case "skip":
		t.Skipped++
		why := ""
		if n := len(output); n > 1 {
			why = ": " + strings.TrimSpace(output[n-2])
		}
		return append(skipped, e.Package+" "+e.Test+why)
	}
	return skipped
}

// pkg ends a package: what it printed outside of tests matters when it failed.
func (t *tally) pkg(e event, output []string) {
	switch e.Action {
	case "pass":
		fmt.Printf("ok    %-60s %6.1fs\n", e.Package, e.Elapsed)
	case "fail":
		fmt.Printf("FAIL  %-60s %6.1fs\n%s", e.Package, e.Elapsed, strings.Join(output, ""))
	}
}
