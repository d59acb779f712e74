package specfile

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"cuelang.org/go/cue"

	"github.com/procnanny/procnanny/spec"
)

// hookAsked is who a hook's command wants to run as, and where it stands in its
// program.
type hookAsked struct {
	key   []string
	asked asked
}

// hooksIn finds the commands of the hooks of a program, or of all the files.
func hooksIn(v cue.Value) []hookAsked {
	var out []hookAsked
	add := func(run cue.Value, key ...string) {
		if run.Exists() {
			out = append(out, hookAsked{key, askedBy(run)})
		}
	}
	on, err := lookup(v, "on").Fields()
	for err == nil && on.Next() {
		event := plain(on.Selector())
		list, err := on.Value().List()
		for i := 0; err == nil && list.Next(); i++ {
			add(lookup(list.Value(), "run"), "on", event, index(i), "run")
		}
	}
	add(lookup(lookup(lookup(v, "stop"), "before"), "run"), "stop", "before", "run")
	return out
}

// identify notes in each command who it runs as, and finds what is wrong with
// that. A command that names nobody runs as its program does.
func identify(hooks []hookAsked, host spec.Resolved, on spec.Hooks, before *spec.Before) []finding {
	var out []finding
	for _, h := range hooks {
		id, who := resolve(h.asked, host)
		for _, f := range who {
			f.key = append(slices.Clone(h.key), f.key...)
			out = append(out, f)
		}
		run := commandAt(h.key, on, before)
		if run != nil && h.asked.any() {
			run.Identity, run.UID, run.GID = id, h.asked.uid, h.asked.gid
		}
	}
	return out
}

func commandAt(key []string, on spec.Hooks, before *spec.Before) *spec.HookRun {
	if key[0] == "stop" {
		if before == nil {
			return nil
		}
		return before.Run
	}
	var n int
	if _, err := fmt.Sscanf(key[2], "[%d]", &n); err != nil || n >= len(on[key[1]]) {
		return nil
	}
	return on[key[1]][n].Run
}

// judgeHooks checks the hooks that stand beside the programs.
func (e *Evaluation) judgeHooks(ps *spec.Problems, root *program, host spec.Resolved) spec.Hooks {
	value := lookup(root.value, "on")
	var on spec.Hooks
	v := value.Unify(e.schema.hooks)
	err := v.Validate(cue.Concrete(true))
	if err == nil {
		var raw []byte
		if raw, err = v.MarshalJSON(); err == nil {
			err = json.Unmarshal(raw, &on)
		}
	}
	if err != nil {
		before := len(ps.Errors())
		w := &walker{e: e, p: root, out: *ps}
		w.walk(e.schema.hookTree(), value, []string{"on"})
		if *ps = w.out; len(ps.Errors()) == before {
			e.translate(ps, err)
		}
		return nil
	}
	for _, f := range append(identify(root.hooks, host, on, nil), checkHooks(on, true)...) {
		e.report(ps, root, f)
	}
	return on
}

// checkProgramHooks are the rules for all hooks of a program.
func checkProgramHooks(p spec.Program) []finding {
	out := checkHooks(p.On, false)
	if b := p.Stop.Before; b != nil {
		out = append(out, checkAction(b.Run, b.Webhook, "stop", "before")...)
	}
	return out
}

// ofNoProgram are events that are about the configuration as a whole.
var ofNoProgram = []string{"accepted", "rejected", "rollback"}

func checkHooks(on spec.Hooks, top bool) []finding {
	var out []finding
	taken := map[string]bool{}
	for _, event := range sortedKeys(on) {
		if !top && len(on[event]) > 0 && slices.Contains(ofNoProgram, event) {
			out = append(out, found(event+" happens to no program: such hooks stand beside the programs", "on", event))
		}
		for i, h := range on[event] {
			key := []string{"on", event, index(i)}
			if h.Name != "" && taken[h.Name] {
				out = append(out, found(fmt.Sprintf("another hook is called %q too", h.Name), append(slices.Clone(key), "name")...))
			}
			taken[h.Name] = true
			if len(h.Programs) > 0 && !top {
				out = append(out, found("a program's hooks are about that program: programs is for hooks beside the programs", append(slices.Clone(key), "programs")...))
			}
			out = append(out, checkAction(h.Run, h.Webhook, key...)...)
		}
	}
	return out
}

func checkAction(run *spec.HookRun, web *spec.Webhook, key ...string) []finding {
	at := func(more ...string) []string { return append(slices.Clone(key), more...) }
	switch {
	case run != nil && web != nil:
		return []finding{found("expected either run or webhook, found both", key...)}
	case run == nil && web == nil:
		return []finding{found("expected run or webhook", key...)}
	case web != nil:
		return checkWebhook(web, at("webhook"))
	}
	// A command is checked as a program with the same keys.
	p := spec.Defaults()
	p.Command, p.Args, p.Dir, p.Env, p.Limits = run.Command, run.Args, run.Dir, run.Env, run.Limits
	p.InheritEnv.All = true // the event's own variables are not known here
	var out []finding
	for _, c := range []func(spec.Program) []finding{checkPaths, checkNUL, checkEnv, checkLimits} {
		for _, f := range c(p) {
			f.key = append(at("run"), f.key...)
			out = append(out, f)
		}
	}
	if run.Timeout <= 0 {
		out = append(out, found("a timeout of 0 leaves it no time at all", at("run", "timeout")...))
	}
	return out
}

func checkWebhook(web *spec.Webhook, key []string) []finding {
	at := func(more ...string) []string { return append(slices.Clone(key), more...) }
	u, err := url.Parse(web.URL)
	switch {
	case err != nil || u.Host == "":
		return []finding{found("this is no URL", at("url")...)}
	case u.Scheme == "http" && !web.AllowHTTP && !loopback(u.Hostname()):
		return []finding{found("plain http to another machine can be read by all on the way: use https, or say allow_http: true", at("url")...)}
	case web.Timeout <= 0:
		return []finding{found("a timeout of 0 leaves it no time at all", at("timeout")...)}
	}
	var out []finding
	for _, name := range sortedKeys(web.Headers) {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isToken(r) }) {
			out = append(out, found("this cannot be the name of a header", at("headers", name)...))
		} else if strings.ContainsAny(web.Headers[name], "\r\n\x00") {
			out = append(out, found("a header's value is one line", at("headers", name)...))
		}
	}
	return out
}

// isToken reports whether r may stand in the name of a header, RFC 9110.
func isToken(r rune) bool {
	return r < 0x80 && (r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
