package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"dixie/eventstore"
	"dixie/internal/pgtest"
	"dixie/internal/telemetry"
	"dixie/reputation"
)

func newMetrics() *telemetry.Metrics {
	return telemetry.NewMetrics(telemetry.Build{Version: "v1", Scoring: "s1"})
}

// scrape is what /metrics serves.
func scrape(t *testing.T, m *telemetry.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler(slog.New(slog.NewTextHandler(t.Output(), nil))).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// wantLines fails for lines that a scrape does not have.
func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			name, _, _ := strings.Cut(line, "{")
			name, _, _ = strings.Cut(name, " ")
			t.Errorf("no line %q, but\n%s", line, grep(text, name))
		}
	}
}

func grep(text, part string) string {
	var found strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			found.WriteString(line)
		}
	}
	return found.String()
}

// TestMetricsAreWellFormed: names, units and help texts are what Prometheus asks
// for, of all metrics.
func TestMetricsAreWellFormed(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	m.WatchPool(func() *pgxpool.Stat { return pgtest.Pool(t).Stat() }, func() int64 { return 0 })
	m.WatchProjections(projectionSource(nil))
	m.RequestStarted()
	m.RequestDone(http.MethodGet, "/", 200, time.Second)
	_, _ = m.Pages(func(*message.Message) ([]*message.Message, error) { return nil, nil })(message.NewMessage("", nil))
	problems, err := promlint.New(strings.NewReader(scrape(t, m))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "dixie_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// TestRequestsHaveBoundedLabels: nothing that a caller chooses becomes a series.
func TestRequestsHaveBoundedLabels(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	for i := range 500 {
		m.RequestStarted()
		m.RequestDone(fmt.Sprintf("METHOD%d", i), "", 404, time.Millisecond)
	}
	for _, status := range []int{0, 200, 201, 404, 599, 600, -1, 99999} {
		m.RequestStarted()
		m.RequestDone(http.MethodGet, "/api/reputation/{nftId}", status, 20*time.Millisecond)
	}
	m.RequestStarted()
	text := scrape(t, m)
	wantLines(t, text,
		`dixie_http_requests_total{code="404",method="other",route="unknown"} 500`,
		`dixie_http_requests_total{code="200",method="GET",route="/api/reputation/{nftId}"} 1`,
		`dixie_http_requests_total{code="599",method="GET",route="/api/reputation/{nftId}"} 1`,
		`dixie_http_requests_total{code="0",method="GET",route="/api/reputation/{nftId}"} 4`,
		`dixie_http_request_duration_seconds_bucket{method="GET",route="/api/reputation/{nftId}",le="0.01"} 0`,
		`dixie_http_request_duration_seconds_bucket{method="GET",route="/api/reputation/{nftId}",le="0.025"} 8`,
		`dixie_http_requests_in_flight 1`,
	)
	if n := strings.Count(text, "dixie_http_requests_total{"); n != 6 {
		t.Errorf("%d series of requests:\n%s", n, grep(text, "dixie_http_requests_total"))
	}
}

// failingLog appends nothing.
type failingLog struct {
	reputation.Log
}

func (failingLog) Append(context.Context, ...reputation.Entry) ([]reputation.Appended, error) {
	return nil, reputation.ErrUnavailable
}

func entry(t *testing.T, id int, score float64) reputation.Entry {
	t.Helper()
	event, err := reputation.Decode(fmt.Appendf(nil, `{"type":"quality_signal","event_id":"00000000-0000-4000-8000-%012d",
		"agent_id":"a","collection_id":"c","timestamp":"2026-02-25T12:00:00Z","score":%g}`, id, score))
	if err != nil {
		t.Fatal(err)
	}
	return reputation.NewEntry("a", &event)
}

func TestAppendsByOutcome(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	log := m.Log(eventstore.NewMemory())
	for _, batch := range [][]reputation.Entry{
		{entry(t, 1, 0.1), entry(t, 2, 0.2), entry(t, 3, 0.3)},
		{entry(t, 1, 0.1), entry(t, 2, 0.9), entry(t, 4, 0.4)},
	} {
		if _, err := log.Append(t.Context(), batch...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Log(failingLog{}).Append(t.Context(), entry(t, 5, 0.5), entry(t, 6, 0.6)); !errors.Is(err, reputation.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	if head, err := log.Head(t.Context()); head != 4 || err != nil {
		t.Errorf("the log behind has head %d, error %v", head, err)
	}
	wantLines(t, scrape(t, m),
		`dixie_append_events_total{outcome="appended"} 4`,
		`dixie_append_events_total{outcome="duplicate"} 1`,
		`dixie_append_events_total{outcome="conflict"} 1`,
		`dixie_append_events_total{outcome="failed"} 2`,
		`dixie_append_duration_seconds_count 3`,
	)
}

func TestImportedLines(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	m.Imported(5, 2, 1)
	m.Imported(1, 0, 0)
	wantLines(t, scrape(t, m),
		`dixie_import_lines_total{outcome="appended"} 6`,
		`dixie_import_lines_total{outcome="duplicate"} 2`,
		`dixie_import_lines_total{outcome="rejected"} 1`,
	)
}

func TestBatches(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	ctx, done := m.BatchStarted(t.Context(), eventstore.Batch{Callers: make([]context.Context, 3), Events: 40})
	if ctx != t.Context() {
		t.Error("another context")
	}
	done(nil)
	_, done = m.BatchStarted(t.Context(), eventstore.Batch{Callers: make([]context.Context, 1), Events: 1})
	done(errors.New("no"))
	wantLines(t, scrape(t, m),
		`dixie_append_batch_events_bucket{le="1"} 1`,
		`dixie_append_batch_events_bucket{le="50"} 2`,
		`dixie_append_batch_events_sum 41`,
		`dixie_append_batch_appends_sum 4`,
		`dixie_append_batch_duration_seconds_count 2`,
		`dixie_append_batch_failures_total 1`,
	)
}

// project runs a page of three events of an in-memory log through a middleware of
// a real router, whose handler fails so many times.
func project(t *testing.T, middleware message.HandlerMiddleware, failures int) {
	t.Helper()
	log := eventstore.NewMemory()
	if _, err := log.Append(t.Context(), entry(t, 1, 0.1), entry(t, 2, 0.2), entry(t, 3, 0.3)); err != nil {
		t.Fatal(err)
	}
	feed := eventstore.NewFeed(log, eventstore.FeedConfig{Backoff: time.Millisecond})
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	router.AddMiddleware(middleware)
	ctx, stop := context.WithCancel(t.Context())
	router.AddConsumerHandler("aggregates", eventstore.Topic, feed, func(*message.Message) error {
		if failures--; failures >= 0 {
			return errors.New("secret text of a database")
		}
		stop()
		return nil
	})
	if err := router.Run(ctx); err != nil {
		t.Fatal(err)
	}
	_ = feed.Close()
}

func TestPages(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	project(t, m.Pages, 2)
	wantLines(t, scrape(t, m),
		`dixie_projector_pages_total{outcome="projected",projection="aggregates"} 1`,
		`dixie_projector_pages_total{outcome="failed",projection="aggregates"} 2`,
		`dixie_projector_page_events_sum{projection="aggregates"} 3`,
		`dixie_projector_page_events_count{projection="aggregates"} 1`,
		`dixie_projector_page_duration_seconds_count{projection="aggregates"} 3`,
	)
}

// projectionSource tells of one projection that is being rebuilt; asked is called
// for each report, and may fail it.
func projectionSource(asked func(context.Context) error) telemetry.ProjectionSource {
	return telemetry.ProjectionSource{
		States: []string{"running", "standby"},
		State:  func() map[string]string { return map[string]string{"aggregates": "standby"} },
		Report: func(ctx context.Context) ([]telemetry.ProjectionReport, int64, error) {
			if asked != nil {
				if err := asked(ctx); err != nil {
					return nil, 0, err
				}
			}
			return []telemetry.ProjectionReport{{
				Projection: "aggregates", Position: 7, Lag: 3, Age: 1500 * time.Millisecond, SetAside: 2,
				Rebuild: telemetry.RebuildReport{StartedAt: time.Unix(1700000000, 0), Position: 4, Head: 9},
			}, {Projection: "cohorts", Position: 10}}, 10, nil
		},
	}
}

func TestProjections(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	m.WatchProjections(projectionSource(nil))
	wantLines(t, scrape(t, m),
		`dixie_database_reachable 1`,
		`dixie_log_head 10`,
		`dixie_projection_position{projection="aggregates"} 7`,
		`dixie_projection_lag_events{projection="aggregates"} 3`,
		`dixie_projection_lag_seconds{projection="aggregates"} 1.5`,
		`dixie_projection_set_aside_events{projection="aggregates"} 2`,
		`dixie_projector_state{projection="aggregates",state="running"} 0`,
		`dixie_projector_state{projection="aggregates",state="standby"} 1`,
		`dixie_rebuild_running{projection="aggregates"} 1`,
		`dixie_rebuild_position{projection="aggregates"} 4`,
		`dixie_rebuild_head{projection="aggregates"} 9`,
		`dixie_rebuild_start_timestamp_seconds{projection="aggregates"} 1.7e+09`,
		`dixie_rebuild_running{projection="cohorts"} 0`,
		`dixie_rebuild_start_timestamp_seconds{projection="cohorts"} 0`,
	)
}

// TestScrapesAskRarely: however often anyone scrapes, the database is asked once a
// second at most, for two seconds at most; and what the process knows itself is
// shown also when it does not answer.
func TestScrapesAskRarely(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMetrics()
		asked, away := 0, false
		m.WatchProjections(projectionSource(func(ctx context.Context) error {
			asked++
			if away {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}))
		for range 10 {
			scrape(t, m)
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		time.Sleep(time.Second)
		away = true
		start := time.Now()
		text := scrape(t, m)
		if waited := time.Since(start); asked != 2 || waited != 2*time.Second {
			t.Errorf("asked %d times, waited %s", asked, waited)
		}
		wantLines(t, text, `dixie_database_reachable 0`, `dixie_projector_state{projection="aggregates",state="standby"} 1`)
		if strings.Contains(text, "dixie_projection_position{") {
			t.Error("a position that nobody knows")
		}
	})
}

func TestPool(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	var waiting atomic.Int64
	waiting.Store(3)
	m := newMetrics()
	m.WatchPool(pool.Stat, waiting.Load)
	text := scrape(t, m)
	wantLines(t, text,
		`dixie_pool_connections{state="acquired"} 1`,
		`dixie_pool_waiting 3`,
		fmt.Sprintf(`dixie_pool_max_connections %d`, pool.Config().MaxConns),
	)
	if strings.Contains(text, `dixie_pool_acquires_total 0`) {
		t.Error("no acquires were counted")
	}
}

func TestBuildAndRuntime(t *testing.T) {
	t.Parallel()
	text := scrape(t, newMetrics())
	for _, part := range []string{`scoring="s1"`, `version="v1"`, "go_goroutines ", "go_memstats_heap_alloc_bytes ", "process_open_fds "} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q", part)
		}
	}
}

// roundTrip answers requests in place of finn.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestFinn(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	wantLines(t, scrape(t, m), `dixie_finn_breaker_state{state="open"} 0`, `dixie_finn_breaker_state{state="closed"} 0`)

	statuses := []int{200, 200, 503, 0}
	transport := m.FinnTransport(roundTrip(func(*http.Request) (*http.Response, error) {
		status := statuses[0]
		statuses = statuses[1:]
		if status == 0 {
			return nil, errors.New("refused")
		}
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(""))}, nil
	}))
	for range 4 {
		response, err := transport.RoundTrip(httptest.NewRequest(http.MethodGet, "http://finn/secret-wallet", nil))
		if err == nil {
			_ = response.Body.Close()
		}
	}
	m.FinnCache(telemetry.CacheHit)
	m.FinnCache(telemetry.CacheStale)
	m.WatchBreaker(func() string { return "open" })
	text := scrape(t, m)
	wantLines(t, text,
		`dixie_finn_requests_total{code="200"} 2`,
		`dixie_finn_requests_total{code="503"} 1`,
		`dixie_finn_requests_total{code="error"} 1`,
		`dixie_finn_request_duration_seconds_count 4`,
		`dixie_finn_cache_total{result="hit"} 1`,
		`dixie_finn_cache_total{result="miss"} 0`,
		`dixie_finn_cache_total{result="stale"} 1`,
		`dixie_finn_breaker_state{state="open"} 1`,
		`dixie_finn_breaker_state{state="closed"} 0`,
	)
	if strings.Contains(text, "secret-wallet") {
		t.Error("a path to finn is in the metrics")
	}
}

// fullBroker takes one message and no more.
type fullBroker struct {
	opened, taken int
}

func (b *fullBroker) Open(context.Context) error { b.opened++; return nil }
func (b *fullBroker) Close() error               { return nil }
func (b *fullBroker) Publish(string, ...*message.Message) error {
	if b.taken++; b.taken > 1 {
		return errors.New("full")
	}
	return nil
}

func TestPublishing(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	full := &fullBroker{}
	broker := m.Broker(full)
	if err := broker.Open(t.Context()); err != nil || full.opened != 1 {
		t.Errorf("opened %d times, error %v", full.opened, err)
	}
	if err := broker.Publish("topic", message.NewMessage("1", nil), message.NewMessage("2", nil)); err != nil {
		t.Error(err)
	}
	if err := broker.Publish("topic", message.NewMessage("3", nil)); err == nil {
		t.Error("no error")
	}
	wantLines(t, scrape(t, m),
		`dixie_publish_messages_total{outcome="published"} 2`,
		`dixie_publish_messages_total{outcome="failed"} 1`,
	)
}

// TestIdleConnectionsAreClosed: a client reaches its transport through ours.
func TestIdleConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	closed := 0
	transport := newMetrics().FinnTransport(off(t).Transport(closer{func() { closed++ }}))
	(&http.Client{Transport: transport}).CloseIdleConnections()
	if closed != 1 {
		t.Errorf("closed %d times", closed)
	}
}

type closer struct{ closed func() }

func (closer) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("no") }
func (c closer) CloseIdleConnections()                         { c.closed() }

// TestCountingAllocatesNothing: it is done for every request.
func TestCountingAllocatesNothing(t *testing.T) {
	m := newMetrics()
	log := m.Log(instantLog{})
	for name, count := range map[string]func(){
		"request": func() {
			m.RequestStarted()
			m.RequestDone(http.MethodGet, "/api/reputation/{nftId}", 200, time.Millisecond)
		},
		"append": func() { _, _ = log.Append(context.Background()) },
	} {
		if n := testing.AllocsPerRun(100, count); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
