package eventstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dixie/eventstore"
	"dixie/eventstore/eventstoretest"
	"dixie/internal/pgtest"
	"dixie/reputation"
)

// timed is a log that finds times.
type timed interface {
	reputation.Log
	PositionAt(ctx context.Context, at time.Time) (int64, error)
}

// TestPositionAt: a time means the last event that was stored at it or before.
func TestPositionAt(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) timed{
		"memory":   func(*testing.T) timed { return eventstore.NewMemory() },
		"postgres": func(t *testing.T) timed { return openPostgres(t, pgtest.Pool(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := open(t)
			wantPositionAt(t, log, time.Now(), 0)
			for _, events := range []int{1, 1, 7, 30} {
				eventstoretest.Append(t, log, eventstoretest.Entries("a", int(head(t, log))+1, int(head(t, log))+events)...)
			}
			stored, err := log.Read(t.Context(), 0, 100)
			if err != nil || len(stored) != 39 {
				t.Fatalf("%d events, %v", len(stored), err)
			}
			for _, r := range stored {
				wantPositionAt(t, log, r.CreatedAt, r.Position)
				wantPositionAt(t, log, r.CreatedAt.Add(999*time.Nanosecond), r.Position)
				wantPositionAt(t, log, r.CreatedAt.Add(-time.Nanosecond), r.Position-1)
			}
			wantPositionAt(t, log, time.Time{}, 0)
			wantPositionAt(t, log, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), 39)

			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := log.PositionAt(ctx, time.Now()); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
		})
	}
}

func head(t testing.TB, log reputation.Log) int64 {
	t.Helper()
	head, err := log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head
}

func wantPositionAt(t testing.TB, log timed, at time.Time, want int64) {
	t.Helper()
	if got, err := log.PositionAt(t.Context(), at); err != nil || got != want {
		t.Errorf("position at %v is %d, %v, want %d", at, got, err, want)
	}
}

// TestPositionAtBesideGaps: a damaged log gives a position, not an endless search.
func TestPositionAtBesideGaps(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	log := openPostgres(t, pool)
	eventstoretest.Append(t, log, eventstoretest.Entries("a", 1, 40)...)
	exec(t, pool, `ALTER TABLE reputation_events DISABLE TRIGGER USER`)
	exec(t, pool, `DELETE FROM reputation_events WHERE position % 3 = 1`)
	stored, err := log.Read(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range stored {
		if got, err := log.PositionAt(t.Context(), r.CreatedAt); err != nil || got > r.Position {
			t.Errorf("position at that of %d is %d, %v", r.Position, got, err)
		}
	}
}

// TestPlanOfPositionAt: a time is found by the primary key, however long the log is.
func TestPlanOfPositionAt(t *testing.T) {
	t.Parallel()
	var spy spy
	pool := pgtest.Pool(t, spy.option)
	log := openPostgres(t, pool)
	exec(t, pool, longLog(20000))
	exec(t, pool, `ANALYZE reputation_events`)
	find := spy.statement(t, func() error { _, err := log.PositionAt(t.Context(), time.Now()); return err })
	conn := connect(t, pool)
	conn.Config().DefaultQueryExecMode = pgx.QueryExecModeExec
	checkIndexed(t, conn, find, "reputation_events_pkey", false, "now()", "'infinity'")
}
