package projections_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

// execer is a pool, a connection or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func exec(t testing.TB, db execer, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// query is one value.
func query[V any](t testing.TB, pool *pgxpool.Pool, sql string, args ...any) V {
	t.Helper()
	var value V
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// table is rows, by the position of their columns.
func table[Row any](t testing.TB, pool *pgxpool.Pool, sql string) []Row {
	t.Helper()
	rows, err := pool.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Row])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// readTables reads all rows as they are stored, and checks that the columns that
// repeat something agree with it.
func readTables(t testing.TB, pool *pgxpool.Pool) projectionstest.Rows {
	t.Helper()
	rows := projectionstest.NewRows()
	readAggregates(t, pool, rows)
	readCohorts(t, pool, rows)
	for _, c := range table[projections.Population](t, pool, `SELECT collection_id, (sum, squares, scores, members) FROM reputation_collections`) {
		rows.Collections[c.CollectionID] = c.Collection
	}
	for _, f := range table[projections.Failure](t, pool, `SELECT * FROM projection_failures ORDER BY projection, position`) {
		rows.AddFailure(f)
	}
	return rows
}

func readAggregates(t testing.TB, pool *pgxpool.Pool, rows projectionstest.Rows) {
	t.Helper()
	for _, row := range table[struct {
		NFT, Aggregate, Folded string
		State                  bool
	}](t, pool, `SELECT nft_id, aggregate::text, folded::text, state = aggregate->>'state' FROM reputation_aggregates`) {
		rows.Aggregates[row.NFT], rows.Agents[row.NFT] = canonical(t, row.Aggregate), row.Folded
		if !row.State {
			t.Errorf("columns of %s disagree: %+v", row.NFT, row)
		}
	}
}

func readCohorts(t testing.TB, pool *pgxpool.Pool, rows projectionstest.Rows) {
	t.Helper()
	for _, row := range table[struct {
		NFT, Cohort          string
		Key, Score, Observed bool
	}](t, pool, `
		SELECT nft_id, cohort::text, model_id = cohort->>'model_id' AND task_type = cohort->>'task_type',
		       score = (cohort->>'personal_score')::float8 AND samples = (cohort->>'sample_count')::bigint,
		       observed_at = cohort->>'last_updated'
		  FROM reputation_task_cohorts ORDER BY nft_id, model_id, task_type`) {
		rows.Cohorts[row.NFT] = append(rows.Cohorts[row.NFT], canonical(t, row.Cohort))
		if !row.Key || !row.Score || !row.Observed {
			t.Errorf("columns of a cohort disagree: %+v", row)
		}
	}
}

// checkPositions checks that each row tells the position of the last event in it,
// when the whole log is folded.
func checkPositions(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	if n := query[int](t, pool, `
		SELECT count(*) FROM reputation_aggregates AS a
		 WHERE position IS DISTINCT FROM (
		       SELECT max(position) FROM reputation_events AS e WHERE e.nft_id = a.nft_id AND NOT EXISTS (
		           SELECT FROM projection_failures AS f WHERE f.projection = 'aggregates' AND f.position = e.position))`); n > 0 {
		t.Errorf("%d aggregates tell a wrong position", n)
	}
	if n := query[int](t, pool, `
		SELECT count(*) FROM reputation_task_cohorts AS c
		 WHERE position IS DISTINCT FROM (
		       SELECT max(position) FROM reputation_events AS e
		        WHERE e.nft_id = c.nft_id AND e.event->>'task_type' = c.task_type
		          AND coalesce(e.event->>'model_id', 'default') = c.model_id AND e.event->>'type' <> 'task_completed'
		          AND NOT EXISTS (
		              SELECT FROM projection_failures AS f WHERE f.projection = 'cohorts' AND f.position = e.position))`); n > 0 {
		t.Errorf("%d cohorts tell a wrong position", n)
	}
}

func canonical(t testing.TB, text string) string {
	t.Helper()
	value, err := reputation.Canonical([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return string(value)
}
