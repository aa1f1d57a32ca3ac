package projectionstest

import (
	"context"
	"errors"
	"sync"
	"time"

	"dixie/projections"
	"dixie/reputation"
)

// patience is how long a test waits for what must happen. It bounds only tests
// that fail, so it is far longer than a loaded machine needs.
const patience = time.Minute

// Run runs projectors until stop is called or the test ends. stop returns when
// they have ended.
func Run(t TB, projectors ...*projections.Projector) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, p := range projectors {
		running.Go(func() { p.Run(ctx) })
	}
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// Project runs all projectors of a backend with the default parameters.
func (b Backend) Project(t TB) (stop func()) {
	return Run(t, b.Projectors(reputation.DefaultParams(), 0)...)
}

// Settle waits until all projections have reached the head of the log.
func (b Backend) Settle(t TB) {
	t.Helper()
	b.Await(t, b.Head(t), projections.Names...)
}

// Await waits until projections have reached a position.
func (b Backend) Await(t TB, position int64, names ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := b.Reader.WaitFor(ctx, position, names...); err != nil {
		statuses, _ := b.Reader.Status(t.Context())
		t.Fatalf("%v; the status is %+v", err, statuses)
	}
}

// Head is the position of the last event.
func (b Backend) Head(t TB) int64 {
	t.Helper()
	head, err := b.Log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// AwaitState waits until all projectors are in a state.
func AwaitState(t TB, want projections.State, projectors ...*projections.Projector) {
	t.Helper()
	for _, p := range projectors {
		Eventually(t, p.Name()+" is "+string(want), func() bool {
			state, _ := p.State()
			return state == want
		})
	}
}

// Eventually waits for what another goroutine or process is about to do.
func Eventually(t TB, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !happened(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func wantError(t TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}
