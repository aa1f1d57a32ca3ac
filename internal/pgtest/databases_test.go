package pgtest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// givenMachine has only TEST_DATABASE_URL.
func givenMachine(url string) finder {
	f := bareMachine()
	f.getenv = func(name string) string {
		if name == urlVariable {
			return url
		}
		return ""
	}
	return f
}

func testDatabases(t *testing.T, conn *pgx.Conn) int {
	t.Helper()
	return query[int](t, conn, `SELECT count(*) FROM pg_database WHERE starts_with(datname, 'dixie_test_')`)
}

// TestGivenServer uses a server as that of TEST_DATABASE_URL, through a user
// that may do no more than create databases.
func TestGivenServer(t *testing.T) {
	t.Parallel()
	s := startServer(t, Options{})
	conn := connectTo(t, s)
	execute(t, conn, `CREATE ROLE tester LOGIN CREATEDB`)
	execute(t, conn, `CREATE DATABASE dixie_test_ours`)
	execute(t, conn, `CREATE DATABASE dixie_test_1_1`) // not the tester's
	config := conn.Config()
	given := "host=" + config.Host + " port=5432 user=tester dbname=postgres sslmode=disable"

	ctx := t.Context()
	first, err := open(ctx, givenMachine(given))
	if err != nil {
		t.Fatal(err)
	}
	checkClone(t, first)
	killed, err := open(ctx, givenMachine(given))
	if err != nil {
		t.Fatal(err)
	}
	checkClone(t, killed)
	checkClone(t, killed)
	if err := killed.admin.Close(ctx); err != nil { // as the end of a process does
		t.Fatal(err)
	}
	if n := testDatabases(t, conn); n != 2+2+3 {
		t.Fatalf("%d databases before the next process, want 7", n)
	}
	next, err := open(ctx, givenMachine(given))
	if err != nil {
		t.Fatal(err)
	}
	if n := testDatabases(t, conn); n != 2+2 {
		t.Errorf("%d databases, want 4: two that are not ours and those of the process that lives", n)
	}
	checkClone(t, next)
	checkClone(t, first)
}

// checkClone checks that a clone is migrated and leaves it.
func checkClone(t *testing.T, d *databases) {
	t.Helper()
	name, err := d.clone(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), d.url(name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if got := query[string](t, conn, `SELECT current_database()`); got != name {
		t.Errorf("connected to %s, want %s", got, name)
	}
	execute(t, conn, `SELECT FROM reputation_events`)
}

func TestAdministratorReconnects(t *testing.T) {
	t.Parallel()
	server, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDatabases(t.Context(), server.adminURL, server.url)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.create(ended); err == nil {
		t.Error("create with an ended context gave a database")
	}
	_, _ = d.admin.Exec(t.Context(), `SELECT pg_terminate_backend(pg_backend_pid())`)
	name, err := d.create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.drop(t.Context(), name); err != nil {
		t.Error(err)
	}
}

func TestCreateWaitsForTheTemplate(t *testing.T) {
	t.Parallel()
	inUse := fmt.Errorf("create: %w", &pgconn.PgError{Code: "55006"})
	calls := 0
	err := retryInUse(t.Context(), func() error {
		if calls++; calls < 3 {
			return inUse
		}
		return nil
	})
	if err != nil || calls != 3 {
		t.Errorf("%d calls, %v; want 3", calls, err)
	}

	other := &pgconn.PgError{Code: "42501"}
	if err := retryInUse(t.Context(), func() error { return other }); !errors.Is(err, other) {
		t.Errorf("error = %v, want that of the first call", err)
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := retryInUse(ended, func() error { return inUse }); !errors.Is(err, inUse) {
		t.Errorf("error = %v, want the reason", err)
	}
}

func TestWithDatabase(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"postgres://u:p@h:1/a?sslmode=disable": "postgres://u:p@h:1/x?sslmode=disable",
		"postgresql://h":                       "postgresql://h/x",
		"postgres:///a?host=/run&dbname=b":     "postgres:///x?host=%2Frun",
		"host=/run dbname=a":                   "host=/run dbname=a dbname=x",
	} {
		got := withDatabase(given, "x")
		if got != want {
			t.Errorf("withDatabase(%q) = %q, want %q", given, got, want)
		}
		config, err := pgx.ParseConfig(got)
		if err != nil || config.Database != "x" {
			t.Errorf("pgx reads another database from %q: %v", got, err)
		}
	}
}
