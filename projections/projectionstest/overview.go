package projectionstest

import (
	"strings"
	"testing"
	"time"

	"dixie/projections"
	"dixie/reputation"
)

func overview(t TB, b Backend, params reputation.Params) map[string]projections.Overview {
	t.Helper()
	all, err := b.Reader.Overview(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]projections.Overview{}
	for i, o := range all {
		if o.Projection != projections.Names[i] {
			t.Errorf("overview %d is of %s, want %s", i, o.Projection, projections.Names[i])
		}
		byName[o.Projection] = o
	}
	return byName
}

// wantOverview checks what does not depend on time.
func wantOverview(t TB, o projections.Overview, state reputation.ProjectionState, position int64) {
	t.Helper()
	if o.State != state || o.Position != position || o.Rebuild != nil || o.LastError != "" || !o.LastErrorAt.IsZero() {
		t.Errorf("overview %+v, want %s at %d", o, state, position)
	}
}

// testOverview: it tells who projects, before, while and after somebody does.
func testOverview(t *testing.T, b Backend) {
	params := reputation.DefaultParams()
	for _, o := range overview(t, b, params) {
		wantOverview(t, o, reputation.ProjectionStopped, 0)
		if o.Holder != "" || !o.HeldSince.IsZero() || o.Remedy != "" || o.Wanted != params.Version() || o.Version != "" {
			t.Errorf("before the first projector: %+v", o)
		}
	}
	b.Append(t, Signal("bear-1", 0.5))
	before := time.Now().Add(-time.Minute) // clocks of the database and of the test
	stop := Run(t, b.Projectors(params, 0)[0])
	b.Await(t, 1, projections.Aggregates)
	all := overview(t, b, params)
	wantOverview(t, all[projections.Aggregates], reputation.ProjectionRunning, 1)
	wantOverview(t, all[projections.Cohorts], reputation.ProjectionStopped, 0)
	o := all[projections.Aggregates]
	if !strings.Contains(o.Holder, "process") || o.HeldSince.Before(before) || o.Remedy != "" || o.Version != params.Version() {
		t.Errorf("while a projector runs: %+v", o)
	}
	stop()
	Eventually(t, "the projection is stopped", func() bool {
		return overview(t, b, params)[projections.Aggregates].State == reputation.ProjectionStopped
	})
	if o := overview(t, b, params)[projections.Aggregates]; o.Holder == "" || o.HeldSince.IsZero() {
		t.Errorf("nobody knows who the last projector was: %+v", o)
	}
}

// testOverviewOther: to whoever has other parameters the rows need a rebuild, unless
// somebody goes on with them as they are.
func testOverviewOther(t *testing.T, b Backend) {
	b.Append(t, Signal("bear-1", 0.5))
	stop := b.Project(t)
	b.Settle(t)
	other := reputation.DixieParams()
	for name, o := range overview(t, b, other) {
		wantOverview(t, o, reputation.ProjectionRunning, 1)
		wantRemedy(t, name, o, other)
	}
	stop()
	// A projector with other parameters tries again and again, and is not the holder.
	Run(t, b.Projectors(other, 0)...)
	Eventually(t, "the projections need a rebuild", func() bool {
		for name, o := range overview(t, b, other) {
			if o.State != reputation.ProjectionNeedsRebuild {
				return false
			}
			wantRemedy(t, name, o, other)
		}
		return true
	})
}

func wantRemedy(t TB, name string, o projections.Overview, params reputation.Params) {
	t.Helper()
	if !strings.Contains(o.Remedy, "dixie rebuild "+name) || o.Wanted != params.Version() || o.Version == o.Wanted {
		t.Errorf("remedy %q for version %s, wanted %s", o.Remedy, o.Version, o.Wanted)
	}
}
