package rpc

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
)

// thousand is the example program 1000 times.
func thousand() *View {
	v := *exampleView()
	web := v.Programs[len(v.Programs)-1]
	v.Programs = nil
	for i := range 1000 {
		p := *web
		p.Name = fmt.Sprintf("web-%04d", i)
		inst := *web.Instances[0]
		inst.ID = reconcile.InstanceID{Program: p.Name}
		p.Instances = []*InstanceView{&inst}
		v.Programs = append(v.Programs, &p)
	}
	return &v
}

func BenchmarkGuardReply(b *testing.B) {
	v := thousand()
	msg, err := new(StatusCache).Whole(v, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(msg)))
	for b.Loop() {
		if err := GuardReply(msg); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStatusOneChanged is what a status costs after one of 1000 programs
// changed.
func BenchmarkStatusOneChanged(b *testing.B) {
	v := thousand()
	cache := new(StatusCache)
	now := time.Now()
	for b.Loop() {
		next := *v
		next.Programs = append([]*ProgramView(nil), v.Programs...)
		p := *v.Programs[500]
		next.Programs[500] = &p
		v = &next
		if _, err := cache.Whole(v, now); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStatusOneInstanceChanged is the same for one of 1000 instances of a
// program.
func BenchmarkStatusOneInstanceChanged(b *testing.B) {
	v := exampleView()
	web := v.Program("web")
	for n := len(web.Instances); n < 1000; n++ {
		web.Instances = append(web.Instances, instance("web", n, reconcile.StateRunning, reconcile.RunID(n)))
	}
	f := &fake{view: v}
	cache := new(StatusCache)
	for b.Loop() {
		edit(f, 500, func(_ *ProgramView, i *InstanceView) { i.Starts++ })
		if _, err := cache.Whole(f.view, exampleNow); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkServeStatus is a whole request of an unchanged picture.
func BenchmarkServeStatus(b *testing.B) {
	s := exampleServer(&fake{view: thousand()})
	request, _ := EncodeRequest("status", nil)
	b.ReportAllocs()
	for b.Loop() {
		s.Serve(context.Background(), root, request)
	}
}
