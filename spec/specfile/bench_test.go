package specfile_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/procnanny/procnanny/spec"
	"github.com/procnanny/procnanny/spec/specfile"
)

// manyPrograms is a CUE file with n programs, all different, as JSON text.
func manyPrograms(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"programs": {`)
	for i := range n {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, `"prog%d": {"command": "/usr/bin/env", "args": ["sh", "-c", "exec sleep 3600 %d"], "instances": 1, "nice": 5, "ionice": 6, "dir": "/tmp", `+
			`"umask": "022", "env": {"A": "x%d"}, "limits": {"nofile": 1024}, "restart": {"delay": "1s"}, "stop": {"timeout": "5s"}, "success_exit": [0], "uid": 5}`, i, i, i)
	}
	b.WriteString("}}\n")
	return []byte(b.String())
}

// ways are the ways in which people write down n programs.
var ways = []struct {
	name  string
	files func(n int) map[string][]byte
}{
	{"", func(n int) map[string][]byte { return map[string][]byte{"a.cue": manyPrograms(n)} }},
	{"yaml", manyYAML},
	{"policy", func(n int) map[string][]byte {
		files := manyFiles(n, "programs: prog%d: {command: \"env\", args: [\"%[1]d\"], nice: 5, dir: \"/tmp\", limits: nofile: 1024, uid: 5}\n")
		files["policy.cue"] = []byte("package site\n\nprograms: [string]: {instances?: <=32, uid?: !=0, nice?: >=0}\n")
		return files
	}},
	{"template", func(n int) map[string][]byte {
		files := manyFiles(n, "programs: prog%d: #Job & {args: [\"%[1]d\"]}\n")
		files["job.cue"] = []byte("package site\n\n#Job: {command: \"env\", args: [...string], nice: *5 | int, dir: \"/tmp\", limits: nofile: 1024, user: *\"games\" | string}\n")
		return files
	}},
}

// manyFiles has one program a file.
func manyFiles(n int, format string) map[string][]byte {
	files := map[string][]byte{}
	for i := range n {
		files[fmt.Sprintf("prog%d.cue", i)] = fmt.Appendf(nil, "package site\n\n"+format, i)
	}
	return files
}

func manyYAML(n int) map[string][]byte {
	var b strings.Builder
	b.WriteString("programs:\n")
	for i := range n {
		fmt.Fprintf(&b, "  prog%d:\n    command: env\n    args: [\"%d\"]\n    nice: 5\n    env:\n      A: x%d\n    limits:\n      nofile: 1024\n    uid: 5\n", i, i, i)
	}
	return map[string][]byte{"a.yaml": []byte(b.String())}
}

func BenchmarkEvaluate(b *testing.B) {
	for _, way := range ways {
		for _, n := range []int{10, 100, 1000} {
			b.Run(way.name+fmt.Sprint(n), func(b *testing.B) {
				evaluate(b, spec.EvalRequest{Source: spec.Source{Files: way.files(n)}}, n)
			})
		}
	}
}

// evaluate tells CPU time as well: on a busy machine that is what can be
// compared.
func evaluate(b *testing.B, req spec.EvalRequest, n int) {
	began, times := cpuTime(b), 0
	for b.Loop() {
		res := specfile.Evaluate(req, testHost)
		if len(res.Problems) > 0 || len(res.Spec.Programs) != n {
			b.Fatalf("problems: %v", res.Problems)
		}
		times++
	}
	b.ReportMetric(float64((cpuTime(b)-began).Microseconds())/1000/float64(times), "cpu-ms/op")
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
