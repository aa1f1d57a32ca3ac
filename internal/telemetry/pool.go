package telemetry

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// WatchPool adds the state of a pool of connections. waiting is the number of
// those who wait for a connection at this moment, which the pool does not tell.
func (m *Metrics) WatchPool(stat func() *pgxpool.Stat, waiting func() int64) {
	m.registry.MustRegister(poolCollector{stat, waiting})
}

type poolCollector struct {
	stat    func() *pgxpool.Stat
	waiting func() int64
}

var (
	connectionsDesc = describe("pool_connections", "Connections of the pool by state: acquired, idle or constructing.", "state")
	maxConnsDesc    = describe("pool_max_connections", "Most connections that the pool may have.")
	waitingDesc     = describe("pool_waiting", "Callers that wait for a connection at this moment.")
	acquiresDesc    = describe("pool_acquires_total", "Connections that were given out.")
	emptyDesc       = describe("pool_empty_acquires_total", "Connections that were given out after a wait, as none was idle.")
	waitDesc        = describe("pool_wait_seconds_total", "Time that callers have waited for a connection, as none was idle.")
	canceledDesc    = describe("pool_canceled_acquires_total", "Callers that gave up waiting for a connection.")
	openedDesc      = describe("pool_opened_total", "Connections that were opened.")
)

// Describe implements [prometheus.Collector].
func (c poolCollector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		connectionsDesc, maxConnsDesc, waitingDesc, acquiresDesc, emptyDesc, waitDesc, canceledDesc, openedDesc,
	} {
		to <- desc
	}
}

// Collect implements [prometheus.Collector].
func (c poolCollector) Collect(to chan<- prometheus.Metric) {
	stat := c.stat()
	to <- gauge(connectionsDesc, float64(stat.AcquiredConns()), "acquired")
	to <- gauge(connectionsDesc, float64(stat.IdleConns()), "idle")
	to <- gauge(connectionsDesc, float64(stat.ConstructingConns()), "constructing")
	to <- gauge(maxConnsDesc, float64(stat.MaxConns()))
	to <- gauge(waitingDesc, float64(c.waiting()))
	to <- counter(acquiresDesc, float64(stat.AcquireCount()))
	to <- counter(emptyDesc, float64(stat.EmptyAcquireCount()))
	to <- counter(waitDesc, stat.EmptyAcquireWaitTime().Seconds())
	to <- counter(canceledDesc, float64(stat.CanceledAcquireCount()))
	to <- counter(openedDesc, float64(stat.NewConnsCount()))
}

func counter(desc *prometheus.Desc, value float64) prometheus.Metric {
	return prometheus.MustNewConstMetric(desc, prometheus.CounterValue, value)
}
