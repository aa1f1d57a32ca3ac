package http_test

import (
	"fmt"
	"io"
	nethttp "net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dixie/internal/fakefinn"
)

// TestGates: who may do what with an NFT. alice owns it, bob is delegated it,
// carol has nothing to do with it.
func TestGates(t *testing.T) {
	t.Parallel()
	delegates := map[string]bool{"/api/memory/mibera:42": true, "/api/memory/mibera:42/history?limit=3&cursor=abc&includeSealed=true": true}
	for _, c := range routesOfFinn[1:] { // chats are for all
		name := c.verb() + " " + c.path
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, finn := behind(t, openMemory)
			s.do(t, c.as("carol")).wantError(t, 403, "forbidden")
			s.do(t, c.as("append,admin")).want(t, 403)
			s.do(t, c.as(anyone)).wantError(t, 401, "unauthorized")
			if delegates[c.path] {
				s.do(t, c.as("bob")).want(t, 200)
			} else {
				s.do(t, c.as("bob")).wantError(t, 403, "forbidden")
			}
			if n := len(finn.Requests(forwarded(c))); n > 1 || n == 1 && !delegates[c.path] {
				t.Errorf("%d requests reached finn", n)
			}
			if got := s.do(t, c.as("alice")); got.status > 299 {
				t.Errorf("the owner gets %d: %s", got.status, got.body)
			}
		})
	}
	s, _ := behind(t, openMemory)
	s.do(t, call{path: "/api/memory/mibera:42", key: "read"}).wantError(t, 403, "wallet_required")
	s.do(t, call{path: "/api/schedule/daily-1/history", key: "read"}).wantError(t, 403, "wallet_required")
}

// forwarded is the path at finn that a call ends at.
func forwarded(c call) string {
	path, _, _ := strings.Cut(c.path, "?")
	if c.verb() == nethttp.MethodGet && strings.HasPrefix(path, "/api/memory/") && strings.Count(path, "/") == 3 {
		return path + "/projection"
	}
	return path
}

// TestAnyOfSeveral: a wallet's second NFT is as much its own as its first.
func TestAnyOfSeveral(t *testing.T) {
	t.Parallel()
	s, finn := behind(t, openMemory)
	finn.Remember("mibera:43", map[string]any{})
	for _, path := range []string{"/api/memory/mibera:43", "/api/memory/mibera%3A43/history", "/api/schedule/mibera:43", "/api/learning/mibera:43/gaps"} {
		s.do(t, call{path: path, key: "alice"}).want(t, 200)
	}
	s.do(t, call{path: "/api/memory/mibera:44", key: "alice"}).wantError(t, 403, "forbidden")
}

// TestForwarded: what goes to finn and what comes back.
func TestForwarded(t *testing.T) {
	t.Parallel()
	s, finn := behind(t, openMemory)
	for _, tt := range []struct {
		call   call
		status int
		asked  string
		body   string
	}{
		{call{path: "/api/memory/mibera%3A42"}, 200, "GET /api/memory/mibera:42/projection", ""},
		{call{path: "/api/memory/mibera:42", method: "HEAD"}, 200, "GET /api/memory/mibera:42/projection", ""},
		{call{path: "/api/memory/mibera:42/history?cursor=a%26b%3Dc&limit=3"}, 200, "GET /api/memory/mibera:42/history?cursor=a%26b%3Dc&limit=3", ""},
		{post("/api/memory/mibera:42/seal", ` {"conversationId":"c-1","sealingPolicy":{}} `), 201, "POST /api/memory/mibera:42/seal", `{"conversationId":"c-1","sealingPolicy":{}}`},
		{call{path: "/api/memory/mibera:42/c-1", method: "DELETE"}, 204, "DELETE /api/memory/mibera:42/c-1", ""},
		{post("/api/schedule", `{"nftId":"mibera:43","nlExpression":"daily","prompt":"hello","name":"x"}`), 201, "POST /api/schedule", `{"nftId":"mibera:43","nlExpression":"daily","prompt":"hello","name":"x"}`},
		{call{path: "/api/schedule/mibera:42"}, 200, "GET /api/schedule/mibera:42", ""},
		{call{path: "/api/schedule/daily-1/history?nftId=mibera:42"}, 200, "GET /api/schedule/daily-1/history", ""},
		{call{path: "/api/schedule/daily-1?nftId=mibera:42", method: "DELETE"}, 200, "DELETE /api/schedule/daily-1", ""},
		{call{path: "/api/learning/mibera:42/insights?limit=3"}, 200, "GET /api/learning/mibera:42/insights?limit=3", ""},
		{call{path: "/api/learning/mibera:42/gaps"}, 200, "GET /api/learning/mibera:42/gaps", ""},
	} {
		got := s.do(t, tt.call.as("alice")).want(t, tt.status)
		asked := finn.Requests("")
		last := asked[len(asked)-1]
		if text := last.Method + " " + last.Path; text != tt.asked || string(last.Body) != tt.body {
			t.Errorf("%s asks for %s with %s", tt.call.path, text, last.Body)
		}
		if last.Header.Get("X-Request-Id") != got.header.Get("X-Request-Id") || last.Header.Get("X-Wallet-Address") != wallets["alice"] || last.Header.Get("Authorization") != "" {
			t.Errorf("%s: headers %s", tt.call.path, last.Header)
		}
		if got.header.Get("X-Finn-Internal") != "" || tt.status != 204 && tt.call.method != "HEAD" && got.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: answered with %s", tt.call.path, got.header)
		}
		if (got.body == "") != (tt.status == 204 || tt.call.method == "HEAD") {
			t.Errorf("%s: body %q", tt.call.path, got.body)
		}
	}
}

// TestForwardedRequests that are refused before finn hears of them.
func TestForwardedRequests(t *testing.T) {
	t.Parallel()
	s, finn := behind(t, openMemory)
	for _, tt := range []struct {
		call   call
		status int
		field  string
	}{
		{call{path: "/api/memory/mibera:42?limit=3"}, 400, "limit"},
		{call{path: "/api/memory/mibera:42/history?limit=3&limit=4"}, 400, "limit"},
		{call{path: "/api/learning/mibera:42/gaps?limit=3"}, 400, "limit"},
		{post("/api/schedule", `{"nlExpression":"daily","prompt":"hello"}`), 400, "nftId"},
		{post("/api/schedule", `{"nftId":42}`), 400, "nftId"},
		{post("/api/schedule", `{"nftId":".."}`), 400, "nftId"},
		{post("/api/schedule", `[]`), 400, "body"},
		{post("/api/schedule?nftId=mibera:42", `{}`), 400, "nftId"},
		{call{path: "/api/schedule/daily-1?nftId=a/b", method: "DELETE"}, 400, "nftId"},
		{call{path: "/api/schedule/daily.1?nftId=mibera:42", method: "DELETE"}, 400, "scheduleId"},
		{call{path: "/api/memory/mibera:42/c.1", method: "DELETE"}, 400, "conversationId"},
	} {
		s.do(t, tt.call.as("alice")).wantProblem(t, tt.field)
	}
	if n := len(finn.Requests("/api/memory/")) + len(finn.Requests("/api/schedule")) + len(finn.Requests("/api/learning")); n != 0 {
		t.Errorf("finn was asked %d times", n)
	}
	s.do(t, post("/api/memory/mibera:42/seal", `{"a":"`+strings.Repeat("a", 100<<10)+`"}`).as("alice")).wantError(t, 413, "body_too_large")
	s.do(t, post("/api/memory/mibera:42/seal", `{"a":`).as("alice")).wantProblem(t, "body")
	s.do(t, post("/api/schedule", `{}`).with("Content-Type", "text/plain").as("alice")).wantError(t, 415, "unsupported_media_type")
	got := s.do(t, call{path: "/api/memory/mibera:42/c-1", method: "PUT", key: "alice"}).want(t, 405)
	if allow := strings.Join(got.header.Values("Allow"), " "); allow != "DELETE" {
		t.Errorf("Allow: %s", allow)
	}
}

// TestTraversal: an id in a path can name nothing but itself, however it is
// written.
func TestTraversal(t *testing.T) {
	t.Parallel()
	s, finn := behind(t, openMemory)
	for _, id := range []string{
		".", "..", "...", "%2e", "%2e%2e", "%2E%2e", "..%2f..%2fhealth", "%2e%2e%2fhealth", "..%5c..%5chealth", "%252e%252e", "a%2fb", "a%5cb",
		"a%00", "a%0d%0aX-Injected:%20yes", "a%20b", "a%3fb", "a%23b", "a;b", "%c3%a9", "%ff", "", "/", "//", "mibera:42%2f..%2fmibera:44",
		strings.Repeat("a", 256),
	} {
		for _, format := range []string{
			"GET /api/memory/%s", "GET /api/memory/%s/history", "POST /api/memory/%s/seal", "DELETE /api/memory/%s/c-1", "DELETE /api/memory/mibera:42/%s",
			"GET /api/schedule/%s", "DELETE /api/schedule/%s", "GET /api/schedule/%s/history", "GET /api/learning/%s/insights", "GET /api/learning/%s/gaps",
		} {
			method, path, _ := strings.Cut(fmt.Sprintf(format, id), " ")
			c := call{method: method, path: path, key: "alice", header: map[string]string{"Content-Type": "application/json"}, body: "{}"}
			if got := s.do(t, c); got.status < 400 || got.status > 499 {
				t.Errorf("%s %s: status %d: %s", method, path, got.status, got.body)
			}
		}
	}
	for _, r := range finn.Requests("") {
		if path, err := url.PathUnescape(r.Path); err != nil || strings.Contains(path, "..") && !strings.Contains(path, "...") || r.Header.Get("X-Injected") != "" {
			t.Errorf("finn was asked for %s %s", r.Path, r.Header)
		}
	}
	if n := len(finn.Requests("/health")); n != 0 {
		t.Errorf("another route of finn's was asked %d times", n)
	}
}

// TestSchedules: a schedule is one of the NFT that the request names, or of the
// only one that the wallet has.
func TestSchedules(t *testing.T) {
	t.Parallel()
	s, finn := behind(t, openMemory)
	remove := func(id, query string) call {
		return call{method: nethttp.MethodDelete, path: "/api/schedule/" + id + query, key: "alice"}
	}
	s.do(t, remove("daily-1", "")).wantProblem(t, "nftId")
	s.do(t, remove("daily-1", "?nftId=mibera:43")).wantError(t, 404, "not_found")
	s.do(t, remove("daily-1", "?nftId=mibera:44")).wantError(t, 403, "forbidden")
	s.do(t, remove("daily-9", "?nftId=mibera:42")).wantError(t, 404, "not_found")
	if n := len(finn.Requests("/api/schedule/daily")); n != 0 {
		t.Fatalf("%d requests reached finn", n)
	}
	s.do(t, remove("daily-1", "?nftId=mibera:42")).want(t, 200)
	finn.Give(wallets["carol"], fakefinn.NFT{Collection: "mibera", Token: "43"})
	s.do(t, remove("daily-2", "").as("carol")).want(t, 200)
	s.do(t, remove("daily-2", "").as("carol")).wantError(t, 404, "not_found")
	s.do(t, remove("daily-2", "").as("bob")).wantError(t, 403, "forbidden")
}

// TestGateFreshness: while finn does not know who owns what, reads rest on what it
// said within the hour, and writes wait.
func TestGateFreshness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newInTime(t)
		for _, c := range routesOfFinn {
			s.do(t, c.as("alice"))
		}
		s.finn.Plan("mibera:42", "daily-1")
		s.finn.Change(func(b *fakefinn.Behaviour) { b.Trouble, b.Only = fakefinn.Rubbish, "/api/identity/" })
		time.Sleep(50 * time.Minute)
		for _, c := range routesOfFinn {
			got := s.do(t, c.as("alice"))
			if c.verb() == nethttp.MethodGet || c.path == "/api/chat" {
				got.want(t, 200)
			} else if got.wantError(t, 503, "identity_unavailable"); got.header.Get("Retry-After") != "1" {
				t.Errorf("%s: Retry-After %q", c.path, got.header.Get("Retry-After"))
			}
		}
		// A sale is seen at once by what cannot be undone.
		s.finn.Change(func(b *fakefinn.Behaviour) { b.Trouble = fakefinn.Well })
		for _, c := range routesOfFinn {
			s.do(t, c.as("alice"))
		}
		s.finn.Give(wallets["alice"])
		for _, c := range routesOfFinn[1:] {
			if c.verb() != nethttp.MethodGet {
				s.do(t, c.as("alice")).wantError(t, 403, "forbidden")
			}
		}
		closeServer(t, s.server)
	})
}

// TestRelay: of finn's answer callers get what is JSON, or a stream, and the
// headers that are for them.
func TestRelay(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		media, body string
		status      int
	}{
		"json":         {"application/json; charset=utf-8", `{"a":1}`, 200},
		"created":      {"application/json", `[1]`, 201},
		"html":         {"text/html", "<script>alert(1)</script>", 502},
		"no media":     {"", `{"a":1}`, 502},
		"not json":     {"application/json", `<html>`, 502},
		"half":         {"application/json", `{"a":`, 502},
		"nothing":      {"application/json", ``, 502},
		"two names":    {"application/json", `{"a":1,"a":2}`, 502},
		"too long":     {"application/json", `"` + strings.Repeat("a", 1<<20) + `"`, 502},
		"events":       {"text/event-stream", "data: a\n\n", 200},
		"lines":        {"application/x-ndjson; charset=utf-8", "{}\n{}\n", 200},
		"long stream":  {"text/event-stream", strings.Repeat("data: a\n\n", 1<<17), 200},
		"empty stream": {"application/x-ndjson", "", 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t, openMemory, ask(t, quiet(t, nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
				if !strings.Contains(r.URL.Path, "/api/learning/") {
					populated().ServeHTTP(w, r)
					return
				}
				for name, value := range map[string]string{
					"Content-Type": tt.media, "ETag": `"a"`, "Set-Cookie": "a=b", "X-Finn-Internal": fakefinn.Secret,
					"Access-Control-Allow-Origin": "*", "Content-Security-Policy": "none", "Connection": "close",
				} {
					w.Header().Set(name, value)
				}
				w.WriteHeader(min(tt.status, 201))
				_, _ = io.WriteString(w, tt.body)
			}))))
			got := s.do(t, call{path: "/api/learning/mibera:42/gaps", key: "alice"}).want(t, tt.status)
			for _, name := range []string{"Set-Cookie", "X-Finn-Internal", "Access-Control-Allow-Origin"} {
				if value := got.header.Get(name); value != "" {
					t.Errorf("%s: %s", name, value)
				}
			}
			if policy := got.header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") {
				t.Errorf("policy %q", policy)
			}
			if tt.status == 502 {
				got.wantError(t, 502, "upstream_error")
			} else if media, _, _ := strings.Cut(tt.media, ";"); got.body != tt.body || got.header.Get("Content-Type") != media {
				t.Errorf("%d bytes of %s, want %d", len(got.body), got.header.Get("Content-Type"), len(tt.body))
			}
		})
	}
}
