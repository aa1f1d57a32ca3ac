package projections

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"dixie/eventstore"
	"dixie/reputation"
)

// shadow is a projection that is folded in memory and loaded into tables beside the
// live ones. It is not safe for concurrent use. beside is the name of the table
// beside a live one.
type shadow interface {
	// live are the live tables, in the order in which readers lock them.
	live() []string
	// fold folds the next events.
	fold(events []eventstore.PageEvent)
	// fetch reads the live rows that events are about to touch and that are not in
	// memory yet. A rebuild, which begins without rows, has no use for it.
	fetch(ctx context.Context, db batcher, events []eventstore.PageEvent) error
	// load fills the tables, which are empty and of the same transaction.
	load(ctx context.Context, l loader) error
	// save writes what was folded since the last call of saved, which tells that a
	// load or a save was committed.
	save(ctx context.Context, tx pgx.Tx, beside func(live string) string) error
	saved(position int64)
	// nfts is how many NFTs have rows, and ids are these, in no order.
	nfts() int64
	ids() []string
	// setAside are the events that were set aside.
	setAside() *aside
}

// rowIndex finds the row of an NFT.
type rowIndex map[string]int32

func (x rowIndex) row(nft string) int32 {
	if i, known := x[nft]; known {
		return i
	}
	return noRow
}

const (
	// aheadEvents is how many events are looked at before they are folded.
	aheadEvents = 32

	cacheLine = 64
)

// each calls fold with events in order and their rows, or noRow. It touches the rows
// of some events ahead of folding them: rows are anywhere in memory, and waiting for
// many at once instead of for one after another took a seventh of the time off.
func (x rowIndex) each(events []eventstore.PageEvent, touch func(i int32), fold func(e *eventstore.PageEvent, i int32)) {
	var rows [aheadEvents]int32
	for some := range slices.Chunk(events, aheadEvents) {
		for n := range some {
			rows[n] = x.row(some[n].NFT)
		}
		for _, i := range rows[:len(some)] {
			if i != noRow {
				touch(i)
			}
		}
		for n := range some {
			i := rows[n]
			if i == noRow { // until an event before it
				i = x.row(some[n].NFT)
			}
			fold(&some[n], i)
		}
	}
}

func newShadow(projection string, params reputation.Params) shadow {
	if projection == Aggregates {
		return newAgentShadow(params)
	}
	return newCohortShadow(params)
}

// batcher sends statements together: a connection or a transaction.
type batcher interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// changes are the rows that are not as they were saved. Before the first save
// there is nothing to note, as all rows are loaded at once.
type changes struct {
	loaded bool
	since  int64 // the position at which rows were saved
	rows   []int32
}

// note notes that a row whose last event was at a position has one more.
func (c *changes) note(row int32, last int64) {
	if c.loaded && last <= c.since {
		c.rows = append(c.rows, row)
	}
}

func (c *changes) clear(position int64) {
	c.loaded, c.since, c.rows = true, position, nil
}

// maxPending is how many events that were set aside are in memory at once.
const maxPending = 1000

// aside are events that a projection set aside.
type aside struct {
	projection string
	count      int64
	pending    []Failure // not yet saved
}

func (a *aside) setAside() *aside { return a }

func (a *aside) set(e *eventstore.PageEvent, err error) {
	f := newFailure(a.projection, e, err)
	f.NFT = strings.Clone(f.NFT) // it is part of an event
	a.pending = append(a.pending, f)
	a.count++
}

// collecting is the table where failures are until the swap, with a schema. Two
// rebuilds of different projections do not share it.
func (a *aside) collecting(schema string) pgx.Identifier {
	return pgx.Identifier{schema, failuresTable + "_rebuild_" + a.projection}
}

const failuresTable = "projection_failures"

var failureColumns = []string{"projection", "position", "nft_id", "reason", "detail"}

// save copies the failures that are pending. They stay so until they are dropped.
func (a *aside) save(ctx context.Context, conn *pgx.Conn, schema string) error {
	if len(a.pending) == 0 {
		return nil
	}
	_, err := conn.CopyFrom(ctx, a.collecting(schema), failureColumns, pgx.CopyFromSlice(len(a.pending), func(i int) ([]any, error) {
		f := &a.pending[i]
		return []any{f.Projection, f.Position, f.NFT, string(f.Reason), f.Detail}, nil
	}))
	return unavailable("save failures", err)
}

func (a *aside) drop() { a.pending = slices.Delete(a.pending, 0, len(a.pending)) }

// merge makes the live failures those that were collected, and drops the table of
// these. Rows that stay as they
// are are not written, so that a log with many costs no more than one with few.
func (a *aside) merge(ctx context.Context, tx pgx.Tx, schema string) error {
	table := a.collecting(schema).Sanitize()
	_, err := tx.Exec(ctx, `
		DELETE FROM projection_failures AS f
		 WHERE projection = $1 AND NOT EXISTS (
		       SELECT FROM `+table+` AS s
		        WHERE s.position = f.position AND (s.nft_id, s.reason, s.detail) = (f.nft_id, f.reason, f.detail))`, a.projection)
	if err == nil {
		_, err = tx.Exec(ctx, `
			INSERT INTO projection_failures (projection, position, nft_id, reason, detail)
			SELECT projection, position, nft_id, reason, detail FROM `+table+` AS s
			 WHERE NOT EXISTS (SELECT FROM projection_failures AS f WHERE f.projection = $1 AND f.position = s.position)`, a.projection)
	}
	if err == nil {
		_, err = tx.Exec(ctx, `DROP TABLE `+table)
	}
	return unavailable("merge failures", err)
}
