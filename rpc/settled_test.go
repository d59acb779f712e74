package rpc

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/procnanny/procnanny/reconcile"
)

func TestWhatIsRefusedAndWhatWasChanged(t *testing.T) {
	for _, c := range []struct {
		key, refused string
		want         bool
	}{
		{"nice", "nice", true},
		{"nice", "limits.nice", false},
		{"limits.nice", "limits.nice", true},
		{"limits.nice", "nice", false},
		{"limits", "limits.nice", true},
		{"limits", "nofile", true},
		{"limits.nofile", "nofile", true},
		{"limits.nofile.soft", "nofile", true},
		{"limits.core", "nofile", false},
		{"limits", "memory_max", false},
		{"limits", "nice", false},
		{"cgroup", "memory_max", true},
		{"cgroup.memory_max", "memory_max", true},
		{"cgroup.cpu_max", "memory_max", false},
		{"cgroup", "nofile", false},
		{"ionice.level", "ionice", true},
		{"sched", "sched", true},
		{"args", "nofile", false},
		{"instances", "oom_score_adj", false},
	} {
		if got := meets(c.key, c.refused); got != c.want {
			t.Errorf("%s changed, %s refused: %v", c.key, c.refused, got)
		}
	}
}

// quiet is a fake whose files say what is desired already.
type quiet struct{ *fake }

func (q quiet) Apply(context.Context, ApplyOptions) (ApplyReply, error) {
	return ApplyReply{Generation: 7, Digest: "0123456789abcdef"}, nil
}

// TestApplyWaitsForWhatASaveBegan: nothing is left to order, and yet not all has
// happened.
func TestApplyWaitsForWhatASaveBegan(t *testing.T) {
	for name, begin := range map[string]func(p *ProgramView, i *InstanceView){
		"a live change": func(_ *ProgramView, i *InstanceView) { i.Tune = reconcile.TuneAsked },
		"a replacement": func(_ *ProgramView, i *InstanceView) { i.State, i.Rolling = reconcile.StateStarting, true },
		"an instance to come": func(_ *ProgramView, i *InstanceView) {
			i.State, i.StartCause = reconcile.StateStarting, reconcile.CauseScale
		},
		"one to go": func(p *ProgramView, _ *InstanceView) { p.Spec = new(*p.Spec); p.Spec.Instances = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.changed = make(chan struct{})
				edit(f, 0, begin) // web/1 crashes, which is no matter of the files
				settled := viewOf(f.files, f.overrides)
				s := exampleServer(f)
				s.Backend = quiet{f}
				request, _ := EncodeRequest("apply", args{"wait": true, "timeout": "10s"})
				reply := make(chan []byte, 1)
				go func() { reply <- s.Serve(context.Background(), root, request) }()
				synctest.Wait()
				if len(reply) > 0 {
					t.Fatalf("it did not wait: %v", refusal(<-reply))
				}
				time.Sleep(time.Second)
				f.set(settled)
				if refused := refusal(<-reply); refused != nil {
					t.Error(refused)
				}
			})
		})
	}
}

// TestApplyDoesNotWaitForACrashLoop: that a program does not live is no matter of
// the files, when they say nothing new of it.
func TestApplyDoesNotWaitForACrashLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.changed = make(chan struct{})
		s := exampleServer(f)
		s.Backend = quiet{f}
		request, _ := EncodeRequest("apply", args{"wait": true, "timeout": "10s"})
		reply := s.Serve(context.Background(), root, request)
		if refused := refusal(reply); refused != nil {
			t.Error(refused)
		}
	})
}

// TestApplyTellsWhatCannotBe: whoever took the files, their save or our apply.
func TestApplyTellsWhatCannotBe(t *testing.T) {
	for want, change := range map[string]func(p *ProgramView, i *InstanceView){
		"web is held: web/1 does not start": func(p *ProgramView, _ *InstanceView) { p.Held = "web/1 does not start" },
		"web/0: nofile needs restart: operation not permitted": func(_ *ProgramView, i *InstanceView) {
			i.Pending = map[string]string{"nofile": "needs restart: operation not permitted"}
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.changed = make(chan struct{})
			edit(f, 0, change)
			s := exampleServer(f)
			s.Backend = quiet{f}
			request, _ := EncodeRequest("apply", args{"wait": true, "timeout": "10s"})
			var refused *Error
			if err := DecodeReply(s.Serve(context.Background(), root, request), nil); !errors.As(err, &refused) || refused.Code != CodeFailed || refused.Message != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}
