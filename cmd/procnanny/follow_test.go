package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/procnanny/procnanny/rpc"
)

// output is what an instance wrote, served as the daemon does.
type output struct {
	mu   sync.Mutex
	data map[string]string // by stream
	gone int64             // bytes of the beginning that are no longer kept
}

func (o *output) write(stream, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.data[stream] += text
}

func (o *output) logs(args map[string]any) (any, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	stream, _ := args["stream"].(string)
	text := o.data[stream]
	at := o.gone
	if n, ok := args["tail"].(int); ok {
		lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
		at = int64(len(text) - len(strings.Join(lines[max(0, len(lines)-n):], "")))
		if strings.HasSuffix(text, "\n") {
			at--
		}
	}
	if n, ok := args["offset"].(int64); ok {
		at = max(n, o.gone)
	}
	limit := args["limit"].(int)
	end := min(at+int64(limit), int64(len(text)))
	at = min(at, end)
	return map[string]any{"data": []byte(text[at:end]), "offset": at, "next": end, "end": len(text)}, nil
}

func TestLogs(t *testing.T) {
	f := newFake(t)
	o := &output{data: map[string]string{"": "one\ntwo \x1b[31mred\nthree\xff\nno end"}}
	f.on("logs", o.logs)
	for _, c := range []struct {
		line, want string
	}{
		{"logs web/0", "one\ntwo \\x1b[31mred\nthree\\xff\nno end\n"},
		{"logs web/0 --raw", "one\ntwo \x1b[31mred\nthree\xff\nno end"},
		{"logs web/0 -n 2", "three\\xff\nno end\n"},
	} {
		if s := f.run(strings.Fields(c.line)...); s.code != 0 || s.out.String() != c.want {
			t.Errorf("%s: %d %s\n got %q\nwant %q", c.line, s.code, s.err.String(), s.out.String(), c.want)
		}
	}
}

func TestLogsOfSeparateStreamsAndSeveralInstances(t *testing.T) {
	f := newFake(t)
	o := &output{data: map[string]string{"stdout": "out\n", "stderr": "err\n"}}
	f.on("logs", o.logs)
	f.reply("status", `{"programs": {"web": {"instances": {"0": {}, "10": {}}}, "db": {"instances": {"0": {}}}}}`)
	if s := f.run("logs", "web/0"); s.out.String() != "out\nerr\n" {
		t.Errorf("%q", s.out.String())
	}
	if s := f.run("logs", "web/0", "--stream", "stderr", "--raw"); s.out.String() != "err\n" {
		t.Errorf("%q", s.out.String())
	}
	want := "web/0  | out\nweb/0  | err\nweb/10 | out\nweb/10 | err\n"
	if s := f.run("logs", "web"); s.out.String() != want {
		t.Errorf("%q", s.out.String())
	}
	f.refuse("logs", rpc.Errorf(rpc.CodeNotFound, "there is no instance nobody/0, and no output of one"))
	if s := f.run("logs", "nobody/0"); s.code != 1 || !strings.Contains(s.err.String(), "there is no instance nobody/0") {
		t.Errorf("%d %q", s.code, s.err.String())
	}
}

// dated serves instances whose lines have times: as logs does, with marks.
func dated(lines map[int][]string) func(args map[string]any) (any, error) {
	return func(args map[string]any) (any, error) {
		var text string
		var marks []any
		if s, _ := args["stream"].(string); s == "" {
			for _, line := range lines[args["instance"].(int)] {
				at, words, _ := strings.Cut(line, " ")
				n, _ := strconv.Atoi(at)
				marks = append(marks, []any{int64(len(text)), float64(1700000000 + n), int64(7)})
				text += words + "\n"
			}
		}
		from, _ := args["offset"].(int64)
		if n, ok := args["tail"].(int); ok {
			all := strings.SplitAfter(text, "\n")
			from = int64(len(strings.Join(all[:max(0, len(all)-1-n)], "")))
		}
		return map[string]any{"data": []byte(text[from:]), "offset": from, "next": len(text), "end": len(text), "marks": marks}, nil
	}
}

func TestLogsOfSeveralInstancesComeInTheOrderOfTime(t *testing.T) {
	t.Setenv("TZ", "UTC")
	f := newFake(t)
	f.reply("status", `{"programs": {"web": {"instances": {"0": {}, "1": {}}}}}`)
	f.on("logs", dated(map[int][]string{0: {"1 a", "3 c", "9 e\x1b"}, 1: {"2 b", "3 d"}}))
	for _, c := range []struct{ line, want string }{
		{"logs web", "web/0 | a\nweb/1 | b\nweb/0 | c\nweb/1 | d\nweb/0 | e\\x1b\n"},
		{"logs web --grep [a-c]|d$", "web/0 | a\nweb/1 | b\nweb/0 | c\nweb/1 | d\n"},
		{"logs web -n 1", "web/1 | d\nweb/0 | e\\x1b\n"},
		{"logs web -n 1 --grep [a-c]", "web/1 | b\nweb/0 | c\n"},
		{"logs web/1 -o json --grep d", `{"instance":1,"offset":2,"program":"web","run_id":7,"source":"merged","text":"d","time":1700000003}` + "\n"},
	} {
		if s := f.run(strings.Fields(c.line)...); s.code != 0 || s.out.String() != c.want {
			t.Errorf("%s: %d %s\n got %q\nwant %q", c.line, s.code, s.err.String(), s.out.String(), c.want)
		}
	}
	at := time.Unix(1700000002, 0).Local().Format(timeLayout)
	if s := f.onTerminal(80, "logs", "web", "-t", "--grep", "b"); s.out.String() != "\x1b[32mweb/1\x1b[0m | \x1b[2m"+at+"\x1b[0m b\n" {
		t.Errorf("on a terminal: %q", s.out.String())
	}
}

func TestLogsAsksForTheRange(t *testing.T) {
	f := newFake(t)
	f.on("logs", dated(nil))
	f.reply("history", `{"runs": [{"run_id": 4, "pid": 9, "end": 5}, {"run_id": 6, "pid": 9, "end": 7}, {"run_id": 8, "error": "no such file", "end": 8}, {"run_id": 9, "pid": 10}]}`)
	for line, want := range map[string]string{
		"logs web/0 --since 1h --until 1700000000": "map[instance:0 limit:262144 program:web since:1.7000828e+09 until:1.7e+09]",
		"logs web/0 --run 12":                      "map[instance:0 limit:262144 program:web run:12]",
		"logs web/0 --previous -n 5":               "map[instance:0 limit:262144 program:web run:6 tail:5]",
	} {
		if s := f.run(strings.Fields(line)...); s.code != 0 || fmt.Sprint(f.last().args) != want {
			t.Errorf("%s: %d %s\n got %v\nwant %v", line, s.code, s.err.String(), f.last().args, want)
		}
	}
	for line, want := range map[string]string{
		"logs web/0 --since soon":       "cannot read the time",
		"logs web/0 --grep (":           "cannot read the regular expression",
		"logs web/0 --raw --grep x":     "[grep raw]",
		"logs web/0 --raw -o json":      "cannot print raw bytes as json",
		"logs web/0 --run 0":            "runs are numbered from 1",
		"logs web/0 --run 1 --previous": "give either --run or --previous",
	} {
		if s := f.run(strings.Fields(line)...); s.code != 1 || !strings.Contains(s.err.String(), want) {
			t.Errorf("%s: %d %q", line, s.code, s.err.String())
		}
	}
	// A directory is as good as with every other command.
	if s := f.run("--run", "/some/where", "logs", "web/0", "--run", "12"); s.code != 3 || !strings.Contains(s.err.String(), "/some/where") {
		t.Errorf("%d %q", s.code, s.err.String())
	}
	f.reply("history", `{"runs": [{"run_id": 9, "pid": 10}]}`)
	if s := f.run("logs", "web/0", "-p"); s.code != 1 || !strings.Contains(s.err.String(), "no run has ended yet") {
		t.Errorf("%d %q", s.code, s.err.String())
	}
}

// A message of the daemon says where to look, also at an instance that is new.
func TestLogsFollowIsToldWhereToLook(t *testing.T) {
	f := newFake(t)
	synctest.Test(t, func(t *testing.T) {
		lines := map[int][]string{0: {"1 a"}}
		f.reply("status", `{"programs": {"web": {"instances": {"0": {}}}}}`)
		f.on("logs", dated(lines))
		sub := make(fakeSub)
		s := f.follow(t, sub, "logs", "-f", "web")
		synctest.Wait()
		f.mu.Lock()
		lines[0], lines[1] = append(lines[0], "5 c"), []string{"4 b"}
		f.mu.Unlock()
		sub <- map[string]any{"program": "web", "instance": int64(1), "source": "merged"}
		synctest.Wait()
		sub <- map[string]any{"program": "web", "instance": int64(0), "source": "merged"}
		synctest.Wait()
		if got := s.out.String(); got != "a\nweb/1 | b\nweb/0 | c\n" {
			t.Errorf("%q", got)
		}
		if code := s.stop(); code != 0 {
			t.Errorf("ctrl-C gives %d", code)
		}
	})
}

func TestLogsFollowFromNowOn(t *testing.T) {
	f := newFake(t)
	synctest.Test(t, func(t *testing.T) {
		o := &output{data: map[string]string{"": "old\nolder\n"}}
		f.on("logs", o.logs)
		s := f.follow(t, nil, "logs", "-f", "-n", "0", "web/0")
		synctest.Wait()
		o.write("", "new\n")
		time.Sleep(2 * followEvery)
		synctest.Wait()
		if got := s.out.String(); got != "new\n" {
			t.Errorf("%q", got)
		}
		s.stop()
	})
}

func TestEveryByteOfALongLogIsPrinted(t *testing.T) {
	f := newFake(t)
	all := strings.Repeat("x", 3*logPage+17) + "\n" + strings.Repeat("0123456789\n", 60_000)
	o := &output{data: map[string]string{"": all}}
	f.on("logs", o.logs)
	for _, args := range [][]string{{"logs", "web/0", "--raw"}, {"logs", "web/0"}} {
		if s := f.run(args...); s.out.String() != all {
			t.Errorf("%q: %d bytes of %d", args, s.out.Len(), len(all))
		}
	}
}

// buffer is a bytes.Buffer for two goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// following runs a command in the background, in a bubble of virtual time; the
// daemon is asked directly, as nothing of a socket is virtual.
type following struct {
	out  buffer
	err  buffer
	stop func() int
}

func (f *fakeDaemon) follow(t *testing.T, sub subscription, args ...string) *following {
	t.Helper()
	s := &following{}
	a := f.client(&session{}, 0)
	a.out, a.err, a.now = &s.out, &s.err, time.Now
	a.getenv = func(k string) string {
		return map[string]string{"PROCNANNY_CONNECT": "tcp://127.0.0.1:1", "PROCNANNY_EVENTS": "tcp://127.0.0.1:2"}[k]
	}
	if sub != nil {
		a.subscribe = func(string, []string) (subscription, error) { return sub, nil }
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() { done <- run(ctx, a, args) }()
	s.stop = func() int { cancel(); return <-done }
	return s
}

func TestLogsFollow(t *testing.T) {
	f := newFake(t)
	synctest.Test(t, func(t *testing.T) {
		o := &output{data: map[string]string{"": strings.Repeat("old\n", 12)}}
		f.on("logs", o.logs)
		s := f.follow(t, nil, "logs", "-f", "web/0")
		step := func(text, want string) {
			t.Helper()
			o.write("", text)
			time.Sleep(2 * followEvery)
			synctest.Wait()
			if got := s.out.String(); got != want {
				t.Fatalf("after %q:\n got %q\nwant %q", text, got, want)
			}
		}
		want := strings.Repeat("old\n", 10)
		step("", want)
		want += "new\n"
		step("new\n", want)
		want += "prompt> "
		step("prompt> \xc3", want) // half a character waits for its other half
		want += "ä\n"
		step("\xa4\n", strings.Replace(want, "ä", "ä", 1))
		f.refuse("logs", rpc.Errorf(rpc.CodeUnavailable, "the daemon is ending"))
		step("later\n", want)
		o.mu.Lock()
		o.gone = int64(len(o.data[""]) - 3)
		o.mu.Unlock()
		f.on("logs", o.logs)
		want += "er\n"
		step("", want)
		if !strings.Contains(s.err.String(), "3 bytes of web/0 are no longer kept") {
			t.Errorf("%q", s.err.String())
		}
		if code := s.stop(); code != 0 {
			t.Errorf("ctrl-C gives %d", code)
		}
	})
}

// fakeSub is a subscription that the test feeds.
type fakeSub chan map[string]any

func (s fakeSub) Next(ctx context.Context) (string, any, error) {
	select {
	case <-ctx.Done():
		return "", nil, ctx.Err()
	case e := <-s:
		topic, _ := e["topic"].(string)
		return topic, e, nil
	}
}

func (fakeSub) Close() error { return nil }

func TestEventsFollowWithoutGaps(t *testing.T) {
	f := newFake(t)
	synctest.Test(t, func(t *testing.T) {
		var stored []any
		f.on("events", func(args map[string]any) (any, error) {
			since := args["since"].(uint64)
			if since > uint64(len(stored)) {
				return map[string]any{"events": []any{}, "next": since}, nil
			}
			return map[string]any{"events": stored[since:], "next": len(stored)}, nil
		})
		publish := func() map[string]any {
			f.mu.Lock()
			defer f.mu.Unlock()
			e := map[string]any{"event": "running", "seq": len(stored) + 1, "topic": "state.web.0", "time": 1.5}
			stored = append(stored, e)
			return e
		}
		publish()
		sub := make(fakeSub)
		s := f.follow(t, sub, "events", "-f", "-o", "json")
		synctest.Wait()
		if got := s.out.String(); got != "" {
			t.Errorf("what was before is not asked for: %s", got)
		}
		publish() // its message is lost
		sub <- publish()
		synctest.Wait()
		if got := strings.Count(s.out.String(), "\n"); got != 2 || !strings.Contains(s.out.String(), `"seq":2`) {
			t.Errorf("a gap:\n%s", s.out.String())
		}
		publish() // lost, and nothing follows
		time.Sleep(2 * catchUpEvery)
		synctest.Wait()
		if got := strings.Count(s.out.String(), "\n"); got != 3 {
			t.Errorf("the last is missing:\n%s", s.out.String())
		}
		if code := s.stop(); code != 0 {
			t.Errorf("ctrl-C gives %d", code)
		}
	})
}

func TestEventsFollowBeginsWithTheLastWhereAsked(t *testing.T) {
	f := newFake(t)
	synctest.Test(t, func(t *testing.T) {
		f.on("events", func(args map[string]any) (any, error) {
			old := func(seq int) any { return map[string]any{"event": "running", "seq": seq, "topic": "state.web.0"} }
			since := args["since"].(uint64)
			if since > 3 {
				return map[string]any{"events": []any{}, "next": since}, nil
			}
			return map[string]any{"events": []any{old(1), old(2), old(3)}[since:], "next": 3}, nil
		})
		s := f.follow(t, make(fakeSub), "events", "-f", "--limit", "2", "-o", "json")
		synctest.Wait()
		if got := s.out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, `"seq":3`) {
			t.Errorf("not the last two:\n%s", got)
		}
		s.stop()
	})
}

func TestEventsOfOutputAreShownAsTheyCome(t *testing.T) {
	f := newFake(t)
	synctest.Test(t, func(t *testing.T) {
		f.reply("events", `{"events": [], "next": 0}`)
		sub := make(fakeSub)
		s := f.follow(t, sub, "events", "-f", "output.web.0")
		sub <- map[string]any{"event": "output", "program": "web", "instance": int64(0), "source": "stdout", "data": []byte("hi\x1b"), "offset": int64(0), "time": 1.5, "topic": "output.web.0.stdout"}
		synctest.Wait()
		if got := s.out.String(); got != "1970-01-01 00:00:01.500  web/0  output  data=hi\\x1b\n" {
			t.Errorf("%q", got)
		}
		s.stop()
	})
}

func TestStatusWatchInAPipePrintsWhatChanged(t *testing.T) {
	f := newFake(t)
	synctest.Test(t, func(t *testing.T) {
		uptime, state, away := 0.0, "running", error(nil)
		f.on("status", func(map[string]any) (any, error) {
			uptime++
			return map[string]any{"programs": map[string]any{"web": map[string]any{"desired": 1, "instances": map[any]any{
				int64(0): map[string]any{"state": state, "pid": 7, "uptime": uptime, "starts": 1},
			}}}}, away
		})
		set := func(s string, err error) {
			f.mu.Lock()
			state, away = s, err
			f.mu.Unlock()
			time.Sleep(3 * watchEvery)
			synctest.Wait()
		}
		sub := make(fakeSub)
		s := f.follow(t, sub, "status", "--watch")
		set("running", nil)
		if n := strings.Count(s.out.String(), "web/0"); n != 1 {
			t.Errorf("%d pictures although only time passed:\n%s", n, s.out.String())
		}
		set("stopping", nil)
		set("stopping", context.DeadlineExceeded)
		if n := strings.Count(s.out.String(), "web/0"); n != 2 {
			t.Errorf("%d pictures of two states:\n%s", n, s.out.String())
		}
		if !strings.Contains(s.err.String(), "cannot reach procnannyd") {
			t.Errorf("nothing says that the daemon is away: %q", s.err.String())
		}
		if code := s.stop(); code != 0 {
			t.Errorf("ctrl-C gives %d", code)
		}
	})
}

func TestStatusWatchOnADumbTerminal(t *testing.T) {
	f := newFake(t)
	f.file("status")
	synctest.Test(t, func(t *testing.T) {
		var out buffer
		a := f.client(&session{}, 80)
		a.out = &out
		a.getenv = func(k string) string {
			return map[string]string{"PROCNANNY_CONNECT": "tcp://127.0.0.1:1", "TERM": "dumb"}[k]
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*watchEvery)
		defer cancel()
		if code := run(ctx, a, []string{"status", "-w"}); code != 0 {
			t.Errorf("exit %d", code)
		}
		if text := out.String(); strings.Contains(text, "\x1b") || strings.Count(text, "config ") != 1 {
			t.Errorf("%q", text)
		}
	})
}

func TestStatusWatchOnATerminal(t *testing.T) {
	f := newFake(t)
	f.file("status")
	synctest.Test(t, func(t *testing.T) {
		var out buffer
		a := f.client(&session{}, 80)
		a.out = &out
		a.getenv = func(k string) string { return map[string]string{"PROCNANNY_CONNECT": "tcp://127.0.0.1:1"}[k] }
		a.terminal.size = func() (int, int) { return 60, 8 }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan int, 1)
		go func() { done <- run(ctx, a, []string{"status", "-w"}) }()
		time.Sleep(watchEvery / 2)
		synctest.Wait()
		picture := strings.TrimPrefix(out.String(), screenEnter+screenHome)
		if picture == out.String() {
			t.Fatalf("no screen of its own: %q", out.String())
		}
		lines := strings.Split(picture, "\r\n")
		if len(lines) != 8 || !strings.Contains(lines[7], "more rows") {
			t.Errorf("%d lines on 8: %q", len(lines), picture)
		}
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("ctrl-C gives %d", code)
		}
		_, after, ok := strings.Cut(out.String(), screenLeave)
		if !ok || !strings.Contains(after, "web/3") {
			t.Errorf("the last picture does not stay: %q", after)
		}
	})
}
