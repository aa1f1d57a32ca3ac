package projections_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/eventstore"
	"dixie/internal/pgtest"
	"dixie/migrations"
	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

const benchPage = 1000

// durable is a database that keeps what it commits, as one in production does.
func durable(b *testing.B) *pgxpool.Pool {
	b.Helper()
	server, err := pgtest.Start(b.Context(), pgtest.Options{Durable: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Stop(context.Background()) })
	conn, err := pgx.Connect(b.Context(), server.URL("postgres"))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	if _, err := migrations.Up(b.Context(), conn); err != nil {
		b.Fatal(err)
	}
	pool, err := pgxpool.New(b.Context(), server.URL("postgres"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	return pool
}

// pages makes page after page of a log that is nowhere stored, and folds them.
type pages struct {
	pool   *pgxpool.Pool
	rows   *projections.Postgres
	leases []*projections.Lease
	agents int
	at     int64
	now    time.Time
}

func newPages(b *testing.B, pool *pgxpool.Pool, agents int, names ...string) *pages {
	b.Helper()
	p := &pages{pool: pool, rows: projections.NewPostgres(pool), agents: agents, now: time.Now()}
	for _, name := range names {
		lease, err := p.rows.Acquire(b.Context(), name, reputation.DefaultParams())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(lease.Release)
		p.leases = append(p.leases, lease)
	}
	for first := 0; first < agents; first += benchPage {
		p.fold(b, func(i int) int { return (first + i) % agents })
	}
	if _, err := pool.Exec(b.Context(), `VACUUM ANALYZE`); err != nil {
		b.Fatal(err)
	}
	return p
}

// fold folds a page whose i-th event is of the agent that pick gives.
func (p *pages) fold(b *testing.B, pick func(i int) int) {
	b.Helper()
	b.StopTimer()
	page := &eventstore.Page{From: p.at, To: p.at + benchPage}
	for i := range benchPage {
		page.Events = append(page.Events, p.event(b, p.at+int64(i)+1, pick(i)))
	}
	p.at = page.To
	b.StartTimer()
	for _, lease := range p.leases {
		if err := lease.Fold(b.Context(), page); err != nil {
			b.Fatal(err)
		}
	}
	p.store(b, &page.Events[benchPage-1])
}

// store puts the last event of a page into the log, where the next page looks for it.
func (p *pages) store(b *testing.B, e *eventstore.PageEvent) {
	b.Helper()
	b.StopTimer()
	defer b.StartTimer()
	_, err := p.pool.Exec(b.Context(), `
		WITH plain AS (SELECT set_config('session_replication_role', 'replica', true))
		INSERT INTO reputation_events (position, nft_id, event_type, event, created_at)
		SELECT $1, $2, 'quality_signal', '{}', $3 FROM plain`, e.Position, e.NFT, e.CreatedAt)
	if err != nil {
		b.Fatal(err)
	}
}

// event is one of a hundred collections, half of them with a task.
func (p *pages) event(b *testing.B, position int64, agent int) eventstore.PageEvent {
	b.Helper()
	nft := fmt.Sprintf("agent-%d", agent)
	e := projectionstest.Task(nft, "native", "analysis", float64(position%97)/97)
	if position%2 == 0 {
		e = projectionstest.Signal(nft, float64(position%89)/89)
	}
	e.Collection = fmt.Sprintf("collection-%d", agent%100)
	event, err := reputation.Decode(e.Entry(position).JSON)
	if err != nil {
		b.Fatal(err)
	}
	at := p.now.Add(time.Duration(position) * time.Microsecond)
	return eventstore.PageEvent{Recorded: reputation.Recorded{Position: position, NFT: nft, CreatedAt: at}, Event: event}
}

// BenchmarkFoldPage folds pages of 1,000 decoded events of random agents.
func BenchmarkFoldPage(b *testing.B) {
	for _, name := range projections.Names {
		for _, agents := range []int{1_000, 50_000} {
			b.Run(fmt.Sprintf("%s/agents=%d", name, agents), func(b *testing.B) {
				p := newPages(b, durable(b), agents, name)
				first := p.at
				b.ReportAllocs()
				for b.Loop() {
					p.fold(b, func(int) int { return rand.IntN(agents) })
				}
				b.ReportMetric(float64(p.at-first)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}

// BenchmarkRead reads random ones of 50,000 agents.
func BenchmarkRead(b *testing.B) {
	const agents = 50_000
	p := newPages(b, durable(b), agents, projections.Names...)
	random := func() string { return fmt.Sprintf("agent-%d", rand.IntN(agents)) }
	for name, read := range map[string]func(context.Context) error{
		"Reputation": func(ctx context.Context) error { _, err := p.rows.Reputation(ctx, random()); return err },
		"Score":      func(ctx context.Context) error { _, err := p.rows.Score(ctx, random()); return err },
		"List":       func(ctx context.Context) error { _, _, err := p.rows.List(ctx, "warming", random(), 50); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := read(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPast reads an agent's past from a collection of 1,000 agents that has had
// 20,000 events, beside as many of another.
func BenchmarkPast(b *testing.B) {
	const events = 20_000
	for name, backend := range map[string]projectionstest.Backend{
		"memory": openMemory(slog.New(slog.DiscardHandler)), "postgres": open(b).Backend,
	} {
		b.Run(name, func(b *testing.B) {
			for first := 0; first < 2*events; first += benchPage {
				page := make([]projectionstest.Event, benchPage)
				for i := range page {
					n := first + i
					page[i] = projectionstest.Task(fmt.Sprintf("nft-%d", n%2000), "native", "analysis", rand.Float64())
					page[i].Collection = fmt.Sprintf("nest-%d", n%2)
				}
				backend.Append(b, page...)
			}
			backend.Project(b)
			backend.Settle(b)
			past := backend.Past(projections.PastConfig{Params: reputation.DefaultParams()})
			b.ReportAllocs()
			for b.Loop() {
				if r, err := past.ReputationAt(b.Context(), "nft-1999", 2*events); err != nil || r.Collection.Members != 1000 {
					b.Fatal(r, err)
				}
			}
			b.ReportMetric(float64(b.N)*events/b.Elapsed().Seconds(), "events/s")
		})
	}
}
