package projections_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"dixie/eventstore"
	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

func overviewOf(t testing.TB, b projectionstest.Backend, name string) projections.Overview {
	t.Helper()
	all, err := b.Reader.Overview(t.Context(), reputation.DefaultParams())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all {
		if o.Projection == name {
			return o
		}
	}
	t.Fatalf("no overview of %s", name)
	return projections.Overview{}
}

// TestLastError: an error of a page is told in every process, also after the
// projector has got over it, and in letters that a database can keep.
func TestLastError(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]projectionstest.Backend{
		"memory": openMemory(testLogger(t)), "postgres": open(t).Backend,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			projectors := b.Projectors(reputation.DefaultParams(), 0)
			var failed atomic.Bool
			projectors[1].Sabotage(func(*eventstore.Page) error {
				if failed.Swap(true) {
					return nil
				}
				return errors.New("a bad\x00 day \xff" + strings.Repeat("!", 2000))
			})
			projectionstest.Run(t, projectors...)
			b.Append(t, projectionstest.Signal("bear-1", 0.5))
			b.Settle(t)
			if o := overviewOf(t, b, projections.Aggregates); o.LastError != "" {
				t.Errorf("the error of another projection: %+v", o)
			}
			o := overviewOf(t, b, projections.Cohorts)
			if o.State != reputation.ProjectionRunning || !strings.HasPrefix(o.LastError, "a bad\uFFFD day \uFFFD!!!") ||
				len(o.LastError) > 1010 || o.LastErrorAt.IsZero() {
				t.Errorf("overview %+v", o)
			}
		})
	}
}

// TestOverviewOfRebuild: a rebuild that is running is told with its progress, and
// what a killed one left is not.
func TestOverviewOfRebuild(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.Append(t, projectionstest.Signal("bear-1", 0.5), projectionstest.Signal("bear-2", 0.5))
	p.Project(t)
	p.Settle(t)
	conn, err := p.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	exec(t, conn, `
		INSERT INTO projection_rebuilds (projection, version, holder, pid, stage, position, head)
		VALUES ('cohorts', '1-x', 'a host', pg_backend_pid(), 'folding', 1, 2)`)
	if o := overviewOf(t, p.Backend, projections.Cohorts); o.State != reputation.ProjectionRunning || o.Rebuild != nil {
		t.Errorf("what a killed rebuild left: %+v", o)
	}
	exec(t, conn, `SELECT pg_advisory_lock(1684633707, hashtext('cohorts'))`)
	o := overviewOf(t, p.Backend, projections.Cohorts)
	if r := o.Rebuild; o.State != reputation.ProjectionRebuilding || r == nil || r.Holder != "a host" || r.Position != 1 || r.Head != 2 || r.StartedAt.IsZero() {
		t.Errorf("while it is rebuilt: %+v", o)
	}
	if o := overviewOf(t, p.Backend, projections.Aggregates); o.State != reputation.ProjectionRunning {
		t.Errorf("the other projection: %+v", o)
	}
	exec(t, conn, `SELECT pg_advisory_unlock_all()`)
}

// TestOverviewOfAnotherSession: who has the lock but has not become the projector, as
// a process with other parameters for a moment each second, does not project.
func TestOverviewOfAnotherSession(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.Append(t, projectionstest.Signal("bear-1", 0.5))
	stop := p.Project(t)
	p.Settle(t)
	stop()
	conn, err := p.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	projectionstest.Eventually(t, "the lock is free", func() bool {
		var locked bool
		err := conn.QueryRow(t.Context(), `SELECT pg_try_advisory_lock(1684633706, hashtext('cohorts'))`).Scan(&locked)
		return err == nil && locked
	})
	if o := overviewOf(t, p.Backend, projections.Cohorts); o.State != reputation.ProjectionStopped {
		t.Errorf("overview %+v", o)
	}
	exec(t, conn, `SELECT pg_advisory_unlock_all()`)
}

// TestOverviewOfAnotherLog: rows that contain what the log does not have need a
// rebuild.
func TestOverviewOfAnotherLog(t *testing.T) {
	t.Parallel()
	p := open(t)
	exec(t, p.pool, `INSERT INTO projection_checkpoints (projection, version, position) VALUES ('aggregates', $1, 7)`, reputation.DefaultParams().Version())
	if o := overviewOf(t, p.Backend, projections.Aggregates); o.State != reputation.ProjectionNeedsRebuild || !strings.Contains(o.Remedy, "position 7") {
		t.Errorf("overview %+v", o)
	}
}
