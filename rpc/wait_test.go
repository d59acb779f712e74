package rpc

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/procnanny/procnanny/reconcile"
)

// edit is a picture in which one instance of web (or, without change, nothing)
// is another one.
func edit(f *fake, index int, change func(p *ProgramView, i *InstanceView)) {
	next := *f.View()
	next.Programs = append([]*ProgramView(nil), next.Programs...)
	for n, p := range next.Programs {
		if p.Name != "web" {
			continue
		}
		q := *p
		q.Instances = append([]*InstanceView(nil), p.Instances...)
		i := *q.Instances[index]
		change(&q, &i)
		q.Instances[index] = &i
		next.Programs[n] = &q
	}
	f.set(&next)
}

// TestWait: what happens meanwhile decides the reply.
func TestWait(t *testing.T) {
	state := func(s reconcile.State) func(*ProgramView, *InstanceView) {
		return func(_ *ProgramView, i *InstanceView) { i.State = s }
	}
	newRun := func(s reconcile.State, e *reconcile.Exit) func(*ProgramView, *InstanceView) {
		return func(_ *ProgramView, i *InstanceView) {
			i.Run, i.State, i.LastExit = i.Run+10, s, e
		}
	}
	alone := func(change func(*ProgramView, *InstanceView)) func(*ProgramView, *InstanceView) {
		return func(p *ProgramView, i *InstanceView) {
			one := *p.Spec // the other one is of no interest here
			one.Instances = 1
			p.Instances, p.Spec = p.Instances[:1], &one
			change(p, i)
		}
	}
	tuned := func(refused map[string]string) func(*ProgramView, *InstanceView) {
		return func(_ *ProgramView, i *InstanceView) { i.Tune, i.Pending = reconcile.TuneSettled, refused }
	}
	nothing := func(*ProgramView, *InstanceView) {}
	ended := func(code int, after time.Duration) func(*ProgramView, *InstanceView) {
		return func(p *ProgramView, i *InstanceView) {
			i.State, i.Finished, i.Launch, i.Cycle, i.Rolling = reconcile.StateExited, "done", p.Spec.Launch.Digest(), false, false
			i.LastExit = &reconcile.Exit{Code: code, Cause: map[bool]reconcile.Cause{true: reconcile.CauseExit, false: reconcile.CauseCrashed}[code == 0], At: exampleNow.Add(after)}
		}
	}
	eperm := map[string]string{"nofile": "needs restart: operation not permitted"}
	restart0 := args{"program": "web", "instance": 0}
	for name, c := range map[string]struct {
		method string
		args   args
		steps  []func(*ProgramView, *InstanceView)
		code   Code
		why    string
	}{
		"restart": {"restart", restart0, []func(*ProgramView, *InstanceView){
			state(reconcile.StateStopping), state(reconcile.StateExited), newRun(reconcile.StateStarting, nil), state(reconcile.StateRunning),
		}, "", ""},
		"restart of a job that is quickly done": {"restart", restart0, []func(*ProgramView, *InstanceView){
			newRun(reconcile.StateStarting, nil), func(_ *ProgramView, i *InstanceView) { i.State, i.Finished = reconcile.StateExited, "done" },
		}, "", ""},
		"restart of a job that fails and is not started again": {"restart", restart0, []func(*ProgramView, *InstanceView){
			newRun(reconcile.StateStarting, nil), func(_ *ProgramView, i *InstanceView) {
				i.State, i.Finished, i.LastExit = reconcile.StateExited, "done", &reconcile.Exit{Code: 1, Cause: reconcile.CauseCrashed}
			},
		}, CodeFailed, "web/0 ended with code 1"},
		"restart that crashes": {"restart", restart0, []func(*ProgramView, *InstanceView){
			state(reconcile.StateStopping), newRun(reconcile.StateBackoff, &reconcile.Exit{Code: 3}),
		}, CodeFailed, "web/0 ended with code 3"},
		"restart that cannot start": {"restart", restart0, []func(*ProgramView, *InstanceView){
			newRun(reconcile.StateBackoff, &reconcile.Exit{Code: -1, Error: "executing httpd: no such file or directory"}),
		}, CodeFailed, "web/0 could not start: executing httpd: no such file or directory"},
		"restart that is overtaken by a stop": {"restart", restart0, []func(*ProgramView, *InstanceView){
			func(_ *ProgramView, i *InstanceView) { i.Down = true },
		}, CodeFailed, "web/0 was stopped meanwhile"},
		"restart that is held": {"restart", restart0, []func(*ProgramView, *InstanceView){
			func(p *ProgramView, _ *InstanceView) { p.Held = "web/1 does not start" },
		}, CodeFailed, "web/0 is held: web/1 does not start"},
		"restart of what has to wait for others": {"restart", restart0, []func(*ProgramView, *InstanceView){
			newRun(reconcile.StateExited, nil), func(_ *ProgramView, i *InstanceView) { i.Waits = "db" },
		}, CodeTimeout, "not there after 10s: web/0 waits for db (start.after)"},
		"restart that takes too long": {"restart", restart0, []func(*ProgramView, *InstanceView){
			state(reconcile.StateStopping),
		}, CodeTimeout, "not there after 10s: web/0 is still in its old run, stopping"},
		"start of what runs": {"start", restart0, nil, "", ""},
		"stop": {"stop", restart0, []func(*ProgramView, *InstanceView){
			state(reconcile.StateStopping), state(reconcile.StateExited),
		}, "", ""},
		"stop that takes too long": {"stop", restart0, []func(*ProgramView, *InstanceView){
			state(reconcile.StateStopping),
		}, CodeTimeout, "not there after 10s: web/0 is stopping"},
		"stop that is overtaken by a start": {"stop", restart0, []func(*ProgramView, *InstanceView){
			state(reconcile.StateStopping), func(_ *ProgramView, i *InstanceView) { i.Down = false },
		}, CodeFailed, "web/0 was started again meanwhile"},
		"scale": {"scale", args{"program": "web", "instances": 1}, []func(*ProgramView, *InstanceView){
			func(*ProgramView, *InstanceView) {}, func(p *ProgramView, _ *InstanceView) { p.Instances = p.Instances[:1] },
		}, "", ""},
		"scale of a job that fails and is not started again": {"scale", args{"program": "web", "instances": 1}, []func(*ProgramView, *InstanceView){
			alone(state(reconcile.StateStarting)), ended(1, time.Second),
		}, CodeFailed, "web/0 ended with code 1"},
		"scale of a job that is quickly done": {"scale", args{"program": "web", "instances": 1}, []func(*ProgramView, *InstanceView){
			alone(state(reconcile.StateStarting)), ended(0, time.Second),
		}, "", ""},
		"scale beside a job that failed before": {"scale", args{"program": "web", "instances": 1}, []func(*ProgramView, *InstanceView){
			alone(ended(1, -time.Second)),
		}, "", ""},
		"set of what needs a new process": {"set", args{"program": "web", "field": "args", "value": []any{"-x"}}, []func(*ProgramView, *InstanceView){
			state(reconcile.StateStopping), func(p *ProgramView, i *InstanceView) {
				alone(nothing)(p, i)
				i.Run, i.State, i.Launch = i.Run+10, reconcile.StateRunning, p.Spec.Launch.Digest()
			},
		}, "", ""},
		"set of what is changed live": {"set", args{"program": "web", "field": "nice", "value": 7}, []func(*ProgramView, *InstanceView){
			alone(nothing), tuned(nil),
		}, "", ""},
		"set of what the kernel refuses": {"set", args{"program": "web", "field": "limits.nofile", "value": 4096}, []func(*ProgramView, *InstanceView){
			alone(nothing), tuned(eperm),
		}, CodeFailed, "web/0: nofile needs restart: operation not permitted"},
		"set of a map of which the kernel refuses one": {"set", args{"program": "web", "field": "limits", "value": map[string]any{"nofile": 4096}}, []func(*ProgramView, *InstanceView){
			alone(nothing), tuned(eperm),
		}, CodeFailed, "web/0: nofile needs restart: operation not permitted"},
		"set beside what the kernel refused before": {"set", args{"program": "web", "field": "nice", "value": 7}, []func(*ProgramView, *InstanceView){
			alone(nothing), tuned(eperm),
		}, "", ""},
		"set that the kernel does not answer": {"set", args{"program": "web", "field": "nice", "value": 7}, []func(*ProgramView, *InstanceView){
			alone(nothing),
		}, CodeTimeout, "not there after 10s: the kernel has not confirmed the change of web/0"},
		"set of what ends meanwhile": {"set", args{"program": "web", "field": "nice", "value": 7}, []func(*ProgramView, *InstanceView){
			alone(nothing), func(_ *ProgramView, i *InstanceView) {
				i.State, i.Tune, i.LastExit = reconcile.StateBackoff, reconcile.TuneSettled, &reconcile.Exit{Code: 1, At: exampleNow.Add(time.Second)}
			},
		}, CodeFailed, "web/0 ended with code 1"},
		"set that does not come up": {"set", args{"program": "web", "field": "args", "value": []any{"-x"}}, []func(*ProgramView, *InstanceView){
			func(p *ProgramView, i *InstanceView) {
				i.Run, i.State, i.Launch, i.LastExit = i.Run+10, reconcile.StateBackoff, p.Spec.Launch.Digest(), &reconcile.Exit{Code: 1, At: exampleNow.Add(time.Second)}
			},
		}, CodeFailed, "web/0 ended with code 1"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.slow, f.changed = true, make(chan struct{}) // of this bubble
				c.args["wait"], c.args["timeout"] = true, "10s"
				request, _ := EncodeRequest(c.method, c.args)
				start := time.Now()
				reply := make(chan []byte, 1)
				go func() { reply <- exampleServer(f).Serve(context.Background(), root, request) }()
				synctest.Wait()
				for n, step := range c.steps {
					synctest.Wait()
					if len(reply) > 0 {
						t.Fatalf("it replied before step %d", n)
					}
					time.Sleep(time.Second)
					edit(f, 0, step)
				}
				refused := refusal(<-reply)
				switch {
				case refused == nil && c.code != "":
					t.Errorf("it was done, want %s", c.code)
				case refused != nil && (refused.Code != c.code || !strings.Contains(refused.Message, c.why)):
					t.Errorf("%s: %s; want %s: %s", refused.Code, refused.Message, c.code, c.why)
				}
				if took := time.Since(start); c.code == CodeTimeout && took < 10*time.Second {
					t.Errorf("it gave up after %v", took)
				}
			})
		})
	}
}

func TestWaitEndsWithTheDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.changed = make(chan struct{})
		ctx, cancel := context.WithCancel(context.Background())
		request, _ := EncodeRequest("restart", args{"program": "web", "wait": true})
		reply := make(chan []byte, 1)
		go func() { reply <- exampleServer(f).Serve(ctx, root, request) }()
		synctest.Wait()
		cancel()
		if refused := refusal(<-reply); refused == nil || refused.Code != CodeUnavailable {
			t.Errorf("got %v", refused)
		}
	})
}
