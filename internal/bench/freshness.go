package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	freshRounds  = 50                     // appends in a round
	freshTarget  = 5.0                    // commits
	freshP99     = 100 * time.Millisecond // of all
	freshEvents  = 20_000                 // that there are before
	freshRest    = 5 * time.Millisecond   // between appends, in which the system is idle
	freshWait    = "5s"
	commitsTable = "bench_commits"
)

// benchFreshness measures the time from the answer to an append until the score that
// contains it can be read, while nothing else happens.
func benchFreshness(ctx context.Context, r *run) error {
	p, err := r.startPostgres(ctx)
	if err != nil {
		return err
	}
	defer p.stop()
	events := min(r.events, freshEvents)
	agents := r.agentsOf(events, readAgents)
	s, err := r.serveProjected(ctx, p, "live", events, agents)
	if err != nil {
		return err
	}
	defer s.stop()
	w, err := dial(ctx, s.url)
	if err != nil {
		return err
	}
	defer w.close()
	var all []time.Duration
	return p.do(ctx, "live", func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, `CREATE TABLE `+commitsTable+` (n bigint)`); err != nil {
			return err
		}
		appended := events
		measured := func(ctx context.Context) (float64, error) {
			times, err := appendAndRead(w, rows(appended, min(events, freshRounds), agents))
			appended += len(times)
			all = append(all, times...)
			return percentile(times, 50).Seconds(), err
		}
		limit := func(ctx context.Context) (float64, error) { return commit(ctx, conn, min(events, freshRounds)) }
		c, err := r.inTurns(ctx, measured, limit)
		if err != nil {
			return err
		}
		c.by = "what has to follow one another: the notification, reading the event, the transaction that folds it, the answer to who waits"
		r.report.add(c.times("from the answer to an append until the score with it is read, median", "one commit", freshTarget))
		p99 := percentile(all, 99)
		r.report.add(line{
			what: fmt.Sprintf("p99 of these %d times", len(all)), value: p99.String(), limit: "–",
			ratio: "–", target: fmt.Sprintf("less than %v", freshP99), met: p99 < freshP99,
		})
		return nil
	})
}

// appendAndRead appends events one by one, and returns how long after each answer its
// score was read.
func appendAndRead(w *wire, rows []row) ([]time.Duration, error) {
	times := make([]time.Duration, 0, len(rows))
	for _, row := range rows {
		time.Sleep(freshRest)
		if err := w.do(post("/api/reputation/"+row.nft+"/events", "application/json", []byte(row.text)), http.StatusCreated); err != nil {
			return times, err
		}
		start := time.Now()
		var answer struct{ Position int64 }
		if err := json.Unmarshal(w.body, &answer); err != nil {
			return times, err
		}
		if err := w.do(get(fmt.Sprintf("/api/reputation/query?routingKey=nft:%s&at_least=%d&wait=%s", row.nft, answer.Position, freshWait)), http.StatusOK); err != nil {
			return times, err
		}
		times = append(times, time.Since(start))
	}
	return times, nil
}

// commit is the median time of a transaction that writes one row.
func commit(ctx context.Context, conn *pgx.Conn, times int) (float64, error) {
	var all samples
	for n := range times {
		time.Sleep(freshRest)
		start := time.Now()
		if _, err := conn.Exec(ctx, `INSERT INTO `+commitsTable+` VALUES ($1)`, n); err != nil {
			return 0, err
		}
		all = append(all, time.Since(start).Seconds())
	}
	return all.median(), nil
}
