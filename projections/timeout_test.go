package projections_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

// TestTimeouts waits for the timeouts of a projector's session, up to 20 s. All
// cases wait at once, as each would keep another test from running meanwhile.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes longer than 20 s")
	}
	checks := []func(){idleLease(t), lockedRow(t), hangingProcess(t)}
	for _, check := range checks {
		check()
	}
}

// idleLease: a projector that has nothing to do outlives the time after which
// PostgreSQL ends silent sessions.
func idleLease(t *testing.T) (check func()) {
	p := open(t)
	both := p.Projectors(reputation.DefaultParams(), 0)
	projectionstest.Run(t, both...)
	projectionstest.AwaitState(t, projections.Running, both...)
	const sessions = `SELECT coalesce(string_agg(pid::text, ' ' ORDER BY pid), '') FROM (` + projectors + `) AS p`
	before, until := query[string](t, p.pool, sessions), time.Now().Add(22*time.Second)
	return func() {
		time.Sleep(time.Until(until))
		projectionstest.AwaitState(t, projections.Running, both...)
		if after := query[string](t, p.pool, sessions); after != before {
			t.Errorf("the sessions were %s and are %s", before, after)
		}
		p.Append(t, projectionstest.Signal("bear-1", 0.5))
		p.checkTables(t)
	}
}

// lockedRow: somebody holds a row for longer than a page waits for it. Nothing is
// lost, and what they have put is replaced.
func lockedRow(t *testing.T) (check func()) {
	p := open(t)
	both := p.Projectors(reputation.DefaultParams(), 0)
	projectionstest.Run(t, both...)
	p.Append(t, projectionstest.Signal("bear-1", 0.5), projectionstest.Signal("bear-2", 0.5))
	p.Settle(t)
	tx, err := p.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	exec(t, tx, `UPDATE reputation_aggregates SET aggregate = '{}', state = 'cold' WHERE nft_id = 'bear-1'`)
	head := p.Append(t, projectionstest.Signal("bear-2", 1), projectionstest.Signal("bear-1", 1))
	p.Await(t, head, projections.Cohorts)
	projectionstest.Eventually(t, "the page waits for the row", func() bool {
		return query[int](t, p.pool, `SELECT count(*) FROM (`+projectors+`) AS p WHERE waits`) == 1
	})
	return func() {
		projectionstest.AwaitState(t, projections.Retrying, both[0])
		if _, err := both[0].State(); !strings.Contains(err.Error(), "lock timeout") {
			t.Errorf("error %v", err)
		}
		if score, err := p.Reader.Score(t.Context(), "bear-2"); err != nil || score.Position != 2 || *score.Value != 0.5 {
			t.Errorf("score %v as of %d, error %v", score.Value, score.Position, err)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Error(err)
		}
		p.checkTables(t)
	}
}

// hangingProcess: a process that hangs while it is the projector loses the lease.
// When it goes on it stands by, and has written nothing meanwhile.
func hangingProcess(t *testing.T) (check func()) {
	var hang hang
	hanging := open(t, hang.option)
	healthy := hanging.another(t)
	first := hanging.Projectors(reputation.DefaultParams(), 20)
	projectionstest.Run(t, first...)
	projectionstest.AwaitState(t, projections.Running, first...)
	second := healthy.Projectors(reputation.DefaultParams(), 20)
	projectionstest.Run(t, second...)
	stopLoad := healthy.load(t)
	healthy.Await(t, 100, projections.Names...)

	hang.Lock()
	resume := sync.OnceFunc(hang.Unlock)
	t.Cleanup(resume) // before the projectors are stopped
	stopLoad()
	return func() {
		projectionstest.AwaitState(t, projections.Running, second...)
		healthy.checkTables(t)
		resume()
		projectionstest.AwaitState(t, projections.Standby, first...)
		healthy.Append(t, projectionstest.Signal("bear-z", 0.5))
		healthy.checkTables(t)
	}
}

// hang makes all connections of a process hang while it is locked, as if the
// process was paused.
type hang struct{ sync.RWMutex }

func (h *hang) option(config *pgxpool.Config) {
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return hangingConn{conn, h}, err
	}
}

func (h *hang) wait() {
	h.RLock()
	defer h.RUnlock()
}

type hangingConn struct {
	net.Conn
	hang *hang
}

func (c hangingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.hang.wait()
	return n, err
}

func (c hangingConn) Write(b []byte) (int, error) {
	c.hang.wait()
	return c.Conn.Write(b)
}
