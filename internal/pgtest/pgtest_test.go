package pgtest_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/internal/pgtest"
	"dixie/migrations"
)

func TestDatabasesAreIsolated(t *testing.T) {
	t.Parallel()
	pools := []*pgxpool.Pool{pgtest.Pool(t), pgtest.Pool(t), pgtest.Pool(t)}
	var wg sync.WaitGroup
	for i, pool := range pools {
		wg.Go(func() {
			const insert = `INSERT INTO reputation_events (nft_id, event_type, event) VALUES ($1, 'x', '{}')`
			if _, err := pool.Exec(t.Context(), insert, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, pool := range pools {
		rows, err := pool.Query(t.Context(), `SELECT nft_id FROM reputation_events`)
		if err != nil {
			t.Fatal(err)
		}
		got, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(got) != 1 || got[0] != fmt.Sprint(i) {
			t.Errorf("rows in database %d: %v, %v", i, got, err)
		}
	}
}

func TestManyDatabasesAtOnce(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	urls := make([]string, 24)
	for i := range urls {
		wg.Go(func() {
			if i%2 == 0 {
				urls[i] = pgtest.URL(t)
			} else {
				urls[i] = pgtest.EmptyURL(t)
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for i, url := range urls {
		if seen[url] {
			t.Errorf("%s was given twice", url)
		}
		seen[url] = true
		if migrated := check(t, url) == nil; migrated != (i%2 == 0) {
			t.Errorf("database %d: migrated = %t", i, migrated)
		}
	}
}

func check(t *testing.T, url string) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	return migrations.Check(t.Context(), conn)
}

func TestDatabaseEndsWithItsTest(t *testing.T) {
	t.Parallel()
	var url string
	t.Run("owner", func(t *testing.T) {
		url = pgtest.URL(t)
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		// Runs last, before the database's cleanup: the session is still there.
		if _, err := conn.Exec(t.Context(), `SELECT 1`); err != nil {
			t.Fatal(err)
		}
	})
	if conn, err := pgx.Connect(t.Context(), url); err == nil {
		conn.Close(t.Context())
		t.Error("the database outlived its test")
	}
}

func TestPoolOptions(t *testing.T) {
	t.Parallel()
	if n := pgtest.Pool(t).Config().MaxConns; n != 8 {
		t.Errorf("MaxConns = %d, want 8", n)
	}
	if n := pgtest.Pool(t, pgtest.MaxConns(3)).Config().MaxConns; n != 3 {
		t.Errorf("MaxConns = %d, want 3", n)
	}
}

func TestURLIsForPsqlToo(t *testing.T) {
	t.Parallel()
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Log("no psql to test with")
		return
	}
	out, err := exec.Command(psql, "-X", "-A", "-t", "-c", "SELECT name FROM dixie_migrations", pgtest.URL(t)).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "reputation") {
		t.Errorf("psql: %v\n%s", err, out)
	}
}
