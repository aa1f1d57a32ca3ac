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

// TestFailingFold: a page that cannot be folded for now is shown with the reason
// and tried again, also when the reason is a panic.
func TestFailingFold(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("sabotage") },
		"panic": func() error { panic("sabotage") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testFailingFold(t, openMemory(testLogger(t)), fail)
		})
	}
}

func testFailingFold(t *testing.T, b projectionstest.Backend, fail func() error) {
	var broken atomic.Bool
	both := b.Projectors(reputation.DefaultParams(), 0)
	for _, p := range both {
		p.Sabotage(func(page *eventstore.Page) error {
			if broken.Load() && page.To > 1 {
				return fail()
			}
			return nil
		})
	}
	projectionstest.Run(t, both...)
	b.Append(t, projectionstest.Signal("bear-1", 0.5))
	b.Settle(t)
	want := b.Rows(t)
	broken.Store(true)
	b.Append(t, projectionstest.Task("bear-1", "native", "analysis", 1))
	for _, p := range both {
		projectionstest.Eventually(t, p.Name()+" shows the error", func() bool {
			state, err := p.State()
			return state == projections.Retrying && err != nil && strings.Contains(err.Error(), "sabotage")
		})
	}
	projectionstest.Same(t, want, b.Rows(t))
	broken.Store(false)
	b.CheckFolded(t, reputation.DefaultParams())
	projectionstest.AwaitState(t, projections.Running, both...)
}
