package examples_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/runtime/daemontest"
)

const comingFrom = "coming-from/README.md"

// base are the programs that the tables speak of.
const base = `programs: {
	db: {command: "sleep", args: ["1000"], start: min_uptime: "0s"}
	job: {command: "true", restart: when: "failure"}
	web: {command: "sleep", args: ["1000"], instances: 3, start: min_uptime: "0s"}
	app: {command: "sleep", args: ["1000"], instances: 0, start: min_uptime: "0s"}
	"site:web": {command: "sleep", args: ["1000"], start: min_uptime: "0s"}
	"site:mail": {command: "sleep", args: ["1000"], start: min_uptime: "0s"}
}
`

// row is a line of a table: what is said here is keys of a program, or commands.
type row struct {
	line     int
	keys     []string
	commands []string
	top      []string // what stands beside programs
}

var (
	code  = regexp.MustCompile("`([^`]+)`")
	isKey = regexp.MustCompile(`^[a-z_]+: `)
)

// tables are the rows of the page by the heading that they stand under.
func tables(t *testing.T) (sections []string, rows map[string][]row) {
	t.Helper()
	raw, err := os.ReadFile(comingFrom)
	if err != nil {
		t.Fatal(err)
	}
	rows = map[string][]row{}
	heading, n := "", 0
	for line := range strings.Lines(string(raw)) {
		n++
		if h, ok := strings.CutPrefix(line, "## "); ok {
			heading = strings.TrimSpace(h)
		}
		cells := strings.Split(strings.ReplaceAll(line, `\|`, "\x00"), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) != 2 || cells[1] == "here |\n" {
			continue
		}
		r := row{line: n}
		for _, m := range code.FindAllStringSubmatch(cells[1], -1) {
			switch said := strings.ReplaceAll(m[1], "\x00", "|"); {
			case strings.HasPrefix(said, "procnanny "):
				r.commands = append(r.commands, said)
			case strings.HasPrefix(said, "exit_when: "):
				r.top = append(r.top, said)
			case isKey.MatchString(said) && !strings.HasPrefix(said, "programs: "):
				r.keys = append(r.keys, said)
			}
		}
		if rows[heading] == nil {
			sections = append(sections, heading)
		}
		rows[heading] = append(rows[heading], r)
	}
	return sections, rows
}

// seconds are what no test has the time to wait for.
var seconds = regexp.MustCompile(`min_uptime: "[0-9]+s"`)

// needsRoot are keys that only root's daemon takes.
var needsRoot = regexp.MustCompile(`\b(user|uid|group|gid|groups|capabilities): |"chroot"`)

// Each row of each table is run: keys as a program of a real daemon, which has to
// get it to run, and commands on that daemon.
func TestComingFrom(t *testing.T) {
	sections, rows := tables(t)
	if len(sections) != 8 {
		t.Errorf("tables of %v", sections)
	}
	var all []row
	seen := map[string]bool{}
	said := func(list []string) []string { // what several tables say is run once
		return slices.DeleteFunc(list, func(s string) bool { was := seen[s]; seen[s] = true; return was })
	}
	for _, section := range sections {
		if len(rows[section]) < 20 {
			t.Errorf("only %d rows for %s", len(rows[section]), section)
		}
		for _, r := range rows[section] {
			r.keys, r.commands, r.top = said(r.keys), said(r.commands), said(r.top)
			all = append(all, r)
		}
	}
	c := &comer{daemon: startDaemonWith(t, func(dir string) []string { return prepare(t, dir, all) }), lines: map[string]int{}}
	for _, r := range all {
		for n := range r.keys {
			c.lines[fmt.Sprintf("row-%d-%d", r.line, n)] = r.line
		}
	}
	c.arrive()
	for _, r := range all {
		for _, command := range r.commands {
			c.obey(r.line, command)
		}
	}
}

// comer is a daemon with a program for each row.
type comer struct {
	*daemon
	lines map[string]int
}

// prepare writes the configuration of all rows into dir, and what it refers to.
// Paths of the page become the test's own.
func prepare(t *testing.T, dir string, rows []row) []string {
	t.Helper()
	place := strings.NewReplacer("/tmp/", dir+"/tmp/", "/etc/web.env", dir+"/web.env", "/run/procnanny", dir+"/run",
		"logger -t web", "cat", "procnanny ", bin+"/procnanny ")
	var b strings.Builder
	b.WriteString(base)
	for _, r := range rows {
		for n, keys := range r.keys {
			if os.Getuid() != 0 && needsRoot.MatchString(keys) {
				continue
			}
			sleep := ""
			if !strings.Contains(keys, "command: \"") || strings.Contains(keys, "run: {command: ") && !strings.HasPrefix(keys, "command: ") {
				sleep = `command: "sleep", args: ["1000"], `
			}
			keys = seconds.ReplaceAllString(place.Replace(keys), `min_uptime: "200ms"`)
			fmt.Fprintf(&b, "programs: \"row-%d-%d\": {%s%s}\n", r.line, n, sleep, keys)
		}
		for _, said := range r.top {
			config := t.TempDir()
			if err := os.WriteFile(config+"/a.cue", []byte(base+said+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := vet(t, config); err != nil {
				t.Errorf("line %d: %s: %v\n%s", r.line, said, err, out)
			}
		}
	}
	for file, text := range map[string]string{"config/a.cue": b.String(), "web.env": "SECRET=1\n", "tmp/app/file": ""} {
		if err := os.MkdirAll(dir+"/tmp/app", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/"+file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for path, mode := range map[string]os.FileMode{dir: 0o755, dir + "/tmp": 0o777} { // programs of other users write there
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	return nil
}

// arrive waits until every row's program runs, or is done.
func (c *comer) arrive() {
	c.t.Helper()
	var pending []string
	err := daemontest.Poll(func() (bool, string) {
		out, err := c.command(bin+"/procnanny", "status", "-o", "json").CombinedOutput()
		if err != nil {
			return false, string(out)
		}
		pending = c.pending(out)
		return len(pending) == 0, strings.Join(pending, "\n")
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *comer) pending(status []byte) (pending []string) {
	var reply struct {
		Config struct {
			Error string `json:"error"`
		} `json:"config"`
		Programs map[string]struct {
			Instances map[string]struct {
				State    string `json:"state"`
				Finished string `json:"finished"`
				LastExit struct {
					Error string `json:"error"`
				} `json:"last_exit"`
			} `json:"instances"`
		} `json:"programs"`
	}
	if err := json.Unmarshal(status, &reply); err != nil || reply.Config.Error != "" {
		return []string{fmt.Sprint(err, reply.Config.Error)}
	}
	for name, p := range reply.Programs {
		for index, i := range p.Instances {
			noController := strings.Contains(i.LastExit.Error, "cgroup") // of this machine: the launcher's tests have it
			if i.State != "running" && i.Finished != "done" && !noController {
				pending = append(pending, fmt.Sprintf("line %d: %s/%s is %s %s", c.lines[name], name, index, i.State, i.LastExit.Error))
			}
		}
	}
	slices.Sort(pending)
	return pending
}

// obey runs a command as a person would, when all is as it shall be.
func (c *comer) obey(line int, said string) {
	c.t.Helper()
	if said == "procnanny shutdown" || said == "procnanny doctor" { // the end of the test, and another matter
		return
	}
	script := "procnanny start web db job app 'site:*' >/dev/null 2>&1; "
	if strings.Contains(said, "--check") {
		script = "procnanny start web --wait; "
	}
	follows := regexp.MustCompile(` -[fw]\b`).MatchString(said)
	if follows {
		script += "timeout -s INT 0.3 "
	}
	cmd := c.command("sh", "-c", script+said)
	cmd.Env = append(cmd.Env, "PATH="+bin+":"+os.Getenv("PATH"), "PROCNANNY_CONFIG="+c.config)
	out, err := cmd.CombinedOutput()
	ends := cmd.ProcessState.ExitCode()
	lacks := strings.Contains(string(out), "controller is not there") // see pending
	if ends != 0 && !lacks && !(follows && ends == 124) && !(ends == 2 && said == "procnanny plan") {
		c.t.Errorf("line %d: %s: %v\n%s", line, said, err, out)
	}
}

// keysOf are the keys that the page gives on the line that has a certain word.
func keysOf(t *testing.T, word string) string {
	t.Helper()
	raw, err := os.ReadFile(comingFrom)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if _, here, ok := strings.Cut(strings.ReplaceAll(line, `\|`, "\x00"), " | "); ok && strings.Contains(line, word) {
			for _, m := range code.FindAllStringSubmatch(here, -1) {
				if isKey.MatchString(m[1]) {
					return strings.ReplaceAll(m[1], "\x00", "|")
				}
			}
		}
	}
	t.Fatalf("no row has %s", word)
	return ""
}

// The recipes for what is not here do what they say.
func TestComingFromRecipes(t *testing.T) {
	turns := strings.Replace(keysOf(t, "several signals in turn"), "sleep 5", "sleep 1", 1)
	watch := keysOf(t, "watch: [")
	d := startDaemonWith(t, func(dir string) []string {
		text := base + `programs: turns: {command: "sh", args: ["-c", "trap 'echo TERM' TERM; trap 'echo INT; exit' INT; echo up; while :; do sleep 0.05; done"], ` + turns + "}\n" +
			"programs: watch: {" + strings.NewReplacer("/tmp/", dir+"/", "/run/procnanny", dir+"/run", "procnanny ", bin+"/procnanny ").Replace(watch) + "}\n" +
			`programs: failing: {command: "sh", args: ["-c", "sleep 0.1; exit 7"], instances: 0, restart: when: "never", start: min_uptime: "1h"}` + "\n"
		for name, data := range map[string]string{"config/a.cue": text, "app/file": ""} {
			if err := os.MkdirAll(dir+"/app", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(dir+"/"+name, []byte(data), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return nil
	})
	pids := d.running("web", 3)
	d.running("watch", 1)
	wait(t, "the stamp", func() bool { _, err := os.Stat(d.Dir + "/.seen"); return err == nil })
	// A file that is as old as the stamp, to the clock of the file system, is not newer.
	wait(t, "new processes of web", func() bool {
		if err := os.WriteFile(d.Dir+"/app/file", []byte("new"), 0o644); err != nil {
			t.Fatal(err)
		}
		_, now := d.states("web")
		return len(now) == 3 && now[0] != pids[0]
	})
	wait(t, "turns is up", func() bool {
		out, _ := d.command(bin+"/procnanny", "logs", "turns").Output()
		return strings.Contains(string(out), "up\n")
	})
	if out, err := d.command(bin+"/procnanny", "stop", "turns", "--wait").CombinedOutput(); err != nil {
		t.Errorf("stop: %v\n%s", err, out)
	}
	if out, err := d.command(bin+"/procnanny", "logs", "turns").Output(); err != nil || string(out) != "up\nTERM\nINT\n" {
		t.Errorf("it wrote %q, %v", out, err)
	}
	for _, ask := range [][]string{{"scale", "failing", "1", "--wait"}, {"start", "failing", "--wait"}} {
		if out, err := d.command(bin+"/procnanny", ask...).CombinedOutput(); err == nil || !strings.Contains(string(out), "ended with code 7") {
			t.Errorf("a job that fails, by %s: %v\n%s", ask[0], err, out)
		}
	}
}
