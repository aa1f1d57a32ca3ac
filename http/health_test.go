package http_test

import (
	"context"
	"errors"
	"fmt"
	nethttp "net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dixie/http"
	"dixie/projections"
	"dixie/reputation"
)

// projection is the health of one.
func projection(name, state string, position, head int64, lag time.Duration) http.ProjectionHealth {
	return http.ProjectionHealth{State: state, ProjectionStatus: reputation.ProjectionStatus{
		Projection: name, Version: "1-abc", Position: position, Head: head, Lag: lag,
	}}
}

// healths are the states that a service can be in.
var healths = map[string]http.Health{
	"healthy": {
		StoreType: "postgres", AggregateCount: new(int64(4)),
		Database: &http.DatabaseHealth{Reachable: true, Latency: 1234567 * time.Nanosecond, Total: 8, Idle: 5, Waiting: 1},
		Projections: []http.ProjectionHealth{
			projection("aggregates", "running", 10, 10, 0),
			projection("cohorts", "standby", 7, 10, 1500*time.Millisecond),
		},
	},
	"memory":           {StoreType: "memory", AggregateCount: new(int64(0))},
	"degraded":         {StoreType: "memory", AggregateCount: new(int64(4)), Projections: []http.ProjectionHealth{projection("cohorts", "needs rebuild", 3, 10, time.Hour)}},
	"unhealthy":        {StoreType: "postgres", Database: &http.DatabaseHealth{Reachable: false, Latency: 2 * time.Second, Total: 8, Waiting: 3}},
	"finn-healthy":     {StoreType: "memory", AggregateCount: new(int64(4)), Finn: &http.FinnHealth{Reachable: true, Healthy: true, Latency: 12345678 * time.Nanosecond, Circuit: "closed"}},
	"finn-half-open":   {StoreType: "memory", AggregateCount: new(int64(4)), Finn: &http.FinnHealth{Reachable: true, Healthy: true, Circuit: "half_open"}},
	"finn-unwell":      {StoreType: "memory", AggregateCount: new(int64(4)), Finn: &http.FinnHealth{Reachable: true, Circuit: "closed"}},
	"finn-unreachable": {StoreType: "memory", Finn: &http.FinnHealth{Circuit: "open"}},
	"publishing": {
		StoreType: "memory", AggregateCount: new(int64(4)),
		NATS:        http.NATSHealth{Status: "connected", Detail: "stream DIXIE has other settings than configured: max_age"},
		Projections: []http.ProjectionHealth{projection("publisher", "running", 7, 10, time.Minute)},
	},
	"not-publishing": {
		StoreType: "memory", AggregateCount: new(int64(4)), NATS: http.NATSHealth{Status: "unreachable"},
		Projections: []http.ProjectionHealth{projection("publisher", "retrying", 7, 10, time.Minute)},
	},
	// It has published before.
	"publishing-dormant": {
		StoreType: "memory", AggregateCount: new(int64(4)),
		Projections: []http.ProjectionHealth{projection("publisher", "dormant", 7, 10, time.Minute)},
	},
	// The count can be an older one than the rest.
	"unreachable": {StoreType: "postgres", AggregateCount: new(int64(4)), Database: &http.DatabaseHealth{}},
}

func TestHealth(t *testing.T) {
	t.Parallel()
	for name, health := range healths {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			times := []time.Time{now, now.Add(90*time.Minute + time.Second/2)}
			s := serve(t, openMemory(t), func(c *http.Config) {
				c.Monitor = monitor{health: health}
				c.Now = func() time.Time { // the server's start, and then the request
					defer func() { times = times[min(1, len(times)-1):] }()
					return times[0]
				}
			})
			golden(t, "health-"+name, s.transcript(t, call{path: "/api/health", key: anyone}))
		})
	}
}

// liveMonitor asks a real backend, as the one of cmd/dixie does.
type liveMonitor struct{ *backend }

func (m liveMonitor) Ready(context.Context) error { return nil }

func (m liveMonitor) Health(ctx context.Context) http.Health {
	health := http.Health{StoreType: "test"}
	statuses, err := m.rows.Status(ctx)
	if err != nil {
		return health
	}
	health.AggregateCount = new(int64(4))
	for _, s := range statuses {
		health.Projections = append(health.Projections, http.ProjectionHealth{ProjectionStatus: s, State: string(projections.Running)})
	}
	return health
}

// versions differ with the fold, and are no matter of this package.
var versions = regexp.MustCompile(`"version": "[^"]{8,}"`)

// TestHealthOfBackends: the figures of real projections.
func TestHealthOfBackends(t *testing.T) {
	t.Parallel()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			backend := b.open(t)
			backend.project(t)
			s := serve(t, backend, func(c *http.Config) { c.Monitor = liveMonitor{backend} })
			s.tell(t)
			text := s.transcript(t, call{path: "/api/health", key: anyone})
			text = versions.ReplaceAllString(text, `"version": "VERSION"`)
			if *update && b.name != "memory" {
				t.Skip("the golden file is that of memory")
			}
			golden(t, "health-backends", text)
		})
	}
}

// TestReady: a replica that is not ready does not tell the world why.
func TestReady(t *testing.T) {
	t.Parallel()
	var log journal
	s := serve(t, openMemory(t), log.keep, func(c *http.Config) { c.Monitor = monitor{ready: errors.New(internals)} })
	golden(t, "readyz-not-ready", s.transcript(t, call{path: "/readyz", key: anyone}))
	if !strings.Contains(log.String(), "hunter2") {
		t.Error("the log does not say why")
	}
	if line := log.request(t); !strings.Contains(line, `"level":"DEBUG"`) {
		t.Errorf("a probe fills the log with %s", line)
	}
	// Restarting the process would not help.
	s.do(t, call{path: "/livez", key: anyone}).want(t, 200)
}

// TestReadyExcept: a balancer that asks for it is not told of lag, and of everything
// else.
func TestReadyExcept(t *testing.T) {
	t.Parallel()
	behind := fmt.Errorf("%w: aggregates by 2m, more than 1m", http.ErrBehind)
	for _, tt := range []struct {
		problem error
		query   string
		status  int
	}{
		{nil, "", 200}, {nil, "?exclude=lag", 200},
		{behind, "", 503}, {behind, "?exclude=lag", 200},
		{errors.New(internals), "", 503}, {errors.New(internals), "?exclude=lag", 503},
		{behind, "?exclude=", 400}, {behind, "?exclude=database", 400}, {nil, "?exclude=lag&exclude=lag", 400}, {nil, "?exlude=lag", 400},
	} {
		var log journal
		s := serve(t, openMemory(t), log.keep, func(c *http.Config) { c.Monitor = monitor{ready: tt.problem} })
		if got := s.do(t, call{path: "/readyz" + tt.query, key: anyone}); got.status != tt.status {
			t.Errorf("%v, /readyz%s: %d, want %d", tt.problem, tt.query, got.status, tt.status)
		}
		if told := strings.Contains(log.String(), "1m"); told != (tt.problem == behind && tt.status != 400) { // alarms rely on it
			t.Errorf("%v, /readyz%s: the log tells of lag: %t", tt.problem, tt.query, told)
		}
	}
}

// slowMonitor answers when its time is over.
type slowMonitor struct{}

func (slowMonitor) Ready(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (slowMonitor) Health(ctx context.Context) http.Health {
	<-ctx.Done()
	return http.Health{StoreType: "postgres", Database: &http.DatabaseHealth{}}
}

// TestProbesAreBounded: health and readiness wait for their dependencies for a
// limited time only.
func TestProbesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		config := openMemory(t).config(t)
		config.Monitor = slowMonitor{}
		server := http.NewServer(config)
		for path, status := range map[string]int{"/readyz": 503, "/api/health": 200} {
			start := time.Now()
			w := httptest.NewRecorder()
			server.ServeHTTP(w, httptest.NewRequest(nethttp.MethodGet, path, nil))
			if waited := time.Since(start); w.Code != status || waited > 5*time.Second {
				t.Errorf("%s: status %d after %s, want %d", path, w.Code, waited, status)
			}
		}
	})
}

// TestDefaults: a server without a clock of its own uses the machine's.
func TestDefaults(t *testing.T) {
	t.Parallel()
	s := serve(t, openMemory(t), func(c *http.Config) { c.Now, c.MaxStreams = nil, -1 })
	var got struct {
		Timestamp time.Time `json:"timestamp"`
	}
	before := time.Now().Truncate(time.Millisecond)
	s.get(t, "/api/health").want(t, 200).into(t, &got)
	if got.Timestamp.Before(before) || got.Timestamp.After(time.Now()) {
		t.Errorf("timestamp %s", got.Timestamp)
	}
	s.follow(t, sse("/api/reputation/events", ""))
	if f := s.follow(t, sse("/api/reputation/events", "")); f.StatusCode != 200 {
		t.Errorf("the second stream: status %d", f.StatusCode)
	}
}
