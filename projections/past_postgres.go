package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"dixie/eventstore"
	"dixie/reputation"
)

var _ pastSource = (*Postgres)(nil)

func (p *Postgres) collectionOf(ctx context.Context, nft string) (collection string, err error) {
	err = p.pool.QueryRow(ctx, `SELECT collection_id FROM reputation_cohort_members WHERE nft_id = $1`, nft).Scan(&collection)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", reputation.ErrNotFound
	}
	return collection, unavailable("read the collection of an NFT", err)
}

func (p *Postgres) folded(ctx context.Context, nft string) (*reputation.Agent, int64, error) {
	var text []byte
	var position int64
	err := p.pool.QueryRow(ctx, `
		SELECT `+reachedAggregates+`, (SELECT folded FROM reputation_aggregates WHERE nft_id = $1)`,
		nft).Scan(&position, &text)
	if err != nil {
		return nil, 0, unavailable("read an agent", err)
	}
	if text == nil {
		return nil, 0, reputation.ErrNotFound
	}
	agent := &reputation.Agent{}
	if err := reputation.DecodeInto(text, agent); err != nil {
		return nil, 0, fmt.Errorf("the stored state of %s is damaged, rebuild the projection: %w", nft, err)
	}
	return agent, position, nil
}

const (
	// pastSettings keep a reading of the past from crowding out what is urgent: one
	// process of the server, which ends when nobody waits for it any more.
	pastSettings = `
		SELECT set_config('statement_timeout', $1, true), set_config('max_parallel_workers_per_gather', '0', true),
		       set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true)`

	// pastBounds are how far the cohorts projection has come, the collection of an
	// NFT, and the NFT's last event at or before a position.
	pastBounds = `
		SELECT (SELECT coalesce(max(position), 0) FROM projection_checkpoints WHERE projection = 'cohorts'),
		       (SELECT collection_id FROM reputation_cohort_members WHERE nft_id = $1), e.position, e.created_at
		  FROM (SELECT) AS one
		  LEFT JOIN LATERAL (
		       SELECT position, created_at FROM reputation_events
		        WHERE nft_id = $1 AND created_at <= (
		              SELECT created_at FROM reputation_events WHERE position <= $2 ORDER BY position DESC LIMIT 1)
		        ORDER BY created_at DESC LIMIT 1) AS e ON true`

	// pastCount counts the events of a collection up to a time, and no further than
	// a limit, from indexes alone.
	pastCount = `
		SELECT count(*) FROM (
		       SELECT FROM reputation_cohort_members AS m JOIN reputation_events AS e USING (nft_id)
		        WHERE m.collection_id = $1 AND e.created_at <= $2 LIMIT $3) AS found`

	// pastEvents finds the events of a collection by its members. An index of the
	// log by collection would be shorter, but every append would pay for it.
	pastEvents = `
		SELECT e.position, e.nft_id, e.created_at, e.event::text
		  FROM reputation_cohort_members AS m JOIN reputation_events AS e USING (nft_id)
		 WHERE m.collection_id = $1 AND e.position <= $2
		 ORDER BY e.position`
)

func (p *Postgres) collectionHistory(
	ctx context.Context, nft string, until, most int64, fold func(collection string, e *eventstore.PageEvent) error,
) error {
	// Each statement sees what is committed when it has its tables. One snapshot for
	// all would miss the last rows of a table that a rebuild has put in place since.
	// And one is not needed: what lies before the bounds does not change, and members
	// only come.
	tx, err := p.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadOnly})
	if err != nil {
		return unavailable("begin to read the past", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, pastSettings, timeLeft(ctx)); err != nil {
		return unavailable("set the reading up", err)
	}
	collection, last, err := bounds(ctx, tx, nft, until)
	if err != nil || last.position == 0 {
		return err
	}
	var count int64
	if err := tx.QueryRow(ctx, pastCount, collection, last.at, most+1).Scan(&count); err != nil {
		return unavailable("count events", err)
	}
	if count > most {
		return &reputation.HistoryTooLongError{Most: most}
	}
	rows, err := tx.Query(ctx, pastEvents, collection, last.position)
	if err != nil {
		return unavailable("read a collection's events", err)
	}
	return foldRows(rows, func(e *eventstore.PageEvent) error { return fold(collection, e) })
}

// timeLeft is the time until ctx ends as PostgreSQL spells it, so that the server
// gives up when the client has, and a moment later; 0 when ctx does not end.
func timeLeft(ctx context.Context) string {
	deadline, ok := ctx.Deadline()
	if !ok {
		return "0"
	}
	return fmt.Sprintf("%dms", max(0, time.Until(deadline)).Milliseconds()+1000)
}

// place is where in the log an event is; zero when there is none.
type place struct {
	position int64
	at       time.Time
}

// bounds are the collection of an NFT and the place of its last event at or before
// a position.
func bounds(ctx context.Context, tx pgx.Tx, nft string, until int64) (collection string, last place, err error) {
	var reached int64
	var member *string
	var position *int64
	var at *time.Time
	if err := tx.QueryRow(ctx, pastBounds, nft, until).Scan(&reached, &member, &position, &at); err != nil {
		return "", place{}, unavailable("find the last event of an NFT", err)
	}
	switch {
	case reached < until:
		return "", place{}, fmt.Errorf("%w: %s is at position %d, not at %d", ErrBehind, Cohorts, reached, until)
	case member == nil:
		return "", place{}, reputation.ErrNotFound
	case position == nil:
		return *member, place{}, nil
	}
	return *member, place{*position, *at}, nil
}

// foldRows decodes events and folds them one by one.
func foldRows(rows pgx.Rows, fold func(*eventstore.PageEvent) error) error {
	defer rows.Close()
	for rows.Next() {
		var e eventstore.PageEvent
		if err := rows.Scan(&e.Position, &e.NFT, &e.CreatedAt, nil); err != nil {
			return fmt.Errorf("scan an event: %w", err)
		}
		e.CreatedAt = e.CreatedAt.UTC()
		e.JSON = rows.RawValues()[3] // the driver's, and decoding keeps nothing of it
		e.Event, e.Err = e.Recorded.Event()
		if err := fold(&e); err != nil {
			return err
		}
	}
	rows.Close()
	return unavailable("read a collection's events", rows.Err())
}
