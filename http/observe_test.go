package http_test

import (
	"context"
	"fmt"
	"io"
	nethttp "net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dixie/http"
)

// counts is told of requests.
type counts struct {
	mu       sync.Mutex
	inFlight int
	done     []string
}

func (c *counts) RequestStarted() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight++
}

func (c *counts) RequestDone(method, route string, status int, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight--
	if took <= 0 {
		route += " in no time"
	}
	c.done = append(c.done, fmt.Sprintf("%s %s %d", method, route, status))
}

func (c *counts) keep(config *http.Config) { config.Metrics = c }

// await returns what was told of so many requests, sorted. It is told after the
// answer.
func (c *counts) await(t *testing.T, n int) []string {
	t.Helper()
	var told []string
	eventually(t, fmt.Sprintf("%d requests are told of", n), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		told = slices.Sorted(slices.Values(c.done))
		return len(told) >= n && c.inFlight == 0
	})
	return told
}

// TestMetricsOfRequests: each request is told of once, by the template of its
// route, with the status that was sent.
func TestMetricsOfRequests(t *testing.T) {
	t.Parallel()
	var told counts
	s := newService(t, openMemory, told.keep)
	s.tell(t) // an import
	for _, c := range []call{
		{path: "/api/reputation/bear-1"},
		{path: "/api/reputation/nobody"},
		{path: "/api/reputation/bear-1/events"},
		{path: "/api/reputation/bear-1", method: nethttp.MethodHead},
		{path: "/api/reputation/query?routingKey=nft:bear-1"},
		{path: "/api/reputation", key: anyone},
		{path: "/livez", key: anyone},
		{path: "/nowhere/at/all", key: anyone},
		{path: "/nowhere/else", key: anyone},
		{path: "/livez", method: nethttp.MethodPut},
	} {
		s.do(t, c)
	}
	want := []string{
		"GET  404", "GET  404",
		"GET /api/reputation 401", "GET /api/reputation/query 200", "GET /api/reputation/{nftId} 200",
		"GET /api/reputation/{nftId} 404", "GET /api/reputation/{nftId}/events 200", "GET /livez 200",
		"HEAD /api/reputation/{nftId} 200", "POST /api/reputation/events 200", "PUT  405",
	}
	same(t, "told", told.await(t, len(want)), want)
}

// TestMetricsOfFailures: a panic is a 500, and an answer that was broken off has
// the status that it began with, or none.
func TestMetricsOfFailures(t *testing.T) {
	t.Parallel()
	var told counts
	s := serve(t, openMemory(t), told.keep, func(c *http.Config) { c.Reputations = panicky{} })
	s.server.Probe("/half", func(w nethttp.ResponseWriter, _ *nethttp.Request) {
		_, _ = io.WriteString(w, "half of it")
		_ = nethttp.NewResponseController(w).Flush()
		panic(internals)
	})
	s.server.Probe("/none", func(nethttp.ResponseWriter, *nethttp.Request) { panic(nethttp.ErrAbortHandler) })
	s.get(t, "/api/reputation").want(t, 500)
	for _, path := range []string{"/half", "/none"} {
		if response, err := nethttp.Get(s.web.URL + path); err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
	}
	// net/http repeats a GET whose connection ended without an answer.
	got := slices.Compact(told.await(t, 3))
	same(t, "told", got, []string{"GET /api/reputation 500", "GET /half 200", "GET /none 0"})
}

func TestMetricsRoute(t *testing.T) {
	t.Parallel()
	handler := nethttp.HandlerFunc(func(w nethttp.ResponseWriter, _ *nethttp.Request) { _, _ = io.WriteString(w, "some 1\n") })
	var told counts
	s := serve(t, openMemory(t), told.keep, func(c *http.Config) { c.MetricsHandler = handler })
	if got := s.do(t, call{path: "/metrics", key: anyone}).want(t, 200); got.body != "some 1\n" {
		t.Errorf("body %q", got.body)
	}
	got := s.do(t, call{path: "/metrics", key: anyone, method: nethttp.MethodPost})
	got.wantError(t, 405, "method_not_allowed")
	if allow := strings.Join(got.header.Values("Allow"), ", "); allow != "GET, HEAD" {
		t.Errorf("Allow: %s", allow)
	}
	same(t, "told", told.await(t, 2), []string{"GET /metrics 200", "POST  405"})
	serve(t, openMemory(t)).do(t, call{path: "/metrics", key: anyone}).wantError(t, 404, "not_found")
}

func TestRouteOfNoRequest(t *testing.T) {
	t.Parallel()
	if id, route := http.RequestID(context.Background()), http.Route(context.Background()); id != "" || route != "" {
		t.Errorf("id %q, route %q", id, route)
	}
}

// TestStreamsAreCounted while they are open.
func TestStreamsAreCounted(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	if n := s.server.Streams(); n != 0 {
		t.Errorf("%d streams", n)
	}
	response, err := s.web.Client().Do(call{path: "/api/reputation/events"}.with("Accept", "text/event-stream").request(t, s.web.URL))
	if err != nil {
		t.Fatal(err)
	}
	if n := s.server.Streams(); n != 1 {
		t.Errorf("%d streams, want 1", n)
	}
	_ = response.Body.Close()
	eventually(t, "the stream has ended", func() bool { return s.server.Streams() == 0 })
}
