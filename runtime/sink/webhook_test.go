package sink

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/procnanny/procnanny/spec"
)

func TestWebhooks(t *testing.T) {
	var got atomic.Pointer[http.Request]
	mux := http.NewServeMux()
	mux.HandleFunc("/good", func(w http.ResponseWriter, r *http.Request) {
		got.Store(r)
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/good", http.StatusFound) })
	mux.HandleFunc("/bad", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) })
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/drip", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body) // else a server does not learn that its client is gone
		r.Body = io.NopCloser(bytes.NewReader(b))
		mux.ServeHTTP(w, r)
	}))
	defer s.Close()
	dead := httptest.NewServer(mux)
	dead.Close()
	p := newPoster("7")
	try := func(url string) (bool, string) {
		timeout := spec.Milliseconds(30_000)
		if strings.Contains(url, "/slow") || strings.Contains(url, "/drip") {
			timeout = spec.Milliseconds(300)
		}
		w := &spec.Webhook{URL: url, Headers: map[string]string{"Authorization": "hunter2"}, Timeout: timeout}
		began := time.Now()
		ok, answer := p.post(w, &Event{Seq: 42, JSON: []byte(`{"seq":42}`)}, map[string]string{"PROCNANNY_EVENT": "crashed"})
		if time.Since(began) > time.Minute {
			t.Errorf("%s took %v", url, time.Since(began))
		}
		if strings.Contains(answer, "token") || strings.Contains(answer, "hunter2") {
			t.Errorf("the answer tells a secret: %s", answer)
		}
		return ok, answer
	}
	for _, c := range []struct {
		url, answer string
		ok          bool
	}{
		{s.URL + "/good?token", "202 Accepted", true},
		{s.URL + "/away?token", "302 Found: redirections are not followed", false},
		{s.URL + "/bad?token", "503 Service Unavailable", false},
		{s.URL + "/slow?token", "no answer within 300ms", false},
		{s.URL + "/endless?token", "200 OK", true}, // enough of it was read
		{s.URL + "/drip?token", "200 OK, then no answer within 300ms", false},
		{dead.URL + "/?token", "connection refused", false},
		{"http://192.0.2.1/?token", "plain http goes to this machine only", false},
	} {
		got.Store(nil)
		ok, answer := try(c.url)
		if ok != c.ok || !strings.Contains(answer, c.answer) {
			t.Errorf("%s: %v, %q", c.url, ok, answer)
		}
		if !strings.Contains(c.url, "/good") && got.Load() != nil {
			t.Errorf("%s: it was followed", c.url)
		}
	}
	try(s.URL + "/good")
	r := got.Load()
	body, _ := io.ReadAll(r.Body)
	if r.Method != "POST" || string(body) != `{"seq":42}` || r.Header.Get("Authorization") != "hunter2" ||
		r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Procnanny-Seq") != "42" || r.Header.Get("User-Agent") != "procnanny/7" {
		t.Errorf("sent %+v with %s", r, body)
	}
}
