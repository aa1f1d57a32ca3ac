package projectionstest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"dixie/projections"
	"dixie/reputation"
)

func status(t TB, b Backend) map[string]projections.Status {
	t.Helper()
	statuses, err := b.Reader.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]projections.Status{}
	for i, s := range statuses {
		if s.Projection != projections.Names[i] {
			t.Errorf("status %d is of %s, want %s", i, s.Projection, projections.Names[i])
		}
		byName[s.Projection] = s
	}
	return byName
}

func testStatus(t *testing.T, b Backend) {
	for name, s := range status(t, b) {
		if s != (projections.Status{Projection: name}) {
			t.Errorf("status before the first event %+v", s)
		}
	}
	b.AppendEntries(t, Signal("bear-1", 0.5).Entry(1), Raw(t, "bear-1", `{}`), Signal("bear-1", 1).Entry(3), Raw(t, "x y", `[]`))
	stop := b.Project(t)
	b.Settle(t)
	stop()
	for name, s := range status(t, b) {
		if s.UpdatedAt.IsZero() {
			t.Errorf("%s: not told when the checkpoint moved", name)
		}
		s.UpdatedAt = time.Time{}
		want := projections.Status{
			Projection: name, Version: reputation.DefaultParams().Version(), Position: 4, Head: 4, SetAside: 2,
		}
		if s != want {
			t.Errorf("status %+v, want %+v", s, want)
		}
	}
}

// testStatusBehind: the lag is the age of the oldest event that is not folded.
func testStatusBehind(t *testing.T, b Backend) {
	projectors := b.Projectors(reputation.DefaultParams(), 0)
	for _, p := range projectors {
		stop := Run(t, p)
		AwaitState(t, projections.Running, p)
		stop()
	}
	if s := status(t, b)[projections.Cohorts]; !s.UpdatedAt.IsZero() {
		t.Errorf("the checkpoint never moved, but is said to at %v", s.UpdatedAt)
	}
	b.Append(t, Signal("bear-1", 0.5))
	begin := time.Now()
	time.Sleep(20 * time.Millisecond)
	b.Append(t, Signal("bear-1", 0.5), Signal("bear-1", 0.5))
	Run(t, projectors[0])
	b.Await(t, 3, projections.Aggregates)
	for name, want := range map[string]int64{projections.Aggregates: 0, projections.Cohorts: 3} {
		s := status(t, b)[name]
		if s.Behind() != want || s.Head != 3 || (s.Lag > 0) != (want > 0) {
			t.Errorf("%s: %d behind, head %d, lag %v", name, s.Behind(), s.Head, s.Lag)
		}
		if want > 0 && s.Lag < 20*time.Millisecond {
			t.Errorf("lag %v, %v after the oldest event", s.Lag, time.Since(begin))
		}
	}
}

// testWaitReached: the projectors need not run any more, nor may time pass.
func testWaitReached(t *testing.T, b Backend) {
	b.Await(t, 0, projections.Names...)
	b.Append(t, Signal("bear-1", 0.5), Signal("bear-1", 0.5))
	stop := b.Project(t)
	b.Settle(t)
	stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for position := range int64(3) {
		if err := b.Reader.WaitFor(ctx, position, projections.Names...); err != nil {
			t.Errorf("position %d of 2: %v", position, err)
		}
	}
	b.Await(t, 99) // by no projection
}

func testWaitUntil(t *testing.T, b Backend) {
	b.Project(t)
	done := make(chan error)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { done <- b.Reader.WaitFor(ctx, 2, projections.Names...) }()
	b.Append(t, Signal("bear-1", 0.5))
	b.Await(t, 1, projections.Names...)
	select {
	case err := <-done:
		t.Fatalf("position 1 was taken for 2, error %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	b.Append(t, Signal("bear-1", 0.5))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, position := score(t, b, "bear-1"); position != 2 {
		t.Errorf("position %d after waiting for 2", position)
	}
}

// testManyWait: each reads what it has waited for.
func testManyWait(t *testing.T, b Backend) {
	Run(t, b.Projectors(reputation.DefaultParams(), 1)...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var waiters sync.WaitGroup
	for i := range int64(40) {
		waiters.Go(func() {
			want := i/2 + 1
			if err := b.Reader.WaitFor(ctx, want, projections.Names...); err != nil {
				t.Error(err)
			}
			if r, err := b.Reader.Reputation(ctx, "bear-1"); err != nil || r.Position < want || r.Agent.Aggregate.SampleCount < want {
				t.Errorf("%+v, error %v after waiting for %d", r, err, want)
			}
		})
	}
	for range 20 {
		b.Append(t, Signal("bear-1", 0.5))
	}
	waiters.Wait()
}

func testWaitBehind(t *testing.T, b Backend) {
	stop := b.Project(t)
	b.Append(t, Signal("bear-1", 0.5))
	b.Settle(t)
	stop()
	b.Append(t, Signal("bear-1", 0.5))
	wantBehind(t, b, 2, projections.Names...)
	wantBehind(t, b, 2, projections.Cohorts)
	wantBehind(t, b, 1, projections.Aggregates, "unknown")
}

func wantBehind(t TB, b Backend, position int64, names ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
	defer cancel()
	err := b.Reader.WaitFor(ctx, position, names...)
	if !errors.Is(err, projections.ErrBehind) || ctx.Err() == nil {
		t.Errorf("wait for %d of %v: %v", position, names, err)
	}
}

func testWaitOne(t *testing.T, b Backend) {
	Run(t, b.Projectors(reputation.DefaultParams(), 0)[1])
	head := b.Append(t, Task("bear-1", "native", "analysis", 0.5))
	b.Await(t, head, projections.Cohorts)
	wantBehind(t, b, head, projections.Aggregates)
	wantBehind(t, b, head, projections.Names...)
}
