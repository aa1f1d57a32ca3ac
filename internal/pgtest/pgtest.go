// Package pgtest gives tests a PostgreSQL.
//
// [Pool], [URL] and [EmptyURL] give a test a database of its own on a server
// that all tests of a process share. The server is that of TEST_DATABASE_URL,
// else one started from this machine's PostgreSQL, else one in Docker. Without
// any of them the test fails; it is never skipped.
//
// [Start] gives a server of its own, to benchmark it or to kill it.
//
// What the package starts ends with the process, also when that is killed; no
// TestMain is needed.
package pgtest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	startTimeout  = 5 * time.Minute // to pull an image
	createTimeout = 2 * time.Minute
	closeTimeout  = 20 * time.Second // for a pool's connections to come back
	poolConns     = 8
)

// A PoolOption changes the configuration of a test's pool.
type PoolOption func(*pgxpool.Config)

// MaxConns sets how many connections the pool opens at most.
func MaxConns(n int32) PoolOption {
	return func(c *pgxpool.Config) { c.MaxConns = n }
}

// Pool returns a pool of at most 8 connections to a new, migrated database. Both
// end with the test. A connection that is still acquired then fails the test.
// It is safe for concurrent use.
func Pool(t testing.TB, opts ...PoolOption) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(URL(t))
	if err != nil {
		t.Fatalf("pgtest: read the database's URL: %v", err)
	}
	config.MaxConns = poolConns
	for _, opt := range opts {
		opt(config)
	}
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(t.Context()), config)
	if err != nil {
		t.Fatalf("pgtest: open a pool: %v", err)
	}
	t.Cleanup(func() { closePool(t, pool) })
	return pool
}

// closePool does not wait forever: a test that failed halfway may have left a
// connection or rows open.
func closePool(t testing.TB, pool *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
		t.Errorf("pgtest: %d connections of the pool were not given back; close the rows, transactions and connections that the test opened",
			pool.Stat().AcquiredConns())
	}
}

// URL returns the URL of a new, migrated database, for pgx, psql or a child
// process. The database ends with the test, whoever is connected. It is safe
// for concurrent use.
func URL(t testing.TB) string {
	t.Helper()
	return newDatabase(t, (*databases).clone)
}

// EmptyURL is like [URL], but nothing has been migrated.
func EmptyURL(t testing.TB) string {
	t.Helper()
	return newDatabase(t, (*databases).create)
}

// shared is the server of this process's tests. It is global as tests of all
// packages' files must share it without a TestMain, and starts when the first
// test asks. It remembers a failure: the next test would only wait for the same.
var shared = sync.OnceValues(func() (*databases, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return open(ctx, machine())
})

func newDatabase(t testing.TB, create func(*databases, context.Context) (string, error)) string {
	t.Helper()
	dbs, err := shared()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), createTimeout)
	defer cancel()
	name, err := create(dbs, ctx)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), createTimeout)
		defer cancel()
		if err := dbs.drop(ctx, name); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return dbs.url(name)
}
