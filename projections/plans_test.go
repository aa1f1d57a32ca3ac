package projections_test

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

	"dixie/projections/projectionstest"
	"dixie/reputation"
)

// manyAgents copies the rows of bear-1 for 20,000 agents of 200 collections, in
// all states and one in a hundred of them cold.
const manyAgents = `
	INSERT INTO reputation_aggregates (nft_id, state, aggregate, folded, position)
	SELECT 'wasp-' || n, CASE WHEN n % 100 = 0 THEN 'cold' WHEN n % 3 = 0 THEN 'established' ELSE 'warming' END,
	       aggregate || jsonb_build_object('collection_id', 'nest-' || n % 200), folded, position
	  FROM reputation_aggregates, generate_series(1, 20000) AS n WHERE nft_id = 'bear-1';
	INSERT INTO reputation_task_cohorts (nft_id, model_id, task_type, cohort, score, samples, observed_at, position)
	SELECT 'wasp-' || n, model_id, task_type, cohort, score, samples, observed_at, position
	  FROM reputation_task_cohorts, generate_series(1, 20000) AS n WHERE nft_id = 'bear-1';
	INSERT INTO reputation_cohort_members (nft_id, collection_id)
	SELECT 'wasp-' || n, 'nest-' || n % 200 FROM generate_series(1, 20000) AS n;
	INSERT INTO reputation_collections (collection_id, sum, squares, scores, members)
	SELECT 'nest-' || n, 50, 25, 100, 100 FROM generate_series(0, 199) AS n`

// large are the tables that grow with the number of agents.
var large = []string{"reputation_aggregates", "reputation_task_cohorts", "reputation_cohort_members"}

// A statement is SQL that was run, and what with.
type statement struct {
	sql  string
	args []any
}

// A spy notes the statements that a pool's connections run.
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

// take returns what was noted since the last time of some tables.
func (s *spy) take(tables ...string) []statement {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := slices.DeleteFunc(s.seen, func(st statement) bool {
		return !slices.ContainsFunc(tables, func(table string) bool { return strings.Contains(st.sql, table) })
	})
	s.seen = nil
	return seen
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

// TestPlans: the statements of reads and of pages cost what they touch, however
// many agents there are.
func TestPlans(t *testing.T) {
	t.Parallel()
	var spy spy
	p := open(t, spy.option)
	unseen := connect(t, p.pool)
	p.Project(t)
	p.Append(t, projectionstest.Task("bear-1", "native", "analysis", 0.5))
	p.Settle(t)
	exec(t, p.pool, manyAgents)
	exec(t, p.pool, `ANALYZE`)
	spy.take()
	for name, read := range hotReads(p) {
		if err := read(t.Context()); err != nil {
			t.Fatal(name, ": ", err)
		}
		checkPlans(t, unseen, name, spy.take(large...), 1)
	}
	p.Append(t, pageOf(50)...)
	p.Settle(t)
	checkPlans(t, unseen, "page", spy.take(large...), 7)
}

// hotReads are the reads of an API.
func hotReads(p process) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Score":         func(ctx context.Context) error { _, err := p.Reader.Score(ctx, "wasp-77"); return err },
		"Reputation":    func(ctx context.Context) error { _, err := p.Reader.Reputation(ctx, "wasp-77"); return err },
		"List":          func(ctx context.Context) error { _, _, err := p.Reader.List(ctx, "", "wasp-77", 50); return err },
		"List cold":     func(ctx context.Context) error { _, _, err := p.Reader.List(ctx, "cold", "wasp-77", 50); return err },
		"List warming":  func(ctx context.Context) error { _, _, err := p.Reader.List(ctx, "warming", "wasp-1", 50); return err },
		"List the rest": func(ctx context.Context) error { _, _, err := p.Reader.List(ctx, "warming", "wasp-9", 50); return err },
		"Aggregate":     func(ctx context.Context) error { _, err := p.Store.Aggregate(ctx, "wasp-77"); return err },
		"TaskCohort": func(ctx context.Context) error {
			_, err := p.Store.TaskCohort(ctx, "wasp-77", reputation.CohortKey{Model: "native", Task: "analysis"})
			return err
		},
	}
}

// pageOf is events that use every statement of a page.
func pageOf(agents int) []projectionstest.Event {
	var events []projectionstest.Event
	for i := range agents {
		event := projectionstest.Task(fmt.Sprintf("wasp-%d", 10000+i), "native", "analysis", 0.5)
		if i%10 == 0 {
			event = projectionstest.Reset(event.NFT)
		}
		event.Collection = fmt.Sprintf("nest-%d", i)
		events = append(events, event)
	}
	return append(events, projectionstest.Task("hornet", "native", "analysis", 0.5))
}

// checkPlans checks that statements, at least some of them, find their rows of
// large tables by indexes and in order.
func checkPlans(t *testing.T, conn *pgx.Conn, name string, statements []statement, some int) {
	t.Helper()
	if len(statements) < some {
		t.Errorf("%s ran %d statements, want %d", name, len(statements), some)
	}
	for _, s := range statements {
		checkPlan(t, name, s, explain(t, conn, s.sql, s.args...))
		// And the plan that PostgreSQL may keep for any arguments.
		exec(t, conn, "DEALLOCATE ALL")
		exec(t, conn, "PREPARE kept AS "+s.sql)
		nulls := strings.TrimSuffix(strings.Repeat("NULL, ", len(s.args)), ", ")
		checkPlan(t, name, s, explain(t, conn, "EXECUTE kept ("+nulls+")"))
	}
}

func checkPlan(t *testing.T, name string, s statement, plan node) {
	t.Helper()
	if plan.any((*node).scansLarge) || plan.any((*node).sortsMany) {
		t.Errorf("%s: %s\n%+v", name, s.sql, plan)
	}
}

// A node is a step of a plan, in EXPLAIN's JSON.
type node struct {
	Type     string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Rows     float64 `json:"Plan Rows"`
	Plans    []node
}

func (n *node) scansLarge() bool { return n.Type == "Seq Scan" && slices.Contains(large, n.Relation) }

// sortsMany is true of sorting what is not the answer.
func (n *node) sortsMany() bool {
	return strings.Contains(n.Type, "Sort") &&
		n.any(func(n *node) bool { return slices.Contains(large, n.Relation) && n.Rows > 100 })
}

// any says whether a step of the plan is as asked.
func (n *node) any(is func(*node) bool) bool {
	return is(n) || slices.ContainsFunc(n.Plans, func(sub node) bool { return sub.any(is) })
}

// explain is the plan of a statement for its arguments.
func explain(t testing.TB, conn *pgx.Conn, sql string, args ...any) node {
	t.Helper()
	var text string
	if err := conn.QueryRow(t.Context(), "EXPLAIN (FORMAT JSON) "+sql, args...).Scan(&text); err != nil {
		t.Fatal(err)
	}
	var plans []struct{ Plan node }
	if err := json.Unmarshal([]byte(text), &plans); err != nil {
		t.Fatal(err)
	}
	return plans[0].Plan
}

// connect is a connection that is not the pool's, and plans as if it had run all
// statements before.
func connect(t testing.TB, pool *pgxpool.Pool) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // nothing that DEALLOCATE ALL could take away
	config.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}
