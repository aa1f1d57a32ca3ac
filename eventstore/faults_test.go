package eventstore_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/eventstore/eventstoretest"
	"dixie/internal/pgtest"
	"dixie/reputation"
)

// A cut breaks the first connection over which a text travels to the server. It
// sits where a proxy between the two would, inside of TLS if there is any.
type cut struct {
	text []byte
	// sent is what part of the bytes still reaches the server.
	sent func([]byte) []byte
	// await returns when the connection is to break, after what was sent.
	await func()
	made  atomic.Bool
}

// option has a pool's connections cut.
func (c *cut) option(config *pgxpool.Config) {
	config.ConnConfig.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
		return &cutConn{Conn: conn, cut: c}, nil
	}
}

type cutConn struct {
	net.Conn
	cut    *cut
	silent atomic.Bool // nothing comes back any more
}

// Read delivers nothing that comes after the cut has begun. The driver reads while a
// write takes long, which ours does when the commit that it waits for is slow.
func (c *cutConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.silent.Load() {
			return n, err
		}
	}
}

func (c *cutConn) Write(p []byte) (int, error) {
	if !bytes.Contains(p, c.cut.text) || c.cut.made.Swap(true) {
		return c.Conn.Write(p)
	}
	c.silent.Store(true)
	if _, err := c.Conn.Write(c.cut.sent(p)); err != nil {
		return 0, err
	}
	c.cut.await()
	// Nor does the client hear, before it reads, that there is no answer.
	return len(p), c.Conn.Close()
}

// TestLostReply cuts the connection at each side of the commit. The caller cannot
// tell them apart, and need not: it appends again.
func TestLostReply(t *testing.T) {
	t.Parallel()
	const (
		committed = `SELECT count(*) = 3 FROM reputation_events`
		// The server has done all that it was told, and waits for the end of the batch.
		inserted = `SELECT count(*) > 0 FROM pg_locks JOIN pg_stat_activity USING (pid)
			WHERE locktype = 'advisory' AND granted AND datname = current_database() AND wait_event = 'ClientRead'`
	)
	for name, test := range map[string]struct {
		sent  func([]byte) []byte
		await string // what another connection sees before the connection breaks
		retry reputation.Outcome
	}{
		"after the commit":               {sent: all, await: committed, retry: reputation.Duplicate},
		"before the commit":              {sent: withoutSync, await: inserted, retry: reputation.Added},
		"before the server has all":      {sent: half, await: `SELECT true`, retry: reputation.Added},
		"before the server has anything": {sent: none, await: `SELECT true`, retry: reputation.Added},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			breaking := &cut{text: []byte(eventstoretest.Event(2).ID), sent: test.sent}
			pool := pgtest.Pool(t, breaking.option)
			witness := connect(t, pool)
			breaking.await = func() {
				if !poll(func() bool {
					var seen bool
					return witness.QueryRow(t.Context(), test.await).Scan(&seen) == nil && seen
				}) {
					t.Errorf("waited in vain: %s", test.await)
				}
			}
			log := openPostgres(t, pool)
			entries := eventstoretest.Entries("a", 1, 3)
			results, err := log.Append(t.Context(), entries...)
			if !errors.Is(err, reputation.ErrUnavailable) || !breaking.made.Load() {
				t.Fatalf("%v, error %v, want ErrUnavailable", results, err)
			}
			eventstoretest.Want(t, log, entries,
				reputation.Appended{Status: test.retry, Position: 1},
				reputation.Appended{Status: test.retry, Position: 2},
				reputation.Appended{Status: test.retry, Position: 3})
			audit(t, pool)
		})
	}
}

func all(p []byte) []byte  { return p }
func half(p []byte) []byte { return p[:len(p)/2] }
func none([]byte) []byte   { return nil }

// withoutSync leaves the message out that ends a batch, and commits it.
func withoutSync(p []byte) []byte {
	rest, found := bytes.CutSuffix(p, []byte{'S', 0, 0, 0, 4})
	if !found {
		panic("the batch does not end where this test expects it to")
	}
	return rest
}

// untilStored appends until it succeeds, as callers are told to, and returns how
// often it failed.
func untilStored(t testing.TB, log reputation.Log, entries ...reputation.Entry) (failures int64) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		_, err := log.Append(t.Context(), entries...)
		if err == nil {
			return failures
		}
		if !errors.Is(err, reputation.ErrUnavailable) {
			t.Errorf("error %v, want ErrUnavailable", err)
			return failures
		}
		failures++
	}
	t.Error("appending again never succeeded")
	return failures
}

// TestTerminated ends all our connections again and again while callers append
// events, of their own and shared ones.
func TestTerminated(t *testing.T) {
	t.Parallel()
	const callers, rounds, shared = 16, 10, 100
	pool := pgtest.Pool(t)
	log := openPostgres(t, pool)
	follower := eventstoretest.Follow(t, log)
	admin := connect(t, pool)
	var ending atomic.Bool
	var failures atomic.Int64
	stored := make([][]int, callers)
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for n := 0; !ending.Load() && !t.Failed(); n++ {
				ns := []int{shared + n*callers + c, n % shared}
				failures.Add(untilStored(t, log, eventstoretest.Entry("a", ns[0]), eventstoretest.Entry("a", ns[1])))
				stored[c] = append(stored[c], ns...)
			}
		})
	}
	for range rounds {
		time.Sleep(20 * time.Millisecond)
		exec(t, admin, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	}
	ending.Store(true)
	all.Wait()
	if failures.Load() == 0 {
		t.Error("no append noticed")
	}
	pool.Reset() // connections whose end nobody noticed
	events := eventstoretest.All(t, log)
	want := slices.Concat(stored...)
	slices.Sort(want)
	if diff := cmp.Diff(slices.Compact(want), numbersOf(t, events)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(events, follower.Until(int64(len(events)))); diff != "" {
		t.Errorf("the follower saw another log (-log +follower):\n%s", diff)
	}
}

// TestLockHeld: a program that holds the log for long makes appends fail in
// bounded time, and no longer than it holds it. Readers do not mind.
func TestLockHeld(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	log := openPostgres(t, pool)
	eventstoretest.Append(t, log, eventstoretest.Entry("a", 0))
	release := holdLog(t, pool)
	began := time.Now()
	appends := []*pending{
		start(t.Context(), log, eventstoretest.Entry("a", 1)),
		stall(t, pool, log, eventstoretest.Entry("a", 2)),
	}
	if events := eventstoretest.All(t, log); len(events) != 1 {
		t.Errorf("%d events", len(events))
	}
	if results, err := appends[0].wait(t); !errors.Is(err, reputation.ErrUnavailable) {
		t.Errorf("%v, error %v, want ErrUnavailable", results, err)
	}
	if waited := time.Since(began); waited > 45*time.Second {
		t.Errorf("the append failed after %v", waited)
	}
	release()
	_, _ = appends[1].wait(t) // fails too, or waited for its turn and got it
	untilStored(t, log, eventstoretest.Entry("a", 1), eventstoretest.Entry("a", 2))
	if diff := cmp.Diff([]int{0, 1, 2}, numbersOf(t, eventstoretest.All(t, log))); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
