package projections

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"dixie/eventstore"
	"dixie/reputation"
)

// lastRebuilds reads the last rebuild of each projection. One that has not finished
// is running if its session holds the lock.
var lastRebuilds = `
	SELECT r.projection, r.stage, r.version, r.holder, r.waits_for, r.started_at, coalesce(r.finished_at, r.updated_at),
	       r.position, r.head, coalesce(r.failure, ''), coalesce(r.nfts, 0), coalesce(r.set_aside, 0),
	       CASE WHEN r.failure IS NOT NULL THEN 'failed'
	            WHEN r.finished_at IS NOT NULL THEN 'done'
	            WHEN ` + holdsLock(rebuildLock, `r.projection`, `r.pid`) + `
	            THEN 'running'
	            ELSE 'interrupted' END
	  FROM projection_rebuilds AS r
	 ORDER BY r.projection`

// LastRebuilds returns for each projection the rebuild that is running, in this or
// any other process, or else the last one. Those that have had none are missing.
func (p *Postgres) LastRebuilds(ctx context.Context) ([]Rebuilding, error) {
	rows, err := p.pool.Query(ctx, lastRebuilds)
	if err != nil {
		return nil, unavailable("list rebuilds", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Rebuilding, err error) {
		err = row.Scan(&r.Projection, &r.Stage, &r.Version, &r.Holder, &r.WaitsFor, &r.StartedAt, &r.UpdatedAt,
			&r.Position, &r.Head, &r.Failure, &r.NFTs, &r.SetAside, &r.State)
		return r, err
	})
	return all, unavailable("list rebuilds", err)
}

// Rebuilds returns the rebuilds that are running, in this or any other process.
func (p *Postgres) Rebuilds(ctx context.Context) ([]Rebuilding, error) {
	all, err := p.LastRebuilds(ctx)
	var running []Rebuilding
	for _, one := range all {
		if one.State == reputation.RebuildRunning {
			running = append(running, one)
		}
	}
	return running, err
}

// claim returns a connection that holds the locks of the projections, and notes
// who holds them. The error is a [*RebuildingError] when another one does.
func (p *Postgres) claim(ctx context.Context, config RebuildConfig) (*pgx.Conn, error) {
	pooled, err := p.pool.Acquire(ctx)
	if err != nil {
		return nil, unavailable("connect", err)
	}
	conn := pooled.Hijack() // for its session must not go back to the pool
	err = claimWith(ctx, conn, config)
	var refused *RebuildingError
	if errors.As(err, &refused) {
		err = p.refusal(ctx, refused.Projection)
	}
	if err != nil {
		releaseRebuilds(conn)
		return nil, err
	}
	return conn, nil
}

// releaseRebuilds closes a connection that may hold locks. They are given back
// first, as PostgreSQL ends a session a moment after its client has hung up.
func releaseRebuilds(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if !conn.IsClosed() {
		_, _ = conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`)
	}
	closeConn(conn)
}

func claimWith(ctx context.Context, conn *pgx.Conn, config RebuildConfig) error {
	if _, err := conn.Exec(ctx, rebuildSettings); err != nil {
		return unavailable("set the rebuild up", err)
	}
	for _, name := range config.Projections {
		locked, err := lockRebuild(ctx, conn, name)
		if err != nil {
			return err
		}
		if !locked {
			return &RebuildingError{Rebuild: Rebuilding{Projection: name}}
		}
	}
	_, err := conn.Exec(ctx, `
		INSERT INTO projection_rebuilds (projection, version, holder, pid, stage)
		SELECT name, $2, $3, pg_backend_pid(), $4 FROM unnest($1::text[]) AS name
		ON CONFLICT (projection) DO UPDATE SET
			version = excluded.version, holder = excluded.holder, pid = excluded.pid, stage = excluded.stage, waits_for = '',
			started_at = now(), position = 0, head = 0, updated_at = now(),
			finished_at = NULL, failure = NULL, nfts = NULL, set_aside = NULL`,
		config.Projections, config.Params.Version(), config.Holder, reputation.StageFolding)
	return unavailable("note the rebuild", err)
}

// lockRebuild takes the lock of a projection. The other one that it takes for a
// moment is that of a session which loads tables apart from the one that held the
// lock before; it may end a little later.
func lockRebuild(ctx context.Context, conn *pgx.Conn, projection string) (locked bool, err error) {
	err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(`+rebuildLock+`, hashtext($1))`, projection).Scan(&locked)
	if err == nil && locked {
		_, err = conn.Exec(ctx, lockLoading, projection)
	}
	return locked, unavailable("lock the rebuild", err)
}

// refusal tells who rebuilds a projection. Whoever has the lock notes it a moment
// later.
func (p *Postgres) refusal(ctx context.Context, projection string) error {
	for range 20 {
		all, err := p.Rebuilds(ctx)
		if err != nil {
			return err
		}
		for _, one := range all {
			if one.Projection == projection {
				return &RebuildingError{Rebuild: one}
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return &RebuildingError{Rebuild: Rebuilding{Projection: projection}}
}

// abandon clears up after a failure, if it can: the next rebuild does so too. An
// end of ctx has broken the connection, and then its locks have to be taken again.
func (r *rebuild) abandon(ctx context.Context, p *Postgres, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
	defer cancel()
	err := errors.New("the connection is closed")
	if !r.conn.IsClosed() {
		err = r.leave(ctx, r.conn, cause)
	}
	if err != nil {
		err = r.leaveAnew(ctx, p, cause)
	}
	if err != nil {
		r.Logger.WarnContext(ctx, "tables of a rebuild were left behind, the next one will remove them", "error", err)
	}
}

// leave removes the tables of the rebuild and notes why it failed.
func (r *rebuild) leave(ctx context.Context, conn *pgx.Conn, cause error) error {
	if err := r.clear(ctx, conn); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, `
		UPDATE projection_rebuilds SET failure = $2, finished_at = now(), waits_for = '' WHERE projection = ANY ($1) AND pid = $3`,
		r.Projections, failureOf(cause), r.pid())
	return unavailable("note the failure of the rebuild", err)
}

// failureOf is what an error tells operators who have not seen the log. What
// PostgreSQL says stays there, as it may repeat what is in rows.
func failureOf(err error) string {
	var obstacle *ObstacleError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "its process was told to stop"
	case errors.As(err, &obstacle), errors.Is(err, eventstore.ErrGap), errors.Is(err, errDrifted):
		return err.Error()
	}
	return "the database refused something or could not be reached, the log of the process has more"
}

// leaveAnew does so on a new connection. The session of the old one may not have
// noticed yet that nobody is there. When another rebuild has the lock, it has
// cleared up.
func (r *rebuild) leaveAnew(ctx context.Context, p *Postgres, cause error) error {
	pooled, err := p.pool.Acquire(ctx)
	if err != nil {
		return unavailable("connect", err)
	}
	conn := pooled.Hijack() // its locks end with it
	defer releaseRebuilds(conn)
	for _, name := range r.Projections {
		if locked, err := r.lockAnew(ctx, conn, name); err != nil || !locked {
			return err
		}
	}
	return r.leave(ctx, conn, cause)
}

// lockAnew takes a lock that the old session may still hold. It is false when
// another rebuild has it.
func (r *rebuild) lockAnew(ctx context.Context, conn *pgx.Conn, projection string) (locked bool, err error) {
	for ended := false; ; {
		locked, err = lockRebuild(ctx, conn, projection)
		if err != nil || locked || ended {
			return locked, err
		}
		if ended, err = r.endSession(ctx, conn); err != nil {
			return false, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// endSession ends the session of the rebuild if it still holds a lock, and tells
// whether it has ended.
func (r *rebuild) endSession(ctx context.Context, conn *pgx.Conn) (ended bool, err error) {
	err = conn.QueryRow(ctx, `
		SELECT count(pg_terminate_backend(pid)) = 0 FROM pg_locks
		 WHERE locktype = 'advisory' AND granted AND classid = `+rebuildLock+` AND pid = $1
		   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, r.pid()).Scan(&ended)
	return ended, unavailable("end the session of the rebuild", err)
}

// pid is the session that held the locks.
func (r *rebuild) pid() int64 { return int64(r.conn.PgConn().PID()) }
