package eventstore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/eventstore"
	"dixie/eventstore/eventstoretest"
	"dixie/internal/pgtest"
	"dixie/reputation"
)

// longLog fills the log with as many further events: every second one is of hot, the
// rest of 100 NFTs.
func longLog(events int) string {
	return fmt.Sprintf(longLogOf, events)
}

const longLogOf = `
	INSERT INTO reputation_events (position, nft_id, event_type, event, created_at)
	SELECT n, CASE n %% 2 WHEN 0 THEN 'hot' ELSE 'nft-' || n %% 200 END, 'quality_signal',
	       jsonb_build_object('event_id', '00000000-0000-4000-9000-' || lpad(to_hex(n), 12, '0'), 'agent_id', 'agent',
	                          'score', 0.5, 'timestamp', '2026-02-25T12:00:00Z', 'collection_id', 'collection'),
	       now() + n * interval '1 microsecond'
	  FROM generate_series((SELECT coalesce(max(position), 0) + 1 FROM reputation_events), %d) AS n`

// A statement is SQL that was run, and what with.
type statement struct {
	sql  string
	args []any
}

// A spy notes the statements that a pool is given, of batches too.
type spy struct {
	mu   sync.Mutex
	seen []statement
}

func (s *spy) option(config *pgxpool.Config) { config.ConnConfig.Tracer = s }

func (s *spy) note(sql string, args []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, statement{sql, args})
}

func (s *spy) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.note(data.SQL, data.Args)
	return ctx
}

func (s *spy) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (s *spy) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	s.note(data.SQL, data.Args)
}

func (s *spy) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (s *spy) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// during are the statements that f runs.
func (s *spy) during(t testing.TB, f func() error) []statement {
	t.Helper()
	s.mu.Lock()
	s.seen = nil
	s.mu.Unlock()
	if err := f(); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// onLog reports whether a statement reads or writes the log.
func (s statement) onLog() bool { return strings.Contains(s.sql, "reputation_events") }

// statement is the SQL on the log that f runs.
func (s *spy) statement(t testing.TB, f func() error) string {
	t.Helper()
	on := slices.DeleteFunc(s.during(t, f), func(s statement) bool { return !s.onLog() })
	if len(on) != 1 {
		t.Fatalf("statements %q, want one", on)
	}
	return on[0].sql
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

// scansLog is true of reading all of the log.
func (n *node) scansLog() bool { return n.Type == "Seq Scan" && n.Relation == "reputation_events" }

// explain is the plan of a statement, or of a prepared one for arguments.
func explain(t testing.TB, conn interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, sql string, args ...any) (plan node, text string) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), "EXPLAIN (FORMAT JSON) "+sql, args...).Scan(&text); err != nil {
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
	exec(t, pool, longLog(20000))
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

// TestNoSequentialScan: no statement of the log reads all of it, wherever in it what is
// asked for is. They are explained as they were run: with their arguments, and after the
// settings that came before them in their transaction.
func TestNoSequentialScan(t *testing.T) {
	t.Parallel()
	const events = 50_000
	var spy spy
	pool := pgtest.Pool(t, spy.option)
	log := openPostgres(t, pool)
	exec(t, pool, longLog(events))
	exec(t, pool, `VACUUM ANALYZE reputation_events`)
	conn := connect(t, pool)
	entry := func(n int) reputation.Entry { return eventstoretest.Entry("nft-7", n) }
	many := make([]reputation.Entry, 1000)
	for i := range many {
		many[i] = entry(2*events + i)
	}
	appending := func(entries ...reputation.Entry) func() error {
		return func() error { _, err := log.Append(t.Context(), entries...); return err }
	}
	reading := func(after int64, limit int) func() error {
		return func() error { _, err := log.Read(t.Context(), after, limit); return err }
	}
	history := func(nft string, after int64, limit int) func() error {
		return func() error { _, err := log.History(t.Context(), nft, after, limit); return err }
	}
	for _, test := range []struct {
		name string
		run  func() error
		want int // statements on the log
	}{
		{"append", appending(entry(events + 1)), 1},
		{"append a duplicate", appending(entry(events + 1)), 2},
		{"append many", appending(many...), 1},
		{"append many duplicates", appending(many...), 2},
		{"head", func() error { _, err := log.Head(t.Context()); return err }, 1},
		{"position at a time", func() error { _, err := log.PositionAt(t.Context(), time.Now()); return err }, 1},
		{"first page", reading(0, 500), 1},
		{"page", reading(events/2, 2000), 1},
		{"last page", reading(events-10, 2000), 1},
		{"history", history("nft-7", 0, 50), 1},
		{"end of a history", history("nft-7", events-100, 50), 1},
		{"history of a hot agent", history("hot", events/2, 1000), 1},
		{"history of nobody", history("nobody", 0, 50), 1},
	} {
		found := 0
		statements := spy.during(t, test.run)
		err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			for _, s := range statements {
				switch {
				case s.onLog():
					found++
					if plan, text := explain(t, tx, s.sql, s.args...); plan.has((*node).scansLog) {
						t.Errorf("%s: %s\n%s", test.name, s.sql, text)
					}
				case strings.Contains(s.sql, "set_config"):
					if _, err := tx.Exec(t.Context(), s.sql, s.args...); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(test.name, ": ", err)
		}
		if found != test.want {
			t.Errorf("%s: %d statements on the log, want %d: %q", test.name, found, test.want, statements)
		}
	}
	// The check sees a scan where there is one.
	if plan, text := explain(t, conn, `SELECT * FROM reputation_events WHERE event_type = 'quality_signal'`); !plan.has((*node).scansLog) {
		t.Errorf("a scan of the log is not seen:\n%s", text)
	}
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
	exec(t, conn, longLog(20000))
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
