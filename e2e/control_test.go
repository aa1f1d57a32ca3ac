package e2e

import (
	"context"
	"fmt"
	"net/http"
	"testing"
)

// control does to a deployment what an operator or an accident does.
type control struct {
	*client
	databaseAway *bool
}

// controlled is the control of the deployment, with which every replica is left as
// it was found: whatever the test has changed about it is undone in the end.
func controlled(t *testing.T) control {
	t.Helper()
	return control{anyone(t, variable(t, controlVariable)), new(bool)}
}

// order is how a replica is restarted: ended by TERM or KILL, started with further
// variables.
type order struct {
	Signal string            `json:"signal"`
	Env    map[string]string `json:"env"`
}

// restart restarts a replica, counted from 1, and returns when it is ready. A
// replica that is asked to stop has to do so without complaint.
func (c control) restart(n int, o order) {
	c.t.Helper()
	if err := c.tryRestart(c.t.Context(), n, o); err != nil {
		c.t.Fatal(err)
	}
}

func (c control) tryRestart(ctx context.Context, n int, o order) error {
	a, err := c.try(ctx, http.MethodPost, fmt.Sprintf("/replicas/%d/restart", n), o)
	if err != nil {
		return fmt.Errorf("restart replica %d: %w", n, err)
	}
	if a.Status != http.StatusOK {
		return fmt.Errorf("restart replica %d: %d %s", n, a.Status, a.Body)
	}
	var done struct {
		ExitCode int `json:"exit_code"`
	}
	if a.into(&done); done.ExitCode != 0 && o.Signal != "KILL" {
		return fmt.Errorf("replica %d ended with exit code %d", n, done.ExitCode)
	}
	return nil
}

// configure restarts a replica with variables, and returns a client of it. After
// the test it is restarted without them.
func (c control) configure(t *testing.T, n int, env map[string]string) *client {
	t.Helper()
	urls := replicas(t)
	c.restart(n, order{Env: env})
	t.Cleanup(func() {
		ctx, cancel := cleaning()
		defer cancel()
		if err := c.tryRestart(ctx, n, order{}); err != nil {
			t.Error(err)
		}
	})
	return anyone(t, urls[n-1])
}

// killDatabase ends PostgreSQL as a crash does. After the test it runs, whatever
// became of that.
func (c control) killDatabase(t *testing.T) {
	t.Helper()
	*c.databaseAway = true
	t.Cleanup(func() {
		ctx, cancel := cleaning()
		defer cancel()
		if err := c.tryRestartDatabase(ctx); *c.databaseAway {
			t.Error(err)
		}
	})
	c.post("/database/kill", nil).want(http.StatusOK)
}

func (c control) restartDatabase() {
	c.t.Helper()
	if err := c.tryRestartDatabase(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
}

func (c control) tryRestartDatabase(ctx context.Context) error {
	if !*c.databaseAway {
		return nil
	}
	a, err := c.try(ctx, http.MethodPost, "/database/restart", nil)
	if err != nil || a.Status != http.StatusOK {
		return fmt.Errorf("restart the database: %+v, %w", a, err)
	}
	*c.databaseAway = false
	return nil
}
