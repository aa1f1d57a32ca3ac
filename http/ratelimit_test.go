package http_test

import (
	"fmt"
	"log/slog"
	nethttp "net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dixie/http"
)

// clock is a time that a test moves.
type clock struct{ offset atomic.Int64 }

func (c *clock) set(config *http.Config)          { config.Now = c.now }
func (c *clock) now() time.Time                   { return now.Add(time.Duration(c.offset.Load())) }
func (c *clock) forward(d time.Duration)          { c.offset.Add(int64(d)) }
func limits(l http.RateLimits) func(*http.Config) { return func(c *http.Config) { c.RateLimits = l } }

func ok(w nethttp.ResponseWriter, _ *nethttp.Request) { w.WriteHeader(nethttp.StatusOK) }

// TestRateLimit: a minute's quota is answered at once, then as fast as it flows
// back, and a refused caller is told when to come again.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	var clock clock
	s := newGateway(t, clock.set, limits(http.RateLimits{Clients: 6}))
	c := call{path: "/api/reputation"}.by(member)
	for i := range 6 {
		got := s.do(t, c).want(t, 200)
		if policy, limit := got.header.Get("RateLimit-Policy"), got.header.Get("RateLimit"); policy != `"requests";q=6;w=60` || limit != fmt.Sprintf(`"requests";r=%d;t=10`, 5-i) {
			t.Errorf("request %d: %s, %s", i, policy, limit)
		}
	}
	for _, wait := range []int{10, 7} {
		got := s.do(t, c)
		f := got.wantError(t, 429, "rate_limited")
		if retry := got.header.Get("Retry-After"); retry != strconv.Itoa(wait) || f.RetryAfter != wait {
			t.Errorf("Retry-After %s, retry_after %d; want %d", retry, f.RetryAfter, wait)
		}
		clock.forward(3 * time.Second)
	}
	clock.forward(4 * time.Second)
	s.do(t, c).want(t, 200)
	s.do(t, c).want(t, 429)
	clock.forward(time.Hour)
	for range 6 {
		s.do(t, c).want(t, 200)
	}
	s.do(t, c).want(t, 429)
}

// TestRateLimitOf: each caller has a quota of its own, and probes need none.
func TestRateLimitOf(t *testing.T) {
	t.Parallel()
	var clock clock
	s := newGateway(t, clock.set, limits(http.RateLimits{Clients: 1, Keys: 2, SignIn: 1}), func(c *http.Config) {
		c.TrustedProxies = prefixes(t, "127.0.0.0/8")
	})
	from := func(c call, address string) call { return c.with("X-Forwarded-For", address) }
	read := call{path: "/api/reputation"}
	nobody := read.as(anyone)
	for _, step := range []struct {
		call   call
		status int
	}{
		{read.by(member), 200},
		{read.by(member), 429},
		{from(read.by(member), "203.0.113.9"), 429}, // another address is no other wallet
		{read, 200},
		{read, 200},
		{read, 429}, // a key has its own limit
		{read.as("append,admin"), 403},
		{from(nobody, "203.0.113.1"), 401},
		{from(nobody, "203.0.113.1"), 429},
		{from(nobody, "203.0.113.2"), 401},
		{from(nobody.with("Authorization", "Bearer guess"), "203.0.113.2"), 429}, // guessing counts too
		{from(nobody, "2001:db8::1"), 401},
		{from(nobody, "2001:db8::ffff"), 429}, // the same network
		{from(nobody, "2001:db8:0:1::1"), 401},
		{from(signInWith("right"), "203.0.113.1"), 200},
		{from(signInWith("right"), "203.0.113.1"), 429},
		{from(call{path: "/nowhere", key: anyone}, "203.0.113.1"), 429},
	} {
		if got := s.do(t, step.call); got.status != step.status {
			t.Errorf("%s %v: %d, want %d", step.call.path, step.call.header, got.status, step.status)
		}
	}
	for range 5 {
		for _, path := range []string{"/livez", "/readyz", "/api/health", "/api/auth/.well-known/jwks.json"} {
			if got := s.do(t, call{path: path, key: anyone}).want(t, 200); got.header.Get("RateLimit") != "" {
				t.Errorf("%s is limited", path)
			}
		}
	}
}

// TestRateLimitAtOnce: requests that come together do not get through together.
func TestRateLimitAtOnce(t *testing.T) {
	t.Parallel()
	var clock clock
	s := newGateway(t, clock.set, limits(http.RateLimits{Clients: 7}))
	var passed atomic.Int64
	var callers sync.WaitGroup
	for range 40 {
		callers.Go(func() {
			if s.do(t, call{path: "/api/reputation"}.by(member)).status == 200 {
				passed.Add(1)
			}
		})
	}
	callers.Wait()
	if n := passed.Load(); n != 7 {
		t.Errorf("%d requests passed, want 7", n)
	}
}

// TestNoRateLimit: 0 is no limit, and says nothing.
func TestNoRateLimit(t *testing.T) {
	t.Parallel()
	s := newGateway(t)
	for range 300 {
		if got := s.do(t, call{path: "/api/reputation"}.by(member)).want(t, 200); got.header.Get("RateLimit") != "" {
			t.Fatal("there is a limit")
		}
	}
}

// TestRateLimitIsBounded: however many addresses ask, the memory for them is
// bounded, and those that asked last are remembered.
func TestRateLimitIsBounded(t *testing.T) {
	t.Parallel()
	config := openMemory(t).config(t)
	config.RateLimits = http.RateLimits{Clients: 1}
	config.Logger = slog.New(slog.DiscardHandler)
	server := http.NewServer(config)
	ask := func(i int) int {
		request := httptest.NewRequest(nethttp.MethodGet, "/", nil)
		request.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&0xff, i&0xff)
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, request)
		return answer.Code
	}
	const callers = http.MaxBuckets + 100
	for i := range callers {
		if status := ask(i); status != 200 {
			t.Fatalf("caller %d: %d", i, status)
		}
	}
	if n := server.Remembered(); n != http.MaxBuckets {
		t.Errorf("%d callers are remembered", n)
	}
	if status := ask(callers - 1); status != 429 {
		t.Errorf("the last caller is forgotten: %d", status)
	}
}

// TestPublicReputationIsNotLimited: finn would stop asking.
func TestPublicReputationIsNotLimited(t *testing.T) {
	t.Parallel()
	s := newGateway(t, limits(http.RateLimits{Clients: 1}), func(c *http.Config) { c.PublicReputation = true })
	for range 3 {
		s.do(t, call{path: "/reputation/bear-1", key: anyone}).want(t, 200)
	}
}

// FuzzClientAddress: a client is who connects, or an address that its proxies wrote; and
// who is no trusted proxy can write what it likes.
func FuzzClientAddress(f *testing.F) {
	for _, header := range []string{"", "8.8.8.8", "1.1.1.1, 10.0.0.2", "10.0.0.1,,8.8.8.8", "[2001:db8::1]:443", "::ffff:9.9.9.9%eth0", "unknown", "\xff,"} {
		f.Add("10.0.0.1:80", header)
		f.Add("9.9.9.9:80", header)
	}
	s := newGateway(f, func(c *http.Config) { c.TrustedProxies = prefixes(f, "10.0.0.0/8") }).server
	f.Fuzz(func(t *testing.T, peer, forwarded string) {
		request := &nethttp.Request{RemoteAddr: peer, Header: nethttp.Header{"X-Forwarded-For": {forwarded}}}
		direct := s.ClientAddress(&nethttp.Request{RemoteAddr: peer})
		client := s.ClientAddress(request)
		if client != direct && !netip.MustParsePrefix("10.0.0.0/8").Contains(direct) {
			t.Errorf("%s is taken for %s, as it says itself: %q", peer, client, forwarded)
		}
		if client != direct && !client.IsValid() {
			t.Errorf("%s is forgotten for %q", peer, forwarded)
		}
		if client.Is4In6() || client.Zone() != "" {
			t.Errorf("%s has two spellings", client)
		}
	})
}
