package http_test

import (
	"log/slog"
	nethttp "net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"dixie/http"
	"dixie/internal/logtext"
	"dixie/internal/telemetry"
)

// journal is a log of the server's that a test can read.
type journal struct{ logtext.Log }

// keep makes a server write its log to j.
func (j *journal) keep(c *http.Config) {
	handler := slog.NewJSONHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug})
	c.Logger = slog.New(telemetry.NewLogHandler(handler, http.RequestID))
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestRequestID(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("x", 128)
	tests := []struct {
		given string
		kept  bool
	}{
		{"a", true},
		{"0b9f6c1e-3c1a-4d09-9c1c-2f1f6f0f6a11", true},
		{"aZ0._-", true},
		{longest, true},
		{longest + "x", false},
		{"", false},
		{"two words", false},
		{"a/b", false},
		{"a:b", false},
		{"<script>", false},
		{`"}{"`, false},
		{"ä", false},
		{"a\tb", false},
		{"%0a", false},
	}
	s := newService(t, openMemory)
	for _, tt := range tests {
		for _, path := range []string{"/livez", "/nowhere", "/api/reputation/nobody"} {
			got := s.do(t, call{path: path}.with("X-Request-Id", tt.given))
			id := got.header.Get("X-Request-Id")
			if tt.kept && id != tt.given || !tt.kept && !uuidForm.MatchString(id) {
				t.Errorf("%s: %q becomes %q", path, tt.given, id)
			}
			if got.status == 404 {
				got.wantError(t, 404, "not_found")
			}
		}
	}
	one, two := s.get(t, "/livez"), s.get(t, "/livez")
	if one.header.Get("X-Request-Id") == two.header.Get("X-Request-Id") {
		t.Error("two requests have the same id")
	}
}

// TestSecurityHeaders: all answers have them, whatever went wrong.
func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	s.tell(t)
	panicking := serve(t, openMemory(t), func(c *http.Config) { c.Reputations = panicky{} })
	tests := []struct {
		server *service
		call   call
		status int
		cache  string // Cache-Control
	}{
		{s, call{path: "/"}, 200, "private, no-store"},
		{s, call{path: "/api/reputation"}, 200, "private, no-store"},
		{s, call{path: "/api/reputation/bear-1"}, 200, "private, no-cache"},
		{s, call{path: "/api/reputation/bear-1"}.with("If-None-Match", "*"), 304, "private, no-cache"},
		{s, call{path: "/api/reputation?limit=0"}, 400, "private, no-store"},
		{s, call{path: "/api/reputation", key: anyone}, 401, "private, no-store"},
		{s, call{path: "/api/reputation", key: "append"}, 403, "private, no-store"},
		{s, call{path: "/nowhere", key: anyone}, 404, "private, no-store"},
		{s, call{path: "/livez", method: nethttp.MethodPut}, 405, "private, no-store"},
		{s, bulk("").with("Content-Type", ""), 415, "private, no-store"},
		{s, call{path: "/api/reputation?at_least=99&wait=1ms"}, 503, "private, no-store"},
		{s, call{path: "/api/reputation/events"}, 200, "private, no-store"},
		{s, call{path: "/api/reputation/events", header: map[string]string{"Accept": "text/event-stream"}, blocks: 1}, 200, "no-store"},
		{panicking, call{path: "/api/reputation"}, 500, "private, no-store"},
	}
	for _, tt := range tests {
		got := tt.server.do(t, tt.call).want(t, tt.status)
		for name, want := range map[string]string{
			"X-Content-Type-Options":    "nosniff",
			"X-Frame-Options":           "DENY",
			"Content-Security-Policy":   "default-src 'none'; frame-ancestors 'none'",
			"Referrer-Policy":           "strict-origin-when-cross-origin",
			"Strict-Transport-Security": "max-age=31536000; includeSubDomains",
			"Cache-Control":             tt.cache,
		} {
			if value := got.header.Values(name); len(value) != 1 || value[0] != want {
				t.Errorf("%s gives %d with %s: %q, want %q", tt.call.path, tt.status, name, value, want)
			}
		}
	}
}

// TestIdentityHeaders: what a caller says about itself does not reach a handler,
// and everything else does.
func TestIdentityHeaders(t *testing.T) {
	t.Parallel()
	lies := []string{
		"X-Wallet-Address", "x-wallet-address", "X-Conviction-Tier", "X-Conviction-Source", "X-Memory-Context",
		"X-Model-Pool", "X-Economic-Start-Ms", "X-Nft-Id",
	}
	server := http.NewServer(openMemory(t).config(t))
	var seen nethttp.Header
	server.Probe("/probe", func(_ nethttp.ResponseWriter, r *nethttp.Request) { seen = r.Header })
	request := httptest.NewRequest(nethttp.MethodGet, "/probe", nil)
	for _, name := range lies {
		request.Header.Add(name, "a lie")
		request.Header.Add(name, "another")
	}
	request.Header.Set("Accept", "application/json")
	server.ServeHTTP(httptest.NewRecorder(), request)
	same(t, "headers", seen, nethttp.Header{"Accept": {"application/json"}})
}

func TestAuthorization(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	token := secret("read")
	tests := map[string]struct {
		status int
		code   string
	}{
		"Bearer " + token:          {200, ""},
		"bearer " + token:          {200, ""},
		"BEARER   " + token:        {200, ""},
		"":                         {401, "unauthorized"},
		"Bearer":                   {401, "unauthorized"},
		"Bearer  ":                 {401, "unauthorized"},
		token:                      {401, "unauthorized"},
		"Basic " + token:           {401, "unauthorized"},
		"Bearer\u00a0" + token:     {401, "unauthorized"},
		"Bearer " + token + "x":    {401, "invalid_token"},
		"Bearer " + token[1:]:      {401, "invalid_token"},
		"Bearer x " + token:        {401, "invalid_token"},
		"Bearer " + token + ",":    {401, "invalid_token"},
		"Bearer " + secret("none"): {401, "invalid_token"},
	}
	for header, want := range tests {
		got := s.do(t, call{path: "/api/reputation", key: anyone}.with("Authorization", header)).want(t, want.status)
		if want.status == 200 {
			continue
		}
		got.wantError(t, 401, want.code)
		challenge := got.header.Get("WWW-Authenticate")
		if strings.Contains(challenge, "invalid_token") != (want.code == "invalid_token") || !strings.HasPrefix(challenge, "Bearer ") {
			t.Errorf("%q: WWW-Authenticate %q", header, challenge)
		}
	}
}

// TestScopes: every route asks for its scope before it looks at anything else.
func TestScopes(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	s.tell(t)
	calls := map[string][]call{
		"append": {appendTo("bear-1", signal(1, 0.5)), bulk(""), appendTo("a%2Fb", ""), bulk("").with("Content-Type", "x")},
	}
	for path := range getRoutes {
		if path != "/api/health" {
			calls["read"] = append(calls["read"], call{path: path}, call{path: path + "?unknown=1"}, call{path: path, method: nethttp.MethodHead})
		}
	}
	for needed, group := range calls {
		for _, c := range group {
			for _, key := range keys {
				got := s.do(t, c.as(key))
				if refused := got.status == 403; refused == strings.Contains(key, needed) {
					t.Errorf("%s %s with %s: status %d", c.verb(), c.path, key, got.status)
				}
			}
			s.do(t, c.as(anyone)).want(t, 401)
		}
	}
}

// TestAccessLog: one line for each request, who it was and how it ended, and
// nothing that is the caller's secret.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	tests := []struct {
		call call
		want []string // in the line
	}{
		{call{path: "/api/reputation?state=cold"}, []string{`"level":"INFO"`, `"status":200`, `"path":"/api/reputation"`, `"caller":"read"`, `"method":"GET"`}},
		{call{path: "/api/reputation/events"}, []string{`"status":200`, `"bytes":0`}},
		{call{path: "/api/reputation/nobody"}, []string{`"level":"INFO"`, `"status":404`, `"path":"/api/reputation/nobody"`}},
		{call{path: "/api/reputation", key: anyone}, []string{`"status":401`, `"caller":""`}},
		{call{path: "/api/reputation", key: "admin"}, []string{`"status":403`, `"caller":"admin"`}},
		{call{path: "/livez"}, []string{`"level":"DEBUG"`, `"status":200`}},
		{call{path: "/api/reputation?at_least=1&wait=1ms"}, []string{`"level":"WARN"`, `"status":503`}},
		{call{path: "/nowhere/%0A"}, []string{`"path":"/nowhere/\n"`}},
	}
	for _, tt := range tests {
		t.Run(tt.call.path, func(t *testing.T) {
			t.Parallel()
			var log journal
			s := serve(t, openMemory(t), log.keep)
			s.do(t, tt.call.with("X-Request-Id", "the-id"))
			line := log.request(t)
			for _, want := range append(tt.want, `"request_id":"the-id"`, `"duration":`) {
				if !strings.Contains(line, want) {
					t.Errorf("no %s in %s", want, line)
				}
			}
			if text := log.String(); strings.Contains(text, "secret-of") || strings.Contains(text, "state=") {
				t.Errorf("the log says too much: %s", text)
			}
		})
	}
}

// request is the one line about a request. It is written after the answer.
func (j *journal) request(t testing.TB) string {
	t.Helper()
	var found []string
	eventually(t, "a line about the request", func() bool {
		found = nil
		for line := range strings.Lines(j.String()) {
			if strings.Contains(line, `"msg":"request"`) {
				found = append(found, line)
			}
		}
		return len(found) > 0
	})
	if len(found) != 1 {
		t.Errorf("%d lines about one request: %v", len(found), found)
	}
	return found[0]
}

// TestAllow: a 405 names exactly the methods that the path has.
func TestAllow(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	s.tell(t)
	for path, allowed := range map[string]string{
		"/":                              "GET, HEAD",
		"/readyz":                        "GET, HEAD",
		"/api/health":                    "GET, HEAD",
		"/api/reputation":                "GET, HEAD",
		"/api/reputation/query":          "GET, HEAD",
		"/api/reputation/population":     "GET, HEAD",
		"/api/reputation/events":         "GET, HEAD, POST",
		"/api/reputation/bear-1":         "GET, HEAD",
		"/api/reputation/bear-1/events":  "GET, HEAD, POST",
		"/api/reputation/bear-1/cohorts": "GET, HEAD",
		"/api/reputation/a%2Fb/events":   "GET, HEAD, POST",
	} {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
			if strings.Contains(allowed, method) {
				continue
			}
			got := s.do(t, call{method: method, path: path, key: anyone})
			got.wantError(t, 405, "method_not_allowed")
			if allow := strings.Join(got.header.Values("Allow"), ", "); allow != allowed {
				t.Errorf("%s %s: Allow %s, want %s", method, path, allow, allowed)
			}
		}
	}
}

func TestNoRoute(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	for _, path := range []string{
		"/nowhere", "/api", "/api/", "/api/reputation/", "/api//reputation", "//api/reputation", "/api/reputation/a/b",
		"/api/reputation/bear-1/", "/api/reputation/bear-1/events/", "/api/reputation//events", "/livez/", "/LIVEZ",
		"/api/reputation/bear-1/../bear-2/score/x", "/api/reputation/%2e%2e/health/x",
	} {
		for _, method := range []string{"GET", "POST"} {
			s.do(t, call{method: method, path: path, key: anyone}).wantError(t, 404, "not_found")
		}
	}
}
