package eventstore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/eventstore"
	"dixie/eventstore/eventstoretest"
	"dixie/internal/pgtest"
)

// longLog fills the log with 20,000 events: every second one is of hot, the rest
// of 100 NFTs.
const longLog = `
	INSERT INTO reputation_events (position, nft_id, event_type, event, created_at)
	SELECT n, CASE n % 2 WHEN 0 THEN 'hot' ELSE 'nft-' || n % 200 END, 'quality_signal',
	       jsonb_build_object('event_id', '00000000-0000-4000-9000-' || lpad(to_hex(n), 12, '0'), 'agent_id', 'agent',
	                          'score', 0.5, 'timestamp', '2026-02-25T12:00:00Z', 'collection_id', 'collection'),
	       now() + n * interval '1 microsecond'
	  FROM generate_series((SELECT coalesce(max(position), 0) + 1 FROM reputation_events), 20000) AS n`

// A spy notes the SQL that a pool is given.
type spy struct {
	mu   sync.Mutex
	seen []string
}

func (s *spy) option(config *pgxpool.Config) { config.ConnConfig.Tracer = s }

func (s *spy) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, data.SQL)
	return ctx
}

func (s *spy) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// statement is the SQL on the log that f runs.
func (s *spy) statement(t testing.TB, f func() error) string {
	t.Helper()
	s.mu.Lock()
	s.seen = nil
	s.mu.Unlock()
	if err := f(); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	on := slices.DeleteFunc(s.seen, func(sql string) bool { return !strings.Contains(sql, "FROM reputation_events") })
	if len(on) != 1 {
		t.Fatalf("statements %q, want one", on)
	}
	return on[0]
}

// A node is a step of a plan, in EXPLAIN's JSON.
type node struct {
	Type     string `json:"Node Type"`
	Relation string `json:"Relation Name"`
	Index    string `json:"Index Name"`
	Plans    []node
}

// has says whether a step of the plan is as asked.
func (n *node) has(is func(*node) bool) bool {
	return is(n) || slices.ContainsFunc(n.Plans, func(sub node) bool { return sub.has(is) })
}

// explain is the plan of a prepared statement for arguments.
func explain(t testing.TB, conn *pgx.Conn, execute string) (plan node, text string) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), "EXPLAIN (FORMAT JSON) "+execute).Scan(&text); err != nil {
		t.Fatal(err)
	}
	var plans []struct{ Plan node }
	if err := json.Unmarshal([]byte(text), &plans); err != nil {
		t.Fatal(err)
	}
	return plans[0].Plan, text
}

// checkIndexed checks that a statement finds its rows by an index, and if need be
// that it does not sort them. Other programs, and poolers, may keep plans: so both
// kinds of plan are checked.
func checkIndexed(t *testing.T, conn *pgx.Conn, sql, index string, maySort bool, arguments ...string) {
	t.Helper()
	exec(t, conn, "DEALLOCATE ALL")
	exec(t, conn, "PREPARE page AS "+sql)
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		exec(t, conn, "SET plan_cache_mode = "+mode)
		for _, args := range arguments {
			plan, text := explain(t, conn, fmt.Sprintf("EXECUTE page (%s)", args))
			if plan.has(func(n *node) bool { return n.Type == "Seq Scan" || !maySort && strings.Contains(n.Type, "Sort") }) ||
				!plan.has(func(n *node) bool { return n.Index == index }) {
				t.Errorf("%s (%s):\n%s", mode, args, text)
			}
		}
	}
}

// TestPlans: reading costs what it returns, however long the log is.
func TestPlans(t *testing.T) {
	t.Parallel()
	var spy spy
	pool := pgtest.Pool(t, spy.option)
	log := openPostgres(t, pool)
	exec(t, pool, longLog)
	exec(t, pool, `ANALYZE reputation_events`)
	read := spy.statement(t, func() error { _, err := log.Read(t.Context(), 1, 1); return err })
	history := spy.statement(t, func() error { _, err := log.History(t.Context(), "hot", 1, 1); return err })
	conn := connect(t, pool)
	conn.Config().DefaultQueryExecMode = pgx.QueryExecModeExec

	checkIndexed(t, conn, read, "reputation_events_pkey", false,
		"0, 1", "0, 1000", "0, 20000", "10000, 1000", "19990, 1000", "20000, 1000")
	checkIndexed(t, conn, history, "idx_reputation_events_nft_date", false,
		"'hot', 0, 1", "'hot', 0, 1000", "'hot', 10000, 1000", "'hot', 19990, 1000", "'nft-7', 0, 10", "'nft-7', 19000, 10")
	// With a limit beyond the end of the history, all of it may be fetched and sorted:
	// it is all returned.
	checkIndexed(t, conn, history, "idx_reputation_events_nft_date", true,
		"'hot', 0, 20000", "'nft-7', 0, 1000", "'nft-7', 19000, 1000", "'unknown', 0, 1000")
}

// TestPlansOfShortLog: connections that were opened when the log was short must
// not keep the plans that were good for it. A log that grows fast, as in an import,
// outruns the statistics, so there are none here.
func TestPlansOfShortLog(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.MaxConns(1)) // for all statements, so that plans would be kept
	log := openPostgres(t, pool)
	exec(t, pool, `ALTER TABLE reputation_events SET (autovacuum_enabled = false)`)
	eventstoretest.Append(t, log, eventstoretest.Entries("a", 1, 5)...)
	exec(t, pool, `ANALYZE reputation_events`)
	const times = 10 // PostgreSQL decides at the sixth
	useAll(t, pool, log, times)
	conn := connect(t, pool)
	exec(t, conn, longLog)
	useAll(t, pool, log, times)
	// PostgreSQL counts what a connection did when it ends, or much later.
	_ = conn.Close(t.Context())
	log.Close()
	pool.Close()

	conn = connect(t, pool)
	var scanned, inserted int
	eventually(t, "the statistics tell of all inserts", func() bool {
		err := conn.QueryRow(t.Context(), `SELECT seq_tup_read, n_tup_ins FROM pg_stat_user_tables
			WHERE relname = 'reputation_events'`).Scan(&scanned, &inserted)
		return err == nil && inserted >= 20000+2*times
	})
	if scanned >= 20000 {
		t.Errorf("sequential scans read %d rows", scanned)
	}
}

// useAll uses all statements of a log, and that of other programs.
func useAll(t testing.TB, pool *pgxpool.Pool, log *eventstore.Postgres, times int) {
	t.Helper()
	head, err := log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n := range times {
		entry := eventstoretest.Entry("a", int(head)+1000+n)
		eventstoretest.Append(t, log, entry)
		eventstoretest.Append(t, log, entry)
		if err := insert(t.Context(), pool, "a", int(head)+2000+n); err != nil {
			t.Fatal(err)
		}
		if _, err := log.Read(t.Context(), 1, 10); err != nil {
			t.Fatal(err)
		}
		if _, err := log.History(t.Context(), "a", 1, 10); err != nil {
			t.Fatal(err)
		}
		if _, err := log.Head(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
