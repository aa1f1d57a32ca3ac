package telemetry

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// finnMetrics are those of finn, the upstream service. They are there, and zero,
// also when none is configured.
type finnMetrics struct {
	requests *prometheus.CounterVec
	duration prometheus.Histogram
	cache    *prometheus.CounterVec
	breaker  *breakerCollector
}

// The results of looking an answer of finn up in the cache.
const (
	CacheHit   = "hit"
	CacheMiss  = "miss"
	CacheStale = "stale" // an old answer, as finn could not be asked
)

func newFinnMetrics(auto promauto.Factory) finnMetrics {
	m := finnMetrics{
		requests: auto.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "finn_requests_total",
			Help: "Requests to finn by status code, or error when no answer came.",
		}, []string{"code"}),
		duration: auto.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "finn_request_duration_seconds",
			Help:    "Time until finn began to answer, or until that failed.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		cache: auto.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "finn_cache_total",
			Help: "Questions about ownership by what the cache knew: hit, miss, or stale when an old answer served as finn could not be asked.",
		}, []string{"result"}),
		breaker: &breakerCollector{},
	}
	for _, result := range []string{CacheHit, CacheMiss, CacheStale} {
		m.cache.WithLabelValues(result)
	}
	m.requests.WithLabelValues("200")
	m.requests.WithLabelValues("error")
	return m
}

// FinnCache counts a question to the cache of finn's answers: [CacheHit],
// [CacheMiss] or [CacheStale].
func (m *Metrics) FinnCache(result string) { m.finn.cache.WithLabelValues(result).Inc() }

// FinnTransport returns a transport whose requests to finn are measured.
func (m *Metrics) FinnTransport(next http.RoundTripper) http.RoundTripper {
	return measuredTransport{next, &m.finn}
}

type measuredTransport struct {
	http.RoundTripper
	metrics *finnMetrics
}

func (t measuredTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	start := time.Now()
	response, err := t.RoundTripper.RoundTrip(r)
	t.metrics.duration.Observe(time.Since(start).Seconds())
	code := "error"
	if err == nil {
		code = strconv.Itoa(response.StatusCode)
	}
	t.metrics.requests.WithLabelValues(code).Inc()
	return response, err
}

// CloseIdleConnections is what [http.Client.CloseIdleConnections] looks for.
func (t measuredTransport) CloseIdleConnections() { closeIdle(t.RoundTripper) }

func closeIdle(transport http.RoundTripper) {
	if closer, ok := transport.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// WatchBreaker shows the state of finn's circuit breaker: closed, half_open or
// open.
func (m *Metrics) WatchBreaker(state func() string) { m.finn.breaker.state.Store(&state) }

// breakerCollector shows no state as long as there is no breaker.
type breakerCollector struct {
	state atomic.Pointer[func() string]
}

var breakerDesc = describe("finn_breaker_state",
	"1 for the state of the circuit breaker in front of finn, 0 for the others and when finn is not configured.", "state")

// Describe implements [prometheus.Collector].
func (c *breakerCollector) Describe(to chan<- *prometheus.Desc) { to <- breakerDesc }

// Collect implements [prometheus.Collector].
func (c *breakerCollector) Collect(to chan<- prometheus.Metric) {
	now := ""
	if state := c.state.Load(); state != nil {
		now = (*state)()
	}
	for _, state := range []string{"closed", "half_open", "open"} {
		to <- gauge(breakerDesc, one(state == now), state)
	}
}
