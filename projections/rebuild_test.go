package projections_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/eventstore"
	"dixie/internal/logtext"
	"dixie/internal/pgtest"
	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

func rebuildConfig(t testing.TB, names ...string) projections.RebuildConfig {
	return projections.RebuildConfig{
		Projections: names, Params: reputation.DefaultParams(), Holder: "the test", Logger: testLogger(t),
	}
}

func (p process) rebuild(t testing.TB, names ...string) []projections.Rebuilt {
	t.Helper()
	done, err := p.rows.Rebuild(t.Context(), rebuildConfig(t, names...))
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// dump is all rows of the projections, each column but those that tell when a row
// was written, byte by byte.
func dump(t testing.TB, pool *pgxpool.Pool) []string {
	t.Helper()
	return table1(t, pool, `
		SELECT concat_ws(' ', 'aggregates', nft_id, state, aggregate, folded, position) FROM reputation_aggregates
		UNION ALL
		SELECT concat_ws(' ', 'collections', collection_id, sum, squares, scores, members) FROM reputation_collections
		UNION ALL
		SELECT concat_ws(' ', 'cohorts', nft_id, model_id, task_type, cohort, score, samples, observed_at, position) FROM reputation_task_cohorts
		UNION ALL
		SELECT concat_ws(' ', 'members', nft_id, collection_id) FROM reputation_cohort_members
		UNION ALL
		SELECT concat_ws(' ', 'failures', projection, position, nft_id, reason, detail) FROM projection_failures
		UNION ALL
		SELECT concat_ws(' ', 'checkpoints', projection, version, position, event_created_at) FROM projection_checkpoints
		 ORDER BY 1`)
}

// table1 is a table of one column.
func table1(t testing.TB, pool *pgxpool.Pool, sql string) []string {
	t.Helper()
	var values []string
	for _, row := range table[struct{ Value string }](t, pool, sql) {
		values = append(values, row.Value)
	}
	return values
}

func sameRows(t testing.TB, want, got []string) {
	t.Helper()
	for _, row := range want {
		if !slices.Contains(got, row) {
			t.Errorf("missing: %s", row)
		}
	}
	for _, row := range got {
		if !slices.Contains(want, row) {
			t.Errorf("unexpected: %s", row)
		}
	}
	if len(want) != len(got) {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
}

// noTraces checks that nothing is left beside the live tables.
func (p process) noTraces(t testing.TB) {
	t.Helper()
	if left := table1(t, p.pool, `SELECT relname::text FROM pg_class WHERE relname LIKE '%rebuild_%' OR relname LIKE '%\_rebuild' ORDER BY 1`); len(left) > 0 {
		left = slices.DeleteFunc(left, func(name string) bool { return strings.HasPrefix(name, "projection_rebuilds") })
		if len(left) > 0 {
			t.Errorf("a rebuild has left %v", left)
		}
	}
}

func (p process) lastRebuild(t testing.TB, name string) projections.Rebuilding {
	t.Helper()
	all, err := p.rows.LastRebuilds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		if one.Projection == name {
			return one
		}
	}
	return projections.Rebuilding{}
}

// clean checks that the stored rows are those of the log.
func (p process) clean(t *testing.T) {
	t.Helper()
	if _, found := p.verify(t, projections.VerifyConfig{}); len(found) > 0 {
		t.Errorf("differences: %v", found)
	}
}

// TestRebuildGivesTheSame: the rows of a rebuild are those that projectors have
// written, to the byte, for histories of all events with resets, garbage and events
// that were set aside, whichever projections are rebuilt. What other programs have
// put is gone.
func TestRebuildGivesTheSame(t *testing.T) {
	t.Parallel()
	seed := int(time.Now().UnixNano())
	for i, names := range [][]string{nil, {projections.Aggregates}, {projections.Cohorts}, projections.Names} {
		t.Run(fmt.Sprint("seed ", seed+i, names), func(t *testing.T) {
			t.Parallel()
			p := open(t)
			play(t, p.Backend, histories.Example(seed+i))
			want := dump(t, p.pool)
			exec(t, p.pool, `UPDATE reputation_aggregates SET aggregate = '{}', folded = '{}', position = 1 WHERE $1 <> 'cohorts'`, append(names, "")[0])
			exec(t, p.pool, `UPDATE reputation_task_cohorts SET cohort = '{}', samples = 99 WHERE $1 <> 'aggregates'`, append(names, "")[0])
			exec(t, p.pool, `DELETE FROM projection_failures WHERE projection = $1 AND position % 2 = 0`, append(names, projections.Cohorts)[0])
			if len(names) != 1 {
				exec(t, p.pool, `INSERT INTO reputation_aggregates (nft_id, aggregate) VALUES ('from outside', '{}')`)
				exec(t, p.pool, `INSERT INTO reputation_task_cohorts (nft_id, model_id, task_type, cohort) VALUES ('from outside', 'm', 'general', '{}')`)
				exec(t, p.pool, `INSERT INTO projection_failures (projection, position, nft_id, reason, detail) VALUES ('aggregates', 100000, 'x', 'y', 'z')`)
			}
			done := p.rebuild(t, names...)
			sameRows(t, want, dump(t, p.pool))
			p.noTraces(t)
			p.clean(t)
			for _, one := range done {
				checkRebuilt(t, p, one)
			}
		})
	}
}

func checkRebuilt(t *testing.T, p process, one projections.Rebuilt) {
	t.Helper()
	table := map[string]string{projections.Aggregates: "reputation_aggregates", projections.Cohorts: "reputation_cohort_members"}[one.Projection]
	want := projections.Rebuilt{
		Projection: one.Projection, Position: p.Head(t), NFTs: query[int64](t, p.pool, `SELECT count(*) FROM `+table),
		SetAside: query[int64](t, p.pool, `SELECT count(*) FROM projection_failures WHERE projection = $1`, one.Projection),
	}
	if want.Locked = one.Locked; one != want || one.Locked <= 0 || one.Locked > time.Minute {
		t.Errorf("rebuilt %+v, want %+v", one, want)
	}
	last := p.lastRebuild(t, one.Projection)
	if last.State != reputation.RebuildDone || last.Position != want.Position || last.Head != want.Position || last.NFTs != want.NFTs ||
		last.SetAside != want.SetAside || last.Holder != "the test" || last.Failure != "" || last.WaitsFor != "" ||
		last.Version != reputation.DefaultParams().Version() || last.UpdatedAt.Before(last.StartedAt) {
		t.Errorf("the note of the rebuild is %+v", last)
	}
}

// TestRebuildRests: as a server rebuilds, on one processor and with rests, the rows are
// the same and it takes longer than the work.
func TestRebuildRests(t *testing.T) {
	t.Parallel()
	p := open(t)
	play(t, p.Backend, histories.Example(1))
	want := dump(t, p.pool)
	took := func(rest float64) time.Duration {
		config := rebuildConfig(t)
		config.Processors, config.Rest = 1, rest
		start := time.Now()
		if _, err := p.rows.Rebuild(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		sameRows(t, want, dump(t, p.pool))
		return time.Since(start)
	}
	// A rest is at most 100 ms; there are at least two of decoding and folding, and one
	// before the last piece of each of the four tables.
	least := took(0)
	if long := took(1e9); long < 600*time.Millisecond || long < least {
		t.Errorf("with long rests a rebuild took %v, without any %v", long, least)
	}
}

// TestRebuildOfNothing: a database without events, or without any projector so far.
func TestRebuildOfNothing(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.rebuild(t)
	p.clean(t)
	p.AppendEntries(t, projectionstest.Raw(t, "bear-1", `{}`))
	p.rebuild(t)
	p.Append(t, projectionstest.Task("bear-1", "native", "analysis", 0.5))
	p.rebuild(t)
	p.clean(t)
	p.Project(t)
	p.Append(t, projectionstest.Task("bear-1", "native", "analysis", 0.5))
	p.checkTables(t)
	if _, err := p.rows.Rebuild(t.Context(), rebuildConfig(t, "unknown")); err == nil || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("error %v", err)
	}
}

// TestRebuildManyFailures: more events are set aside than are kept in memory.
func TestRebuildManyFailures(t *testing.T) {
	t.Parallel()
	p := open(t)
	var entries []reputation.Entry
	for i := range int64(5_000) {
		entries = append(entries, projectionstest.Raw(t, fmt.Sprint("bear-", i%7), `{"x":1}`), projectionstest.Signal("bear-1", 0.5).Entry(i+1))
	}
	for part := range slices.Chunk(entries, 1000) {
		p.AppendEntries(t, part...)
	}
	stop := p.Project(t)
	p.Settle(t)
	stop()
	want := dump(t, p.pool)
	exec(t, p.pool, `DELETE FROM projection_failures WHERE position % 3 = 0`)
	exec(t, p.pool, `UPDATE projection_failures SET position = position + 1 WHERE position = 5`)
	if done := p.rebuild(t); done[0].SetAside != 5_000 {
		t.Errorf("%+v", done)
	}
	sameRows(t, want, dump(t, p.pool))
	before := query[string](t, p.pool, `SELECT max(failed_at)::text FROM projection_failures`)
	p.rebuild(t)
	if after := query[string](t, p.pool, `SELECT max(failed_at)::text FROM projection_failures`); after != before {
		t.Error("failures that were there were written again")
	}
}

// reads read NFTs while tables are exchanged, and check that no answer goes back.
func reads(t testing.TB, p process) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for n := range 3 {
		readers.Go(func() {
			nft := fmt.Sprintf("bear-%c", 'a'+n)
			var position, scored int64
			scores := map[int64]float64{}
			for ctx.Err() == nil {
				r, err := p.Reader.Reputation(ctx, nft)
				if ctx.Err() != nil {
					return
				}
				if err != nil || r.Position < position {
					t.Errorf("%s: position %d after %d, error %v", nft, r.Position, position, err)
					return
				}
				position = r.Position
				score, err := p.Reader.Score(ctx, nft)
				if ctx.Err() != nil {
					return
				}
				if err == nil && score.Value == nil && scored == 0 {
					continue // it has had no event yet
				}
				at := score.Position
				if err != nil || score.Value == nil || at < scored {
					t.Errorf("%s: score %v at %d after %d, error %v", nft, score.Value, at, scored, err)
					return
				}
				if had, again := scores[at]; again && had != *score.Value {
					t.Errorf("%s has the score %v at %d, and had %v", nft, *score.Value, at, had)
				}
				scores[at], scored = *score.Value, at
				if _, at, err := p.Reader.List(ctx, "", "", 5); (err != nil || at < position) && ctx.Err() == nil {
					t.Errorf("list at %d after %d, error %v", at, position, err)
				}
			}
		})
	}
	stop = func() {
		cancel()
		readers.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// TestRebuildBesideTraffic: appends, projectors of two processes and reads go on
// while projections are rebuilt, and the rows are right afterwards.
func TestRebuildBesideTraffic(t *testing.T) {
	t.Parallel()
	for name, far := range distances {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := open(t, pgtest.MaxConns(20)).catchingUp(t, far)
			second := first.another(t)
			projectionstest.Run(t, first.Projectors(reputation.DefaultParams(), 20)...)
			projectionstest.Run(t, second.Projectors(reputation.DefaultParams(), 20)...)
			stopLoad := first.load(t)
			first.Await(t, 100, projections.Names...)
			stopReads := reads(t, second)
			for _, names := range [][]string{nil, {projections.Aggregates}, {projections.Cohorts}, nil, nil} {
				before := first.Head(t)
				for _, one := range second.rebuild(t, names...) {
					if one.Position < before {
						t.Errorf("rebuilt at %d, the log was at %d", one.Position, before)
					}
				}
				first.Await(t, first.Head(t), projections.Names...) // the projectors go on
			}
			stopReads()
			stopLoad()
			first.checkTables(t)
			first.clean(t)
			first.noTraces(t)
		})
	}
}

// TestRebuildTogether: rebuilds of different projections do not know each other.
func TestRebuildTogether(t *testing.T) {
	t.Parallel()
	p := verified(t)
	want := dump(t, p.pool)
	var both sync.WaitGroup
	for _, name := range projections.Names {
		both.Go(func() {
			if _, err := p.rows.Rebuild(t.Context(), rebuildConfig(t, name)); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	sameRows(t, want, dump(t, p.pool))
}

// TestRebuildTwice: the second rebuild of a projection is told who runs the first,
// since when, and how far it is.
func TestRebuildTwice(t *testing.T) {
	t.Parallel()
	p := verified(t)
	began := time.Now()
	reached, goOn := make(chan struct{}), make(chan struct{})
	config := rebuildConfig(t, projections.Cohorts).WithHook(func(stage string) error {
		if stage == "loading" {
			close(reached)
			<-goOn
		}
		return nil
	})
	first := make(chan error)
	go func() {
		_, err := p.rows.Rebuild(t.Context(), config)
		first <- err
	}()
	<-reached
	for _, names := range [][]string{nil, {projections.Cohorts}} {
		_, err := p.another(t).rows.Rebuild(t.Context(), rebuildConfig(t, names...))
		var running *projections.RebuildingError
		if !errors.As(err, &running) {
			t.Fatalf("error %v, want a RebuildingError", err)
		}
		if running.Projection != projections.Cohorts || running.Holder != "the test" || running.StartedAt.Before(began.Add(-time.Minute)) ||
			running.StartedAt.After(time.Now().Add(time.Minute)) || running.Position != 400 || running.Head != 400 ||
			running.Stage != reputation.StageLoading || running.State != reputation.RebuildRunning {
			t.Errorf("%+v", running)
		}
		for _, part := range []string{"the test", running.StartedAt.UTC().Format(time.RFC3339), "400 of 400"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not tell %q", err, part)
			}
		}
	}
	if all, err := p.rows.Rebuilds(t.Context()); err != nil || len(all) != 1 || all[0].Projection != projections.Cohorts {
		t.Errorf("running %+v, error %v", all, err)
	}
	p.rebuild(t, projections.Aggregates) // nobody does
	close(goOn)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if all, err := p.rows.Rebuilds(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("running %+v, error %v", all, err)
	}
	p.rebuild(t, projections.Cohorts)
}

// failures are how a rebuild can end at a stage: by an error, by the end of its
// context, or with its connections.
var failures = map[string]func(t testing.TB, p process, cancel func()) error{
	"error":   func(testing.TB, process, func()) error { return errors.New("sabotage") },
	"cancel":  func(_ testing.TB, _ process, cancel func()) error { cancel(); return nil },
	"session": func(t testing.TB, p process, _ func()) error { p.endRebuilds(t); return nil },
}

// endRebuilds ends the sessions of rebuilds.
func (p process) endRebuilds(t testing.TB) {
	t.Helper()
	const ended = `SELECT count(pg_terminate_backend(l.pid)) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
		WHERE l.locktype = 'advisory' AND l.classid = 1684633707 AND a.datname = current_database()`
	if query[int](t, p.pool, ended) == 0 {
		t.Error("no session of a rebuild was found")
	}
}

// TestRebuildFails: wherever a rebuild fails, the live rows stay what they were,
// nothing is left beside them, and the next rebuild succeeds.
func TestRebuildFails(t *testing.T) {
	t.Parallel()
	for kind, fail := range failures {
		for _, stage := range projections.RebuildHooks {
			t.Run(kind+" at "+stage, func(t *testing.T) {
				t.Parallel()
				p := verified(t)
				exec(t, p.pool, `UPDATE reputation_aggregates SET state = 'x'`)
				exec(t, p.pool, `UPDATE reputation_task_cohorts SET samples = 99`)
				want := dump(t, p.pool)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				failed := false
				_, err := p.rows.Rebuild(ctx, rebuildConfig(t).WithHook(func(at string) error {
					if at != stage || failed {
						return nil
					}
					failed = true
					return fail(t, p, cancel)
				}))
				// After the swap only the commit is left, which is not given up.
				if kind == "cancel" && stage == "swapped" {
					if err != nil {
						t.Errorf("error %v", err)
					}
					p.clean(t)
					return
				}
				if err == nil || !failed {
					t.Fatalf("error %v, came to the stage: %v", err, failed)
				}
				sameRows(t, want, dump(t, p.pool))
				p.noTraces(t)
				for _, name := range projections.Names {
					if last := p.lastRebuild(t, name); last.State != reputation.RebuildFailed || last.Failure == "" {
						t.Errorf("the note of the rebuild is %+v", last)
					}
				}
				p.rebuild(t)
				p.clean(t)
				p.noTraces(t)
			})
		}
	}
}

// TestRebuildAfterKilled: tables that a killed process has left are removed by the
// next rebuild, and it is told that the last one did not end.
func TestRebuildAfterKilled(t *testing.T) {
	t.Parallel()
	p := verified(t)
	for _, name := range []string{
		"reputation_aggregates_rebuild", "reputation_collections_rebuild", "reputation_task_cohorts_rebuild",
		"reputation_cohort_members_rebuild", "projection_failures_rebuild_aggregates", "projection_failures_rebuild_cohorts",
	} {
		exec(t, p.pool, `CREATE TABLE `+name+` (x int)`)
	}
	exec(t, p.pool, `
		INSERT INTO projection_rebuilds (projection, version, holder, pid, stage, position)
		VALUES ('aggregates', 'x', 'another host', 1, 'loading', 7)`)
	if last := p.lastRebuild(t, projections.Aggregates); last.State != reputation.RebuildInterrupted || last.Holder != "another host" {
		t.Errorf("the note of the rebuild is %+v", last)
	}
	p.rebuild(t)
	p.noTraces(t)
	p.clean(t)
}

// TestRebuildWaitsForLoading: a session that loads tables may outlive the one that
// held the lock, and the next rebuild begins when it has ended.
func TestRebuildWaitsForLoading(t *testing.T) {
	t.Parallel()
	p := verified(t)
	tx, err := p.another(t).pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(1684633708, hashtext('cohorts'))`); err != nil {
		t.Fatal(err)
	}
	var began atomic.Bool
	done := make(chan error, 1)
	go func() {
		_, err := p.rows.Rebuild(t.Context(), rebuildConfig(t).WithHook(func(string) error { began.Store(true); return nil }))
		done <- err
	}()
	const waiting = `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND classid = 1684633708
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	for query[int](t, p.pool, waiting) == 0 {
		select {
		case err := <-done:
			t.Fatalf("it did not wait, error %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	if began.Load() {
		t.Error("it began beside a session that loads")
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	p.clean(t)
	p.noTraces(t)
}

// TestRebuildGap: a log that misses an event is not folded beyond it.
func TestRebuildGap(t *testing.T) {
	t.Parallel()
	for name, missing := range map[string]string{"within": "200", "at the end": "399", "at the beginning": "1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := verified(t)
			want := dump(t, p.pool)
			exec(t, p.pool, `ALTER TABLE reputation_events DISABLE TRIGGER ALL`)
			exec(t, p.pool, `DELETE FROM reputation_events WHERE position = `+missing)
			_, err := p.rows.Rebuild(t.Context(), rebuildConfig(t))
			if !errors.Is(err, eventstore.ErrGap) || !strings.Contains(err.Error(), missing) {
				t.Errorf("error %v, want %v at %s", err, eventstore.ErrGap, missing)
			}
			sameRows(t, want, dump(t, p.pool))
			if last := p.lastRebuild(t, projections.Aggregates); !strings.Contains(last.Failure, missing) {
				t.Errorf("the note of the rebuild is %+v", last)
			}
		})
	}
}

// TestRebuildToAnotherVersion: after it the projectors of the new version go on,
// without a restart, and those of the old one stop.
func TestRebuildToAnotherVersion(t *testing.T) {
	t.Parallel()
	p := verified(t)
	older := p.Projectors(reputation.DefaultParams(), 0)
	projectionstest.Run(t, older...)
	projectionstest.AwaitState(t, projections.Running, older...)
	newer := p.another(t).Projectors(reputation.DixieParams(), 0)
	projectionstest.Run(t, newer...)
	projectionstest.AwaitState(t, projections.Standby, newer...)

	config := rebuildConfig(t)
	config.Params = reputation.DixieParams()
	if _, err := p.rows.Rebuild(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	head := p.Head(t)
	p.AppendEntries(t, projectionstest.Task("bear-a", "native", "analysis", 1).Entry(1001))
	projectionstest.AwaitState(t, projections.Running, newer...)
	for _, projector := range older {
		if state, _ := projector.State(); state == projections.Running {
			t.Errorf("the older projector of %s runs", projector.Name())
		}
	}
	p.Await(t, head+1, projections.Names...)
	want := projectionstest.Fold(t, p.Log, reputation.DixieParams())
	projectionstest.Same(t, want, readTables(t, p.pool))
	checkPositions(t, p.pool)
	if err := p.rows.Check(t.Context(), reputation.DixieParams()); err != nil {
		t.Error(err)
	}
}

// TestRebuildEndsTerms: a projector that runs forgets what it knew of the rows that
// were replaced, although it stands where they do.
func TestRebuildEndsTerms(t *testing.T) {
	t.Parallel()
	p := verified(t)
	exec(t, p.pool, `UPDATE reputation_aggregates SET folded = jsonb_set(folded::jsonb, '{aggregate,sample_count}', '1000')::json`)
	exec(t, p.pool, `UPDATE reputation_cohort_members SET collection_id = 'x'`)
	var logged logtext.Log
	both := p.rows.NewProjectors(projections.Config{
		Log: p.Log, Params: reputation.DefaultParams(), Logger: slog.New(slog.NewTextHandler(&logged, nil)),
	})
	projectionstest.Run(t, both...)
	for i := range int64(20) {
		p.AppendEntries(t, projectionstest.Task(fmt.Sprintf("bear-%c", 'a'+i), "native", "general", 0.5).Entry(1001+i))
	}
	p.Settle(t)
	p.rebuild(t)
	for i := range int64(20) {
		p.AppendEntries(t, projectionstest.Task(fmt.Sprintf("bear-%c", 'a'+i), "native", "general", 0.5).Entry(2001+i))
	}
	p.checkTables(t)
	p.clean(t)
	if text := logged.String(); strings.Contains(text, "level=ERROR") || !strings.Contains(text, "the rows were rebuilt, going on") {
		t.Errorf("a rebuild is no error:\n%s", text)
	}
}

// TestRebuildRepairsAnotherLog: projections that contain events which the log does
// not have are folded again from those that it has.
func TestRebuildRepairsAnotherLog(t *testing.T) {
	t.Parallel()
	p := verified(t)
	exec(t, p.pool, `ALTER TABLE reputation_events DISABLE TRIGGER ALL`)
	exec(t, p.pool, `DELETE FROM reputation_events WHERE position > 350`)
	exec(t, p.pool, `ALTER TABLE reputation_events ENABLE TRIGGER ALL`)
	both := p.Projectors(reputation.DefaultParams(), 0)
	projectionstest.Run(t, both...)
	projectionstest.AwaitState(t, projections.NeedsRebuild, both...)
	checkRefused(t, p)

	p.rebuild(t)
	projectionstest.AwaitState(t, projections.Running, both...)
	p.AppendEntries(t, projectionstest.Signal("bear-a", 0.5).Entry(1001))
	p.checkTables(t)
	p.clean(t)
}

func checkRefused(t *testing.T, p process) {
	t.Helper()
	var ahead *projections.AheadError
	if err := p.rows.Check(t.Context(), reputation.DefaultParams()); !errors.As(err, &ahead) {
		t.Errorf("error %v, want an AheadError", err)
	}
}

// TestRebuildWaitsForReaders: somebody holds a table. The rebuild waits, tells for
// whom, makes nobody else wait behind it, and ends when the table is free.
func TestRebuildWaitsForReaders(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"reputation_aggregates", "reputation_cohort_members"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			p := verified(t)
			reader, err := p.pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Rollback(context.WithoutCancel(t.Context()))
			exec(t, reader, `SET LOCAL application_name = 'a slow reader'`)
			exec(t, reader, `SELECT FROM `+table)
			done := make(chan error)
			go func() {
				_, err := p.rows.Rebuild(t.Context(), rebuildConfig(t))
				done <- err
			}()
			projectionstest.Eventually(t, "the rebuild tells for whom it waits", func() bool {
				last := p.lastRebuild(t, projections.Aggregates)
				return last.State == reputation.RebuildRunning && last.Stage == reputation.StageSwapping && strings.Contains(last.WaitsFor, "a slow reader")
			})
			// From now on it does not even try.
			var longest time.Duration
			for range 300 {
				start := time.Now()
				p.Reputation(t, "bear-a")
				longest = max(longest, time.Since(start))
			}
			if n := query[int](t, p.pool, `SELECT count(*) FROM pg_locks WHERE NOT granted`); n > 0 {
				t.Errorf("%d sessions wait for a lock", n)
			}
			if longest > 5*time.Second {
				t.Errorf("a read took %v", longest)
			}
			if err := reader.Rollback(t.Context()); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			p.clean(t)
		})
	}
}

// TestRebuildMeetsReader: a reader comes between the look whether a table is free
// and the lock. The swap gives up after its timeout and is tried again, and nothing
// of the first attempt stays.
func TestRebuildMeetsReader(t *testing.T) {
	t.Parallel()
	p := verified(t)
	p.Project(t)
	reader, err := p.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Release()
	attempts := 0
	config := rebuildConfig(t).WithHook(func(stage string) error {
		if stage != "checkpoints" {
			return nil
		}
		attempts++
		if attempts == 1 {
			exec(t, reader, `BEGIN`)
			exec(t, reader, `SELECT FROM reputation_task_cohorts`)
			return nil
		}
		p.AppendEntries(t, projectionstest.Task("bear-new", "native", "general", 0.25).Entry(2000+int64(attempts)))
		return nil
	})
	release := time.AfterFunc(time.Second, func() { exec(t, reader, `ROLLBACK`) })
	defer release.Stop()
	if _, err := p.rows.Rebuild(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if attempts < 2 {
		t.Errorf("%d attempts, want some", attempts)
	}
	p.checkTables(t)
	p.clean(t)
}

// TestRebuildGivesUpWaiting: when it is told to stop while it waits for a table, it
// does so at once.
func TestRebuildGivesUpWaiting(t *testing.T) {
	t.Parallel()
	p := verified(t)
	want := dump(t, p.pool)
	reader, err := p.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback(context.WithoutCancel(t.Context()))
	exec(t, reader, `LOCK TABLE reputation_collections IN ACCESS SHARE MODE`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	go func() {
		_, err := p.rows.Rebuild(ctx, rebuildConfig(t))
		done <- err
	}()
	projectionstest.Eventually(t, "the rebuild waits", func() bool { return p.lastRebuild(t, projections.Aggregates).WaitsFor != "" })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if last := p.lastRebuild(t, projections.Aggregates); last.State != reputation.RebuildFailed || !strings.Contains(last.Failure, "stop") {
		t.Errorf("the note of the rebuild is %+v", last)
	}
	sameRows(t, want, dump(t, p.pool))
	p.noTraces(t)
}

// TestRebuildWaitsForPage: a projector is in the middle of a page at the moment of
// the swap. The page counts once.
func TestRebuildWaitsForPage(t *testing.T) {
	t.Parallel()
	p := verified(t)
	page := make(chan struct{})
	var first atomic.Bool
	both := p.Projectors(reputation.DefaultParams(), 0)
	for _, projector := range both {
		projector.Sabotage(func(*eventstore.Page) error {
			if first.CompareAndSwap(false, true) {
				close(page)
				time.Sleep(300 * time.Millisecond)
			}
			return nil
		})
	}
	projectionstest.Run(t, both...)
	projectionstest.AwaitState(t, projections.Running, both...)
	config := rebuildConfig(t).WithHook(func(stage string) error {
		if stage == "swapping" {
			p.AppendEntries(t, projectionstest.Task("bear-new", "native", "general", 0.25).Entry(2001))
			<-page
		}
		return nil
	})
	if _, err := p.rows.Rebuild(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	p.checkTables(t)
	p.clean(t)
}

// TestRebuildOutlivesTimeouts: a rebuild that works is not ended by timeouts that
// the database has for sessions, and one whose log is locked goes on speaking.
func TestRebuildOutlivesTimeouts(t *testing.T) {
	t.Parallel()
	p := verified(t)
	exec(t, p.pool, `DO $$ BEGIN
		EXECUTE format('ALTER DATABASE %I SET idle_session_timeout = 300', current_database());
		EXECUTE format('ALTER DATABASE %I SET idle_in_transaction_session_timeout = 300', current_database());
		EXECUTE format('ALTER DATABASE %I SET statement_timeout = 300', current_database());
		END $$`)
	timed := p.another(t)
	const spoke = `SELECT coalesce(max(a.state_change)::text, '') FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
		WHERE l.locktype = 'advisory' AND l.classid = 1684633707 AND a.datname = current_database()`
	config := rebuildConfig(t).WithHook(func(stage string) error {
		switch stage {
		case "prepared":
			locked, err := p.pool.Begin(t.Context())
			if err != nil {
				return err
			}
			exec(t, locked, `LOCK TABLE reputation_events IN ACCESS EXCLUSIVE MODE`)
			go func() {
				defer locked.Rollback(context.WithoutCancel(t.Context()))
				last := ""
				for range 2 {
					projectionstest.Eventually(t, "the rebuild speaks while the log is locked", func() bool {
						now := query[string](t, p.pool, spoke)
						return now != last && now != ""
					})
					last = query[string](t, p.pool, spoke)
				}
			}()
		case "loading", "swapping":
			time.Sleep(400 * time.Millisecond)
		}
		return nil
	})
	if _, err := timed.rows.Rebuild(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	p.pool.Reset() // of connections that were idle for longer than they may be now
	p.clean(t)
}

// TestVerifyBesideRebuild: a rebuild waits with the swap until a verification has
// read what it compares.
func TestVerifyBesideRebuild(t *testing.T) {
	t.Parallel()
	p := verified(t)
	var rebuild sync.WaitGroup
	var once sync.Once
	_, found := p.verify(t, projections.VerifyConfig{Progress: func(int64, int64) {
		once.Do(func() {
			p.AppendEntries(t, projectionstest.Task("bear-a", "native", "general", 0.25).Entry(2001))
			rebuild.Go(func() {
				if _, err := p.rows.Rebuild(t.Context(), rebuildConfig(t)); err != nil {
					t.Error(err)
				}
			})
			projectionstest.Eventually(t, "the rebuild waits for the verification", func() bool {
				return p.lastRebuild(t, projections.Aggregates).WaitsFor != ""
			})
		})
	}})
	if len(found) > 0 {
		t.Errorf("differences %v", found)
	}
	rebuild.Wait()
	p.clean(t)
}
