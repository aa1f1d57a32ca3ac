package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// logLock is the lock that orders the log.
	logLock = `SELECT pg_advisory_xact_lock(1684633705, 1)`

	terminateService = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '` + serviceRole + `'`
	terminateOne     = terminateService + ` ORDER BY random() LIMIT 1`
)

// meanwhile calls do again and again, with pauses of up to most, until it is stopped.
func meanwhile(random *rand.Rand, most time.Duration, do func(ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	pauses := rand.New(rand.NewPCG(random.Uint64(), 0))
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			do(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(pauses.Int64N(int64(most)))):
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// killPostgres ends all processes of PostgreSQL with SIGKILL.
func killPostgres(w *world, _ *rand.Rand) (heal func()) {
	w.postgres.Lock()
	if err := w.postgres.Kill(); err != nil {
		w.errorf("kill PostgreSQL: %v", err)
	}
	return func() {
		defer w.postgres.Unlock()
		w.restartPostgres()
	}
}

// stopPostgres ends PostgreSQL in an orderly way, and so all sessions.
func stopPostgres(w *world, _ *rand.Rand) (heal func()) {
	w.postgres.Lock()
	w.restartPostgres()
	return w.postgres.Unlock
}

func (w *world) restartPostgres() {
	w.counts.restart()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.postgres.Restart(ctx); err != nil {
		w.errorf("restart PostgreSQL: %v", err)
	}
}

// terminate ends random sessions of the service.
func terminate(w *world, random *rand.Rand) (heal func()) {
	return meanwhile(random, 80*time.Millisecond, func(ctx context.Context) {
		_ = w.postgres.try(ctx, "postgres", terminateOne) // it may be away itself
	})
}

// terminateAtCommit ends sessions at the moment at which they commit: some before the
// server has the word, some after, some while it is at it.
func terminateAtCommit(w *world, random *rand.Rand) (heal func()) {
	admin := w.postgres.connect(w.t, "postgres")
	var one sync.Mutex // who uses the connection
	end := func(s *session, delay time.Duration) {
		one.Lock()
		defer one.Unlock()
		time.Sleep(delay)
		_, _ = admin.Exec(context.Background(), `SELECT pg_terminate_backend($1)`, s.pid.Load())
	}
	var ending sync.WaitGroup
	stop := w.atMoments(random, committing, func(n int, s *session) {
		if n%3 == 0 {
			end(s, 0)
			return
		}
		ending.Go(func() { end(s, time.Duration(n%5)*200*time.Microsecond) })
	})
	return func() {
		stop()
		ending.Wait()
		closeConn(admin)
	}
}

// cutAfterCommit breaks connections off when the server has committed and the client
// has not heard of it.
func cutAfterCommit(w *world, random *rand.Rand) (heal func()) {
	return w.atMoments(random, committed, func(_ int, s *session) { s.cut() })
}

// cutBeforeCommit breaks connections off before the server is told to commit.
func cutBeforeCommit(w *world, random *rand.Rand) (heal func()) {
	return w.atMoments(random, committing, func(_ int, s *session) { s.cut() })
}

// atMoments does something at one moment after the other on the way to PostgreSQL.
func (w *world) atMoments(random *rand.Rand, m moment, do func(n int, s *session)) (heal func()) {
	n := 0
	stop := meanwhile(random, 60*time.Millisecond, func(context.Context) {
		n++
		number := n
		w.relays[number%len(w.relays)].wire.once(m, func(s *session) { do(number, s) })
	})
	return func() {
		stop()
		for _, r := range w.relays {
			r.wire.disarm()
		}
	}
}

// breakOff breaks off all connections of a server to PostgreSQL, now and then.
func breakOff(w *world, random *rand.Rand) (heal func()) {
	relay := w.relays[random.IntN(len(w.relays))]
	return meanwhile(random, 300*time.Millisecond, func(context.Context) { relay.cutAll() })
}

// network treats the way of a server to PostgreSQL in a manner.
func network(m manner) func(*world, *rand.Rand) (heal func()) {
	return func(w *world, random *rand.Rand) (heal func()) {
		return w.relays[random.IntN(len(w.relays))].treat(m)
	}
}

// statementTimeout lets statements of the service take very little time, while
// somebody holds the log for more.
func statementTimeout(w *world, random *rand.Rand) (heal func()) {
	w.postgres.exec(w.t, "postgres", `ALTER ROLE `+serviceRole+` SET statement_timeout = '30ms'`, terminateService)
	stop := meanwhile(random, 200*time.Millisecond, func(ctx context.Context) {
		_ = w.postgres.try(ctx, w.database, `BEGIN`, logLock, `SELECT pg_sleep(0.1)`)
	})
	return func() {
		stop()
		w.postgres.exec(w.t, "postgres", `ALTER ROLE `+serviceRole+` RESET statement_timeout`, terminateService)
	}
}

// locks are what somebody else can hold.
var locks = []string{
	logLock,
	`LOCK TABLE reputation_events IN ACCESS EXCLUSIVE MODE`,
	`LOCK TABLE reputation_aggregates IN ACCESS EXCLUSIVE MODE`,
	`LOCK TABLE projection_checkpoints IN SHARE MODE`,
	`SELECT * FROM reputation_task_cohorts ORDER BY random() LIMIT 10 FOR UPDATE`,
}

// holdLock holds a lock that the service needs.
func holdLock(w *world, random *rand.Rand) (heal func()) {
	return w.transaction(w.database, locks[random.IntN(len(locks))])
}

// holdLog holds the lock that every append needs.
func holdLog(w *world, _ *rand.Rand) (heal func()) { return w.transaction(w.database, logLock) }

// transaction leaves a transaction open.
func (w *world) transaction(database string, statements ...string) (end func()) {
	conn := w.postgres.connect(w.t, database)
	if conn == nil {
		return func() {}
	}
	ctx, cancel := context.WithTimeout(context.Background(), sqlPatience)
	defer cancel()
	for _, statement := range append([]string{`BEGIN`}, statements...) {
		if _, err := conn.Exec(ctx, statement); err != nil {
			break // PostgreSQL is being broken otherwise
		}
	}
	return func() { closeConn(conn) }
}

// longTransactions leaves a transaction open that writes, in the service's database and
// in another, and one that is prepared to commit.
func longTransactions(w *world, random *rand.Rand) (heal func()) {
	name := fmt.Sprintf("other_%d", random.Uint32())
	drop := `DROP DATABASE IF EXISTS ` + name + ` WITH (FORCE)`
	w.postgres.exec(w.t, "postgres", drop, `CREATE DATABASE `+name)
	table := `CREATE TABLE other_` + name + ` AS SELECT 1 AS n`
	here, there := w.transaction(w.database, table), w.transaction(name, table)
	w.postgres.settle(w.t, name, prepared(name), `BEGIN; CREATE TABLE prepared AS SELECT 1 AS n; PREPARE TRANSACTION '`+name+`'`)
	return func() {
		here()
		there()
		w.postgres.settle(w.t, name, `SELECT NOT (`+prepared(name)+`)`, `ROLLBACK PREPARED '`+name+`'`)
		w.postgres.exec(w.t, "postgres", drop)
	}
}

func prepared(name string) string {
	return `SELECT EXISTS (SELECT FROM pg_prepared_xacts WHERE gid = '` + name + `')`
}

// takeConnections takes all connections that PostgreSQL has to give, and ends those of
// the service.
func takeConnections(w *world, _ *rand.Rand) (heal func()) {
	url := w.postgres.serviceURL(w.database, "")
	var taken []*pgx.Conn
	take := func() {
		for range maxConnections {
			conn, err := pgx.Connect(context.Background(), url)
			if err != nil {
				return
			}
			taken = append(taken, conn)
		}
	}
	take()
	_ = w.postgres.try(context.Background(), "postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE usename = '`+serviceRole+`' AND application_name = 'dixie'`)
	take()
	return func() {
		for _, conn := range taken {
			closeConn(conn)
		}
	}
}
