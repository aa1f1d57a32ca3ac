package eventstore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/eventstore/eventstoretest"
	"dixie/internal/pgtest"
	"dixie/reputation"
)

// A writer is a program that writes events ns to the log in its own way, and says
// whether they are stored.
type writer func(ctx context.Context, pool *pgxpool.Pool, log reputation.Log, ns []int) (stored bool, err error)

var writers = []writer{
	appendTogether, appendSingly, insertSingly, insertRows, insertInTransaction, insertAndRollBack, insertAndRollBackLater,
}

func appendTogether(ctx context.Context, _ *pgxpool.Pool, log reputation.Log, ns []int) (bool, error) {
	var entries []reputation.Entry
	for _, n := range ns {
		entries = append(entries, eventstoretest.Entry("a", n))
	}
	_, err := log.Append(ctx, entries...)
	return true, err
}

func appendSingly(ctx context.Context, _ *pgxpool.Pool, log reputation.Log, ns []int) (bool, error) {
	for _, n := range ns {
		if _, err := log.Append(ctx, eventstoretest.Entry("a", n)); err != nil {
			return false, err
		}
	}
	return true, nil
}

func insertSingly(ctx context.Context, pool *pgxpool.Pool, _ reputation.Log, ns []int) (bool, error) {
	for _, n := range ns {
		if err := insert(ctx, pool, "a", n); err != nil {
			return false, err
		}
	}
	return true, nil
}

func insertRows(ctx context.Context, pool *pgxpool.Pool, _ reputation.Log, ns []int) (bool, error) {
	var events []*reputation.Event
	for _, n := range ns {
		events = append(events, eventstoretest.Event(n))
	}
	_, err := pool.Exec(ctx, `INSERT INTO reputation_events (nft_id, event_type, event)
		VALUES ('a', 'quality_signal', $1), ('a', 'quality_signal', $2), ('a', 'quality_signal', $3)`,
		events[0], events[1], events[2])
	return true, err
}

func insertInTransaction(ctx context.Context, pool *pgxpool.Pool, _ reputation.Log, ns []int) (bool, error) {
	return true, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		for _, n := range ns {
			if err := insert(ctx, tx, "a", n); err != nil {
				return err
			}
			time.Sleep(time.Millisecond)
		}
		return nil
	})
}

func insertAndRollBack(ctx context.Context, pool *pgxpool.Pool, _ reputation.Log, ns []int) (bool, error) {
	return rollBack(ctx, pool, ns, 0)
}

func insertAndRollBackLater(ctx context.Context, pool *pgxpool.Pool, _ reputation.Log, ns []int) (bool, error) {
	return rollBack(ctx, pool, ns, 10*time.Millisecond)
}

func rollBack(ctx context.Context, pool *pgxpool.Pool, ns []int, after time.Duration) (bool, error) {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return false, err
	}
	for _, n := range ns {
		if err := insert(ctx, tx, "a", n); err != nil {
			return false, errors.Join(err, tx.Rollback(ctx))
		}
	}
	time.Sleep(after)
	return false, tx.Rollback(ctx)
}

// TestForeignWriters: the log keeps its promises whoever writes. Programs that
// know only the table write in all ways beside our appender while another process
// follows the log.
func TestForeignWriters(t *testing.T) {
	t.Parallel()
	const count, steps = 32, 8
	pool := pgtest.Pool(t, pgtest.MaxConns(count+4))
	log := openPostgres(t, pool)
	follower := eventstoretest.Follow(t, openPostgres(t, pool))
	var mu sync.Mutex
	var want []int
	var all sync.WaitGroup
	for w := range count {
		all.Go(func() {
			for step := range steps {
				first := (w*steps + step) * 3
				ns := []int{first, first + 1, first + 2}
				stored, err := writers[(w+step)%len(writers)](t.Context(), pool, log, ns)
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				if stored {
					mu.Lock()
					want = append(want, ns...)
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	seen := follower.Until(int64(audit(t, pool)))
	eventstoretest.InOrder(t, seen)
	slices.Sort(want)
	if diff := cmp.Diff(want, numbersOf(t, seen)); diff != "" {
		t.Errorf("events that the follower saw (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(eventstoretest.All(t, log), seen); diff != "" {
		t.Errorf("the follower saw another log (-log +follower):\n%s", diff)
	}
}

// TestSharedEvents: our appender and other programs write the same events. The
// programs are told by the unique index that they come late.
func TestSharedEvents(t *testing.T) {
	t.Parallel()
	const count, events = 32, 50
	pool := pgtest.Pool(t, pgtest.MaxConns(count+2))
	log := openPostgres(t, pool)
	var mu sync.Mutex
	firsts := make([]int, events) // how many were the first to write event n
	var all sync.WaitGroup
	for w := range count {
		all.Go(func() {
			for _, n := range rand.Perm(events) {
				first, err := writeShared(t.Context(), pool, log, w%2 == 0, n)
				if err != nil {
					t.Errorf("writer %d, event %d: %v", w, n, err)
					return
				}
				if first {
					mu.Lock()
					firsts[n]++
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	for n, count := range firsts {
		if count != 1 {
			t.Errorf("%d writers were told that they wrote event %d", count, n)
		}
	}
	if stored := audit(t, pool); stored != events {
		t.Errorf("%d events, want %d", stored, events)
	}
}

func writeShared(ctx context.Context, pool *pgxpool.Pool, log reputation.Log, ours bool, n int) (first bool, err error) {
	if ours {
		results, err := log.Append(ctx, eventstoretest.Entry("a", n))
		if err != nil {
			return false, err
		}
		if results[0].Status == reputation.Conflict {
			return false, errors.New("the same event is a conflict")
		}
		return results[0].Status == reputation.Added, nil
	}
	err = insert(ctx, pool, "a", n)
	if late, ok := errors.AsType[*pgconn.PgError](err); ok && late.ConstraintName == "idx_reputation_events_id" {
		return false, nil
	}
	return err == nil, err
}
