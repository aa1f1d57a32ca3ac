package projections

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// Rebuilding is a rebuild that is running.
type Rebuilding struct {
	Projection string
	Version    string // that it gives the rows
	Holder     string // host and process
	StartedAt  time.Time
	Position   int64 // folded, a second ago or so
	Head       int64 // of the log
}

// running reads rebuilds. Rows whose session does not hold the lock were left by a
// rebuild that was killed.
const running = `
	SELECT r.projection, r.version, r.holder, r.started_at, r.position, r.head
	  FROM projection_rebuilds AS r
	 WHERE EXISTS (
	       SELECT FROM pg_locks AS l
	        WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 1684633707
	          AND l.objid = (hashtext(r.projection)::bigint & 4294967295)::oid
	          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
	 ORDER BY r.projection`

// Rebuilds returns the rebuilds that are running, in this or any other process.
func (p *Postgres) Rebuilds(ctx context.Context) ([]Rebuilding, error) {
	rows, err := p.pool.Query(ctx, running)
	if err != nil {
		return nil, unavailable("list rebuilds", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Rebuilding])
	return all, unavailable("list rebuilds", err)
}

// claim returns a connection that holds the locks of the projections, and notes
// who holds them. The error is a [*RebuildingError] when another one does. Key
// (1684633707, hash of the name).
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
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
		return nil, err
	}
	return conn, nil
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
			return &RebuildingError{Rebuilding{Projection: name}}
		}
	}
	_, err := conn.Exec(ctx, `
		INSERT INTO projection_rebuilds (projection, version, holder)
		SELECT name, $2, $3 FROM unnest($1::text[]) AS name
		ON CONFLICT (projection) DO UPDATE SET
			version = excluded.version, holder = excluded.holder, started_at = now(), position = 0, head = 0, updated_at = now()`,
		config.Projections, config.Params.Version(), config.Holder)
	return unavailable("note the rebuild", err)
}

func lockRebuild(ctx context.Context, conn *pgx.Conn, projection string) (locked bool, err error) {
	err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(1684633707, hashtext($1))`, projection).Scan(&locked)
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
				return &RebuildingError{one}
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return &RebuildingError{Rebuilding{Projection: projection}}
}

// abandon clears up after a failure, if it can: the next rebuild does so too. An
// end of ctx has broken the connection, and then its locks have to be taken again.
func (r *rebuild) abandon(ctx context.Context, p *Postgres) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
	defer cancel()
	err := errors.New("the connection is closed")
	if !r.conn.IsClosed() {
		err = r.leave(ctx, r.conn)
	}
	if err != nil {
		err = r.leaveAnew(ctx, p)
	}
	if err != nil {
		r.Logger.WarnContext(ctx, "tables of a rebuild were left behind, the next one will remove them", "error", err)
	}
}

// leave removes the tables and the note of the rebuild.
func (r *rebuild) leave(ctx context.Context, conn *pgx.Conn) error {
	if err := r.clear(ctx, conn); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, `DELETE FROM projection_rebuilds WHERE projection = ANY ($1)`, r.Projections)
	return unavailable("remove the note of the rebuild", err)
}

// leaveAnew does so on a new connection, when the session of the old one has
// ended.
func (r *rebuild) leaveAnew(ctx context.Context, p *Postgres) error {
	pooled, err := p.pool.Acquire(ctx)
	if err != nil {
		return unavailable("connect", err)
	}
	conn := pooled.Hijack() // its locks end with it
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, name := range r.Projections {
		for {
			locked, err := lockRebuild(ctx, conn, name)
			if err != nil {
				return err
			}
			if locked {
				break
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return r.leave(ctx, conn)
}
