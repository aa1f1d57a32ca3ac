package identity_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"dixie/identity"
	"dixie/internal/fakefinn"
)

// TestIntegrityHeaders: the values for a caller without a wallet are the ones
// that another implementation made of the same request.
func TestIntegrityHeaders(t *testing.T) {
	t.Parallel()
	finn := fakefinn.New()
	client := newClient(t, finn)
	ask := identity.Request{Method: http.MethodPost, Path: []string{"api", "sessions"}, Body: []byte(`{"prompt":"hi"}`)}
	keys := map[string]string{}
	for _, wallet := range []string{"", alice, bob, alice} {
		ask.Wallet = wallet
		if _, err := send(t.Context(), client, ask); err != nil {
			t.Fatal(err)
		}
		asked := finn.Requests("/api/sessions")
		header := asked[len(asked)-1].Header
		if got, want := header.Get("X-Req-Hash"), "sha256:14479f4e87d340fe0ca0d522d87a5b3a028ebb1af24fbb8d3ef4553044fc6db6"; got != want {
			t.Errorf("X-Req-Hash %s, want %s", got, want)
		}
		key := header.Get("X-Idempotency-Key")
		if before, ok := keys[wallet]; ok && key != before {
			t.Errorf("the key of %q is %s and then %s", wallet, before, key)
		}
		keys[wallet] = key
	}
	if want := "ce2de5df460228476907d64bb8f1445deb8364d246c892da480316b8e63308ee"; keys[""] != want {
		t.Errorf("X-Idempotency-Key %s, want %s", keys[""], want)
	}
	if keys[alice] == keys[bob] || keys[alice] == keys[""] {
		t.Errorf("callers share a key: %v", keys)
	}
}

// TestRequestHeaders: what goes with a request, and what does not.
func TestRequestHeaders(t *testing.T) {
	t.Parallel()
	type key struct{}
	finn := fakefinn.New()
	finn.Change(func(b *fakefinn.Behaviour) { b.Token = "a-token" })
	client := newClient(t, finn, func(c *identity.Config) {
		c.Token = "a-token"
		c.Outgoing = func(ctx context.Context, h http.Header) { h.Set("X-Request-Id", fmt.Sprint(ctx.Value(key{}))) }
	})
	_, err := send(context.WithValue(t.Context(), key{}, "r-1"), client, identity.Request{
		Method: http.MethodGet, Path: []string{"api", "learning", "mibera:42", "gaps"}, Query: url.Values{"limit": {"3"}},
		Wallet: alice, Header: http.Header{"X-Memory-Context": {"{}"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	asked := finn.Requests("")[0]
	if asked.Path != "/api/learning/mibera:42/gaps?limit=3" || len(asked.Body) != 0 {
		t.Errorf("asked for %s with %q", asked.Path, asked.Body)
	}
	want := http.Header{
		"Accept": {"application/json"}, "User-Agent": {"dixie"}, "Authorization": {"Bearer a-token"},
		"X-Request-Id": {"r-1"}, "X-Wallet-Address": {alice}, "X-Memory-Context": {"{}"},
	}
	if diff := cmp.Diff(want, asked.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

// TestPaths: an id can name nothing but itself.
func TestPaths(t *testing.T) {
	t.Parallel()
	finn := fakefinn.New()
	client := overNetwork(t, finn)
	for _, id := range []string{"", ".", ".."} {
		if _, err := get(t.Context(), client, "api", "memory", id, "history"); !errors.Is(err, identity.ErrPath) {
			t.Errorf("%q: error %v", id, err)
		}
	}
	for id, escaped := range map[string]string{
		"../../health": "..%2F..%2Fhealth", "a/b": "a%2Fb", "a?b=c": "a%3Fb=c", "a#b": "a%23b", "%2e%2e": "%252e%252e",
		"a b": "a%20b", "a\r\nX: y": "a%0D%0AX:%20y", "mibera:42": "mibera:42",
	} {
		if _, err := get(t.Context(), client, "api", "memory", id, "history"); err != nil {
			t.Errorf("%q: %v", id, err)
		}
		asked := finn.Requests("")
		if got := asked[len(asked)-1].Path; got != "/api/memory/"+escaped+"/history" {
			t.Errorf("%q asks for %s", id, got)
		}
	}
}

// TestHeaderInjection: a value that would be two headers is sent as none, and
// costs finn nothing.
func TestHeaderInjection(t *testing.T) {
	t.Parallel()
	finn := fakefinn.New()
	client := overNetwork(t, finn)
	for range 10 {
		for _, bad := range []string{"a\r\nX-Injected: yes", "a\nb", "a\x00", "a\x7f"} {
			_, err := send(t.Context(), client, identity.Request{
				Method: http.MethodGet, Path: []string{"health"}, Header: http.Header{"X-Memory-Context": {bad}},
			})
			if !errors.Is(err, identity.ErrHeader) {
				t.Errorf("%q: error %v", bad, err)
			}
		}
	}
	if asked := finn.Requests(""); len(asked) != 0 || client.Circuit() != "closed" {
		t.Errorf("%d requests, circuit %s", len(asked), client.Circuit())
	}
}

// TestConfig: what cannot work is refused at once, without telling a password.
func TestConfig(t *testing.T) {
	t.Parallel()
	for _, bad := range []identity.Config{
		{}, {BaseURL: "finn:3000"}, {BaseURL: "ftp://finn"}, {BaseURL: "http://"}, {BaseURL: "http://finn/?a=b"},
		{BaseURL: "http://finn/#a"}, {BaseURL: "http://me:hunter2@finn"}, {BaseURL: "http://hunter2\x00"},
		{BaseURL: "http://finn", Token: "hunter2\r\nX: y"},
	} {
		if _, err := identity.NewClient(bad); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: error %v", bad.BaseURL, err)
		}
	}
	finn := fakefinn.New()
	client := newClient(t, finn, func(c *identity.Config) { c.BaseURL = "https://finn.example/behind/" })
	_, _ = get(t.Context(), client, "health")
	if got := finn.Requests("")[0].Path; got != "/behind/health" {
		t.Errorf("asked for %s", got)
	}
}

// TestStatus: an answer that is no success is its status and its code, and
// nothing else of what finn said.
func TestStatus(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status int
		body   string
		code   string
	}{
		{404, `{"error":"` + fakefinn.Secret + `","code":"SESSION_NOT_FOUND"}`, "SESSION_NOT_FOUND"},
		{402, `{"code":"BUDGET_EXCEEDED"}`, "BUDGET_EXCEEDED"},
		{500, fakefinn.Secret, ""},
		{502, `{"code":"` + fakefinn.Secret + `"}`, ""},
		{400, `{"code":7}`, ""},
		{400, `{"code":"A\r\nB"}`, ""},
		{418, `{"code":"` + strings.Repeat("A", 65) + `"}`, ""},
		{429, `{"code":"RATE_LIMITED"` + strings.Repeat(" ", 1<<20) + `}`, ""},
		{302, "", ""},
		{304, "", ""},
	}
	for _, tt := range tests {
		client := overNetwork(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				t.Error("the redirect was followed")
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		}))
		_, err := get(t.Context(), client, "api")
		var status *identity.StatusError
		if !errors.As(err, &status) || *status != (identity.StatusError{Status: tt.status, Code: tt.code}) {
			t.Errorf("%d %.50s: error %v", tt.status, tt.body, err)
		}
		if strings.Contains(fmt.Sprint(err), fakefinn.Secret) || !strings.Contains(fmt.Sprint(err), fmt.Sprint(tt.status)) {
			t.Errorf("%d: message %q", tt.status, err)
		}
	}
}

// TestAnswers that make no sense.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "<html>", `{"a":1`, `{"a":1}{"a":2}`, `{"a":1,"a":2}`, `{"a":"` + strings.Repeat("x", 1<<20) + `"}`} {
		client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
		var v map[string]any
		err := client.JSON(t.Context(), identity.Request{Method: http.MethodGet, Path: []string{"a"}}, &v)
		if !errors.Is(err, identity.ErrAnswer) || !errors.Is(err, identity.ErrUnavailable) {
			t.Errorf("%.30s: error %v", body, err)
		}
		if client.Circuit() != "closed" {
			t.Errorf("%.30s: circuit %s", body, client.Circuit())
		}
	}
}

// dripping writes a byte every so often, for ever.
func dripping(media string, every time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", media)
		for {
			_, _ = io.WriteString(w, " ")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(every):
			case <-r.Context().Done():
				return
			}
		}
	}
}

// TestTimeouts: no request outlives its limit, whatever finn does, and each of
// them counts as a failure.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	slow := newFinn(fakefinn.Slow)
	slow.Change(func(b *fakefinn.Behaviour) { b.Delay = time.Hour })
	for name, finn := range map[string]http.Handler{
		"no answer":   slow,
		"slow answer": dripping("application/json", 10*time.Millisecond),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := overNetwork(t, finn, func(c *identity.Config) { c.Timeout = 50 * time.Millisecond })
			for range 5 {
				start := time.Now()
				_, err := get(t.Context(), client, "health")
				wantUnavailable(t, err)
				if waited := time.Since(start); waited < 50*time.Millisecond || waited > time.Minute {
					t.Errorf("waited %s", waited)
				}
			}
			if _, err := get(t.Context(), client, "health"); !errors.Is(err, identity.ErrCircuitOpen) {
				t.Errorf("after five timeouts: %v", err)
			}
		})
	}
}

// TestDefaultTimeout is five seconds, or the request's own.
func TestDefaultTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		finn := newFinn(fakefinn.Slow)
		finn.Change(func(b *fakefinn.Behaviour) { b.Delay = time.Hour })
		client := newClient(t, finn)
		for _, limit := range []time.Duration{0, time.Second, time.Minute} {
			start := time.Now()
			_, err := send(t.Context(), client, identity.Request{Method: http.MethodGet, Path: []string{"a"}, Timeout: limit})
			wantUnavailable(t, err)
			want := limit
			if want == 0 {
				want = 5 * time.Second
			}
			if waited := time.Since(start); waited != want {
				t.Errorf("limit %s: waited %s", limit, waited)
			}
		}
	})
}

// pipe is a transport whose answer is a stream that the test writes.
type pipe struct{ body *io.PipeReader }

func (p pipe) RoundTrip(r *http.Request) (*http.Response, error) {
	context.AfterFunc(r.Context(), func() { _ = p.body.CloseWithError(r.Context().Err()) })
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream; charset=utf-8"}}, Body: p.body}, nil
}

// TestSilentStream: a stream may take longer than a request, and is over when it
// says nothing for half a minute. That it began was a success all the same.
func TestSilentStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		body, finn := io.Pipe()
		client := newClient(t, nil, func(c *identity.Config) { c.Transport = pipe{body} })
		start := time.Now()
		response, err := client.Send(t.Context(), identity.Request{Method: http.MethodGet, Path: []string{"a"}})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for range 3 {
				time.Sleep(29 * time.Second)
				_, _ = io.WriteString(finn, "data: x\n\n")
			}
		}()
		text, err := io.ReadAll(response.Body)
		wantUnavailable(t, err)
		if waited := time.Since(start); len(text) != 27 || waited != 117*time.Second {
			t.Errorf("%q after %s", text, waited)
		}
		_ = response.Body.Close()
		if client.Circuit() != "closed" {
			t.Errorf("circuit %s", client.Circuit())
		}
	})
}

// TestCallerLeaves: whoever does not wait learns that it was he, and finn is not
// blamed.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		finn := newFinn(fakefinn.Slow)
		finn.Change(func(b *fakefinn.Behaviour) { b.Delay = time.Second })
		client := newClient(t, finn)
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			_, err := get(ctx, client, "health")
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, identity.ErrUnavailable) {
				t.Fatalf("error %v", err)
			}
		}
		if _, err := get(t.Context(), client, "health"); err != nil {
			t.Errorf("one that waits: %v", err)
		}
	})
}

// TestHealth: the probe sees finn as it is, whatever the circuit says, and asks
// at most once in ten seconds.
func TestHealth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		finn := fakefinn.New()
		client := newClient(t, finn)
		check := func(reachable, healthy bool, circuit string) {
			t.Helper()
			got := client.Health(t.Context())
			if got.Reachable != reachable || got.Healthy != healthy || got.Circuit != circuit {
				t.Errorf("health %+v, want %t %t %s", got, reachable, healthy, circuit)
			}
		}
		check(true, true, "closed")
		finn.Change(func(b *fakefinn.Behaviour) { b.Trouble = fakefinn.Down })
		for range 5 {
			_, _ = get(t.Context(), client, "api")
		}
		check(true, true, "open") // as seen before
		time.Sleep(9 * time.Second)
		if n := len(finn.Requests("/health")); n != 1 {
			t.Errorf("%d probes within ten seconds", n)
		}
		time.Sleep(1100 * time.Millisecond)
		check(false, false, "half_open")
		time.Sleep(10 * time.Second)
		finn.Change(func(b *fakefinn.Behaviour) { b.Trouble = fakefinn.Failing })
		check(true, false, "half_open")
		time.Sleep(10 * time.Second)
		finn.Change(func(b *fakefinn.Behaviour) { b.Trouble, b.Delay = fakefinn.Slow, time.Hour })
		start := time.Now()
		gone, leave := context.WithCancel(t.Context())
		leave() // who asks does not spoil the answer for others
		if got := client.Health(gone); got.Reachable || time.Since(start) != 2*time.Second {
			t.Errorf("health %+v after %s", got, time.Since(start))
		}
	})
}
