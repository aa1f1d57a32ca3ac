package projections_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

// rebuilder is closed with the test.
func (p process) rebuilder(t testing.TB, hook func(stage string) error) *projections.Rebuilder {
	b := p.rows.NewRebuilder(rebuildConfig(t).WithHook(hook))
	t.Cleanup(b.Close)
	return b
}

func (p process) awaitRebuild(t testing.TB, name string, want reputation.RebuildState) {
	t.Helper()
	projectionstest.Eventually(t, "the rebuild of "+name+" is "+string(want), func() bool { return p.lastRebuild(t, name).State == want })
}

// TestRebuilder: a rebuild goes on when the request that has started it is over,
// and the second of a projection is refused while it runs.
func TestRebuilder(t *testing.T) {
	t.Parallel()
	p := verified(t)
	exec(t, p.pool, `UPDATE reputation_task_cohorts SET samples = 99`)
	goOn := make(chan struct{})
	b := p.rebuilder(t, func(stage string) error {
		if stage == "loading" {
			<-goOn
		}
		return nil
	})
	release := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(release) // before the rebuilder is closed
	request, over := context.WithCancel(t.Context())
	if err := b.StartRebuild(request, projections.Cohorts); err != nil {
		t.Fatal(err)
	}
	over()
	p.awaitRebuild(t, projections.Cohorts, reputation.RebuildRunning)
	var running *projections.RebuildingError
	if err := b.StartRebuild(t.Context()); !errors.As(err, &running) || running.Holder != "the test" || running.StartedAt.IsZero() {
		t.Errorf("error %v, want a RebuildingError", err)
	}
	if err := b.StartRebuild(t.Context(), projections.Aggregates); err != nil {
		t.Errorf("the other projection: %v", err)
	}
	release()
	for _, name := range projections.Names {
		p.awaitRebuild(t, name, reputation.RebuildDone)
	}
	p.clean(t)
	if err := b.StartRebuild(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
	p.awaitRebuild(t, projections.Cohorts, reputation.RebuildDone)
}

// TestRebuilderFails: why a rebuild failed is told, but not what the database said.
func TestRebuilderFails(t *testing.T) {
	t.Parallel()
	p := verified(t)
	b := p.rebuilder(t, func(string) error { return errors.New("hunter2") })
	if err := b.StartRebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.awaitRebuild(t, projections.Aggregates, reputation.RebuildFailed)
	if last := p.lastRebuild(t, projections.Aggregates); last.Failure == "" || strings.Contains(last.Failure, "hunter2") {
		t.Errorf("the note of the rebuild is %+v", last)
	}
	p.noTraces(t)
}

// TestRebuilderCloses: closing stops what runs, which leaves the live rows as they
// are, and nothing new begins.
func TestRebuilderCloses(t *testing.T) {
	t.Parallel()
	p := verified(t)
	want := dump(t, p.pool)
	reader, err := p.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback(context.WithoutCancel(t.Context()))
	exec(t, reader, `SELECT FROM reputation_aggregates`)
	b := p.rebuilder(t, func(string) error { return nil })
	if err := b.StartRebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	projectionstest.Eventually(t, "the rebuild waits", func() bool { return p.lastRebuild(t, projections.Aggregates).WaitsFor != "" })
	b.Close()
	if last := p.lastRebuild(t, projections.Aggregates); last.State != reputation.RebuildFailed || !strings.Contains(last.Failure, "stop") {
		t.Errorf("the note of the rebuild is %+v", last)
	}
	sameRows(t, want, dump(t, p.pool))
	p.noTraces(t)
	if err := b.StartRebuild(t.Context()); !errors.Is(err, reputation.ErrUnavailable) {
		t.Errorf("error %v, want %v", err, reputation.ErrUnavailable)
	}
	if all, err := p.rows.Rebuilds(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("running %v, error %v", all, err)
	}
	exec(t, reader, `ROLLBACK`)
	p.rebuild(t)
}
