package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"dixie/eventstore"
	"dixie/reputation"
)

// appendMetrics are those of the log's writing side.
type appendMetrics struct {
	appended, duplicates, conflicts, failed prometheus.Counter

	duration prometheus.Histogram

	batchEvents   prometheus.Histogram
	batchAppends  prometheus.Histogram
	batchDuration prometheus.Histogram
	batchFailures prometheus.Counter

	lines *prometheus.CounterVec
}

// sizes are bounds for numbers of events, up to the largest batch and page.
var sizes = []float64{1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2000, 4000}

func newAppendMetrics(auto promauto.Factory) appendMetrics {
	events := auto.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "append_events_total",
		Help: "Events that were to be appended, by what became of them: appended, duplicate, conflict, or failed when that is not known.",
	}, []string{"outcome"})
	m := appendMetrics{
		appended:   events.WithLabelValues(string(reputation.Added)),
		duplicates: events.WithLabelValues(string(reputation.Duplicate)),
		conflicts:  events.WithLabelValues(string(reputation.Conflict)),
		failed:     events.WithLabelValues("failed"),
		duration: auto.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "append_duration_seconds",
			Help:    "Time of an append, from its call to its result, the wait in the queue included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		batchEvents: auto.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "append_batch_events", Help: "Events that one transaction was to write.", Buckets: sizes,
		}),
		batchAppends: auto.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "append_batch_appends", Help: "Appends that shared one transaction.",
			Buckets: []float64{1, 2, 5, 10, 25, 50, 100, 250, 500, 1000},
		}),
		batchDuration: auto.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "append_batch_duration_seconds", Help: "Time to write a transaction of appends.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		batchFailures: auto.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "append_batch_failures_total", Help: "Transactions of appends that failed.",
		}),
		lines: auto.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "import_lines_total",
			Help: "Lines of bulk imports, by what became of them: appended, duplicate or rejected.",
		}, []string{"outcome"}),
	}
	for _, outcome := range importOutcomes {
		m.lines.WithLabelValues(outcome)
	}
	return m
}

var importOutcomes = [...]string{"appended", "duplicate", "rejected"}

// Imported counts lines of a bulk import.
func (m *Metrics) Imported(appended, duplicates, rejected int64) {
	for i, n := range [...]int64{appended, duplicates, rejected} {
		m.appends.lines.WithLabelValues(importOutcomes[i]).Add(float64(n))
	}
}

// Log returns a log whose appends are counted.
func (m *Metrics) Log(log reputation.Log) reputation.Log { return countedLog{log, &m.appends} }

type countedLog struct {
	reputation.Log
	metrics *appendMetrics
}

func (l countedLog) Append(ctx context.Context, entries ...reputation.Entry) ([]reputation.Appended, error) {
	start := time.Now()
	results, err := l.Log.Append(ctx, entries...)
	l.metrics.duration.Observe(time.Since(start).Seconds())
	if err != nil {
		l.metrics.failed.Add(float64(len(entries)))
		return results, err
	}
	l.metrics.count(results)
	return results, nil
}

// count adds up first: a bulk import comes with a thousand results.
func (m *appendMetrics) count(results []reputation.Appended) {
	var appended, duplicates, conflicts int
	for i := range results {
		switch results[i].Status {
		case reputation.Added:
			appended++
		case reputation.Duplicate:
			duplicates++
		case reputation.Conflict:
			conflicts++
		}
	}
	m.appended.Add(float64(appended))
	m.duplicates.Add(float64(duplicates))
	m.conflicts.Add(float64(conflicts))
}

var _ eventstore.Observer = (*Metrics)(nil)

// BatchStarted implements [eventstore.Observer].
func (m *Metrics) BatchStarted(ctx context.Context, batch eventstore.Batch) (context.Context, func(error)) {
	start := time.Now()
	return ctx, func(err error) {
		m.appends.batchDuration.Observe(time.Since(start).Seconds())
		m.appends.batchEvents.Observe(float64(batch.Events))
		m.appends.batchAppends.Observe(float64(len(batch.Callers)))
		if err != nil {
			m.appends.batchFailures.Inc()
		}
	}
}
