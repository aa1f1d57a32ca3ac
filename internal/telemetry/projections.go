package telemetry

import (
	"context"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"dixie/eventstore"
)

// pageMetrics are those of the projectors of this process.
type pageMetrics struct {
	total    *prometheus.CounterVec
	events   *prometheus.HistogramVec
	duration *prometheus.HistogramVec
}

func newPageMetrics(auto promauto.Factory) pageMetrics {
	return pageMetrics{
		total: auto.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "projector_pages_total",
			Help: "Pages of the log that this process has projected, by outcome: projected, or failed and to come again.",
		}, []string{"projection", "outcome"}),
		events: auto.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "projector_page_events", Help: "Events of a page that was projected.", Buckets: sizes,
		}, []string{"projection"}),
		duration: auto.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "projector_page_duration_seconds",
			Help:    "Time to project a page: load, fold, save and commit.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"projection"}),
	}
}

// Pages is the middleware of a projector's router that measures its pages.
func (m *Metrics) Pages(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		start := time.Now()
		produced, err := next(msg)
		took := time.Since(start).Seconds()
		projection, outcome := message.HandlerNameFromCtx(msg.Context()), "projected"
		if err != nil {
			outcome = "failed"
		}
		m.pages.total.WithLabelValues(projection, outcome).Inc()
		m.pages.duration.WithLabelValues(projection).Observe(took)
		if page := eventstore.PageFrom(msg.Context()); page != nil && err == nil {
			m.pages.events.WithLabelValues(projection).Observe(float64(len(page.Events)))
		}
		return produced, err
	}
}

const (
	// reportTimeout bounds what a scrape asks of the database.
	reportTimeout = 2 * time.Second

	// reportInterval is how long an answer is used again: anyone may scrape.
	reportInterval = time.Second
)

// ProjectionReport is how one projection is.
type ProjectionReport struct {
	Projection string
	Position   int64
	Lag        int64         // events that are not yet projected
	Age        time.Duration // of the oldest of them
	SetAside   int64         // events
	Rebuild    RebuildReport // zero while none is running
}

// RebuildReport is how far a rebuild is, of this process or of another.
type RebuildReport struct {
	StartedAt      time.Time
	Position, Head int64
}

// ProjectionSource tells how the projections are.
type ProjectionSource struct {
	// States are all that a projector can be in, and State is what those of this
	// process are in, by projection. It asks nobody.
	States []string
	State  func() map[string]string
	// Report asks the database for all projections, with cheap queries, and for the
	// head of the log.
	Report func(ctx context.Context) (projections []ProjectionReport, head int64, err error)
}

// WatchProjections adds what source tells, which a scrape asks for at most once a
// second. While it fails, only that shows.
func (m *Metrics) WatchProjections(source ProjectionSource) {
	m.registry.MustRegister(&projectionCollector{ProjectionSource: source})
}

type projectionCollector struct {
	ProjectionSource

	mu   sync.Mutex
	at   time.Time
	last []prometheus.Metric
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

var (
	reachableDesc = describe("database_reachable", "1 when the last scrape could ask how the projections are, else 0.")
	headDesc      = describe("log_head", "Position of the last event of the log.")
	positionDesc  = describe("projection_position", "Position of the last event in a projection.", "projection")
	lagDesc       = describe("projection_lag_events", "Events of the log that are not yet in a projection.", "projection")
	ageDesc       = describe("projection_lag_seconds", "Age of the oldest event that is not yet in a projection, 0 when there is none.", "projection")
	setAsideDesc  = describe("projection_set_aside_events", "Events that a projection could not fold and has set aside.", "projection")
	stateDesc     = describe("projector_state", "1 for what the projector of this process is doing, 0 for all else.", "projection", "state")

	rebuildDesc         = describe("rebuild_running", "1 while a projection is being rebuilt, by this process or another.", "projection")
	rebuildPositionDesc = describe("rebuild_position", "Position that the running rebuild has folded, 0 without one.", "projection")
	rebuildHeadDesc     = describe("rebuild_head", "Head of the log that the running rebuild has seen, 0 without one.", "projection")
	rebuildStartDesc    = describe("rebuild_start_timestamp_seconds", "When the running rebuild began, 0 without one.", "projection")
)

// Describe implements [prometheus.Collector].
func (c *projectionCollector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		reachableDesc, headDesc, positionDesc, lagDesc, ageDesc, setAsideDesc, stateDesc,
		rebuildDesc, rebuildPositionDesc, rebuildHeadDesc, rebuildStartDesc,
	} {
		to <- desc
	}
}

// Collect implements [prometheus.Collector].
func (c *projectionCollector) Collect(to chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil || time.Since(c.at) >= reportInterval {
		c.last, c.at = c.ask(), time.Now()
	}
	for _, metric := range c.last {
		to <- metric
	}
	for projection, now := range c.State() {
		for _, state := range c.States {
			to <- gauge(stateDesc, one(state == now), projection, state)
		}
	}
}

func (c *projectionCollector) ask() []prometheus.Metric {
	ctx, cancel := context.WithTimeout(context.Background(), reportTimeout)
	defer cancel()
	projections, head, err := c.Report(ctx)
	if err != nil {
		return []prometheus.Metric{gauge(reachableDesc, 0)}
	}
	metrics := []prometheus.Metric{gauge(reachableDesc, 1), gauge(headDesc, float64(head))}
	for _, p := range projections {
		metrics = append(metrics, p.metrics()...)
	}
	return metrics
}

func (p ProjectionReport) metrics() []prometheus.Metric {
	running, started := 0.0, 0.0
	if !p.Rebuild.StartedAt.IsZero() {
		running, started = 1, float64(p.Rebuild.StartedAt.UnixMilli())/1000
	}
	return []prometheus.Metric{
		gauge(positionDesc, float64(p.Position), p.Projection),
		gauge(lagDesc, float64(p.Lag), p.Projection),
		gauge(ageDesc, p.Age.Seconds(), p.Projection),
		gauge(setAsideDesc, float64(p.SetAside), p.Projection),
		gauge(rebuildDesc, running, p.Projection),
		gauge(rebuildPositionDesc, float64(p.Rebuild.Position), p.Projection),
		gauge(rebuildHeadDesc, float64(p.Rebuild.Head), p.Projection),
		gauge(rebuildStartDesc, started, p.Projection),
	}
}

func gauge(desc *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
