package eventstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/internal/broadcast"
)

// notifyChannel is what the table's trigger notifies on.
const notifyChannel = "reputation_events"

// planAnew has PostgreSQL plan a statement for each execution, still in one round
// trip. A plan that a session made and kept while the log was short scans all of
// it, and goes on doing so while the log grows, until statistics are gathered.
const planAnew = pgx.QueryExecModeCacheDescribe

// Postgres is a log in the table reputation_events. Use [OpenPostgres].
type Postgres struct {
	pool     *pgxpool.Pool
	logger   *slog.Logger
	changed  broadcast.Signal
	appender *appender

	stop context.CancelFunc
	done sync.WaitGroup
}

var _ Store = (*Postgres)(nil)

// OpenPostgres returns the log of a migrated database. It keeps one connection
// of the pool to listen for appends of other processes; the caller closes the log
// before the pool. Observers are told of the batches that it writes.
func OpenPostgres(pool *pgxpool.Pool, logger *slog.Logger, observers ...Observer) *Postgres {
	ctx, stop := context.WithCancel(context.Background())
	p := &Postgres{pool: pool, logger: logger, stop: stop}
	p.appender = newAppender(p.write, observers...)
	p.done.Go(p.appender.run)
	p.done.Go(func() { p.listen(ctx) })
	return p
}

// ReadPostgres returns the log of a migrated database for reading only: it starts
// no goroutine, its Append fails with [ErrClosed], and Changed never fires.
func ReadPostgres(pool *pgxpool.Pool) *Postgres {
	p := &Postgres{pool: pool, stop: func() {}}
	p.appender = newAppender(p.write)
	p.appender.close()
	return p
}

// Close writes what is queued, refuses further appends with [ErrClosed], and
// waits for the log's goroutines to end.
func (p *Postgres) Close() { p.Shutdown(context.Background()) }

// Shutdown is Close, but what is not written when ctx ends is given up: it fails with
// [ErrUnavailable], and may or may not be stored. Somebody else may hold the log for
// longer than a process has that is to end.
func (p *Postgres) Shutdown(ctx context.Context) {
	defer context.AfterFunc(ctx, p.appender.giveUp)()
	p.appender.close()
	p.stop()
	p.done.Wait()
	p.appender.giveUp()
}

// Changed implements [Store].
func (p *Postgres) Changed() <-chan struct{} { return p.changed.Changed() }

// Head implements [Store].
func (p *Postgres) Head(ctx context.Context) (int64, error) {
	var head int64
	err := p.pool.QueryRow(ctx, `SELECT coalesce(max(position), 0) FROM reputation_events`, planAnew).Scan(&head)
	if err != nil {
		return 0, unavailable("read the log's head", err)
	}
	return head, nil
}

// positionAt halves the log until one position is left: times of storing are in the
// order of the positions, which only the primary key has an index of. Numbers
// without an event count as later.
const positionAt = `
	WITH RECURSIVE search AS (
		SELECT 0::bigint AS low, (SELECT coalesce(max(position), 0) FROM reputation_events) AS high
		UNION ALL
		SELECT CASE WHEN e.created_at <= $1 THEN middle ELSE low END, CASE WHEN e.created_at <= $1 THEN high ELSE middle - 1 END
		  FROM search
		 CROSS JOIN LATERAL (SELECT (low + high + 1) / 2 AS middle) AS m
		  LEFT JOIN LATERAL (SELECT created_at FROM reputation_events WHERE position = middle) AS e ON true
		 WHERE low < high
	)
	SELECT low FROM search WHERE low = high`

// PositionAt is the position of the last event that was stored at a time or before
// it, and 0 when there is none.
func (p *Postgres) PositionAt(ctx context.Context, at time.Time) (position int64, err error) {
	err = p.pool.QueryRow(ctx, positionAt, planAnew, at.Truncate(time.Microsecond)).Scan(&position)
	if err != nil {
		return 0, unavailable("find a time in the log", err)
	}
	return position, nil
}

// Read implements [Store].
func (p *Postgres) Read(ctx context.Context, after int64, limit int) ([]Recorded, error) {
	rows, err := p.pool.Query(ctx, `
		SELECT position, nft_id, event_type, created_at, event
		  FROM reputation_events WHERE position > $1 ORDER BY position LIMIT $2`, planAnew, after, limit)
	if err != nil {
		return nil, unavailable("read the log", err)
	}
	return collect(rows)
}

// History implements [Store]. It pages by created_at, whose order is that of the
// positions, so that one index serves this query and the one that other programs
// use.
func (p *Postgres) History(ctx context.Context, nft string, after int64, limit int) ([]Recorded, error) {
	rows, err := p.pool.Query(ctx, `
		SELECT position, nft_id, event_type, created_at, event
		  FROM reputation_events
		 WHERE nft_id = $1
		   AND created_at > coalesce(
		       (SELECT created_at FROM reputation_events WHERE position <= $2 ORDER BY position DESC LIMIT 1),
		       '-infinity')
		 ORDER BY created_at LIMIT $3`, planAnew, nft, after, limit)
	if err != nil {
		return nil, unavailable("read the history", err)
	}
	return collect(rows)
}

// collect reads rows until there are none or the page is heavy enough.
func collect(rows pgx.Rows) ([]Recorded, error) {
	defer rows.Close()
	var page []Recorded
	bytes := 0
	for bytes < maxPageBytes && rows.Next() {
		var r Recorded
		if err := rows.Scan(&r.Position, &r.NFT, &r.Type, &r.CreatedAt, &r.JSON); err != nil {
			return nil, fmt.Errorf("scan an event: %w", err)
		}
		r.CreatedAt = r.CreatedAt.UTC()
		bytes += len(r.JSON)
		page = append(page, r)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, unavailable("read events", err)
	}
	return page, nil
}

// listen wakes readers when another process appends. Notifications that are lost
// while the connection is are made up for by one wake after each reconnection,
// and by the readers' polling.
func (p *Postgres) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := p.listenOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		p.logger.WarnContext(ctx, "listening for appends interrupted, readers poll", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pollInterval):
		}
	}
}

func (p *Postgres) listenOnce(ctx context.Context) error {
	pooled, err := p.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	// The connection keeps listening, so it must not go back to the pool.
	conn := pooled.Hijack()
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+notifyChannel); err != nil {
		return err
	}
	p.changed.Wake()
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
		p.changed.Wake()
	}
}

// unavailable wraps an error of the database so that it matches [ErrUnavailable]
// when trying again can help, and keeps the driver's error for the log.
func unavailable(what string, err error) error {
	if isData(err) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
}

// isData reports whether the database refused the values that it was given, so
// that giving them again cannot help: SQLSTATE classes 22 (data exception),
// 23 (integrity constraint) and 54 (limit exceeded).
func isData(err error) bool {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return false
	}
	switch pgErr.Code[:2] {
	case "22", "23", "54":
		return true
	}
	return false
}
