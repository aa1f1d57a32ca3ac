package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	appenders      = 64
	appendEvents   = 30_000 // in a round
	appendTarget   = 0.40   // of the rate of the limit
	appendP99      = 50 * time.Millisecond
	batchEvents    = 100
	batchAppenders = 8
	batchTarget    = 0.70
	batchRound     = 60_000

	// limitRows is how many rows a transaction of the limit has.
	limitRows = 500
)

// row is an event that is to be stored.
type row struct {
	nft, kind, text string
}

// rows are further events of the log, from a number on.
func rows(first, events, agents int) []row {
	random := rand.New(rand.NewPCG(3, uint64(first)))
	made := make([]row, events)
	for i := range made {
		made[i].nft, made[i].kind, made[i].text = event(random, first+i, agents)
	}
	return made
}

// benchAppend measures appends of one event.
func benchAppend(ctx context.Context, r *run) error {
	return r.compareAppends(ctx, appends{
		what: fmt.Sprintf("appends of 1 event, %d connections", appenders), connections: appenders,
		events: min(r.events, appendEvents), target: appendTarget, p99: appendP99,
		requests: func(rows []row) [][]byte {
			requests := make([][]byte, len(rows))
			for i, row := range rows {
				requests[i] = post("/api/reputation/"+row.nft+"/events", "application/json", []byte(row.text))
			}
			return requests
		},
	})
}

// benchAppendBatch measures appends of batches, which are of one agent each.
func benchAppendBatch(ctx context.Context, r *run) error {
	return r.compareAppends(ctx, appends{
		what: fmt.Sprintf("appends of %d events, %d connections", batchEvents, batchAppenders), connections: batchAppenders,
		events: min(r.events, batchRound) / batchEvents * batchEvents, target: batchTarget,
		requests: func(rows []row) [][]byte {
			var requests [][]byte
			for len(rows) > 0 {
				body := []byte("[")
				for i, row := range rows[:batchEvents] {
					if i > 0 {
						body = append(body, ',')
					}
					body = append(body, row.text...)
				}
				requests = append(requests, post("/api/reputation/"+rows[0].nft+"/events", "application/json", append(body, ']')))
				rows = rows[batchEvents:]
			}
			return requests
		},
	})
}

// appends is a way to append.
type appends struct {
	what        string
	connections int
	events      int // in a round
	target      float64
	p99         time.Duration // most that one in a hundred requests may take; 0 is not asked
	requests    func([]row) [][]byte
}

// compareAppends compares appends through HTTP with the same rows written to a database
// beside it by one connection: first while nobody projects what is appended, for the
// limit does not either, and then, without a target, while the server does.
func (r *run) compareAppends(ctx context.Context, a appends) error {
	p, err := r.startPostgres(ctx)
	if err != nil {
		return err
	}
	defer p.stop()
	const beside = "one connection that inserts 500 rows a transaction:"
	alone, latencies, err := r.appendsBeside(ctx, p, a, false)
	if err != nil {
		return err
	}
	r.report.add(alone.share(a.what+", log only", "events/s", beside, a.target))
	if a.p99 > 0 {
		r.report.add(line{
			what: "p99 of these appends", value: percentile(latencies, 99).String(), limit: "p50 " + percentile(latencies, 50).String(),
			ratio: "–", target: fmt.Sprintf("less than %v", a.p99), met: percentile(latencies, 99) < a.p99,
		})
	}
	projected, latencies, err := r.appendsBeside(ctx, p, a, true)
	if err != nil {
		return err
	}
	also := projected.share(fmt.Sprintf("the same while both projectors follow, p99 %v", percentile(latencies, 99)), "events/s", beside, 0)
	also.target = "none"
	r.report.add(also)
	return nil
}

// appendsBeside compares appends to a new database with inserts of the same rows to
// another, and returns how long each append took as well.
func (r *run) appendsBeside(ctx context.Context, p *postgres, a appends, projecting bool) (comparison, []time.Duration, error) {
	database := fmt.Sprintf("projecting_%t", projecting)
	limited := database + "_limit"
	for _, name := range []string{database, limited} {
		if err := p.create(ctx, name); err != nil {
			return comparison{}, nil, err
		}
	}
	if !projecting {
		release, err := p.holdProjectors(ctx, database)
		if err != nil {
			return comparison{}, nil, err
		}
		defer release()
	}
	s, err := r.serve(ctx, p, database)
	if err != nil {
		return comparison{}, nil, err
	}
	defer s.stop()
	meter, err := p.newMeter(ctx, s)
	if err != nil {
		return comparison{}, nil, err
	}
	var latencies []time.Duration
	appended, inserted := 0, 0
	measured := func(ctx context.Context) (float64, error) {
		requests := a.requests(rows(appended, a.events, r.agents))
		appended += a.events
		var l loaded
		err := meter.during(a.events, func() (err error) {
			l, err = load(ctx, s.url, a.connections, http.StatusCreated, requests)
			return err
		})
		if err != nil {
			return 0, err
		}
		latencies = append(latencies, l.latencies...)
		if projecting { // or what is left to project slows the limit
			err = s.settle(ctx)
		}
		return float64(a.events) / l.seconds, err
	}
	limit := func(ctx context.Context) (float64, error) {
		inserted += a.events
		return p.insert(ctx, limited, rows(inserted, a.events, r.agents))
	}
	c, err := r.inTurns(ctx, measured, limit)
	c.by = meter.each("event")
	return c, latencies, err
}

// insert writes rows as fast as one connection does, and returns the rate.
func (p *postgres) insert(ctx context.Context, database string, rows []row) (rate float64, err error) {
	err = p.do(ctx, database, func(conn *pgx.Conn) error {
		var head int64
		if err := conn.QueryRow(ctx, `SELECT coalesce(max(position), 0) FROM reputation_events`).Scan(&head); err != nil {
			return err
		}
		var batches [][]any
		for i := 0; i < len(rows); i += limitRows {
			batches = append(batches, columns(rows[i:min(i+limitRows, len(rows))], head+int64(i)))
		}
		start := time.Now()
		for _, batch := range batches {
			if _, err := conn.Exec(ctx, `
				INSERT INTO reputation_events (position, nft_id, event_type, event, created_at)
				SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::jsonb[], $5::timestamptz[])`, batch...); err != nil {
				return err
			}
		}
		rate = float64(len(rows)) / time.Since(start).Seconds()
		return nil
	})
	return rate, err
}

// columns are rows after a position, by the column.
func columns(rows []row, after int64) []any {
	positions := make([]int64, len(rows))
	nfts := make([]string, len(rows))
	kinds := make([]string, len(rows))
	events := make([][]byte, len(rows))
	times := make([]time.Time, len(rows))
	for i, row := range rows {
		positions[i] = after + int64(i) + 1
		nfts[i], kinds[i], events[i] = row.nft, row.kind, []byte(row.text)
		times[i] = stored(positions[i])
	}
	return []any{positions, nfts, kinds, events, times}
}

// stored is when the event at a position was stored, in a log that the limit writes.
func stored(position int64) time.Time {
	return time.Unix(1_770_000_000, 0).Add(time.Duration(position) * time.Microsecond)
}
