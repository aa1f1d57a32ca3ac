package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	importEvents = 200_000 // in a round
	importTarget = 0.60    // of the rate of the limit
)

// benchImport measures bulk imports through HTTP while nobody projects, for COPY does
// not either.
func benchImport(ctx context.Context, r *run) error {
	p, err := r.startPostgres(ctx)
	if err != nil {
		return err
	}
	defer p.stop()
	for _, database := range []string{"live", "limit"} {
		if err := p.create(ctx, database); err != nil {
			return err
		}
	}
	release, err := p.holdProjectors(ctx, "live")
	if err != nil {
		return err
	}
	defer release()
	s, err := r.serve(ctx, p, "live")
	if err != nil {
		return err
	}
	defer s.stop()
	meter, err := p.newMeter(ctx, s)
	if err != nil {
		return err
	}
	events := min(r.events, importEvents)
	imported, copied := 0, 0
	measured := func(ctx context.Context) (float64, error) {
		lines := ndjson(rows(imported, events, r.agents))
		imported += events
		var rate float64
		err := meter.during(events, func() (err error) {
			rate, err = s.bulk(ctx, lines, events)
			return err
		})
		return rate, err
	}
	limit := func(ctx context.Context) (float64, error) {
		made := rows(copied, events, r.agents)
		copied += events
		return p.copyIn(ctx, "limit", made)
	}
	c, err := r.inTurns(ctx, measured, limit)
	if err != nil {
		return err
	}
	c.by = meter.each("event")
	r.report.add(c.share(fmt.Sprintf("import of %d events, log only", events), "events/s", "COPY of the rows into the same table:", importTarget))
	return nil
}

// ndjson are the lines of an import.
func ndjson(rows []row) []byte {
	var text bytes.Buffer
	for _, row := range rows {
		fmt.Fprintf(&text, `{"nft_id":%q,"event":%s}`+"\n", row.nft, row.text)
	}
	return text.Bytes()
}

// bulk imports lines, all of which are new, and returns the rate of the events.
func (s *server) bulk(ctx context.Context, lines []byte, events int) (float64, error) {
	w, err := dial(ctx, s.url)
	if err != nil {
		return 0, err
	}
	defer w.close()
	request := post("/api/reputation/events", "application/x-ndjson", lines)
	start := time.Now()
	if err := w.do(request, http.StatusOK); err != nil {
		return 0, err
	}
	seconds := time.Since(start).Seconds()
	var report struct{ Appended int }
	if err := json.Unmarshal(w.body, &report); err != nil {
		return 0, err
	}
	if report.Appended != events {
		return 0, fmt.Errorf("imported %d of %d events: %.300s", report.Appended, events, w.body)
	}
	return float64(events) / seconds, nil
}

// copyIn writes rows with COPY and returns the rate.
func (p *postgres) copyIn(ctx context.Context, database string, rows []row) (rate float64, err error) {
	err = p.do(ctx, database, func(conn *pgx.Conn) error {
		var head int64
		if err := conn.QueryRow(ctx, `SELECT coalesce(max(position), 0) FROM reputation_events`).Scan(&head); err != nil {
			return err
		}
		var text bytes.Buffer
		for i, row := range rows {
			position := head + int64(i) + 1
			fmt.Fprintf(&text, "%d\t%s\t%s\t%s\t%s\n", position, row.nft, row.kind, row.text, stored(position).Format(time.RFC3339Nano))
		}
		start := time.Now()
		if _, err := conn.PgConn().CopyFrom(ctx, &text,
			`COPY reputation_events (position, nft_id, event_type, event, created_at) FROM STDIN`); err != nil {
			return err
		}
		rate = float64(len(rows)) / time.Since(start).Seconds()
		return nil
	})
	return rate, err
}
