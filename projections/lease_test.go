package projections_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"dixie/eventstore"
	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

// acquire is a lease on the aggregates projection.
func (p process) acquire(t testing.TB) *projections.Lease {
	t.Helper()
	lease, err := p.rows.Acquire(t.Context(), projections.Aggregates, reputation.DefaultParams())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lease.Release)
	return lease
}

// page is a page of the log.
func (p process) page(t testing.TB, from, to int64) *eventstore.Page {
	t.Helper()
	recorded, err := p.Log.Read(t.Context(), from, int(to-from))
	if err != nil {
		t.Fatal(err)
	}
	page := &eventstore.Page{From: from, To: to}
	for _, r := range recorded {
		event, err := r.Event()
		page.Events = append(page.Events, eventstore.PageEvent{Recorded: r, Event: event, Err: err})
	}
	return page
}

// stale is a lease that has folded half of a log of ten events.
func stale(t testing.TB, p process) *projections.Lease {
	t.Helper()
	for i := range 10 {
		p.Append(t, projectionstest.Signal(fmt.Sprintf("bear-%d", i%3), 0.5))
	}
	lease := p.acquire(t)
	if err := lease.Fold(t.Context(), p.page(t, 0, 5)); err != nil {
		t.Fatal(err)
	}
	return lease
}

// TestStaleLease: who believes to be the projector and is not cannot write.
func TestStaleLease(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"moved on":      `UPDATE projection_checkpoints SET position = 7`,
		"moved back":    `UPDATE projection_checkpoints SET position = 0`,
		"other version": `UPDATE projection_checkpoints SET version = 'other'`,
		"emptied":       `DELETE FROM projection_checkpoints`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := open(t)
			lease := stale(t, p)
			exec(t, p.pool, change)
			want := readTables(t, p.pool)
			for range 2 {
				if err := lease.Fold(t.Context(), p.page(t, 5, 10)); !errors.Is(err, projections.ErrLost) {
					t.Errorf("error %v, want %v", err, projections.ErrLost)
				}
			}
			projectionstest.Same(t, want, readTables(t, p.pool))
		})
	}
}

// TestStaleLeaseInStep: the checkpoint moves while the stale page is on its way.
func TestStaleLeaseInStep(t *testing.T) {
	t.Parallel()
	p := open(t)
	lease := stale(t, p)
	want := readTables(t, p.pool)
	rival, err := p.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer rival.Rollback(context.WithoutCancel(t.Context()))
	exec(t, rival, `UPDATE projection_checkpoints SET position = 10`)
	page, folded := p.page(t, 5, 10), make(chan error)
	go func() { folded <- lease.Fold(t.Context(), page) }()
	projectionstest.Eventually(t, "the page waits for the checkpoint", func() bool {
		return query[int](t, p.pool, `SELECT count(*) FROM (`+projectors+`) AS p WHERE waits`) == 1
	})
	if err := rival.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-folded; !errors.Is(err, projections.ErrLost) {
		t.Errorf("error %v, want %v", err, projections.ErrLost)
	}
	projectionstest.Same(t, want, readTables(t, p.pool))
}

// TestWrongPage: a lease folds only the page that follows.
func TestWrongPage(t *testing.T) {
	t.Parallel()
	p := open(t)
	lease := stale(t, p)
	for _, from := range []int64{0, 4, 6} {
		if err := lease.Fold(t.Context(), p.page(t, from, 10)); !errors.Is(err, projections.ErrLost) {
			t.Errorf("page from %d: error %v, want %v", from, err, projections.ErrLost)
		}
	}
	if err := lease.Fold(t.Context(), p.page(t, 5, 10)); err != nil || lease.Position() != 10 {
		t.Errorf("the next page: error %v, position %d", err, lease.Position())
	}
}

// TestLeaseExcludes: a second lease is waited for until the first is released.
func TestLeaseExcludes(t *testing.T) {
	t.Parallel()
	p := open(t)
	lease := p.acquire(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := p.another(t).rows.Acquire(ctx, projections.Aggregates, reputation.DefaultParams()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
	}
	other, err := p.rows.Acquire(t.Context(), projections.Cohorts, reputation.DefaultParams())
	if err != nil {
		t.Fatal("the other projection has a lease of its own: ", err)
	}
	other.Release()
	lease.Release()
	p.acquire(t)
}

// TestOtherLog: a checkpoint that the log does not lead to is refused, and what is
// stored is served. When the log is the right one again, it goes on.
func TestOtherLog(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"ahead of the log":  `position = 11, event_created_at = now()`,
		"at another event":  `event_created_at = event_created_at - interval '1 microsecond'`,
		"at an event later": `event_created_at = event_created_at + interval '1 microsecond'`,
		"at no known event": `event_created_at = NULL`,
		"beyond, no event":  `position = 11, event_created_at = NULL`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testOtherLog(t, open(t), change)
		})
	}
}

func testOtherLog(t *testing.T, p process, change string) {
	for range 3 {
		p.Append(t, projectionstest.Task("bear-1", "native", "analysis", 0.5))
	}
	stop := p.Project(t)
	p.Settle(t)
	stop()
	want := readTables(t, p.pool)
	exec(t, p.pool, `CREATE TABLE before AS SELECT * FROM projection_checkpoints`)
	exec(t, p.pool, `UPDATE projection_checkpoints SET `+change)
	p.Append(t, projectionstest.Signal("bear-1", 0.5))

	both := p.Projectors(reputation.DefaultParams(), 0)
	stop = projectionstest.Run(t, both...)
	projectionstest.AwaitState(t, projections.NeedsRebuild, both...)
	for _, projector := range both {
		_, err := projector.State()
		checkAhead(t, err)
	}
	checkAhead(t, p.rows.Check(t.Context(), reputation.DefaultParams()))
	projectionstest.Same(t, want, readTables(t, p.pool))
	if score, err := p.Reader.Score(t.Context(), "bear-1"); err != nil || score.Value == nil {
		t.Errorf("score %v, error %v", score, err)
	}
	stop()

	exec(t, p.pool, `
		UPDATE projection_checkpoints AS c SET position = b.position, event_created_at = b.event_created_at
		  FROM before AS b WHERE b.projection = c.projection`)
	p.Project(t)
	p.checkTables(t)
}

func checkAhead(t *testing.T, err error) {
	t.Helper()
	var ahead *projections.AheadError
	if !errors.As(err, &ahead) || ahead.Head != 4 || ahead.Position < 3 {
		t.Errorf("error %v, want an AheadError", err)
	}
}

// TestVersions: a deployment of another version waits for the running one, then
// leaves the rows alone; the running one can come back.
func TestVersions(t *testing.T) {
	t.Parallel()
	p := open(t)
	older := p.Projectors(reputation.DefaultParams(), 0)
	stopOlder := projectionstest.Run(t, older...)
	projectionstest.AwaitState(t, projections.Running, older...)
	newer := p.another(t).Projectors(reputation.DixieParams(), 0)
	stopNewer := projectionstest.Run(t, newer...)
	projectionstest.AwaitState(t, projections.Standby, newer...)
	p.Append(t, projectionstest.Task("bear-1", "native", "analysis", 0.5))
	p.checkTables(t)

	stopOlder()
	projectionstest.AwaitState(t, projections.NeedsRebuild, newer...)
	want := readTables(t, p.pool)
	p.Append(t, projectionstest.Task("bear-1", "native", "analysis", 1))
	var version *projections.VersionError
	if err := p.rows.Check(t.Context(), reputation.DixieParams()); !errors.As(err, &version) {
		t.Errorf("error %v, want a VersionError", err)
	}
	if err := p.rows.Check(t.Context(), reputation.DefaultParams()); err != nil {
		t.Error(err)
	}
	projectionstest.Same(t, want, readTables(t, p.pool))

	// It comes back beside the newer, whose attempts do not keep it out.
	older = p.Projectors(reputation.DefaultParams(), 0)
	projectionstest.Run(t, older...)
	projectionstest.AwaitState(t, projections.Running, older...)
	p.checkTables(t)
	stopNewer()
}

// takeBack takes the log back to a position, as restoring an older backup of it does.
func (p process) takeBack(t testing.TB, position int) {
	t.Helper()
	exec(t, p.pool, fmt.Sprintf(`
		ALTER TABLE reputation_events DISABLE TRIGGER reputation_events_append_only;
		DELETE FROM reputation_events WHERE position > %d;
		ALTER TABLE reputation_events ENABLE TRIGGER reputation_events_append_only`, position))
}

// TestLogTakenBack: an older log that is restored under a projector that is at work is
// noticed, also when nothing is appended to it.
func TestLogTakenBack(t *testing.T) {
	t.Parallel()
	for name, grows := range map[string]int{"shorter": 0, "grown again": 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := open(t)
			both := p.Projectors(reputation.DefaultParams(), 0)
			projectionstest.Run(t, both...)
			for range 10 {
				p.Append(t, projectionstest.Task("bear-1", "native", "analysis", 0.5))
			}
			p.Settle(t)
			want := readTables(t, p.pool)
			p.takeBack(t, 4)
			for range grows {
				p.Append(t, projectionstest.Task("bear-1", "native", "analysis", 1))
			}
			projectionstest.AwaitState(t, projections.NeedsRebuild, both...)
			for _, projector := range both {
				var ahead *projections.AheadError
				if _, err := projector.State(); !errors.As(err, &ahead) {
					t.Errorf("error %v, want an AheadError", err)
				}
			}
			projectionstest.Same(t, want, readTables(t, p.pool))
		})
	}
}

// TestPageOfAnotherLog: a page is not folded onto a history that it does not continue.
func TestPageOfAnotherLog(t *testing.T) {
	t.Parallel()
	p := open(t)
	lease := stale(t, p)
	want := readTables(t, p.pool)
	p.takeBack(t, 3)
	for range 7 {
		p.Append(t, projectionstest.Signal("bear-1", 1))
	}
	err := lease.Fold(t.Context(), p.page(t, 5, 10))
	var ahead *projections.AheadError
	if !errors.Is(err, projections.ErrLost) || !errors.As(err, &ahead) {
		t.Errorf("error %v, want an AheadError that ends the lease", err)
	}
	projectionstest.Same(t, want, readTables(t, p.pool))
}
