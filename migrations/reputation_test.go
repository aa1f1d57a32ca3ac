package migrations_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"dixie/internal/pgtest"
	"dixie/migrations"
)

const insertEvent = `INSERT INTO reputation_events (nft_id, event_type, event) VALUES ($1, $2, $3)`

// eventID is the n-th of the ids that tests give to events.
func eventID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n) }

func eventJSON(n int) string { return fmt.Sprintf(`{"event_id": "%s", "n": %d}`, eventID(n), n) }

// A storedEvent is a row of the log.
type storedEvent struct {
	Position  int64
	ID        *string
	N         *int
	NFTID     string
	CreatedAt time.Time
}

func readLog(t testing.TB, db migrations.DB) []storedEvent {
	t.Helper()
	rows, err := db.Query(t.Context(), `SELECT position, id::text, (event->>'n')::int, nft_id, created_at FROM reputation_events ORDER BY position`)
	if err != nil {
		t.Fatal(err)
	}
	log, err := pgx.CollectRows(rows, pgx.RowToStructByPos[storedEvent])
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// checkOrder checks that the log has count rows at positions 1, 2, ... and that
// each is later than the one before.
func checkOrder(t testing.TB, log []storedEvent, count int) {
	t.Helper()
	if len(log) != count {
		t.Errorf("the log has %d rows, want %d", len(log), count)
	}
	for i, e := range log {
		if e.Position != int64(i+1) {
			t.Fatalf("row %d has position %d", i+1, e.Position)
		}
		if i > 0 && !e.CreatedAt.After(log[i-1].CreatedAt) {
			t.Errorf("row %d was created at %v, not after row %d at %v", i+1, e.CreatedAt, i, log[i-1].CreatedAt)
		}
	}
}

// numbers are the n of the events, in the log's order.
func numbers(log []storedEvent) []int {
	var ns []int
	for _, e := range log {
		if e.N != nil {
			ns = append(ns, *e.N)
		}
	}
	return ns
}

// firstDesign is the schema of the service before this one.
const firstDesign = `
CREATE TABLE reputation_events (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	nft_id text NOT NULL,
	event_type text NOT NULL,
	event jsonb NOT NULL,
	created_at timestamptz DEFAULT now());
CREATE INDEX idx_reputation_events_nft_date ON reputation_events (nft_id, created_at);
CREATE TABLE reputation_aggregates (
	nft_id text PRIMARY KEY,
	state text NOT NULL DEFAULT 'cold',
	aggregate jsonb NOT NULL,
	created_at timestamptz DEFAULT now(),
	updated_at timestamptz DEFAULT now());
CREATE INDEX idx_reputation_aggregates_state ON reputation_aggregates (state);
CREATE TABLE reputation_task_cohorts (
	nft_id text NOT NULL,
	model_id text NOT NULL,
	task_type text NOT NULL,
	cohort jsonb NOT NULL,
	created_at timestamptz DEFAULT now(),
	updated_at timestamptz DEFAULT now(),
	PRIMARY KEY (nft_id, model_id, task_type));
INSERT INTO reputation_aggregates (nft_id, state, aggregate) VALUES ('nft-1', 'warm', '{"score": 1}'), ('nft-2', 'cold', '{}');
INSERT INTO reputation_task_cohorts (nft_id, model_id, task_type, cohort) VALUES ('nft-1', 'm', 'review', '{"score": 2}');
`

// insertLegacyEvents writes events 1 to 12 so that time, not the order of
// writing, must decide: the second half first, four at each time.
func insertLegacyEvents(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, n := range []int{7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6} {
		exec1(t, conn, `INSERT INTO reputation_events (nft_id, event_type, event, created_at) VALUES ($1, 'x', $2, $3)`,
			fmt.Sprintf("nft-%d", n%3), eventJSON(n), at.Add(time.Duration((n-1)/4)*time.Second))
	}
}

func TestFirstDesignIsAdopted(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	conn := connect(t, url)
	if _, err := conn.PgConn().Exec(t.Context(), firstDesign).ReadAll(); err != nil {
		t.Fatal(err)
	}
	insertLegacyEvents(t, conn)
	exec1(t, conn, insertEvent, "nft-0", "x", `{"event_id": "not a uuid"}`)

	if _, err := migrations.Up(t.Context(), connect(t, url)); err != nil {
		t.Fatal(err)
	}
	log := readLog(t, conn)
	checkOrder(t, log, 13)
	// Events 5 to 8 have one time, and 7 and 8 were written first.
	if diff := cmp.Diff([]int{1, 2, 3, 4, 7, 8, 5, 6, 9, 10, 11, 12}, numbers(log)); diff != "" {
		t.Errorf("order of the events (-want +got):\n%s", diff)
	}
	checkIDs(t, log)
	checkKeptProjections(t, conn)

	exec1(t, conn, insertEvent, "nft-1", "x", eventJSON(13))
	log = readLog(t, conn)
	checkOrder(t, log, 14)
	checkIDs(t, log)
	checkAppendOnly(t, conn)
}

func checkIDs(t testing.TB, log []storedEvent) {
	t.Helper()
	for _, e := range log {
		switch {
		case e.N == nil && e.ID != nil:
			t.Errorf("the event at %d names no id, but has %s", e.Position, *e.ID)
		case e.N != nil && (e.ID == nil || *e.ID != eventID(*e.N)):
			t.Errorf("the event at %d has id %v, want %s", e.Position, e.ID, eventID(*e.N))
		}
	}
}

func checkKeptProjections(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	const aggregates = `SELECT nft_id || state || aggregate::text FROM reputation_aggregates WHERE folded IS NULL AND position IS NULL ORDER BY nft_id`
	if diff := cmp.Diff([]string{`nft-1warm{"score": 1}`, `nft-2cold{}`}, queryAll[string](t, conn, aggregates)); diff != "" {
		t.Errorf("aggregates (-want +got):\n%s", diff)
	}
	const cohorts = `SELECT nft_id || model_id || task_type || cohort::text FROM reputation_task_cohorts WHERE position IS NULL`
	if diff := cmp.Diff([]string{`nft-1mreview{"score": 2}`}, queryAll[string](t, conn, cohorts)); diff != "" {
		t.Errorf("cohorts (-want +got):\n%s", diff)
	}
}

// schemaOf describes the columns and indexes of the three tables that the first
// design had too.
func schemaOf(t testing.TB, db migrations.DB) []string {
	t.Helper()
	columns := queryAll[string](t, db, `
		SELECT concat_ws(' ', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, attgenerated,
		                 collname, pg_get_expr(adbin, adrelid))
		  FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
		  LEFT JOIN pg_collation c ON c.oid = attcollation
		 WHERE attnum > 0 AND NOT attisdropped AND attrelid IN
		       ('reputation_events'::regclass, 'reputation_aggregates'::regclass, 'reputation_task_cohorts'::regclass)
		   AND NOT (attname IN ('created_at', 'updated_at') AND attrelid <> 'reputation_events'::regclass)
		 ORDER BY 1`)
	indexes := queryAll[string](t, db, `SELECT indexdef FROM pg_indexes
		WHERE tablename IN ('reputation_events', 'reputation_aggregates', 'reputation_task_cohorts') ORDER BY 1`)
	return append(columns, indexes...)
}

func TestAdoptedSchemaEqualsANewOne(t *testing.T) {
	t.Parallel()
	adopted := empty(t)
	if _, err := adopted.PgConn().Exec(t.Context(), firstDesign).ReadAll(); err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Up(t.Context(), adopted); err != nil {
		t.Fatal(err)
	}
	fresh := connect(t, pgtest.URL(t))
	if diff := cmp.Diff(schemaOf(t, fresh), schemaOf(t, adopted)); diff != "" {
		t.Errorf("(-new +adopted):\n%s", diff)
	}
}

func TestFirstDesignIsAdoptedByHand(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	conn := connect(t, url)
	if _, err := conn.PgConn().Exec(t.Context(), firstDesign).ReadAll(); err != nil {
		t.Fatal(err)
	}
	insertLegacyEvents(t, conn)
	runByHand(t, url, reputationFile)
	once := readLog(t, connect(t, url))
	checkOrder(t, once, 12)
	checkIDs(t, once)
	runByHand(t, url, reputationFile)
	if diff := cmp.Diff(once, readLog(t, connect(t, url))); diff != "" {
		t.Errorf("the file changed the log when it ran again (-once +twice):\n%s", diff)
	}
}

func TestLogIsAppendOnly(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.URL(t))
	for n := range 3 {
		exec1(t, conn, insertEvent, "a", "x", eventJSON(n))
	}
	checkAppendOnly(t, conn)
}

func checkAppendOnly(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	before := readLog(t, conn)
	for _, sql := range []string{
		`UPDATE reputation_events SET event = '{}'`,
		`UPDATE reputation_events SET created_at = now() WHERE false`,
		`DELETE FROM reputation_events`,
		`DELETE FROM reputation_events WHERE position = 1`,
		`TRUNCATE reputation_events`,
		`INSERT INTO reputation_events (nft_id, event_type, event) VALUES ('a', 'x', '{}') ON CONFLICT (id) DO UPDATE SET event = '{}'`,
	} {
		_, err := conn.Exec(t.Context(), sql)
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != "23001" {
			t.Errorf("%s: %v, want a restrict violation (23001)", sql, err)
		}
	}
	if diff := cmp.Diff(before, readLog(t, conn)); diff != "" {
		t.Errorf("the log changed (-before +after):\n%s", diff)
	}
}

// TestStatementsOfOtherPrograms runs what programs written for the first design
// send, unchanged.
func TestStatementsOfOtherPrograms(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.URL(t))
	const (
		putAggregate = `INSERT INTO reputation_aggregates (nft_id, state, aggregate) VALUES ($1, $2, $3) ON CONFLICT (nft_id) DO UPDATE SET state = $2, aggregate = $3, updated_at = now()`
		putCohort    = `INSERT INTO reputation_task_cohorts (nft_id, model_id, task_type, cohort) VALUES ($1, $2, $3, $4) ON CONFLICT (nft_id, model_id, task_type) DO UPDATE SET cohort = $4, updated_at = now()`
	)
	exec1(t, conn, putAggregate, "a", "warm", `{"n": 1}`)
	exec1(t, conn, putAggregate, "a", "cold", `{"n": 2}`)
	exec1(t, conn, putAggregate, "b", "warm", `{"n": 3}`)
	exec1(t, conn, putCohort, "a", "m", "review", `{"n": 4}`)
	exec1(t, conn, putCohort, "a", "m", "review", `{"n": 5}`)
	for n := range 3 {
		exec1(t, conn, insertEvent, "a", "x", fmt.Sprintf(`{"n": %d}`, n))
	}
	exec1(t, conn, insertEvent, "b", "x", `{"n": 9}`)

	got := map[string]any{
		"aggregate":  queryAll[string](t, conn, `SELECT aggregate FROM reputation_aggregates WHERE nft_id = $1`, "a"),
		"no row":     queryAll[string](t, conn, `SELECT aggregate FROM reputation_aggregates WHERE nft_id = $1`, "z"),
		"cold":       queryPairs(t, conn, `SELECT nft_id, aggregate FROM reputation_aggregates WHERE state = 'cold'`),
		"count":      queryAll[int](t, conn, `SELECT COUNT(*) FROM reputation_aggregates`),
		"aggregates": queryPairs(t, conn, `SELECT nft_id, aggregate FROM reputation_aggregates`),
		"cohort":     queryAll[string](t, conn, `SELECT cohort FROM reputation_task_cohorts WHERE nft_id = $1 AND model_id = $2 AND task_type = $3`, "a", "m", "review"),
		"events":     queryAll[string](t, conn, `SELECT event FROM reputation_events WHERE nft_id = $1 ORDER BY created_at ASC`, "a"),
	}
	want := map[string]any{
		"aggregate":  []string{`{"n": 2}`},
		"no row":     []string{},
		"cold":       map[string]string{"a": `{"n": 2}`},
		"count":      []int{2},
		"aggregates": map[string]string{"a": `{"n": 2}`, "b": `{"n": 3}`},
		"cohort":     []string{`{"n": 5}`},
		"events":     []string{`{"n": 0}`, `{"n": 1}`, `{"n": 2}`},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func queryPairs(t testing.TB, conn *pgx.Conn, sql string) map[string]string {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	pairs := map[string]string{}
	var key, value string
	_, err = pgx.ForEachRow(rows, []any{&key, &value}, func() error {
		pairs[key] = value
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return pairs
}

func TestRowsOfOneInsertAreOrdered(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.URL(t))
	exec1(t, conn, `INSERT INTO reputation_events (nft_id, event_type, event) VALUES
		('a', 'x', '{"n": 1}'), ('b', 'x', '{"n": 2}'), ('a', 'x', '{"n": 3}'), ('a', 'x', '{"n": 4}')`)
	exec1(t, conn, `INSERT INTO reputation_events (nft_id, event_type, event)
		SELECT 'c', 'x', jsonb_build_object('n', n) FROM generate_series(5, 104) n ORDER BY n`)
	copied, err := conn.CopyFrom(t.Context(), pgx.Identifier{"reputation_events"}, []string{"nft_id", "event_type", "event"},
		pgx.CopyFromSlice(100, func(i int) ([]any, error) {
			return []any{"d", "x", fmt.Sprintf(`{"n": %d}`, 105+i)}, nil
		}))
	if err != nil || copied != 100 {
		t.Fatalf("COPY = %d, %v", copied, err)
	}
	log := readLog(t, conn)
	checkOrder(t, log, 204)
	for i, n := range numbers(log) {
		if n != i+1 {
			t.Fatalf("row %d is event %d", i+1, n)
		}
	}
}

// TestImportIntoASmallLogReadsNoWholeTable: with the statistics of a few rows,
// reading them all is the planner's first choice, and the plan stays for the
// whole import.
func TestImportIntoASmallLogReadsNoWholeTable(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.URL(t))
	exec1(t, conn, insertEvent, "a", "x", `{}`)
	exec1(t, conn, `ANALYZE reputation_events`)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	exec1(t, conn, `INSERT INTO reputation_events (nft_id, event_type, event) SELECT 'a', 'x', '{}' FROM generate_series(1, 100)`)
	const read = `SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'reputation_events'`
	if n := query1[int](t, tx, read); n != 0 {
		t.Errorf("the import of 100 rows read %d rows of whole tables, want 0", n)
	}
}

// TestRowsAreCompressedWithLZ4: where the server can.
func TestRowsAreCompressedWithLZ4(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.URL(t))
	want := ""
	if query1[bool](t, conn, `SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'`) {
		want = "l"
	}
	for _, column := range []string{"aggregate", "folded"} {
		got := query1[string](t, conn, `SELECT attcompression::text FROM pg_attribute
			WHERE attrelid = 'reputation_aggregates'::regclass AND attname = $1`, column)
		if got != want {
			t.Errorf("%s is compressed with %q, want %q", column, got, want)
		}
	}
}

func TestRowAfterOneOfTheFutureIsLater(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.URL(t))
	exec1(t, conn, `INSERT INTO reputation_events (nft_id, event_type, event, created_at) VALUES ('a', 'x', '{}', now() + interval '1 hour')`)
	exec1(t, conn, insertEvent, "a", "x", `{}`)
	checkOrder(t, readLog(t, conn), 2)
}

func TestConcurrentInsertsLeaveNoGap(t *testing.T) {
	t.Parallel()
	const writers, rounds = 16, 12
	pool := pgtest.Pool(t, pgtest.MaxConns(writers))
	committed := make([]int, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() { committed[w] = writeRounds(t, pool, w, rounds) })
	}
	wg.Wait()
	total := 0
	for _, n := range committed {
		total += n
	}
	if total == 0 || total == writers*rounds*2 {
		t.Fatalf("%d rows committed of %d: the test needs both ends of a transaction", total, writers*rounds*2)
	}
	checkOrder(t, readLog(t, pool), total)
}

// writeRounds writes two rows in each transaction, rolls some back and returns
// how many rows it committed.
func writeRounds(t *testing.T, pool *pgxpool.Pool, writer, rounds int) int {
	random := rand.New(rand.NewPCG(uint64(writer), 0))
	rows := 0
	for range rounds {
		rollback := random.IntN(3) == 0
		err := writeTwo(t, pool, fmt.Sprintf("nft-%d", writer), rollback)
		if err != nil {
			t.Errorf("writer %d: %v", writer, err)
			return rows
		}
		if !rollback {
			rows += 2
		}
	}
	return rows
}

func writeTwo(t *testing.T, pool *pgxpool.Pool, nftID string, rollback bool) error {
	tx, err := pool.Begin(t.Context())
	if err != nil {
		return err
	}
	defer tx.Rollback(t.Context())
	for range 2 {
		if _, err := tx.Exec(t.Context(), insertEvent, nftID, "x", `{}`); err != nil {
			return err
		}
	}
	if rollback {
		return nil
	}
	return tx.Commit(t.Context())
}

func TestDuplicateEventIsAUniqueViolation(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.URL(t))
	exec1(t, conn, insertEvent, "a", "x", eventJSON(1))
	_, err := conn.Exec(t.Context(), insertEvent, "b", "y", eventJSON(1))
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != "23505" || pgErr.ConstraintName != "idx_reputation_events_id" {
		t.Errorf("error = %v, want a unique violation (23505) of idx_reputation_events_id", err)
	}
	exec1(t, conn, insertEvent, "a", "x", eventJSON(2))
	checkOrder(t, readLog(t, conn), 2)
}

func TestEventsWithoutAnIDAreStored(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.URL(t))
	for _, event := range []string{`{}`, `{}`, `{"event_id": 7}`, `{"event_id": null}`, `{"event_id": ""}`, `[]`, `"text"`, `null`} {
		exec1(t, conn, insertEvent, "a", "x", event)
	}
	log := readLog(t, conn)
	checkOrder(t, log, 8)
	checkIDs(t, log)
}

// TestEventIDs: an event has the id that it names if that is a UUID, and none if it is
// not. No value of it keeps the event from being stored.
func TestEventIDs(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.URL(t))
	uuid := regexp.MustCompile(`^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$`)
	check := func(fail func(string, ...any), id string) {
		var got *string
		if err := conn.QueryRow(t.Context(), `SELECT reputation_event_id(jsonb_build_object('event_id', $1::text))::text`, id).Scan(&got); err != nil {
			fail("%q: %v", id, err)
			return
		}
		if !uuid.MatchString(id) {
			if got != nil {
				fail("%q has the id %q, want none", id, *got)
			}
			return
		}
		if want := strings.ToLower(id); got == nil || *got != want {
			fail("%q has the id %v, want %q", id, got, want)
		}
	}
	for _, id := range []string{
		eventID(1), strings.ToUpper("abcdefab-cdef-4abc-8def-abcdefabcdef"), "{" + eventID(1) + "}", eventID(1) + "\n", "\n" + eventID(1),
		strings.ReplaceAll(eventID(1), "-", ""), "00000000-0000-4000-8000-00000000000-", "-0000000-0000-4000-8000-000000000001",
		"--------------------------------------------------", "------------------------------------", "0000-0000-0000-4000-8000-000000000001",
		"00000000-0000-4000-8000-00000000000g", "00000000-0000-4000-8000-00000000000é", "00000000-0000-4000-8000-0000000000é",
		"００００００００-0000-4000-8000-000000000001", "00000000_0000_4000_8000_000000000001", "",
	} {
		check(t.Errorf, id)
	}
	rapid.Check(t, func(r *rapid.T) {
		id := []rune(eventID(rapid.IntRange(0, 1<<40).Draw(r, "number")))
		for range rapid.IntRange(0, 2).Draw(r, "changes") {
			at := rapid.IntRange(0, len(id)-1).Draw(r, "at")
			id[at] = rapid.SampledFrom([]rune("0aAfFgG-_%\\ \n{}é０K")).Draw(r, "character")
		}
		check(r.Errorf, string(id))
	})
}

func TestCommitNotifiesListeners(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	listener := connect(t, url)
	exec1(t, listener, `LISTEN reputation_events`)
	exec1(t, connect(t, url), insertEvent, "a", "x", `{}`)
	n, err := listener.WaitForNotification(t.Context())
	if err != nil || n.Channel != "reputation_events" {
		t.Errorf("WaitForNotification = %v, %v", n, err)
	}
}
