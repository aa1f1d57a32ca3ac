package eventstore_test

import (
	"bytes"
	"context"
	"errors"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dixie/eventstore"
	"dixie/eventstore/eventstoretest"
	"dixie/internal/pgtest"
	"dixie/reputation"
)

// labelled runs f and labels all goroutines that come of it, so that those of
// other tests are not taken for them.
func labelled(t testing.TB, f func()) {
	pprof.Do(t.Context(), pprof.Labels("test", t.Name()), func(context.Context) { f() })
}

// stacks are those of the goroutines that came of labelled functions.
func stacks(t testing.TB) string {
	t.Helper()
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		t.Fatal(err)
	}
	return strings.Join(slices.DeleteFunc(strings.Split(profile.String(), "\n\n"), func(stack string) bool {
		return !strings.Contains(stack, `"test":"`+t.Name()+`"`)
	}), "\n\n")
}

// noGoroutineLeft checks that none runs code of the log, and that those of the
// driver end.
func noGoroutineLeft(t testing.TB) {
	t.Helper()
	running := stacks(t)
	if strings.Contains(running, "dixie/eventstore.") || !poll(func() bool { running = stacks(t); return running == "" }) {
		t.Errorf("still there after Close:\n%s", running)
	}
}

// TestCloseDrains: what was accepted before Close is written and answered.
func TestCloseDrains(t *testing.T) {
	t.Parallel()
	const queued = 40
	pool := pgtest.Pool(t)
	var log *eventstore.Postgres
	labelled(t, func() { log = openPostgres(t, pool) })
	if stacks(t) == "" {
		t.Fatal("the goroutines of a log are not seen")
	}
	release := holdLog(t, pool)
	appends := []*pending{stall(t, pool, log, eventstoretest.Entry("a", 0))}
	for n := 1; n <= queued; n++ {
		appends = append(appends, start(t.Context(), log, eventstoretest.Entry("a", n)))
	}
	awaitQueue(t, log, queued)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		log.Close()
	}()
	eventually(t, "the log closes", log.Closing)
	refusesAppends(t, log)
	release()
	<-closed
	noGoroutineLeft(t)
	for _, a := range appends {
		if results, err := a.wait(t); err != nil || results[0].Status != reputation.Added {
			t.Errorf("%v, %v", results, err)
		}
	}
	refusesAppends(t, log)
	log.Close() // once more
	if events := eventstoretest.All(t, log); len(events) != queued+1 {
		t.Errorf("%d events", len(events))
	}
}

// TestShutdownGivesUp: what cannot be written in time is given up, and those who wait
// for it are told.
func TestShutdownGivesUp(t *testing.T) {
	t.Parallel()
	const queued = 40
	pool := pgtest.Pool(t)
	var log *eventstore.Postgres
	labelled(t, func() { log = openPostgres(t, pool) })
	release := holdLog(t, pool)
	appends := []*pending{stall(t, pool, log, eventstoretest.Entry("a", 0))}
	for n := 1; n <= queued; n++ {
		appends = append(appends, start(t.Context(), log, eventstoretest.Entry("a", n)))
	}
	awaitQueue(t, log, queued)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	log.Shutdown(ctx)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	noGoroutineLeft(t)
	for _, a := range appends {
		if results, err := a.wait(t); !errors.Is(err, reputation.ErrUnavailable) {
			t.Errorf("%v, error %v, want ErrUnavailable", results, err)
		}
	}
	refusesAppends(t, log)
	release()
}

func refusesAppends(t testing.TB, log reputation.Log) {
	t.Helper()
	results, err := log.Append(t.Context(), eventstoretest.Entry("late", 99))
	if !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("append to a closed log: %v, %v", results, err)
	}
}

// TestCloseUnderLoad: whatever the moment, each append either is stored or was
// refused.
func TestCloseUnderLoad(t *testing.T) {
	t.Parallel()
	const callers = 16
	pool := pgtest.Pool(t)
	var log *eventstore.Postgres
	labelled(t, func() { log = openPostgres(t, pool) })
	changed := log.Changed()
	stored := make([][]int, callers)
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for n := 1000 * c; ; n++ {
				if _, err := log.Append(t.Context(), eventstoretest.Entry("a", n)); err != nil {
					if !errors.Is(err, eventstore.ErrClosed) {
						t.Error(err)
					}
					return
				}
				stored[c] = append(stored[c], n)
			}
		})
	}
	<-changed
	eventually(t, "there is some load", func() bool { return query[int](t, pool, `SELECT count(*) FROM reputation_events`) > callers })
	log.Close()
	noGoroutineLeft(t)
	all.Wait()
	if diff := cmp.Diff(slices.Concat(stored...), numbersOf(t, eventstoretest.All(t, log))); diff != "" {
		t.Errorf("events (-told +stored):\n%s", diff)
	}
}

// TestFullQueue: when the queue is full, appends wait in their senders. These can
// give up, and Close answers those that do not.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	const waiting = 5
	pool := pgtest.Pool(t)
	log := openPostgres(t, pool)
	release := holdLog(t, pool)
	appends := []*pending{stall(t, pool, log, eventstoretest.Entry("a", 0))}
	for n := 1; n <= eventstore.QueuedRequests+waiting; n++ {
		appends = append(appends, start(t.Context(), log, eventstoretest.Entry("a", n)))
	}
	awaitQueue(t, log, eventstore.QueuedRequests)
	ctx, cancel := context.WithCancel(t.Context())
	impatient := start(ctx, log, eventstoretest.Entry("a", 9999))
	time.Sleep(20 * time.Millisecond) // so that it most likely waits; it may not yet
	cancel()
	if _, err := impatient.wait(t); !errors.Is(err, reputation.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		log.Close()
	}()
	release()
	<-closed
	for _, a := range appends {
		// Whether those that waited were accepted before Close is a race.
		if _, err := a.wait(t); err != nil && !errors.Is(err, eventstore.ErrClosed) {
			t.Error(err)
		}
	}
	if count := audit(t, pool); count < eventstore.QueuedRequests+1 || count > eventstore.QueuedRequests+waiting+1 {
		t.Errorf("%d events", count)
	}
}
