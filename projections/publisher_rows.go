package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"dixie/reputation"
)

// ListPublisher has Status list the publisher also before it has begun.
func (p *Postgres) ListPublisher() { p.publishing.Store(true) }

// read implements lease.
func (l *postgresLease) read(ctx context.Context, work func(context.Context, tx) error) error {
	err := work(ctx, postgresTx{conn: l.conn, remembered: l.remembered})
	if err != nil && l.conn.IsClosed() && !errors.Is(err, ErrLost) {
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	return err
}

// loadRanks are collection and samples of agents that have a row; states follow
// from them.
func (t postgresTx) loadRanks(ctx context.Context, nfts []string) (map[string]reputation.Rank, error) {
	rows, err := t.conn.Query(ctx, `SELECT nft_id, collection_id, samples FROM publisher_agents WHERE nft_id = ANY ($1)`, nfts)
	if err != nil {
		return nil, unavailable("load ranks", err)
	}
	ranks := make(map[string]reputation.Rank, len(nfts))
	var nft string
	var rank reputation.Rank
	_, err = pgx.ForEachRow(rows, []any{&nft, &rank.CollectionID, &rank.Samples}, func() error {
		ranks[nft] = rank
		return nil
	})
	return ranks, unavailable("load ranks", err)
}

func (t postgresTx) saveRanks(_ context.Context, changes rankChanges) error {
	if changes.restart {
		t.writes.Queue(`DELETE FROM publisher_agents`)
		t.writes.Queue(`DELETE FROM projection_failures WHERE projection = $1`, Publisher)
	}
	queueRanks(t.writes, changes.ranks)
	queueFailures(t.writes, changes.failures)
	return nil
}

func queueRanks(batch *pgx.Batch, ranks []changedRank) {
	if len(ranks) == 0 {
		return
	}
	n := len(ranks)
	nfts, collections, samples := make([]string, n), make([]string, n), make([]int64, n)
	for i, c := range ranks {
		nfts[i], collections[i], samples[i] = c.nft, c.rank.CollectionID, c.rank.Samples
	}
	batch.Queue(`
		INSERT INTO publisher_agents (nft_id, collection_id, samples)
		SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
		ON CONFLICT (nft_id) DO UPDATE SET collection_id = excluded.collection_id, samples = excluded.samples`,
		nfts, collections, samples)
}

// read implements lease.
func (l *memoryLease) read(ctx context.Context, work func(context.Context, tx) error) error {
	l.m.mu.RLock()
	defer l.m.mu.RUnlock()
	return work(ctx, memoryTx{l.m, l.checkpoint})
}

func (t memoryTx) loadRanks(_ context.Context, nfts []string) (map[string]reputation.Rank, error) {
	ranks := make(map[string]reputation.Rank, len(nfts))
	for _, nft := range nfts {
		if rank, ok := t.m.ranks[nft]; ok {
			ranks[nft] = rank
		}
	}
	return ranks, nil
}

func (t memoryTx) saveRanks(_ context.Context, changes rankChanges) error {
	for _, c := range changes.ranks {
		t.m.ranks[c.nft] = c.rank
	}
	t.addFailures(changes.failures, time.Now())
	return nil
}
