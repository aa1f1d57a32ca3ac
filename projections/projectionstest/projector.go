package projectionstest

import (
	"bytes"
	"context"
	"errors"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"

	"dixie/projections"
	"dixie/reputation"
)

func testStates(t *testing.T, b Backend) {
	projectors := b.Projectors(reputation.DefaultParams(), 0)
	for i, p := range projectors {
		if p.Name() != projections.Names[i] {
			t.Errorf("projector %d is of %s, want %s", i, p.Name(), projections.Names[i])
		}
	}
	AwaitState(t, projections.Stopped, projectors...)
	stop := Run(t, projectors...)
	AwaitState(t, projections.Running, projectors...)
	stop()
	for _, p := range projectors {
		if state, err := p.State(); state != projections.Stopped || err != nil {
			t.Errorf("%s ended %s, error %v", p.Name(), state, err)
		}
	}
}

// testStandby: of the projectors of a projection one runs; when it stops another
// takes over, and no event is folded twice.
func testStandby(t *testing.T, b Backend) {
	first := b.Projectors(reputation.DefaultParams(), 3)
	stop := Run(t, first...)
	AwaitState(t, projections.Running, first...)
	second := b.Projectors(reputation.DefaultParams(), 3)
	stopSecond := Run(t, second...)
	AwaitState(t, projections.Standby, second...)
	b.Append(t, history()...)
	b.CheckFolded(t, reputation.DefaultParams())
	AwaitState(t, projections.Running, first...)
	AwaitState(t, projections.Standby, second...)

	b.Append(t, history()...)
	stop()
	AwaitState(t, projections.Running, second...)
	b.Append(t, history()...)
	b.CheckFolded(t, reputation.DefaultParams())
	stopSecond()
	AwaitState(t, projections.Stopped, second...)
}

// testResumes: a projector begins where the last one ended.
func testResumes(t *testing.T, b Backend) {
	for range 3 {
		b.Append(t, history()...)
		stop := b.Project(t)
		b.CheckFolded(t, reputation.DefaultParams())
		stop()
		b.Append(t, Signal("bear-2", 0.5)) // for the next one
	}
}

// testOtherVersion: rows of another version are served and not touched, until the
// version that wrote them runs again.
func testOtherVersion(t *testing.T, b Backend) {
	b.Append(t, history()...)
	stop := b.Project(t)
	b.Settle(t)
	stop()
	want := b.Rows(t)
	b.Append(t, Signal("bear-1", 1), Task("bear-2", "native", "analysis", 0))

	others := b.Projectors(reputation.DixieParams(), 0)
	stop = Run(t, others...)
	AwaitState(t, projections.NeedsRebuild, others...)
	for _, p := range others {
		_, err := p.State()
		var version *projections.VersionError
		if !errors.As(err, &version) || version.Stored != reputation.DefaultParams().Version() ||
			version.Running != reputation.DixieParams().Version() || version.Projection != p.Name() {
			t.Errorf("%s: error %v", p.Name(), err)
		}
	}
	Same(t, want, b.Rows(t))
	wantPositions(t, b, 6, 6)
	stop()

	b.Project(t)
	b.CheckFolded(t, reputation.DefaultParams())
}

// testNoGoroutine: Run takes all its goroutines with it. They carry the label
// that its own has.
func testNoGoroutine(t *testing.T, b Backend) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	projectors := b.Projectors(reputation.DefaultParams(), 1)
	var running sync.WaitGroup
	pprof.Do(ctx, pprof.Labels("projector", t.Name()), func(ctx context.Context) {
		for _, p := range projectors {
			running.Go(func() { p.Run(ctx) })
		}
	})
	b.Append(t, history()...)
	b.Settle(t)
	if labelled(t) == "" {
		t.Error("a running projector has no goroutine")
	}
	b.Append(t, history()...) // stopped while it works
	cancel()
	running.Wait()
	Eventually(t, "all goroutines of the projectors have ended", func() bool { return labelled(t) == "" })
}

// labelled are the stacks of goroutines with the test's label.
func labelled(t *testing.T) string {
	t.Helper()
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		t.Fatal(err)
	}
	var found []string
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(stack, `"`+t.Name()+`"`) {
			found = append(found, stack)
		}
	}
	return strings.Join(found, "\n\n")
}
