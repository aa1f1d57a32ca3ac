package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/eventstore"
	"dixie/eventstore/eventstoretest"
	"dixie/internal/pgtest"
	"dixie/reputation"
)

const (
	// patience bounds only tests that fail.
	patience = time.Minute

	// insertEvent is how other programs write to the log.
	insertEvent = `INSERT INTO reputation_events (nft_id, event_type, event) VALUES ($1, $2, $3)`
)

func openPostgres(t testing.TB, pool *pgxpool.Pool) *eventstore.Postgres {
	t.Helper()
	log := eventstore.OpenPostgres(pool, slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(log.Close)
	return log
}

// connect is a connection to a pool's database that is not the pool's.
func connect(t testing.TB, pool *pgxpool.Pool) *pgx.Conn {
	t.Helper()
	config := pool.Config().ConnConfig
	config.AfterNetConnect = nil
	config.Tracer = nil
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

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

// insert writes event n as another program does.
func insert(ctx context.Context, db execer, nft string, n int) error {
	event := eventstoretest.Event(n)
	_, err := db.Exec(ctx, insertEvent, nft, string(event.Type()), event)
	return err
}

// holdLog is another program in the middle of a transaction that writes, so that
// appends wait until release.
func holdLog(t testing.TB, pool *pgxpool.Pool) (release func()) {
	t.Helper()
	tx, err := connect(t, pool).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, tx, insertEvent, "never", "quality_signal", `{}`)
	return func() {
		t.Helper()
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// eventually waits for what another goroutine or process is about to do.
func eventually(t testing.TB, what string, happened func() bool) {
	t.Helper()
	if !poll(happened) {
		t.Fatalf("waited in vain: %s", what)
	}
}

// poll is [eventually] for goroutines that must not end the test.
func poll(happened func() bool) bool {
	for deadline := time.Now().Add(patience); !happened(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// query is one value of type V.
func query[V any](t testing.TB, pool *pgxpool.Pool, sql string, args ...any) V {
	t.Helper()
	var value V
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// pending is an append that was started.
type pending struct {
	results []reputation.Appended
	err     error
	done    chan struct{}
}

// start appends in a goroutine.
func start(ctx context.Context, log reputation.Log, entries ...reputation.Entry) *pending {
	p := &pending{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.results, p.err = log.Append(ctx, entries...)
	}()
	return p
}

func (p *pending) wait(t testing.TB) ([]reputation.Appended, error) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatal("an append was not answered")
	}
	return p.results, p.err
}

// stall starts an append and returns when it waits for the lock that [holdLog]
// holds. What is appended next stays in the queue.
func stall(t testing.TB, pool *pgxpool.Pool, log *eventstore.Postgres, entries ...reputation.Entry) *pending {
	t.Helper()
	p := start(t.Context(), log, entries...)
	eventually(t, "the first append waits for the lock", func() bool {
		return query[int](t, pool, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
	})
	return p
}

// awaitQueue waits until count appends wait behind a stalled one.
func awaitQueue(t testing.TB, log *eventstore.Postgres, count int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d appends are queued", count), func() bool { return log.Queued() == count })
}

// audit checks what anyone can check by SQL, and returns the number of events.
func audit(t testing.TB, pool *pgxpool.Pool) int {
	t.Helper()
	var count, head, ids int
	err := pool.QueryRow(t.Context(),
		`SELECT count(*), coalesce(max(position), 0), count(DISTINCT id) FROM reputation_events`).Scan(&count, &head, &ids)
	if err != nil {
		t.Fatal(err)
	}
	if count != head || count != ids {
		t.Errorf("%d events, %d ids, last position %d", count, ids, head)
	}
	return count
}

// numbersOf are the n of events made by eventstoretest.Event, ascending.
func numbersOf(t testing.TB, events []reputation.Recorded) []int {
	t.Helper()
	var ns []int
	for i := range events {
		event, err := events[i].Event()
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if _, err := fmt.Sscanf(event.ID, "00000000-0000-4000-8000-%x", &n); err != nil {
			t.Fatal(err)
		}
		ns = append(ns, n)
	}
	slices.Sort(ns)
	return ns
}

func TestAppendOnly(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	log := openPostgres(t, pool)
	eventstoretest.Append(t, log, eventstoretest.Entries("a", 1, 3)...)
	for _, sql := range []string{
		`UPDATE reputation_events SET event_type = 'x' WHERE position = 2`,
		`UPDATE reputation_events SET event_type = 'x' WHERE false`,
		`DELETE FROM reputation_events WHERE position = 3`,
		`TRUNCATE reputation_events`,
		`INSERT INTO reputation_events (position, nft_id, event_type, event) VALUES (2, 'a', 'x', '{}')
			ON CONFLICT (position) DO UPDATE SET event_type = 'x'`,
	} {
		_, err := pool.Exec(t.Context(), sql)
		if refused, ok := errors.AsType[*pgconn.PgError](err); !ok || refused.Code != "23001" || refused.Hint == "" {
			t.Errorf("%s: error %v, want that it is refused with a hint", sql, err)
		}
	}
	eventstoretest.Want(t, log, eventstoretest.Entries("a", 1, 1),
		reputation.Appended{Status: reputation.Duplicate, Position: 1})
	if events := eventstoretest.All(t, log); len(events) != 3 || events[1].Type != "quality_signal" {
		t.Errorf("the log was changed: %v", events)
	}
}

// TestForeignSpelling: other programs need not write the canonical form, and
// PostgreSQL keeps more digits of a number than it has in JSON.
func TestForeignSpelling(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	log := openPostgres(t, pool)
	text := strings.Replace(string(eventstoretest.Entry("a", 1).JSON), `"score":0.001`, `"score":0.00100000000000000000001`, 1)
	exec(t, pool, insertEvent, "a", "quality_signal", text)
	upper := eventstoretest.Event(0xa)
	upper.ID = strings.ToUpper(upper.ID)
	exec(t, pool, insertEvent, "a", "quality_signal", upper)
	exec(t, pool, insertEvent, "a", "something else", eventstoretest.Event(3))
	same := func(n int, status reputation.Outcome, position int64) {
		t.Helper()
		eventstoretest.Want(t, log, eventstoretest.Entries("a", n, n), reputation.Appended{Status: status, Position: position})
	}
	same(1, reputation.Duplicate, 1)
	same(0xa, reputation.Conflict, 2) // the id is spelled in upper case
	same(3, reputation.Duplicate, 3)  // the row's type is not part of the event
	same(4, reputation.Added, 4)
}

// TestClockSetBack: an event is later than the one before it although that is of
// the future.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	log := openPostgres(t, pool)
	exec(t, pool, `INSERT INTO reputation_events (nft_id, event_type, event, created_at)
		VALUES ('a', 'quality_signal', '{}', now() + interval '1 hour')`)
	eventstoretest.Append(t, log, eventstoretest.Entries("a", 1, 3)...)
	if err := insert(t.Context(), pool, "a", 4); err != nil {
		t.Fatal(err)
	}
	eventstoretest.Append(t, log, eventstoretest.Entry("a", 5))
	events := eventstoretest.All(t, log)
	history, err := log.History(t.Context(), "a", 0, 100)
	if diff := cmp.Diff(events, history); err != nil || diff != "" || len(events) != 6 {
		t.Errorf("%d events, error %v (-log +history)\n%s", len(events), err, diff)
	}
}

// TestGroupCommit: what is appended while a batch is being written goes into one
// transaction, and each caller gets its own results.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	const callers = 50
	pool := pgtest.Pool(t)
	log := openPostgres(t, pool)
	release := holdLog(t, pool)
	first := stall(t, pool, log, eventstoretest.Entry("a", 0))
	appends := make([]*pending, callers)
	for i := range appends { // two of their own and one that all share
		appends[i] = start(t.Context(), log,
			eventstoretest.Entry("a", 1000+i), eventstoretest.Entry("a", 1), eventstoretest.Entry("a", 2000+i))
	}
	awaitQueue(t, log, callers)
	release()
	if _, err := first.wait(t); err != nil {
		t.Fatal(err)
	}
	shared := 0
	for i, a := range appends {
		results, err := a.wait(t)
		if err != nil {
			t.Fatal(err)
		}
		if results[0].Status != reputation.Added || results[2].Status != reputation.Added || results[0].Position >= results[2].Position {
			t.Errorf("caller %d: %v", i, results)
		}
		if results[1].Status == reputation.Added {
			shared++
		}
	}
	if shared != 1 {
		t.Errorf("%d callers were told that they appended the shared event", shared)
	}
	if count := audit(t, pool); count != 2*callers+2 {
		t.Errorf("%d events", count)
	}
	if n := query[int](t, pool, `SELECT count(DISTINCT xmin::text) FROM reputation_events`); n != 2 {
		t.Errorf("%d transactions for a first batch and all that waited for it", n)
	}
}

// TestBatchBounds: a transaction takes requests until it has enough.
func TestBatchBounds(t *testing.T) {
	t.Parallel()
	const each = eventstore.MaxBatchEvents/4 + 1 // four of them are enough
	pool := pgtest.Pool(t)
	log := openPostgres(t, pool)
	release := holdLog(t, pool)
	appends := []*pending{stall(t, pool, log, eventstoretest.Entry("a", 0))}
	for i := range 8 {
		appends = append(appends, start(t.Context(), log, eventstoretest.Entries("a", 1+i*each, (i+1)*each)...))
	}
	awaitQueue(t, log, 8)
	release()
	for _, a := range appends {
		if _, err := a.wait(t); err != nil {
			t.Fatal(err)
		}
	}
	if count := audit(t, pool); count != 8*each+1 {
		t.Errorf("%d events", count)
	}
	if n := query[int](t, pool, `SELECT count(DISTINCT xmin::text) FROM reputation_events`); n != 3 {
		t.Errorf("%d transactions, want 3", n)
	}
}

// TestRefusedValue: JSON can say what jsonb, or an index, cannot hold. Only the
// caller who sent it is told.
func TestRefusedValue(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	log := openPostgres(t, pool)
	refused := []reputation.Entry{
		eventstoretest.Raw(t, "a", `{"reason":"a\u0000b"}`),
		eventstoretest.Raw(t, "a", `{"\u0000":1,"event_id":"00000000-0000-4000-8000-00000000ffff"}`),
		eventstoretest.Raw(t, "a\x00b", `{}`),
		eventstoretest.Raw(t, "a\xff", `{}`),
		eventstoretest.Raw(t, randomText(9000), `{}`),
	}
	release := holdLog(t, pool)
	stalled := stall(t, pool, log, eventstoretest.Entry("a", 0))
	var good, bad []*pending
	for i := range 40 {
		good = append(good, start(t.Context(), log, eventstoretest.Entries("a", 1+3*i, 3+3*i)...))
		if i < len(refused) {
			bad = append(bad, start(t.Context(), log, eventstoretest.Entry("a", 1000+i), refused[i]))
		}
	}
	awaitQueue(t, log, len(good)+len(bad))
	release()
	for _, a := range append(good, stalled) {
		results, err := a.wait(t)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if r.Status != reputation.Added {
				t.Errorf("result %v beside a refused value", r)
			}
		}
	}
	for i, a := range bad {
		results, err := a.wait(t)
		if err == nil || errors.Is(err, reputation.ErrUnavailable) {
			t.Errorf("refused value %d: %v, %v", i, results, err)
		}
	}
	if count := audit(t, pool); count != 121 {
		t.Errorf("%d events", count)
	}
}

// randomText is text that PostgreSQL cannot compress.
func randomText(length int) string {
	var b strings.Builder
	for i := uint64(1); b.Len() < length; i++ {
		fmt.Fprintf(&b, "%x", i*0x9e3779b97f4a7c15)
	}
	return b.String()
}

// TestAbandonedAppend: a caller that has stopped waiting may use its slice again.
func TestAbandonedAppend(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	log := openPostgres(t, pool)
	release := holdLog(t, pool)
	stalled := stall(t, pool, log, eventstoretest.Entry("a", 0))
	ctx, cancel := context.WithCancel(t.Context())
	entries := eventstoretest.Entries("a", 1, 3)
	abandoned := start(ctx, log, entries...)
	awaitQueue(t, log, 1)
	cancel()
	if _, err := abandoned.wait(t); !errors.Is(err, reputation.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	copy(entries, eventstoretest.Entries("b", 101, 103))
	release()
	if _, err := stalled.wait(t); err != nil {
		t.Fatal(err)
	}
	// In the queue, so what was abandoned is written before this.
	eventstoretest.Append(t, log, eventstoretest.Entry("a", 4))
	if diff := cmp.Diff([]int{0, 1, 2, 3, 4}, numbersOf(t, eventstoretest.All(t, log))); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestPageBytes: a page of long events ends before its limit.
func TestPageBytes(t *testing.T) {
	t.Parallel()
	const length = eventstore.MaxPageBytes / 4
	log := openPostgres(t, pgtest.Pool(t))
	value := `{"text":"` + strings.Repeat("x", length) + `"}`
	for range 6 {
		eventstoretest.Append(t, log, eventstoretest.Raw(t, "a", value))
	}
	page, err := log.Read(t.Context(), 0, 100)
	if err != nil || len(page) != 4 {
		t.Errorf("%d events in a page, error %v", len(page), err)
	}
	page, err = log.History(t.Context(), "a", 1, 100)
	if err != nil || len(page) != 4 {
		t.Errorf("%d events in a page of a history, error %v", len(page), err)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	log := openPostgres(t, pool)
	eventstoretest.Append(t, log, eventstoretest.Entry("a", 1))
	pool.Close()
	_, appendErr := log.Append(t.Context(), eventstoretest.Entry("a", 2))
	_, readErr := log.Read(t.Context(), 0, 1)
	_, historyErr := log.History(t.Context(), "a", 0, 1)
	_, headErr := log.Head(t.Context())
	for name, err := range map[string]error{"Append": appendErr, "Read": readErr, "History": historyErr, "Head": headErr} {
		if !errors.Is(err, reputation.ErrUnavailable) {
			t.Errorf("%s: error %v, want ErrUnavailable", name, err)
		}
	}
}

// TestTwoStores: two processes that append the same events.
func TestTwoStores(t *testing.T) {
	t.Parallel()
	const events, callers = 200, 8
	pool := pgtest.Pool(t, pgtest.MaxConns(20))
	logs := []*eventstore.Postgres{openPostgres(t, pool), openPostgres(t, pool)}
	follower := eventstoretest.Follow(t, logs[0])
	added := make([]int, 2*callers)
	var all sync.WaitGroup
	for c := range added {
		all.Go(func() {
			for n := range events {
				// Some begin elsewhere, so that each is first with some of the events.
				n = (n + c*events/len(added)) % events
				results, err := logs[c%2].Append(t.Context(), eventstoretest.Entry("a", n))
				if err != nil {
					t.Error(err)
					return
				}
				if results[0].Status == reputation.Added {
					added[c]++
				} else if results[0].Status != reputation.Duplicate {
					t.Errorf("event %d: %v", n, results[0])
				}
			}
		})
	}
	all.Wait()
	sum := 0
	for _, n := range added {
		sum += n
	}
	if count := audit(t, pool); count != events || sum != events {
		t.Errorf("%d events stored, %d told of, want %d", count, sum, events)
	}
	seen := follower.Until(events)
	eventstoretest.InOrder(t, seen)
	if diff := cmp.Diff(eventstoretest.All(t, logs[1]), seen); diff != "" {
		t.Errorf("the follower saw another log (-log +follower):\n%s", diff)
	}
}

// listeners are the connections that wait for notifications.
const listeners = ` FROM pg_stat_activity
	WHERE datname = current_database() AND query LIKE 'LISTEN%' AND state = 'idle'`

// awaitListeners waits until count logs listen.
func awaitListeners(t testing.TB, pool *pgxpool.Pool, count int) {
	t.Helper()
	eventually(t, "the logs listen", func() bool { return query[int](t, pool, `SELECT count(*)`+listeners) == count })
}

// announced is how long it takes until a log tells of an event that append adds.
func announced(t testing.TB, log reputation.Log, append func()) time.Duration {
	t.Helper()
	changed := log.Changed()
	began := time.Now()
	append()
	select {
	case <-changed:
	case <-time.After(patience):
		t.Fatal("an append was not announced")
	}
	return time.Since(began)
}

// TestNotifications: a log tells of what another process appended. That it does
// so soon is checked on the best of several attempts, as the machine may be busy.
func TestNotifications(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	writer, reader := openPostgres(t, pool), openPostgres(t, pool)
	awaitListeners(t, pool, 2)
	n := 0
	for name, append := range map[string]func(){
		"our append": func() {
			n++
			eventstoretest.Append(t, writer, eventstoretest.Entry("a", n))
		},
		"plain insert": func() {
			n++
			if err := insert(t.Context(), pool, "a", n); err != nil {
				t.Fatal(err)
			}
		},
	} {
		// The first can be mistaken: a log also wakes its readers when it has begun
		// to listen.
		announced(t, reader, append)
		best := time.Duration(1<<63 - 1)
		for range 5 {
			best = min(best, announced(t, reader, append))
		}
		if best > eventstore.PollInterval/4 {
			t.Errorf("%s was announced after %v", name, best)
		}
	}
}

// TestOwnAppends: a log tells its own process of an append also when no
// notification comes.
func TestOwnAppends(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	log := openPostgres(t, pool)
	awaitListeners(t, pool, 1)
	exec(t, pool, `ALTER TABLE reputation_events DISABLE TRIGGER reputation_events_in_order`)
	for n := range 5 { // the first can be mistaken, as above
		announced(t, log, func() { eventstoretest.Append(t, log, eventstoretest.Entry("a", n)) })
	}
}

func TestListenTerminated(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	writer, reader := openPostgres(t, pool), openPostgres(t, pool)
	awaitListeners(t, pool, 2)
	follower := eventstoretest.Follow(t, reader)
	for n := 1; n <= 20; n++ {
		if n%10 == 5 {
			exec(t, connect(t, pool), `SELECT pg_terminate_backend(pid)`+listeners)
		}
		eventstoretest.Append(t, writer, eventstoretest.Entry("a", n))
	}
	eventstoretest.InOrder(t, follower.Until(20))
	awaitListeners(t, pool, 2)
	announced(t, reader, func() { eventstoretest.Append(t, writer, eventstoretest.Entry("a", 21)) })
	announced(t, reader, func() { eventstoretest.Append(t, writer, eventstoretest.Entry("a", 22)) })
}
