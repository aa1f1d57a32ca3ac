package e2e

import (
	"net/http"
	"testing"
)

// health is the part of the health that the tests look at.
type health struct {
	Status   string
	Services map[string]struct {
		Status  string
		Circuit string `json:"circuit_state"`
	}
	Infrastructure map[string]struct{ Status, Detail string }
	Reputation     struct {
		Initialized bool
		Aggregates  *int64 `json:"aggregate_count"`
		Store       string `json:"store_type"`
		PoolTotal   *int64 `json:"pool_total"`
		PoolIdle    *int64 `json:"pool_idle"`
		PoolWaiting *int64 `json:"pool_waiting"`
	} `json:"reputation_service"`
	Projections map[string]struct {
		State          string
		Position, Head int64
	}
}

func (c *client) health() (h health) {
	c.t.Helper()
	c.get("/api/health").want(http.StatusOK).into(&h)
	return h
}

// TestHealth: the service keeps its events in PostgreSQL, and says so to anyone.
func TestHealth(t *testing.T) {
	t.Parallel()
	for _, url := range doors(t) {
		c := anyone(t, url)
		c.get("/livez").want(http.StatusOK)
		c.get("/readyz").want(http.StatusOK)
		h := c.health()
		if h.Infrastructure["postgresql"].Status != "healthy" {
			t.Errorf("%s: the database is %+v", url, h.Infrastructure["postgresql"])
		}
		r := h.Reputation
		if !r.Initialized || r.Store != "postgres" || r.Aggregates == nil || r.PoolTotal == nil || r.PoolIdle == nil || r.PoolWaiting == nil {
			t.Errorf("%s: the reputation service is %+v", url, r)
		} else if *r.PoolTotal < 1 {
			t.Errorf("%s: the pool has no connection", url)
		}
		for _, name := range []string{"aggregates", "cohorts"} {
			if state := h.Projections[name].State; state != "running" && state != "standby" {
				t.Errorf("%s: the projector of %s is %q", url, name, state)
			}
		}
	}
}

// TestOneProjector: of the replicas, one projects and the others stand by.
func TestOneProjector(t *testing.T) {
	t.Parallel()
	urls := replicas(t)
	for _, name := range []string{"aggregates", "cohorts"} {
		eventually(t, "one replica projects "+name, func() bool {
			running := 0
			for _, url := range urls {
				if anyone(t, url).health().Projections[name].State == "running" {
					running++
				}
			}
			return running == 1
		})
	}
}
