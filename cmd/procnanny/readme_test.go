package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/runtime/daemontest"
	"github.com/procnanny/procnanny/runtime/place"
)

// pages are all that people read, also those of examples.
func pages(t *testing.T) (list []string) {
	t.Helper()
	check(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || len(d.Name()) > 2 && d.Name()[0] == '.'):
			return filepath.SkipDir
		case filepath.Ext(path) == ".md":
			page, err := filepath.Rel("../..", path)
			list = append(list, page)
			return err
		}
		return nil
	}))
	for _, least := range []string{"README.md", "CONTRIBUTING.md", "examples/coming-from/README.md"} {
		if !slices.Contains(list, least) {
			t.Errorf("%s was not found", least)
		}
	}
	return list
}

// block is a piece of code of a page.
type block struct {
	page     string
	line     int
	language string
	text     string
}

// blocks are the code blocks of a page, and its code in the middle of text, which
// has the language "".
func blocks(t *testing.T, page string) (list []block) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../..", page))
	check(t, err)
	inline := regexp.MustCompile("`([^`]+)`")
	var open *block
	n := 0
	for line := range strings.Lines(string(raw)) {
		n++
		switch fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```"); {
		case isFence && open == nil:
			open = &block{page: page, line: n, language: "block " + fence}
		case isFence:
			list = append(list, *open)
			open = nil
		case open != nil:
			open.text += line
		default:
			for _, m := range inline.FindAllStringSubmatch(line, -1) {
				list = append(list, block{page, n, "", strings.ReplaceAll(m[1], `\|`, "|")})
			}
		}
	}
	return list
}

// A configuration that a page shows is one.
func TestPagesShowGoodConfigurations(t *testing.T) {
	check(t, daemontest.Build())
	var all []block
	for _, page := range pages(t) {
		all = append(all, blocks(t, page)...)
	}
	seen := 0
	for _, b := range all {
		kind, ok := strings.CutPrefix(b.language, "block ")
		whole := regexp.MustCompile(`(?m)^"?programs"?: |^programs:$`).MatchString(b.text)
		if !ok || !whole || !slices.Contains([]string{"cue", "yaml", "json"}, kind) {
			continue
		}
		seen++
		dir := t.TempDir()
		// Users of somebody else's machine become one that every machine has.
		text := regexp.MustCompile(`(user: +)"[a-z-]+"`).ReplaceAllString(b.text, `$1"root"`)
		check(t, os.WriteFile(filepath.Join(dir, "a."+kind), []byte(text), 0o644))
		if out, err := exec.Command(daemontest.Bin("procnanny"), "vet", dir).CombinedOutput(); err != nil {
			t.Errorf("%s:%d: %v\n%s", b.page, b.line, err, out)
		}
	}
	if seen < 3 {
		t.Errorf("only %d configurations were found", seen)
	}
}

// command is a call of one of our commands in shell code, up to what ends it.
var command = regexp.MustCompile(`(?:^|[\s(]|bin/)(procnanny|procnannyd) ([^\s|;&()#<>][^|;&()#<>]*)`)

// A command that a page shows is one, with flags that there are.
func TestPagesShowCommandsThatThereAre(t *testing.T) {
	seen := 0
	for _, page := range pages(t) {
		for _, b := range blocks(t, page) {
			if !slices.Contains([]string{"", "block sh", "block ", "block console"}, b.language) {
				continue
			}
			text := strings.ReplaceAll(b.text, "\\\n", " ")
			for line := range strings.Lines(text) {
				if shell := b.language == "block sh" || b.language == ""; !shell && !strings.HasPrefix(line, "$ ") || strings.HasPrefix(strings.TrimSpace(line), "#") {
					continue
				}
				for _, m := range command.FindAllStringSubmatch(strings.TrimSpace(line), -1) {
					seen++
					err := parses(m[1], m[2])
					if err != nil && b.language == "" && strings.Contains(err.Error(), "flag needs an argument") {
						continue // text that names a flag
					}
					if err != nil {
						t.Errorf("%s:%d: %s %s: %v", b.page, b.line, m[1], m[2], err)
					}
				}
			}
		}
	}
	if seen < 40 {
		t.Errorf("only %d commands were found", seen)
	}
	for _, bad := range []string{"sacle web 3", "scale web 3 --wiat", "keygen sever", "status --no-such-flag"} {
		if parses("procnanny", bad) == nil {
			t.Errorf("procnanny %s is taken for one that there is", bad)
		}
	}
	if parses("procnannyd", "--no-such-flag x") == nil {
		t.Error("procnannyd takes any flag")
	}
}

// words are a command's, as a shell without variables sees them.
var words = regexp.MustCompile(`(?:"[^"]*"|'[^']*'|[^\s"'])+`)

func parses(name, rest string) error {
	args := words.FindAllString(rest, -1)
	for n := range args {
		args[n] = strings.NewReplacer(`"`, "", "'", "").Replace(args[n])
	}
	if name == "procnannyd" {
		return parsesDaemon(args)
	}
	root := (&app{out: io.Discard, err: io.Discard}).root()
	cmd, left, err := root.Find(args)
	if err != nil {
		return err
	}
	if cmd == root && !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") }) {
		return fmt.Errorf("there is no such command")
	}
	if err := cmd.ParseFlags(left); err != nil || !cmd.HasSubCommands() {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// parsesDaemon takes what is wrong with a value for granted: pages have
// placeholders.
func parsesDaemon(args []string) error {
	_, err := place.ParseDaemon("procnannyd", args, func(string) string { return "/x" }, io.Discard)
	if err != nil && strings.Contains(err.Error(), "cannot read the command line") {
		return err
	}
	return nil
}
