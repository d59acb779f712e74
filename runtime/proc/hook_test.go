package proc

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/spec"
)

// A hook's command knows its event; what comes from outside is never replaced,
// and nothing of ours can be overwritten.
func TestStartHook(t *testing.T) {
	p := New(Config{SelfUID: 500, SelfGID: 500})
	nobody := spec.Identity{UID: 65534, GID: 65534, Switch: true, Name: "nobody", Home: "/nonexistent"}
	o, err := p.StartHook(Hook{
		Name: spec.RunName("web:page"), Index: 2, Run: 77, ID: reconcile.InstanceID{Program: "web", Index: 5}, Identity: nobody, Input: "{}",
		Vars: map[string]string{"PROCNANNY_EVENT_DETAIL": "$(HOME)\x00!", "PROCNANNY_EVENT_CODE": "3"},
		Command: &spec.HookRun{
			Command: "page", Args: []string{"$(program)/$(instance)", "$(PROCNANNY_EVENT_CODE)", "$(WHO)", "$(PROCNANNY_EVENT_DETAIL)"},
			Env: map[string]string{"WHO": "$(USER)", "PROCNANNY_EVENT_CODE": "faked", "PROCNANNY_RUN_ID": "faked"}, Limits: map[string]spec.Limit{"nofile": {Soft: 5, Hard: 5}},
		},
	})
	if err != nil || o.Kind != keeper.OrderStart || o.Program != ".hook web:page" || o.Index != 2 || o.Run != 77 || o.Start.Run != 77 || o.Start.Input != "{}" {
		t.Errorf("the order is %+v", o)
	}
	r := o.Start.Launch
	if want := []string{"page", "web/5", "3", "nobody", "$(HOME)!"}; !slices.Equal(r.Argv, want) {
		t.Errorf("arguments: %q", r.Argv)
	}
	for _, want := range []string{"PROCNANNY_RUN_ID=77", "PROCNANNY_PROGRAM=web", "PROCNANNY_INSTANCE=5", "PROCNANNY_EVENT_CODE=3", "PROCNANNY_EVENT_DETAIL=$(HOME)!", "HOME=/nonexistent"} {
		if !slices.Contains(r.Env, want) {
			t.Errorf("the environment has no %s: %q", want, r.Env)
		}
	}
	for _, v := range r.Env {
		if v == "PROCNANNY_EVENT_CODE=faked" || v == "PROCNANNY_RUN_ID=faked" {
			t.Errorf("%s", v)
		}
	}
	if r.Identity.UID != 65534 || r.Tuning.Limits["nofile"].Hard != 5 || !o.Start.Output.Drop {
		t.Errorf("it is started as %+v", r)
	}
	if _, err := p.StartHook(Hook{Command: &spec.HookRun{Command: "page"}, Input: strings.Repeat("x", keeper.MaxFrame)}); !errors.Is(err, syscall.E2BIG) {
		t.Errorf("with more on its stdin than the keeper takes: %v", err)
	}
}

func TestHooksAreKeptApart(t *testing.T) {
	h := keeper.Hello{Runs: []keeper.Run{{Run: 9, Program: ".hook b"}, {Run: 1, Program: "web"}, {Run: 8, Program: ".hook a"}}}
	hooks := SplitHooks(&h)
	if len(hooks) != 2 || hooks[0].Run != 8 || len(h.Runs) != 1 || h.Runs[0].Run != 1 {
		t.Errorf("%+v, %+v", hooks, h.Runs)
	}
	facts := []keeper.Fact{{Run: 1, Program: "web"}, {Run: 8, Program: ".hook a"}}
	if programs, hooks := SplitFacts(facts); len(programs) != 1 || len(hooks) != 1 || hooks[0].Run != 8 {
		t.Errorf("%+v, %+v", programs, hooks)
	}
	if programs, hooks := SplitFacts(facts[:1]); len(programs) != 1 || hooks != nil {
		t.Errorf("%+v, %+v", programs, hooks)
	}
}
