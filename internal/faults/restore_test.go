package faults_test

import (
	"context"
	"crypto/sha256"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dixie/internal/pgtest"
)

// program returns the path of a program of PostgreSQL's, or ends the test, with words, on
// a machine that has it in Docker only.
func (w *world) program(name string) string {
	path, err := w.postgres.Program(name)
	if err != nil {
		w.t.Skipf("dumps are left out, and nothing else: %v", err)
	}
	return path
}

// run runs a program of PostgreSQL's.
func (w *world) run(name string, arguments ...string) {
	w.t.Helper()
	if out, err := exec.Command(w.program(name), arguments...).CombinedOutput(); err != nil {
		w.t.Fatalf("%s %s: %v\n%s", name, strings.Join(arguments, " "), err, out)
	}
}

// TestRestore moves a service to a new cluster with a dump that was made while it was
// at work. It goes on there from the moment of the dump.
func TestRestore(t *testing.T) {
	t.Parallel()
	old := newWorld(t, setup{servers: 2, seed: seedOf(t)})
	load := old.work(usual)
	time.Sleep(time.Second)
	least := old.head()
	dump := filepath.Join(t.TempDir(), "dump")
	old.run("pg_dump", "--format=custom", "--file="+dump, old.postgres.url(old.database))
	load.end()
	old.reconcile()

	moved := &world{t: t, seed: old.seed + 1, database: old.database, ledger: newLedger(), counts: newCounts()}
	moved.authors.Store(old.authors.Load())
	moved.postgres = startPostgres(t, pgtest.Options{})
	moved.postgres.createDatabase(t, moved.database)
	old.run("pg_restore", "--exit-on-error", "--dbname="+moved.postgres.url(moved.database), dump)
	restored := moved.takeOver(old)
	if restored < least {
		t.Errorf("the dump has %d events, of %d that were there when it began", restored, least)
	}
	moved.serve(2)
	after := moved.work(usual)
	time.Sleep(time.Second)
	after.end()
	moved.reconcile()
	if head := moved.head(); head <= restored {
		t.Errorf("the log has not grown beyond %d", restored)
	}
}

// head is the position of the log's last event.
func (w *world) head() int64 {
	return query[int64](w, `SELECT coalesce(max(position), 0) FROM reputation_events`)
}

// takeOver compares a restored log with the one that was dumped, which it must begin
// like, and takes what was told of it as told of its own. It returns its length.
func (w *world) takeOver(from *world) (length int64) {
	var original [][sha256.Size]byte
	from.eachRow(func(r row) { original = append(original, hashOf(r.nft, content(r.event))) })
	w.eachRow(func(r row) {
		length++
		if r.position != length || original[length-1] != hashOf(r.nft, content(r.event)) {
			w.errorf("the dump has another event at %d", r.position)
		}
		e := event{nft: r.nft, json: string(r.event)}
		w.ledger.note(from.ledger.find(r).garbage, []event{e})
		if err := w.ledger.stored(e, r.position); err != nil {
			w.errorf("%v", err)
		}
	})
	return length
}

// TestOlderLog restores an older dump of the log under projections that are newer,
// under the eyes of servers that are at work. They say what to do, write nothing, and go
// on when it is done.
func TestOlderLog(t *testing.T) {
	t.Parallel()
	for name, grown := range map[string]int{"shorter than what was folded": 0, "grown beyond what was folded": 500} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{servers: 2, seed: seedOf(t)})
			c := w.newClient(1)
			before := w.restoreOlderLog(c)
			w.awaitRefusal()
			w.appendMany(c, grown)
			w.awaitRefusal()
			if w.rows() != before {
				t.Error("the projections wrote although the log is another")
			}
			w.refusesToStart(w.servers[0])
			mustCLI(t, w.postgres.serviceURL(w.database, ""), "rebuild")
			w.restart(w.servers[0])
			w.freshAgain(c)
			load := w.work(usual)
			time.Sleep(500 * time.Millisecond)
			load.end()
			w.reconcile()
		})
	}
}

// restoreOlderLog takes the log back to an earlier time, and returns what the
// projections hold, which they folded before.
func (w *world) restoreOlderLog(c *client) (rows string) {
	dump := filepath.Join(w.t.TempDir(), "dump")
	w.run("pg_dump", "--format=custom", "--data-only", "--table=reputation_events", "--file="+dump, w.postgres.url(w.database))
	w.appendMany(c, 300)
	w.awaitProjections()
	w.postgres.exec(w.t, w.database, `SET session_replication_role = replica; TRUNCATE reputation_events`)
	w.run("pg_restore", "--exit-on-error", "--data-only", "--disable-triggers", "--dbname="+w.postgres.url(w.database), dump)
	w.forgetLog()
	return w.rows()
}

// appendMany appends events of all agents.
func (w *world) appendMany(c *client, n int) {
	for range n / 10 {
		first := c.author.event()
		events := []event{first}
		for range 9 {
			events = append(events, c.author.of(first.nft))
		}
		c.until(func(s *server) bool { return c.append(context.Background(), s, events...) })
	}
}

// forgetLog begins a new ledger with what is in the log: the rest was taken away on
// purpose.
func (w *world) forgetLog() {
	w.ledger = newLedger()
	w.eachRow(func(r row) {
		e := event{nft: r.nft, json: string(r.event)}
		w.ledger.send(e)
		_ = w.ledger.stored(e, r.position) // the first word on it
	})
}

// rows is a digest of all rows of the projections and their checkpoints.
func (w *world) rows() string {
	return query[string](w, `
		SELECT md5(concat(
			(SELECT string_agg(a::text, ';' ORDER BY nft_id) FROM reputation_aggregates AS a),
			(SELECT string_agg(c::text, ';' ORDER BY nft_id, model_id, task_type) FROM reputation_task_cohorts AS c),
			(SELECT string_agg(projection || position, ';' ORDER BY projection) FROM projection_checkpoints)))`)
}

// awaitRefusal waits until the status says what to do, and the health that something is
// to be done.
func (w *world) awaitRefusal() {
	w.t.Helper()
	c := w.newClient(2)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		status := mustCLI(w.t, w.postgres.serviceURL(w.database, ""), "status")
		health := string(w.health(c, w.servers[1]))
		if strings.Count(status, "needs rebuild") == 2 && strings.Contains(status, "dixie rebuild aggregates") &&
			strings.Contains(status, "dixie rebuild cohorts") && strings.Contains(health, "degraded") {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("nothing says what to do:\n%s\n%s", status, health)
		}
	}
}

// refusesToStart ends a server, and checks that it does not start again, and why.
func (w *world) refusesToStart(s *server) {
	w.t.Helper()
	s.Lock()
	defer s.Unlock()
	if err := s.stop(); err != nil {
		w.errorf("%v", err)
	}
	err := s.launch(context.Background())
	if err == nil || !strings.Contains(err.Error(), "refusing to start") || !strings.Contains(err.Error(), "dixie rebuild") {
		w.t.Errorf("it does not refuse to start and say what to do: %v", err)
	}
}

// freshAgain checks that reads that ask for a position get it, although the servers had
// come further in the log that was.
func (w *world) freshAgain(c *client) {
	w.t.Helper()
	for range 20 {
		e := c.author.event()
		w.ledger.send(e)
		var a answer
		c.until(func(s *server) bool {
			a = c.do(context.Background(), s, http.MethodPost, "/api/reputation/"+e.nft+"/events", "application/json", e.json)
			return a.ok()
		})
		c.note(a, []event{e})
		for _, s := range w.servers {
			c.readBack(s, e.nft, a.position)
		}
	}
}

// query reads one value as the superuser.
func query[T any](w *world, sql string) (value T) {
	conn := w.postgres.connect(w.t, w.database)
	defer closeConn(conn)
	rows, err := conn.Query(context.Background(), sql)
	if err == nil {
		value, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	}
	if err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return value
}
