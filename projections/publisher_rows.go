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
	err := l.readOnly(ctx, work)
	if err != nil && l.conn.IsClosed() && !errors.Is(err, ErrLost) {
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	return err
}

func (l *postgresLease) readOnly(ctx context.Context, work func(context.Context, tx) error) error {
	transaction, err := l.conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return unavailable("begin to read", err)
	}
	err = work(ctx, postgresTx{transaction, l.remembered})
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return errors.Join(err, unavailable("end reading", transaction.Rollback(ending)))
}

// loadRanks are collection and samples of agents that have a row; states follow
// from them.
func (t postgresTx) loadRanks(ctx context.Context, nfts []string) (map[string]reputation.Rank, error) {
	rows, err := t.tx.Query(ctx, `SELECT nft_id, collection_id, samples FROM publisher_agents WHERE nft_id = ANY ($1)`, nfts)
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

func (t postgresTx) saveRanks(ctx context.Context, changes rankChanges) error {
	var batch pgx.Batch
	if changes.restart {
		batch.Queue(`DELETE FROM publisher_agents`)
		batch.Queue(`DELETE FROM projection_failures WHERE projection = $1`, Publisher)
	}
	queueRanks(&batch, changes.ranks)
	queueFailures(&batch, changes.failures)
	if batch.Len() == 0 {
		return nil
	}
	return unavailable("save ranks", t.tx.SendBatch(ctx, &batch).Close())
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
