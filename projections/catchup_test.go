package projections_test

import (
	"testing"

	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

// TestCatchUpOverRows: the first rows that a projector writes replace those that
// somebody else has put there before.
func TestCatchUpOverRows(t *testing.T) {
	t.Parallel()
	p := open(t).catchingUp(t, 1)
	for _, agent := range []string{"bear-1", "bear-2", "bear-3"} {
		p.Append(t, projectionstest.Task(agent, "native", "analysis", 0.5), projectionstest.Signal(agent, 1))
	}
	if err := p.Store.PutAggregate(t.Context(), "bear-2", reputation.Aggregate{State: reputation.StateCold}); err != nil {
		t.Fatal(err)
	}
	score := 0.25
	put := reputation.TaskCohort{ModelID: "native", TaskType: "analysis", PersonalScore: &score, SampleCount: 7}
	if err := p.Store.PutTaskCohort(t.Context(), "bear-2", put); err != nil {
		t.Fatal(err)
	}
	both := p.Projectors(reputation.DefaultParams(), 0)
	projectionstest.Run(t, both...)
	p.checkTables(t)
	projectionstest.AwaitState(t, projections.Running, both...)
	for _, projector := range both {
		if _, err := projector.State(); err != nil {
			t.Errorf("%s: %v", projector.Name(), err)
		}
	}
}
