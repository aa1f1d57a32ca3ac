package projections_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/eventstore"
	"dixie/internal/pgtest"
	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

// process is what one of several processes has of a database.
type process struct {
	projectionstest.Backend
	rows *projections.Postgres
	pool *pgxpool.Pool
	far  int64 // events behind from which its projectors catch up; 0 is the default
}

// open is a process on a database of its own.
func open(t testing.TB, opts ...pgtest.PoolOption) process {
	t.Helper()
	pool := pgtest.Pool(t, opts...)
	backend, rows := openPostgres(t, pool)
	return process{backend, rows, pool, 0}
}

// catchingUp is a process on the same database whose projectors catch up when they
// are so many events behind; 0 is the default.
func (p process) catchingUp(t testing.TB, far int64) process {
	t.Helper()
	backend, rows := openProcess(t, p.pool, far)
	return process{backend, rows, p.pool, far}
}

// distances are how far behind a projector must be to catch up: such that most
// events are folded page by page, or nearly none.
var distances = map[string]int64{"following": 0, "catching up": 1}

// another is another process on the same database.
func (p process) another(t testing.TB) process {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), p.pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	backend, rows := openProcess(t, pool, p.far)
	return process{backend, rows, pool, p.far}
}

// checkTables waits for the projections and checks that the tables are what one
// pass over the log gives.
func (p process) checkTables(t testing.TB) {
	t.Helper()
	p.Settle(t)
	want := projectionstest.Fold(t, p.Log, reputation.DefaultParams())
	projectionstest.Same(t, want, readTables(t, p.pool))
	checkPositions(t, p.pool)
}

// load appends events, some of which cannot be folded, until stop is called.
func (p process) load(t testing.TB) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var appenders sync.WaitGroup
	var serial atomic.Int64
	for range 3 {
		appenders.Go(func() {
			for ctx.Err() == nil {
				var entries []reputation.Entry
				for range 1 + rand.IntN(8) {
					entries = append(entries, randomEntry(serial.Add(1)))
				}
				if _, err := p.Log.Append(ctx, entries...); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
			}
		})
	}
	stop = func() {
		cancel()
		appenders.Wait()
	}
	t.Cleanup(stop)
	return stop
}

func randomEntry(n int64) reputation.Entry {
	nft := "bear-" + string(rune('a'+rand.IntN(20)))
	event := projectionstest.Task(nft, "native", "analysis", rand.Float64())
	switch rand.IntN(40) {
	case 0:
		event = projectionstest.Reset(nft)
	case 1:
		event.Collection = "mead" // set aside, unless it is the first
	}
	return event.Entry(n)
}

// slowPages makes pages take long enough to be caught in the middle.
func slowPages(t testing.TB, p process) {
	t.Helper()
	exec(t, p.pool, `
		CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN NULL; END $$;
		CREATE TRIGGER slow AFTER INSERT ON reputation_aggregates FOR EACH STATEMENT EXECUTE FUNCTION slow();
		CREATE TRIGGER slow AFTER INSERT ON reputation_task_cohorts FOR EACH STATEMENT EXECUTE FUNCTION slow()`)
}

// projectors are the sessions that hold the lock of a projection.
const projectors = `
	SELECT a.pid, a.xact_start IS NOT NULL AS busy, a.wait_event_type = 'Lock' AS waits
	  FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
	 WHERE l.locktype = 'advisory' AND l.classid = 1684633706 AND a.datname = current_database()`

// TestTerminated: the connection of a projector is cut in the middle of pages,
// again and again, and each event is folded once.
func TestTerminated(t *testing.T) {
	t.Parallel()
	for name, far := range distances {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testTerminated(t, open(t).catchingUp(t, far))
		})
	}
}

func testTerminated(t *testing.T, p process) {
	slowPages(t, p)
	projectionstest.Run(t, p.Projectors(reputation.DefaultParams(), 20)...)
	stop := p.load(t)
	for kills := 0; kills < 8; {
		time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
		kills += query[int](t, p.pool, `SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))
			FROM (`+projectors+`) AS p WHERE busy`)
	}
	stop()
	p.checkTables(t)
	if head := p.Head(t); head < 100 {
		t.Errorf("only %d events were appended meanwhile", head)
	}
}

// TestTwoProcesses: one projects and the other stands by; under load they change
// places, and each event is folded once.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	for name, far := range distances {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testTwoProcesses(t, open(t).catchingUp(t, far))
		})
	}
}

func testTwoProcesses(t *testing.T, first process) {
	second := first.another(t)
	active, idle := first, second
	running := active.Projectors(reputation.DefaultParams(), 20)
	stop := projectionstest.Run(t, running...)
	projectionstest.AwaitState(t, projections.Running, running...)
	stopLoad := first.load(t)
	for range 3 {
		waiting := idle.Projectors(reputation.DefaultParams(), 20)
		stopNext := projectionstest.Run(t, waiting...)
		projectionstest.AwaitState(t, projections.Standby, waiting...)
		projectionstest.AwaitState(t, projections.Running, running...)
		stop()
		projectionstest.AwaitState(t, projections.Running, waiting...)
		active, idle, running, stop = idle, active, waiting, stopNext
	}
	stopLoad()
	first.checkTables(t)
	second.checkTables(t)
	projectionstest.Same(t, first.Rows(t), second.Rows(t))
}

// TestOneProjector: while two processes have projectors, there is never more than
// one session that is a projection's.
func TestOneProjector(t *testing.T) {
	t.Parallel()
	p := open(t)
	both := append(p.Projectors(reputation.DefaultParams(), 0), p.another(t).Projectors(reputation.DefaultParams(), 0)...)
	projectionstest.Run(t, both...)
	count := func(want projections.State) (n int) {
		for _, projector := range both {
			if state, _ := projector.State(); state == want {
				n++
			}
		}
		return n
	}
	projectionstest.Eventually(t, "two run and two stand by", func() bool {
		return count(projections.Running) == 2 && count(projections.Standby) == 2
	})
	if n := query[int](t, p.pool, `SELECT count(*) FROM (`+projectors+`) AS p`); n != 2 {
		t.Errorf("%d sessions hold locks, want 2", n)
	}
}

// TestPlainInsert: an event that another program writes by SQL is folded.
func TestPlainInsert(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.Project(t)
	p.Append(t, projectionstest.Signal("bear-1", 0.5))
	p.Settle(t)
	const insert = `INSERT INTO reputation_events (nft_id, event_type, event) VALUES ($1, $2, $3)`
	exec(t, p.pool, insert, "bear-1", "quality_signal", `{
		"type": "quality_signal", "score": 1.0, "timestamp": "2026-02-25T13:00:00.000Z", "agent_id": "a",
		"collection_id": "honey", "event_id": "0000000A-0000-4000-8000-000000000000", "task_type": "analysis"}`)
	exec(t, p.pool, insert, "bear-1", "quality_signal", `{"score": 2}`)
	p.checkTables(t)
	r := p.Reputation(t, "bear-1")
	if g := r.Agent.Aggregate; g.SampleCount != 2 || *g.PersonalScore != 0.746 || len(r.Cohorts) != 1 {
		t.Errorf("%+v, %+v", g, r.Cohorts)
	}
}

// TestFailingPage: a page that the database refuses half-way changes nothing, is
// shown, and is folded when the database takes it.
func TestFailingPage(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"reputation_aggregates", "reputation_collections", "reputation_task_cohorts", "projection_failures"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			testFailingPage(t, open(t), table)
		})
	}
}

func testFailingPage(t *testing.T, p process, table string) {
	both := p.Projectors(reputation.DefaultParams(), 0)
	projectionstest.Run(t, both...)
	p.AppendEntries(t,
		projectionstest.Task("bear-1", "native", "analysis", 0.5).Entry(1), projectionstest.Raw(t, "bear-2", `{}`),
		projectionstest.Task("bear-2", "native", "general", 0.5).Entry(3))
	p.checkTables(t)
	before := readTables(t, p.pool)
	exec(t, p.pool, `
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'sabotage'; END $$;
		CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON `+table+` FOR EACH STATEMENT EXECUTE FUNCTION refuse()`)
	p.AppendEntries(t,
		projectionstest.Task("bear-1", "native", "analysis", 1).Entry(4), projectionstest.Reset("bear-2").Entry(5),
		projectionstest.Raw(t, "bear-2", `[]`))

	refused := awaitRefused(t, p, both)
	after := readTables(t, p.pool)
	for _, name := range refused {
		keepOnly(&before, name)
		keepOnly(&after, name)
		if at := query[int64](t, p.pool, `SELECT position FROM projection_checkpoints WHERE projection = $1`, name); at != 3 {
			t.Errorf("the checkpoint of %s is at %d, want 3", name, at)
		}
	}
	projectionstest.Same(t, before, after)

	exec(t, p.pool, `DROP TRIGGER refuse ON `+table)
	p.checkTables(t)
	projectionstest.AwaitState(t, projections.Running, both...)
}

// awaitRefused waits until every projector has either folded the log or shows why
// it cannot, and returns the latter.
func awaitRefused(t *testing.T, p process, both []*projections.Projector) (refused []string) {
	t.Helper()
	head := p.Head(t)
	for _, projector := range both {
		projectionstest.Eventually(t, projector.Name()+" goes on or is refused", func() bool {
			state, err := projector.State()
			if state == projections.Retrying && err != nil && strings.Contains(err.Error(), "sabotage") {
				refused = append(refused, projector.Name())
				return true
			}
			at := query[int64](t, p.pool, `SELECT position FROM projection_checkpoints WHERE projection = $1`, projector.Name())
			return at == head
		})
	}
	if len(refused) == 0 {
		t.Error("no projection was refused")
	}
	return refused
}

// keepOnly removes the rows of other projections.
func keepOnly(rows *projectionstest.Rows, name string) {
	switch name {
	case projections.Aggregates:
		rows.Cohorts = nil
		delete(rows.Failures, projections.Cohorts)
	case projections.Cohorts:
		rows.Agents, rows.Aggregates, rows.Collections = nil, nil, nil
		delete(rows.Failures, projections.Aggregates)
	}
}

// TestGap: a log that misses an event is folded up to there, and no further.
func TestGap(t *testing.T) {
	t.Parallel()
	for name, far := range distances {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testGap(t, open(t).catchingUp(t, far))
		})
	}
}

func testGap(t *testing.T, p process) {
	for range 5 {
		p.Append(t, projectionstest.Task("bear-1", "native", "analysis", 0.5))
	}
	exec(t, p.pool, `
		ALTER TABLE reputation_events DISABLE TRIGGER ALL;
		DELETE FROM reputation_events WHERE position = 3`)
	both := p.Projectors(reputation.DefaultParams(), 1)
	projectionstest.Run(t, both...)
	for _, projector := range both {
		projectionstest.Eventually(t, "the gap is found", func() bool {
			state, err := projector.State()
			return state == projections.Retrying && errors.Is(err, eventstore.ErrGap)
		})
	}
	p.Await(t, 2, projections.Names...)
	if r := p.Reputation(t, "bear-1"); r.Position != 2 || r.Agent.Aggregate.SampleCount != 2 || r.Cohorts[0].SampleCount != 2 {
		t.Errorf("%+v", r)
	}
}
