package identity_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"dixie/identity"
	"dixie/internal/fakefinn"
)

const longer = 10*time.Second + time.Millisecond // than the circuit stays open

// TestBreaker: each way to be away opens the circuit at the fifth time, which is
// told in the log; then finn is left alone for ten seconds, and one request finds
// out whether it is back.
func TestBreaker(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]fakefinn.Trouble{"down": fakefinn.Down, "failing": fakefinn.Failing, "slow": fakefinn.Slow} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				finn := newFinn(trouble)
				finn.Change(func(b *fakefinn.Behaviour) { b.Delay = time.Hour })
				var log journal
				client := newClient(t, finn, func(c *identity.Config) { c.Logger = log.logger() })
				for i := range 5 {
					if client.Circuit() != "closed" {
						t.Fatalf("circuit %s after %d failures", client.Circuit(), i)
					}
					_, _ = get(t.Context(), client, "health")
				}
				wantOpen(t, client, finn)
				time.Sleep(longer)
				_, _ = get(t.Context(), client, "health") // still away
				wantOpen(t, client, finn)
				time.Sleep(longer)
				finn.Change(func(b *fakefinn.Behaviour) { b.Trouble = fakefinn.Well })
				if _, err := get(t.Context(), client, "health"); err != nil || client.Circuit() != "closed" {
					t.Errorf("error %v, circuit %s", err, client.Circuit())
				}
				const event, service = "circuit_breaker_transition", "loa-finn"
				want := []transition{
					{event, "closed", "open", 5, service}, {event, "open", "half-open", 5, service},
					{event, "half-open", "open", 6, service}, {event, "open", "half-open", 6, service},
					{event, "half-open", "closed", 0, service},
				}
				if diff := cmp.Diff(want, log.transitions(t)); diff != "" {
					t.Errorf("log (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func wantOpen(t *testing.T, client *identity.Client, finn *fakefinn.Server) {
	t.Helper()
	asked := len(finn.Requests(""))
	for range 3 {
		_, err := get(t.Context(), client, "health")
		if !errors.Is(err, identity.ErrCircuitOpen) {
			t.Errorf("error %v with the circuit open", err)
		}
		wantUnavailable(t, err)
	}
	if client.Circuit() != "open" || len(finn.Requests("")) != asked {
		t.Errorf("circuit %s, %d more requests", client.Circuit(), len(finn.Requests(""))-asked)
	}
}

// TestAnswersAreNoFailures: wallets without an NFT do not keep others from theirs.
func TestAnswersAreNoFailures(t *testing.T) {
	t.Parallel()
	client := newClient(t, fakefinn.New())
	for range 100 {
		var status *identity.StatusError
		if _, err := get(t.Context(), client, "api", "memory", "nobody", "projection"); !errors.As(err, &status) || status.Status != 404 {
			t.Fatalf("error %v", err)
		}
	}
	if client.Circuit() != "closed" {
		t.Errorf("circuit %s", client.Circuit())
	}
}

// TestFailuresApart: failures count together within half a minute, and only in a
// row.
func TestFailuresApart(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		apart   time.Duration
		flap    bool
		circuit string
	}{
		"close":   {6 * time.Second, false, "open"},
		"apart":   {9 * time.Second, false, "closed"},
		"not all": {time.Second, true, "closed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				finn := newFinn(fakefinn.Down)
				if tt.flap {
					finn.Change(func(b *fakefinn.Behaviour) { b.Trouble = fakefinn.Flapping })
				}
				client := newClient(t, finn)
				for i := range 20 {
					_, _ = get(t.Context(), client, "health")
					if client.Circuit() == "open" {
						if i != 4 {
							t.Errorf("open after %d failures", i+1)
						}
						break
					}
					time.Sleep(tt.apart)
				}
				if client.Circuit() != tt.circuit {
					t.Errorf("circuit %s, want %s", client.Circuit(), tt.circuit)
				}
			})
		})
	}
}

// TestOneTrial: of those who come when the time is over, one is let through.
func TestOneTrial(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		finn := newFinn(fakefinn.Down)
		client := newClient(t, finn)
		for range 5 {
			_, _ = get(t.Context(), client, "health")
		}
		time.Sleep(longer)
		finn.Change(func(b *fakefinn.Behaviour) { b.Trouble, b.Delay = fakefinn.Slow, time.Second })
		var through, refused atomic.Int32
		var asking sync.WaitGroup
		for range 20 {
			asking.Go(func() {
				if _, err := get(t.Context(), client, "health"); err == nil {
					through.Add(1)
				} else if errors.Is(err, identity.ErrCircuitOpen) {
					refused.Add(1)
				}
			})
		}
		asking.Wait()
		if through.Load() != 1 || refused.Load() != 19 || client.Circuit() != "closed" {
			t.Errorf("%d were let through, %d refused, circuit %s", through.Load(), refused.Load(), client.Circuit())
		}
	})
}

// TestAbandonedTrial: a trial that nobody waited for, or that was never sent,
// leaves its place to the next.
func TestAbandonedTrial(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		finn := newFinn(fakefinn.Down)
		client := newClient(t, finn)
		for range 5 {
			_, _ = get(t.Context(), client, "health")
		}
		time.Sleep(longer)
		finn.Change(func(b *fakefinn.Behaviour) { b.Trouble, b.Delay = fakefinn.Slow, time.Second })
		ctx, leave := context.WithTimeout(t.Context(), time.Millisecond)
		defer leave()
		if _, err := get(ctx, client, "health"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the abandoned trial: %v", err)
		}
		if _, err := send(t.Context(), client, identity.Request{Method: http.MethodGet, Path: []string{".."}}); !errors.Is(err, identity.ErrPath) {
			t.Errorf("the trial that is no request: %v", err)
		}
		if _, err := get(t.Context(), client, "health"); err != nil || client.Circuit() != "closed" {
			t.Errorf("the next trial: %v, circuit %s", err, client.Circuit())
		}
	})
}
