package spec_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/spec"
)

func program(t *testing.T, text string) spec.Program {
	t.Helper()
	var p spec.Program
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func set(program, field, value string) spec.Override {
	return spec.Override{Program: program, Field: field, Value: json.RawMessage(value)}
}

func TestSetAndGet(t *testing.T) {
	const web = `{"command": "x", "env": {"A": "1"}, "limits": {"nofile": 5}, "instances": 3, "ionice": 6, "output": {"mode": "null"}}`
	cases := []struct{ path, value, want string }{
		{"instances", "5", "5"},
		{"instances", "null", "1"}, // the default again
		{"env.B", `"2"`, `"2"`},
		{"env", "null", ""},
		{"limits.nofile", "7", "7"},
		{"limits.nofile.soft", "4", "4"},
		{"limits.nofile.hard", "9", "9"},
		{"limits.core", "0", "0"},
		{"ionice.level", "2", "2"},
		{"output.mode", `"merged"`, `"merged"`},
		{"output.rotate.size", "18014398509481985", "18014398509481985"}, // every digit
		{"restart.delay", `"2s"`, `"2s"`},
		{"nice", "-5", "-5"},
		{"args", `["a"]`, `["a"]`},
	}
	for _, c := range cases {
		p, err := program(t, web).Set(c.path, json.RawMessage(c.value))
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		if got := string(p.Get(c.path)); got != c.want {
			t.Errorf("%s = %s reads back as %s, expected %s", c.path, c.value, got, c.want)
		}
		if string(p.Get("command")) != `"x"` {
			t.Errorf("%s changed the command", c.path)
		}
	}
	p, err := program(t, web).Set("limits.nofile.soft", json.RawMessage("4"))
	if err != nil || p.Limits["nofile"] != (spec.Limit{Soft: 4, Hard: 5}) {
		t.Errorf("the soft limit alone gives %+v, %v", p.Limits["nofile"], err)
	}
	for _, c := range [][2]string{{"bogus", "1"}, {"instances", `"many"`}, {"restart.delay", "5"}, {"stop.signal", `"BANG"`}} {
		if _, err := program(t, web).Set(c[0], json.RawMessage(c[1])); err == nil || !strings.Contains(err.Error(), "cannot set "+c[0]) {
			t.Errorf("%s = %s: %v", c[0], c[1], err)
		}
	}
	if got := program(t, web).Get("no.such.path"); got != nil {
		t.Errorf("a missing path is %s", got)
	}
}

func TestWith(t *testing.T) {
	files := spec.Spec{Programs: map[string]spec.Program{"web": program(t, `{"command": "x", "instances": 3}`)}}
	before := files.Digest()
	id := &spec.Identity{UID: 7, Switch: true}
	user := set("web", "user", `"games"`)
	user.Identity = id
	created := set("new", spec.FieldProgram, `{"command": "y"}`)
	created.Identity = id
	got := files.With([]spec.Override{
		set("new", "nice", "4"), // stands before the program it sits on
		created,
		set("web", "instances", "5"),
		set("web", "nice", "7"),
		user,
		spec.AdminOverride("web", nil, true),
		spec.AdminOverride("web", new(1), false),
		set("gone", "instances", "5"),
		set("web", "instances", `"nonsense"`),
		set("web", spec.FieldProgram, `{"command": "files win"}`),
	})
	web := got.Programs["web"]
	switch {
	case len(got.Programs) != 2:
		t.Errorf("programs: %v", got.Programs)
	case web.Instances != 5 || *web.Nice != 7 || web.Command != "x" || web.User != "games" || web.Identity.UID != 7:
		t.Errorf("web: %+v", web)
	case !web.Admin.IsDown(0) || web.Admin.IsDown(1) || !web.Admin.IsDown(2):
		t.Errorf("admin: %+v", web.Admin)
	case *got.Programs["new"].Nice != 4 || got.Programs["new"].Identity.UID != 7:
		t.Errorf("new: %+v", got.Programs["new"])
	}
	if files.Digest() != before || files.Programs["web"].Admin.Down {
		t.Error("With changed its receiver")
	}
	if !reflect.DeepEqual(files.With(nil), files) {
		t.Error("without overrides nothing changes")
	}
}

func TestSettle(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	files := spec.Spec{Programs: map[string]spec.Program{"web": program(t, `{"command": "x", "instances": 3, "limits": {"nofile": 5}}`)}}
	with := func(o spec.Override, change func(o *spec.Override)) spec.Override { change(&o); return o }
	replaced := func(value string) func(o *spec.Override) {
		return func(o *spec.Override) { o.Replaced = json.RawMessage(value) }
	}
	cases := map[string]struct {
		o    spec.Override
		boot bool
		ends string
	}{
		"the file says the same":  {o: with(set("web", "instances", "5"), replaced("3"))},
		"the file says other":     {o: with(set("web", "instances", "5"), replaced("4")), ends: "the file's value changed"},
		"other spelling":          {o: with(set("web", "limits", `{}`), replaced(`{ "nofile":  5 }`))},
		"the file said nothing":   {o: set("web", "nice", "5")},
		"the file says it now":    {o: set("web", "limits.nofile", "5"), ends: "the file's value changed"},
		"the file stopped saying": {o: with(set("web", "nice", "5"), replaced("3")), ends: "the file's value changed"},
		"program gone":            {o: set("gone", "nice", "5"), ends: "the files no longer define the program"},
		"admin of a gone program": {o: spec.AdminOverride("gone", nil, true), ends: "the files no longer define the program"},
		"admin stays":             {o: spec.AdminOverride("web", nil, true)},
		"created":                 {o: set("new", spec.FieldProgram, `{"command": "x"}`)},
		"created, now in a file":  {o: set("web", spec.FieldProgram, `{"command": "x"}`), ends: "the files define the program now"},
		"until boot, no boot":     {o: with(spec.AdminOverride("web", nil, true), func(o *spec.Override) { o.UntilBoot = true })},
		"until boot":              {o: with(spec.AdminOverride("web", nil, true), func(o *spec.Override) { o.UntilBoot = true }), boot: true, ends: "the machine was booted"},
		"time not over":           {o: with(spec.AdminOverride("web", nil, true), func(o *spec.Override) { o.Until = now.Add(1) })},
		"time over":               {o: with(spec.AdminOverride("web", nil, true), func(o *spec.Override) { o.Until = now }), ends: "its time is over"},
	}
	for name, c := range cases {
		keep, ended := spec.Settle(files, []spec.Override{c.o}, now, c.boot)
		why := ""
		if len(ended) == 1 {
			why = ended[0].Why
		}
		if why != c.ends || len(keep)+len(ended) != 1 {
			t.Errorf("%s: ends because %q, expected %q", name, why, c.ends)
		}
	}
	keep, ended := spec.Settle(files, []spec.Override{set("new", spec.FieldProgram, `{"command": "x"}`), set("new", "nice", "3")}, now, false)
	if len(keep) != 2 || len(ended) != 0 {
		t.Errorf("an override on a created program ends: %v", ended)
	}
	// What sat on a created program goes with it.
	expired := with(set("new", spec.FieldProgram, `{"command": "x"}`), func(o *spec.Override) { o.Until = now })
	keep, ended = spec.Settle(files, []spec.Override{expired, set("new", "nice", "3")}, now, false)
	if len(keep) != 0 || len(ended) != 2 {
		t.Errorf("keep %v, ended %v", keep, ended)
	}
	if keep, _ := spec.Settle(files, []spec.Override{set("new", "nice", "3")}, now, false); len(keep) != 0 {
		t.Error("an override on nothing stays")
	}
}

func TestPut(t *testing.T) {
	keys := func(list []spec.Override) string {
		var out []string
		for _, o := range list {
			out = append(out, strings.ReplaceAll(o.Key(), "\x00", "/")+"="+string(o.Value))
		}
		return strings.Join(out, " ")
	}
	cases := map[string]struct {
		list []spec.Override
		want string
	}{
		"other keys":     {[]spec.Override{set("a", "nice", "1"), set("b", "nice", "2"), set("a", "env.A", "3")}, "a/nice=1 b/nice=2 a/env.A=3"},
		"same key":       {[]spec.Override{set("a", "nice", "1"), set("b", "nice", "2"), set("a", "nice", "3")}, "b/nice=2 a/nice=3"},
		"index":          {[]spec.Override{spec.AdminOverride("a", new(1), true), spec.AdminOverride("a", new(2), true)}, `a/admin/1="down" a/admin/2="down"`},
		"whole takes":    {[]spec.Override{spec.AdminOverride("a", new(1), true), spec.AdminOverride("b", new(1), true), spec.AdminOverride("a", nil, false)}, `b/admin/1="down" a/admin="up"`},
		"whole between":  {[]spec.Override{spec.AdminOverride("a", new(1), true), spec.AdminOverride("a", nil, true), spec.AdminOverride("a", new(1), false), spec.AdminOverride("a", new(2), false)}, `a/admin="down" a/admin/1="up" a/admin/2="up"`},
		"index on whole": {[]spec.Override{spec.AdminOverride("a", nil, true), spec.AdminOverride("a", new(1), false)}, `a/admin="down" a/admin/1="up"`},
	}
	for name, c := range cases {
		var list []spec.Override
		for _, o := range c.list {
			list = spec.Put(list, o)
		}
		if got := keys(list); got != c.want {
			t.Errorf("%s: %s, expected %s", name, got, c.want)
		}
		for n := range c.list { // all at once, or some, are the same
			if got := keys(spec.Put(spec.Put(nil, c.list[:n]...), c.list[n:]...)); got != c.want {
				t.Errorf("%s, from %d on at once: %s, expected %s", name, n, got, c.want)
			}
		}
	}
	// What the file said when the first of them was set is kept.
	first := set("a", "nice", "1")
	first.Replaced = json.RawMessage("0")
	if list := spec.Put(spec.Put(nil, first), set("a", "nice", "2")); string(list[0].Replaced) != "0" {
		t.Errorf("replaced: %s", list[0].Replaced)
	}
	if list := spec.Put(nil, first, set("a", "nice", "2"), set("a", "nice", "3")); len(list) != 1 || string(list[0].Replaced) != "0" {
		t.Errorf("replaced, all at once: %+v", list)
	}
}
