package projections

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/reputation"
)

// Postgres keeps rows in the tables of a migrated database. Use [NewPostgres].
type Postgres struct {
	pool       *pgxpool.Pool
	progress   *progress
	freshness  *freshness
	publishing atomic.Bool // by this process
}

var (
	_ Store   = (*Postgres)(nil)
	_ Reader  = (*Postgres)(nil)
	_ backend = (*Postgres)(nil)
)

// NewPostgres returns the rows of a migrated database. A projector of it keeps
// one connection of the pool.
func NewPostgres(pool *pgxpool.Pool) *Postgres {
	p := &Postgres{pool: pool, freshness: newFreshness(pool)}
	p.progress = newProgress(p.positions)
	return p
}

func (p *Postgres) positions(ctx context.Context) (map[string]int64, error) {
	rows, err := p.pool.Query(ctx, `SELECT projection, position FROM projection_checkpoints`)
	if err != nil {
		return nil, unavailable("read the checkpoints", err)
	}
	positions := map[string]int64{}
	var name string
	var position int64
	_, err = pgx.ForEachRow(rows, []any{&name, &position}, func() error {
		positions[name] = position
		return nil
	})
	if err != nil {
		return nil, unavailable("read the checkpoints", err)
	}
	return positions, nil
}

// Aggregate implements [Store].
func (p *Postgres) Aggregate(ctx context.Context, nft string) (reputation.Aggregate, error) {
	var aggregate reputation.Aggregate
	err := p.decodeRow(ctx, &aggregate, `SELECT aggregate FROM reputation_aggregates WHERE nft_id = $1`, nft)
	return aggregate, err
}

// PutAggregate implements [Store].
func (p *Postgres) PutAggregate(ctx context.Context, nft string, aggregate reputation.Aggregate) error {
	text, err := reputation.Encode(aggregate)
	if err != nil {
		return err
	}
	_, err = p.pool.Exec(ctx, `
		INSERT INTO reputation_aggregates (nft_id, state, aggregate) VALUES ($1, $2, $3)
		ON CONFLICT (nft_id) DO UPDATE SET state = $2, aggregate = $3, updated_at = now()`,
		nft, string(aggregate.State), text)
	p.freshness.forget()
	return unavailable("put an aggregate", err)
}

// ColdAggregates implements [Store].
func (p *Postgres) ColdAggregates(ctx context.Context) iter.Seq2[StoredAggregate, error] {
	return aggregatePages(ctx, p.listAggregates, reputation.StateCold)
}

// AllAggregates implements [Store].
func (p *Postgres) AllAggregates(ctx context.Context) iter.Seq2[StoredAggregate, error] {
	return aggregatePages(ctx, p.listAggregates, "")
}

func (p *Postgres) listAggregates(ctx context.Context, state reputation.State, after string, limit int) ([]StoredAggregate, error) {
	query, args := `SELECT nft_id, aggregate, updated_at FROM reputation_aggregates
		WHERE nft_id > $1 ORDER BY nft_id LIMIT $2`, []any{after, limit}
	if state != "" {
		query, args = `SELECT nft_id, aggregate, updated_at FROM reputation_aggregates
			WHERE nft_id > $1 AND state = $3 ORDER BY nft_id LIMIT $2`, append(args, string(state))
	}
	rows, err := p.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, unavailable("list aggregates", err)
	}
	page, err := pgx.CollectRows(rows, scanAggregate)
	return page, unavailable("list aggregates", err)
}

func scanAggregate(row pgx.CollectableRow) (s StoredAggregate, err error) {
	var text []byte
	if err := row.Scan(&s.NFT, &text, &s.UpdatedAt); err != nil {
		return s, err
	}
	if err := reputation.DecodeInto(text, &s.Aggregate); err != nil {
		return s, fmt.Errorf("aggregate of %s: %w", s.NFT, err)
	}
	return s, nil
}

// Count implements [Store].
func (p *Postgres) Count(ctx context.Context) (int64, error) {
	var count int64
	err := p.pool.QueryRow(ctx, `SELECT COUNT(*) FROM reputation_aggregates`).Scan(&count)
	return count, unavailable("count aggregates", err)
}

// TaskCohort implements [Store].
func (p *Postgres) TaskCohort(ctx context.Context, nft string, key reputation.CohortKey) (reputation.TaskCohort, error) {
	var cohort reputation.TaskCohort
	err := p.decodeRow(ctx, &cohort, `
		SELECT cohort FROM reputation_task_cohorts WHERE nft_id = $1 AND model_id = $2 AND task_type = $3`,
		nft, key.Model, string(key.Task))
	return cohort, err
}

// PutTaskCohort implements [Store].
func (p *Postgres) PutTaskCohort(ctx context.Context, nft string, cohort reputation.TaskCohort) error {
	text, err := reputation.Encode(cohort)
	if err != nil {
		return err
	}
	_, err = p.pool.Exec(ctx, `
		INSERT INTO reputation_task_cohorts (nft_id, model_id, task_type, cohort) VALUES ($1, $2, $3, $4)
		ON CONFLICT (nft_id, model_id, task_type) DO UPDATE SET cohort = $4, updated_at = now()`,
		nft, cohort.ModelID, string(cohort.TaskType), text)
	p.freshness.forget()
	return unavailable("put a task cohort", err)
}

// decodeRow reads one JSON value; [reputation.ErrNotFound] when there is no row.
func (p *Postgres) decodeRow(ctx context.Context, v any, query string, args ...any) error {
	var text []byte
	err := p.pool.QueryRow(ctx, query, args...).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return reputation.ErrNotFound
	}
	if err != nil {
		return unavailable("read a row", err)
	}
	return reputation.DecodeInto(text, v)
}

// SQL for the position that the aggregates, or both projections, have reached; 0 while
// there is no checkpoint. Names stand in it: with a list of them as a parameter
// PostgreSQL takes the plan that it could keep for a costly one, and plans each read
// anew, which takes it longer than the read.
const (
	reachedAggregates = `coalesce((SELECT position FROM projection_checkpoints WHERE projection = '` + Aggregates + `'), 0)`
	reachedCohorts    = `coalesce((SELECT position FROM projection_checkpoints WHERE projection = '` + Cohorts + `'), 0)`
	reached           = `least(` + reachedAggregates + `, ` + reachedCohorts + `)`
)

// Reputation implements [Reader]. One statement, and so one snapshot, reads rows
// and position.
func (p *Postgres) Reputation(ctx context.Context, nft string) (Reputation, error) {
	r := Reputation{Mark: reputation.Mark{Epoch: p.freshness.now()}}
	var aggregate, folded, cohorts []byte
	var sum, squares *float64
	var scores, members *int64
	err := p.pool.QueryRow(ctx, `
		SELECT `+reached+`, a.aggregate, a.folded, c.sum, c.squares, c.scores, c.members,
		       (SELECT json_agg(t.cohort ORDER BY t.model_id, t.task_type)
		          FROM reputation_task_cohorts AS t WHERE t.nft_id = $1)
		  FROM (SELECT) AS one
		  LEFT JOIN reputation_aggregates AS a ON a.nft_id = $1
		  LEFT JOIN reputation_collections AS c ON c.collection_id = a.aggregate->>'collection_id'`,
		nft).Scan(&r.Position, &aggregate, &folded, &sum, &squares, &scores, &members, &cohorts)
	if err != nil {
		return r, unavailable("read a reputation", err)
	}
	if aggregate == nil {
		return r, nil
	}
	if sum != nil {
		r.Collection = reputation.Collection{Sum: *sum, Squares: *squares, Scores: *scores, Members: *members}
	}
	r.Agent, err = decodeAgent(aggregate, folded)
	if err == nil && cohorts != nil {
		err = reputation.DecodeInto(cohorts, &r.Cohorts)
	}
	if err != nil {
		return r, fmt.Errorf("reputation of %s: %w", nft, err)
	}
	return r, nil
}

// decodeAgent takes the protocol's fields from the aggregate, which other
// programs may have written, and the rest from the projector's state, if any.
func decodeAgent(aggregate, folded []byte) (*reputation.Agent, error) {
	agent := &reputation.Agent{}
	if folded != nil {
		if err := reputation.DecodeInto(folded, agent); err != nil {
			return nil, err
		}
	}
	agent.Aggregate = reputation.Aggregate{}
	return agent, reputation.DecodeInto(aggregate, &agent.Aggregate)
}

// Score implements [Reader].
func (p *Postgres) Score(ctx context.Context, nft string) (reputation.Score, error) {
	score := reputation.Score{Mark: reputation.Mark{Epoch: p.freshness.now()}}
	err := p.pool.QueryRow(ctx, `
		SELECT `+reachedAggregates+`,
		       (SELECT (aggregate->>'blended_score')::float8 FROM reputation_aggregates WHERE nft_id = $1)`,
		nft).Scan(&score.Position, &score.Value)
	return score, unavailable("read a score", err)
}

// Unchanged implements [Reader].
func (p *Postgres) Unchanged(ctx context.Context, nft string, mark reputation.Mark, projections ...string) (position int64, unchanged bool, err error) {
	return p.freshness.unchanged(ctx, nft, mark, projections)
}

// List implements [Reader].
func (p *Postgres) List(ctx context.Context, state reputation.State, after string, limit int) ([]StoredAggregate, int64, error) {
	// The position is read first: rows that are newer than it are no lie.
	positions, err := p.positions(ctx)
	if err != nil {
		return nil, 0, err
	}
	rows, err := p.listAggregates(ctx, state, after, limit)
	return rows, positions[Aggregates], err
}

// Populations implements [Reader].
func (p *Postgres) Populations(ctx context.Context, after string, limit int) ([]Population, int64, error) {
	positions, err := p.positions(ctx)
	if err != nil {
		return nil, 0, err
	}
	rows, err := p.pool.Query(ctx, `
		SELECT collection_id, sum, squares, scores, members
		  FROM reputation_collections WHERE collection_id > $1 ORDER BY collection_id LIMIT $2`, after, limit)
	if err != nil {
		return nil, 0, unavailable("list collections", err)
	}
	page, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (pop Population, err error) {
		c := &pop.Collection
		err = row.Scan(&pop.CollectionID, &c.Sum, &c.Squares, &c.Scores, &c.Members)
		return pop, err
	})
	return page, positions[Aggregates], unavailable("list collections", err)
}

// WaitFor implements [Reader].
func (p *Postgres) WaitFor(ctx context.Context, position int64, projections ...string) error {
	return p.progress.waitFor(ctx, position, projections)
}

// Status implements [Reader].
func (p *Postgres) Status(ctx context.Context) ([]Status, error) {
	rows, err := p.pool.Query(ctx, `
		SELECT n.projection, coalesce(c.version, ''), coalesce(c.position, 0), h.head,
		       coalesce(extract(epoch FROM clock_timestamp() - o.created_at), 0)::float8,
		       (SELECT count(*) FROM projection_failures AS f WHERE f.projection = n.projection),
		       CASE WHEN c.position > 0 THEN c.updated_at END
		  FROM unnest($1::text[]) WITH ORDINALITY AS n (projection, ord)
		  CROSS JOIN (SELECT coalesce(max(position), 0) AS head FROM reputation_events) AS h
		  LEFT JOIN projection_checkpoints AS c ON c.projection = n.projection
		  LEFT JOIN reputation_events AS o ON o.position = coalesce(c.position, 0) + 1
		 WHERE n.projection <> '`+Publisher+`' OR c.projection IS NOT NULL OR $2
		 ORDER BY n.ord`, append(slices.Clone(Names), Publisher), p.publishing.Load())
	if err != nil {
		return nil, unavailable("read the status", err)
	}
	statuses, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Status, err error) {
		var lag float64
		var updated *time.Time
		err = row.Scan(&s.Projection, &s.Version, &s.Position, &s.Head, &lag, &s.SetAside, &updated)
		s.Lag = max(0, time.Duration(lag*float64(time.Second)))
		if updated != nil {
			s.UpdatedAt = *updated
		}
		return s, err
	})
	return statuses, unavailable("read the status", err)
}

// Failures implements [Reader].
func (p *Postgres) Failures(ctx context.Context, projection string, after int64, limit int) ([]Failure, error) {
	rows, err := p.pool.Query(ctx, `
		SELECT projection, position, nft_id, reason, detail, failed_at
		  FROM projection_failures WHERE projection = $1 AND position > $2 ORDER BY position LIMIT $3`,
		projection, after, limit)
	if err != nil {
		return nil, unavailable("list failures", err)
	}
	failures, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f Failure, err error) {
		err = row.Scan(&f.Projection, &f.Position, &f.NFT, &f.Reason, &f.Detail, &f.FailedAt)
		return f, err
	})
	return failures, unavailable("list failures", err)
}

// unavailable wraps an error of the database, and is nil for nil.
func unavailable(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
}
