package projections_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

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

// TestMiddleware: each page goes through it, by the name of its projection, with
// the error of a page that will come again.
func TestMiddleware(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[string]int{} // events by projection and outcome
	order := ""
	watch := func(name string) message.HandlerMiddleware {
		return func(next message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) {
				mu.Lock()
				order += name
				mu.Unlock()
				none, err := next(msg)
				mu.Lock()
				defer mu.Unlock()
				seen[fmt.Sprintf("%s%s %t", name, message.HandlerNameFromCtx(msg.Context()), err == nil)] += len(eventstore.PageFrom(msg.Context()).Events)
				return none, err
			}
		}
	}
	log := eventstore.NewMemory()
	rows := projections.NewMemory(log)
	both := rows.NewProjectors(projections.Config{
		Log: log, Params: reputation.DefaultParams(), Logger: testLogger(t), Middleware: []message.HandlerMiddleware{watch("1"), watch("2")},
	})
	var failed atomic.Bool
	both[0].Sabotage(func(*eventstore.Page) error {
		if !failed.Swap(true) {
			panic("once")
		}
		return nil
	})
	b := projectionstest.Backend{Log: log, Store: rows, Reader: rows}
	b.Append(t, projectionstest.Signal("bear-1", 0.5), projectionstest.Signal("bear-2", 0.5))
	projectionstest.Run(t, both...)
	b.Settle(t)
	want := map[string]int{
		"1aggregates false": 2, "2aggregates false": 2, "1aggregates true": 2, "2aggregates true": 2, "1cohorts true": 2, "2cohorts true": 2,
	}
	projectionstest.Eventually(t, "all pages were seen", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return maps.Equal(seen, want) && strings.HasPrefix(order, "1")
	})
}
