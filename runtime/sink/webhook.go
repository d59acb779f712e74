package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// maxAnswer is how much of a webhook's answer is read: it is not looked at.
const maxAnswer = 64 << 10

// poster sends webhooks.
type poster struct {
	client  *http.Client
	version string
}

type localOnly struct{}

func newPoster(version string) *poster {
	dialer := &net.Dialer{Timeout: 30 * time.Second, ControlContext: func(ctx context.Context, _, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if ctx.Value(localOnly{}) != nil && (err != nil || !to.Addr().IsLoopback()) {
			return errors.New("plain http goes to this machine only")
		}
		return nil
	}}
	return &poster{version: version, client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: 30 * time.Second, ForceAttemptHTTP2: true,
			MaxIdleConns: 64, MaxIdleConnsPerHost: perHook, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: maxAnswer,
		},
	}}
}

// post sends an event and says what was answered. An answer of 2xx is good.
func (p *poster) post(w *spec.Webhook, ev *Event, vars map[string]string) (ok bool, answer string) {
	ctx, cancel := context.WithTimeout(context.Background(), w.Timeout.D())
	defer cancel()
	if strings.HasPrefix(w.URL, "http:") && !w.AllowHTTP {
		ctx = context.WithValue(ctx, localOnly{}, true)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(ev.JSON))
	if err != nil {
		return false, "its url cannot be used"
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "procnanny/"+p.version)
	req.Header.Set("Procnanny-Event", vars["PROCNANNY_EVENT"])
	if ev.Seq != 0 {
		req.Header.Set("Procnanny-Seq", fmt.Sprint(ev.Seq))
	}
	for name, value := range w.Headers {
		if strings.EqualFold(name, "Host") {
			req.Host = value
			continue
		}
		req.Header.Set(name, value)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return false, reasonOf(err, w)
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	status := statusText(resp)
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300 && err == nil:
		return true, status
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return false, status + ": redirections are not followed"
	case err != nil:
		return false, status + ", then " + reasonOf(err, w)
	}
	return false, status
}

// statusText is the code and the words that belong to it: those of the other
// side could be anything.
func statusText(resp *http.Response) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode)))
}

// reasonOf is an error without the URL, which may be a secret.
func reasonOf(err error, w *spec.Webhook) string {
	if at, ok := errors.AsType[*url.Error](err); ok {
		err = at.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %s", w.Timeout)
	}
	text := err.Error()
	return strings.ToValidUTF8(text[:min(len(text), 300)], "")
}
