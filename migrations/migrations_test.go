package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/internal/pgtest"
	"dixie/migrations"
)

const reputationFile = "005_reputation.sql"

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func empty(t testing.TB) *pgx.Conn {
	t.Helper()
	return connect(t, pgtest.EmptyURL(t))
}

func exec1(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func queryAll[T any](t testing.TB, db migrations.DB, sql string, args ...any) []T {
	t.Helper()
	rows, err := db.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return all
}

func query1[T any](t testing.TB, db migrations.DB, sql string, args ...any) T {
	t.Helper()
	all := queryAll[T](t, db, sql, args...)
	if len(all) != 1 {
		t.Fatalf("%s: %d rows, want 1", sql, len(all))
	}
	return all[0]
}

func names(ms []migrations.Migration) []string {
	var out []string
	for _, m := range ms {
		out = append(out, m.String())
	}
	return out
}

// migrationFiles are the migrations that the directory has, none applied.
func migrationFiles(t testing.TB) []migrations.Migration {
	t.Helper()
	files, err := filepath.Glob("*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %v, %v", files, err)
	}
	files = slices.DeleteFunc(files, func(name string) bool { return name == "011_roles.sql" })
	all := make([]migrations.Migration, len(files))
	for i, file := range files {
		if _, err := fmt.Sscanf(strings.TrimSuffix(file, ".sql"), "%d_%s", &all[i].Version, &all[i].Name); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	return all
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	b, err := fs.ReadFile(migrations.Files, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func locksHeld(t testing.TB, db migrations.DB) int {
	t.Helper()
	return query1[int](t, db, `SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
		WHERE datname = current_database() AND locktype = 'advisory' AND classid = 1684633705 AND objid = 2`)
}

func TestUpOnEmptyDatabase(t *testing.T) {
	t.Parallel()
	conn := empty(t)
	before, err := migrations.Status(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	want := migrationFiles(t)
	if diff := cmp.Diff(want, before); diff != "" {
		t.Errorf("Status before (-want +got):\n%s", diff)
	}

	applied, err := migrations.Up(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, applied, cmpopts.IgnoreFields(migrations.Migration{}, "AppliedAt")); diff != "" {
		t.Errorf("Up (-want +got):\n%s", diff)
	}
	if since := time.Since(applied[0].AppliedAt); since < -time.Minute || since > time.Minute {
		t.Errorf("applied at %v, want about now", applied[0].AppliedAt)
	}
	after, err := migrations.Status(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(applied, after); diff != "" {
		t.Errorf("Status after, against what Up returned (-want +got):\n%s", diff)
	}
	if n := locksHeld(t, conn); n != 0 {
		t.Errorf("%d migration locks are held after Up", n)
	}
}

func TestUpTwice(t *testing.T) {
	t.Parallel()
	conn := empty(t)
	first, err := migrations.Up(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	second, err := migrations.Up(t.Context(), conn)
	if err != nil || len(second) != 0 {
		t.Fatalf("second Up = %v, %v; want none", second, err)
	}
	after, err := migrations.Status(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, after); diff != "" {
		t.Errorf("the second Up changed the record (-want +got):\n%s", diff)
	}
}

func TestConcurrentUpsApplyOnce(t *testing.T) {
	t.Parallel()
	const programs = 10
	url := pgtest.EmptyURL(t)
	var wg sync.WaitGroup
	applied := make([][]migrations.Migration, programs)
	for i := range programs {
		conn := connect(t, url)
		wg.Go(func() {
			var err error
			if applied[i], err = migrations.Up(t.Context(), conn); err != nil {
				t.Errorf("Up of program %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	total := 0
	for _, ms := range applied {
		total += len(ms)
	}
	conn := connect(t, url)
	if want := len(queryAll[int](t, conn, `SELECT version FROM dixie_migrations`)); total != want {
		t.Errorf("%d migrations were applied by %d programs, want each of %d once", total, programs, want)
	}
	if n := locksHeld(t, conn); n != 0 {
		t.Errorf("%d migration locks are held", n)
	}
}

func holdMigrationLock(t *testing.T, url string) {
	t.Helper()
	exec1(t, connect(t, url), `SELECT pg_advisory_lock(1684633705, 2)`)
}

func TestUpWaitsForTheLockUntilContextEnds(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	holdMigrationLock(t, url)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	applied, err := migrations.Up(ctx, connect(t, url))
	if !errors.Is(err, context.DeadlineExceeded) || len(applied) != 0 {
		t.Errorf("Up = %v, %v; want DeadlineExceeded", applied, err)
	}
}

func TestUpTakesNoLockWhenNothingIsPending(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	holdMigrationLock(t, url)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if applied, err := migrations.Up(ctx, connect(t, url)); err != nil || len(applied) != 0 {
		t.Errorf("Up = %v, %v; want none at once", applied, err)
	}
}

// sqlFiles is a directory of migrations.
func sqlFiles(nameThenSQL ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(nameThenSQL); i += 2 {
		m[nameThenSQL[i]] = &fstest.MapFile{Data: []byte(nameThenSQL[i+1])}
	}
	return m
}

const (
	createRecord = `CREATE TABLE IF NOT EXISTS dixie_migrations (
		version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());`
	createA = createRecord + `CREATE TABLE a (n int); INSERT INTO a VALUES (1); INSERT INTO dixie_migrations VALUES (1, 'a') ON CONFLICT DO NOTHING;`
	createB = `CREATE TABLE b (n int); INSERT INTO b SELECT n FROM a;`
	broken  = `CREATE TABLE c (n int); SELECT no_such_column;`
)

func TestFailedMigrationRollsBackAloneAndReleasesTheLock(t *testing.T) {
	t.Parallel()
	conn := empty(t)
	dir := sqlFiles("001_a.sql", createA, "002_b.sql", createB, "003_c.sql", broken)
	applied, err := migrations.UpFrom(t.Context(), conn, dir)
	if diff := cmp.Diff([]string{"001_a", "002_b"}, names(applied)); diff != "" {
		t.Errorf("applied (-want +got):\n%s", diff)
	}
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != "42703" || !strings.Contains(err.Error(), "003_c") {
		t.Errorf("error = %v, want undefined column (42703) in 003_c", err)
	}
	if got := query1[*string](t, conn, `SELECT to_regclass('c')::text`); got != nil {
		t.Error("the table of the failed migration exists")
	}
	if n := locksHeld(t, conn); n != 0 {
		t.Errorf("%d migration locks are held", n)
	}
	var outdated *migrations.OutdatedError
	err = migrations.CheckFrom(t.Context(), conn, dir)
	if !errors.As(err, &outdated) {
		t.Fatalf("Check = %v, want an OutdatedError", err)
	}
	if diff := cmp.Diff([]string{"003_c"}, names(outdated.Pending)); diff != "" {
		t.Errorf("pending (-want +got):\n%s", diff)
	}

	dir["003_c.sql"].Data = []byte(`CREATE TABLE c (n int)`)
	applied, err = migrations.UpFrom(t.Context(), conn, dir)
	if diff := cmp.Diff([]string{"003_c"}, names(applied)); err != nil || diff != "" {
		t.Errorf("Up of the corrected file: %v (-want +got):\n%s", err, diff)
	}
}

func TestCancelledMigrationIsRolledBackAndReleasesTheLock(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	dir := sqlFiles("001_a.sql", createA+`SELECT pg_sleep(60)`)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	applied, err := migrations.UpFrom(ctx, connect(t, url), dir)
	if !errors.Is(err, context.DeadlineExceeded) || len(applied) != 0 {
		t.Fatalf("Up = %v, %v; want DeadlineExceeded", applied, err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	dir["001_a.sql"].Data = []byte(createA)
	applied, err = migrations.UpFrom(ctx, connect(t, url), dir)
	if diff := cmp.Diff([]string{"001_a"}, names(applied)); err != nil || diff != "" {
		t.Errorf("the next Up: %v (-want +got):\n%s", err, diff)
	}
}

func TestBadFileNames(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]fstest.MapFS{
		"no number":    sqlFiles("reputation.sql", ""),
		"short number": sqlFiles("5_reputation.sql", ""),
		"same version": sqlFiles("005_a.sql", "", "005_b.sql", ""),
	} {
		if err := migrations.CheckFrom(t.Context(), nil, dir); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestOldServerIsRefused(t *testing.T) {
	t.Parallel()
	err := migrations.CheckServerVersion(130014)
	if err == nil || !strings.Contains(err.Error(), "PostgreSQL 13") {
		t.Errorf("error = %v, want one that names PostgreSQL 13", err)
	}
	if err := migrations.CheckServerVersion(140000); err != nil {
		t.Error(err)
	}
}

func TestCheckSaysWhatToDo(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), pgtest.EmptyURL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	err = migrations.Check(t.Context(), pool)
	var outdated *migrations.OutdatedError
	if !errors.As(err, &outdated) {
		t.Fatalf("Check = %v, want an OutdatedError", err)
	}
	for _, want := range []string{"005_reputation", "dixie migrate up"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %q", err, want)
		}
	}
}

func TestCheckOfAnUnreachableDatabaseIsNotOutdated(t *testing.T) {
	t.Parallel()
	conn := empty(t)
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var outdated *migrations.OutdatedError
	if err := migrations.Check(t.Context(), conn); err == nil || errors.As(err, &outdated) {
		t.Errorf("Check = %v, want another error", err)
	}
}

func TestStatusLeavesTheCallersTransactionUsable(t *testing.T) {
	t.Parallel()
	tx, err := empty(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Status(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT 1`); err != nil {
		t.Errorf("the transaction is spoilt: %v", err)
	}
}

func TestNewerDatabaseIsFine(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.URL(t))
	exec1(t, conn, `INSERT INTO dixie_migrations (version, name) VALUES (999, 'future')`)
	if err := migrations.Check(t.Context(), conn); err != nil {
		t.Errorf("Check: %v", err)
	}
	if applied, err := migrations.Up(t.Context(), conn); err != nil || len(applied) != 0 {
		t.Errorf("Up = %v, %v; want none", applied, err)
	}
	all, err := migrations.Status(t.Context(), conn)
	if diff := cmp.Diff(names(migrationFiles(t)), names(all)); err != nil || diff != "" {
		t.Errorf("Status: %v (-want +got):\n%s", err, diff)
	}
}

// runByHand runs a file as an administrator would: with psql, statement by
// statement, or without psql all at once.
func runByHand(t *testing.T, url, name string) {
	t.Helper()
	psql, err := exec.LookPath("psql")
	if err != nil {
		if _, err := connect(t, url).PgConn().Exec(t.Context(), readFile(t, name)).ReadAll(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return
	}
	out, err := exec.CommandContext(t.Context(), psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", name, url).CombinedOutput()
	if err != nil {
		t.Fatalf("psql -f %s: %v\n%s", name, err, out)
	}
}

func runAllByHand(t *testing.T, url string) {
	t.Helper()
	for _, m := range migrationFiles(t) {
		runByHand(t, url, m.String()+".sql")
	}
}

func TestFilesByHandCountAsApplied(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	conn := connect(t, url)
	runAllByHand(t, url)
	if err := migrations.Check(t.Context(), conn); err != nil {
		t.Fatalf("Check after the files: %v", err)
	}
	exec1(t, conn, `INSERT INTO reputation_events (nft_id, event_type, event) VALUES ('a', 'x', '{}')`)
	runAllByHand(t, url)
	if err := migrations.Check(t.Context(), conn); err != nil {
		t.Fatalf("Check after the files again: %v", err)
	}
	if n := query1[int](t, conn, `SELECT count(*) FROM reputation_events`); n != 1 {
		t.Errorf("%d events after the files again, want 1", n)
	}
	if applied, err := migrations.Up(t.Context(), conn); err != nil || len(applied) != 0 {
		t.Errorf("Up = %v, %v; want none", applied, err)
	}
}
