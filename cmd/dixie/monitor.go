package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/http"
	"dixie/migrations"
	"dixie/projections"
)

// countInterval is how long a count of aggregates is used again: counting reads
// the whole table, and anyone may ask for the health.
const countInterval = 5 * time.Second

// monitor watches the parts of the service.
type monitor struct {
	*backend
	maxLag time.Duration
	finn   *finn // nil where there is none

	mu      sync.Mutex
	counted time.Time
	count   *int64
}

func (b *backend) monitor(maxLag time.Duration, finn *finn) *monitor {
	return &monitor{backend: b, maxLag: maxLag, finn: finn}
}

// Ready implements [http.Monitor].
func (m *monitor) Ready(ctx context.Context) error {
	if m.pool != nil {
		if err := migrations.Check(ctx, m.pool); err != nil {
			return err
		}
	}
	statuses, err := m.reader.Status(ctx)
	if err != nil {
		return err
	}
	for _, s := range statuses {
		if s.Lag > m.maxLag && s.Projection != projections.Publisher {
			return fmt.Errorf("%w: %s by %s, more than %s", http.ErrBehind, s.Projection, s.Lag.Round(time.Millisecond), m.maxLag)
		}
	}
	return nil
}

// Health implements [http.Monitor].
func (m *monitor) Health(ctx context.Context) http.Health {
	var finn *http.FinnHealth
	var probing sync.WaitGroup // at the same time, so that neither takes the other's
	probing.Go(func() { finn = m.finn.health(ctx) })
	h := m.own(ctx)
	probing.Wait()
	h.Finn = finn
	return h
}

// own is the health of the parts that are this service's own.
func (m *monitor) own(ctx context.Context) http.Health {
	h := http.Health{StoreType: m.store, AggregateCount: m.aggregates(ctx), Database: m.database(ctx), NATS: natsHealth(m.nats)}
	states := map[string]string{projections.Publisher: "dormant"}
	for _, p := range m.projectors {
		state, _ := p.State()
		states[p.Name()] = string(state)
	}
	statuses, err := m.reader.Status(ctx)
	if err != nil {
		return h
	}
	for _, s := range statuses {
		h.Projections = append(h.Projections, http.ProjectionHealth{ProjectionStatus: s, State: states[s.Projection]})
	}
	return h
}

// aggregates is the number of aggregates, and nil when it cannot be had.
func (m *monitor) aggregates(ctx context.Context) *int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.counted) < countInterval {
		return m.count
	}
	m.count = nil
	if n, err := m.rows.Count(ctx); err == nil {
		m.count = &n
	}
	m.counted = time.Now()
	return m.count
}

// database is the state of PostgreSQL, and nil in memory.
func (m *monitor) database(ctx context.Context) *http.DatabaseHealth {
	if m.pool == nil {
		return nil
	}
	start := time.Now()
	err := m.pool.Ping(ctx)
	stat := m.pool.Stat()
	return &http.DatabaseHealth{
		Reachable: err == nil, Latency: time.Since(start),
		Total: int64(stat.TotalConns()), Idle: int64(stat.IdleConns()), Waiting: m.waiting.count.Load(),
	}
}

// waiting counts those who are asking the pool for a connection at this moment,
// which the pool itself does not tell.
type waiting struct {
	count atomic.Int64
}

var (
	_ pgx.QueryTracer       = (*waiting)(nil)
	_ pgxpool.AcquireTracer = (*waiting)(nil)
)

func (w *waiting) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	w.count.Add(1)
	return ctx
}

func (w *waiting) TraceAcquireEnd(context.Context, *pgxpool.Pool, pgxpool.TraceAcquireEndData) {
	w.count.Add(-1)
}

// TraceQueryStart and TraceQueryEnd are there because a tracer has to have them.
func (w *waiting) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (w *waiting) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
