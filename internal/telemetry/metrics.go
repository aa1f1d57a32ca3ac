package telemetry

import (
	"context"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const namespace = "dixie"

// maxScrapes is how many scrapes may go on at once: anyone may ask.
const maxScrapes = 5

// Metrics are the metrics of one process, in a registry of their own. All methods
// are safe for concurrent use, and return at once. Use [NewMetrics].
type Metrics struct {
	registry *prometheus.Registry
	requests *requestMetrics
	appends  appendMetrics
	pages    pageMetrics
	finn     finnMetrics
	publish  publishMetrics
}

// Build is what runs.
type Build struct {
	Version string
	Scoring string // version of the fold and its parameters
}

// NewMetrics returns metrics that begin at zero.
func NewMetrics(build Build) *Metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	auto := promauto.With(registry)
	auto.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1, with what runs in its labels.",
		ConstLabels: prometheus.Labels{
			"version": build.Version, "scoring": build.Scoring, "goversion": runtime.Version(),
		},
	}).Set(1)
	m := &Metrics{
		registry: registry,
		requests: newRequestMetrics(auto),
		appends:  newAppendMetrics(auto),
		pages:    newPageMetrics(auto),
		finn:     newFinnMetrics(auto),
		publish:  newPublishMetrics(auto),
	}
	registry.MustRegister(m.finn.breaker)
	return m
}

// Handler serves a scrape. What fails while it gathers is logged and left out.
func (m *Metrics) Handler(logger *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            scrapeLog{logger},
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
	})
}

// scrapeLog logs what failed in a scrape.
type scrapeLog struct {
	logger *slog.Logger
}

func (l scrapeLog) Println(v ...any) {
	l.logger.LogAttrs(context.Background(), slog.LevelWarn, "scrape failed in part", slog.Any("error", v))
}

// Gauge adds a gauge that is read when it is scraped. value must be cheap and safe
// for concurrent use.
func (m *Metrics) Gauge(name, help string, value func() float64) {
	promauto.With(m.registry).NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, value)
}

// Counter adds a counter that is read when it is scraped. value must never go down, be
// cheap and safe for concurrent use.
func (m *Metrics) Counter(name, help string, value func() float64) {
	promauto.With(m.registry).NewCounterFunc(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, value)
}

// requestMetrics are those of the HTTP server. Routes are templates and methods
// are known ones, so that callers cannot make series.
type requestMetrics struct {
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	codes    [600]string

	mu     sync.RWMutex
	series map[answered]requestSeries
}

func newRequestMetrics(auto promauto.Factory) *requestMetrics {
	m := &requestMetrics{
		series: map[answered]requestSeries{},
		total: auto.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "http_requests_total",
			Help: "Requests that were answered, by method, route and status code; the code is 0 when the connection was broken off.",
		}, []string{"method", "route", "code"}),
		duration: auto.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "http_request_duration_seconds",
			Help:    "Time to answer a request, to the last byte.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method", "route"}),
		inFlight: auto.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "http_requests_in_flight", Help: "Requests that are being answered, open streams included.",
		}),
	}
	for code := range m.codes {
		m.codes[code] = strconv.Itoa(code)
	}
	return m
}

// RequestStarted notes that a request has arrived.
func (m *Metrics) RequestStarted() { m.requests.inFlight.Inc() }

// RequestDone notes that a request was answered. An empty route is one that is not
// known.
func (m *Metrics) RequestDone(method, route string, status int, took time.Duration) {
	if route == "" {
		route = "unknown"
	}
	if status < 0 || status >= len(m.requests.codes) {
		status = 0
	}
	method = knownMethod(method)
	m.requests.inFlight.Dec()
	s := m.requests.of(answered{method, route, status})
	s.total.Inc()
	s.duration.Observe(took.Seconds())
}

// answered is what requests have in common that count together.
type answered struct {
	method, route string
	status        int
}

// requestSeries are the series of some requests. Looking them up by their labels takes
// longer than counting.
type requestSeries struct {
	total    prometheus.Counter
	duration prometheus.Observer
}

// of are the series of some requests.
func (m *requestMetrics) of(requests answered) requestSeries {
	m.mu.RLock()
	series, ok := m.series[requests]
	m.mu.RUnlock()
	if ok {
		return series
	}
	series = requestSeries{
		total:    m.total.WithLabelValues(requests.method, requests.route, m.codes[requests.status]),
		duration: m.duration.WithLabelValues(requests.method, requests.route),
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.series[requests] = series
	return series
}

func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}
