package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/runtime/keeper"
)

func TestEveryRowSaysWhatItWeakens(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rows {
		if r.name == "" || r.weakens == "" || r.probe == nil || r.bad == "" || r.bad == OK || seen[r.name] {
			t.Errorf("row %q is not whole, or there twice", r.name)
		}
		seen[r.name] = true
	}
}

// The machine that runs the tests can run procnanny, and nothing is left of us.
func TestThisMachine(t *testing.T) {
	for _, c := range This().Look() {
		if c.Found == "" {
			t.Errorf("%s: nothing is said of what was found", c.Name)
		}
		if (c.State == OK) != (c.Weakens == "") {
			t.Errorf("%+v", c)
		}
		if c.State == Missing && c.Name != "evaluator" { // which is not beside a test
			t.Errorf("%s is missing: %s", c.Name, c.Found)
		}
	}
	if p, err := keeper.ProbeCgroup(); err == nil {
		left, _ := filepath.Glob(filepath.Join(p.Dir, "procnanny-probe-*"))
		for _, dir := range left {
			if strings.HasSuffix(dir, "-"+pid()) {
				t.Errorf("%s is left", dir)
			}
		}
	}
}

func pid() string { self, _ := os.Readlink("/proc/self"); return self }

// A poor host: an old kernel, no privilege, no cgroup.
func TestPoorHost(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"sys/kernel/osrelease": "4.19.0\n", "self/status": "Name:\tx\nCapEff:\t0000000000000000\n", "sys/fs/pipe-user-pages-soft": "16384\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h := &Host{Proc: dir, Cgroup: func() (keeper.CgroupProbe, error) { return keeper.CgroupProbe{}, errors.New("none here") }}
	want := map[string]State{
		"kernel": Missing, "cgroup": Weak, "cgroup.kill": Weak, "cgroup controllers": Weak, "CAP_SETUID": Weak, "CAP_KILL": Weak,
		"CAP_SYS_RESOURCE": Weak, "CAP_SYS_NICE": Weak, "CAP_CHOWN": Weak, "pipe memory": Weak, "lists of children": Weak, "/proc of others": Weak,
	}
	list := h.Look()
	for _, c := range list {
		if w, ok := want[c.Name]; ok && c.State != w {
			t.Errorf("%s is %s: %s", c.Name, c.State, c.Found)
		}
	}
	if Fit(list) {
		t.Error("an old kernel is said to do")
	}
}

func TestControllersOfAHost(t *testing.T) {
	h := &Host{Proc: "/proc", Cgroup: func() (keeper.CgroupProbe, error) {
		return keeper.CgroupProbe{Dir: "/x", Kill: true, Controllers: []string{"cpu", "hugetlb", "pids"}}, nil
	}}
	f := controllers(h)
	if f.good || f.found != "cpu, pids; missing: memory, io" {
		t.Errorf("%+v", f)
	}
}
