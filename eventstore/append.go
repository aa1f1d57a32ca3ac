package eventstore

import (
	"bytes"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"dixie/reputation"
)

// Append implements [Store]. Concurrent calls share transactions.
func (p *Postgres) Append(ctx context.Context, entries ...Entry) ([]Appended, error) {
	if len(entries) == 0 {
		return nil, ctx.Err()
	}
	return p.appender.append(ctx, entries)
}

const (
	// Planning took nearly half of the database's time for a small batch, so one plan is
	// kept. If it was made while the log was small it would read all of it when it is
	// large, and the planner prefers that also later: it does not know that the end of an
	// index is in memory. Looking up each id in the index is good however long the log
	// is, so the planner is left no other choice.
	//
	// limitWait and lockLog come before the insert and in statements of their own:
	// under READ COMMITTED each statement sees what was committed when it began, so
	// the insert reads the true head of the log. The lock is the one that the
	// table's trigger takes for other writers.
	limitWait = `SELECT set_config('lock_timeout', '10s', true),
		set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true),
		set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)`
	lockLog = `SELECT pg_advisory_xact_lock(1684633705, 1)`

	// insertNew numbers and stores those entries whose id is not stored yet.
	insertNew = `
		INSERT INTO reputation_events (position, nft_id, event_type, event, created_at)
		SELECT head.position + i.n, i.nft_id, i.event_type, i.event, head.free + i.n * interval '1 microsecond'
		  FROM (SELECT coalesce(max(position), 0) AS position,
		               greatest(clock_timestamp(),
		                        (SELECT created_at FROM reputation_events ORDER BY position DESC LIMIT 1)) AS free
		          FROM reputation_events) AS head,
		       (SELECT row_number() OVER (ORDER BY i.ord) AS n, i.*
		          FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[])
		               WITH ORDINALITY AS i (id, nft_id, event_type, event, ord)
		         WHERE NOT EXISTS (SELECT FROM reputation_events AS e WHERE e.id = i.id)) AS i
		 ORDER BY i.n
		RETURNING position, id`

	// compareStored finds the stored events of ids, and the stored content where
	// the database does not already see that it is the same.
	compareStored = `
		SELECT i.ord - 1, e.position, e.nft_id = i.nft_id, CASE WHEN e.event = i.event THEN NULL ELSE e.event END
		  FROM unnest($1::uuid[], $2::text[], $3::jsonb[]) WITH ORDINALITY AS i (id, nft_id, event, ord)
		  JOIN reputation_events AS e ON e.id = i.id`
)

// write stores a batch in one transaction. The statements travel together, so
// that the log's lock is held for no round trip of the network; without an
// explicit BEGIN they commit together at the end.
func (p *Postgres) write(ctx context.Context, entries []Entry) ([]Appended, error) {
	results := make([]Appended, len(entries))
	fresh, repeats := splitRepeats(entries)
	var batch pgx.Batch
	batch.Queue(limitWait)
	batch.Queue(lockLog)
	batch.Queue(insertNew, columns(entries, fresh)...).Query(func(rows pgx.Rows) error {
		missing, err := assign(rows, entries, fresh, results)
		repeats = append(missing, repeats...)
		return err
	})
	if err := p.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, unavailable("append to the log", err)
	}
	p.changed.Wake()
	if len(repeats) == 0 {
		return results, nil
	}
	return results, p.compare(ctx, entries, repeats, results)
}

// splitRepeats separates the entries whose id comes for the first time in the
// batch from those that repeat one.
func splitRepeats(entries []Entry) (fresh, repeats []int) {
	seen := make(map[[16]byte]struct{}, len(entries))
	fresh = make([]int, 0, len(entries))
	for i := range entries {
		if _, again := seen[entries[i].ID]; again && entries[i].HasID {
			repeats = append(repeats, i)
			continue
		}
		if entries[i].HasID {
			seen[entries[i].ID] = struct{}{}
		}
		fresh = append(fresh, i)
	}
	return fresh, repeats
}

func columns(entries []Entry, which []int) []any {
	ids := make([]pgtype.UUID, len(which))
	nfts := make([]string, len(which))
	kinds := make([]string, len(which))
	events := make([][]byte, len(which))
	for n, i := range which {
		e := &entries[i]
		ids[n] = pgtype.UUID{Bytes: e.ID, Valid: e.HasID}
		nfts[n], kinds[n], events[n] = e.NFT, e.Type, e.JSON
	}
	return []any{ids, nfts, kinds, events}
}

// assign reads the positions of the rows that were inserted, which come in the
// order of the entries, and returns the entries that have none.
func assign(rows pgx.Rows, entries []Entry, fresh []int, results []Appended) (missing []int, err error) {
	var position int64
	var id pgtype.UUID
	_, err = pgx.ForEachRow(rows, []any{&position, &id}, func() error {
		for len(fresh) > 0 {
			i := fresh[0]
			fresh = fresh[1:]
			if entries[i].HasID == id.Valid && entries[i].ID == id.Bytes {
				results[i] = Appended{Status: Added, Position: position}
				return nil
			}
			missing = append(missing, i)
		}
		return fmt.Errorf("inserted an event that nobody sent, at position %d", position)
	})
	return append(missing, fresh...), err
}

// compare tells duplicates from conflicts. Stored events never change, so this
// needs neither the transaction nor the lock of the insert.
func (p *Postgres) compare(ctx context.Context, entries []Entry, repeats []int, results []Appended) error {
	args := columns(entries, repeats)
	rows, err := p.pool.Query(ctx, compareStored, planAnew, args[0], args[1], args[3])
	if err != nil {
		return unavailable("compare with stored events", err)
	}
	var n, position int64
	var sameNFT bool
	var stored []byte
	found := 0
	_, err = pgx.ForEachRow(rows, []any{&n, &position, &sameNFT, &stored}, func() error {
		found++
		i := repeats[n]
		results[i] = Appended{Status: Conflict, Position: position}
		if sameNFT && (stored == nil || sameContent(stored, entries[i].JSON)) {
			results[i].Status = Duplicate
		}
		return nil
	})
	if err != nil {
		return unavailable("compare with stored events", err)
	}
	if found != len(repeats) {
		return fmt.Errorf("compare with stored events: %d of %d found: %w", found, len(repeats), ErrUnavailable)
	}
	return nil
}

// sameContent compares as RFC 8785 does. PostgreSQL holds numbers as decimals, so
// it can tell two spellings of one float64 apart.
func sameContent(stored, canonical []byte) bool {
	text, err := reputation.Canonical(stored)
	return err == nil && bytes.Equal(text, canonical)
}
