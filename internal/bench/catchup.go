package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	catchUpAgents = 50_000
	catchUpTarget = 4.0 // times of the limit
)

// benchCatchUp measures how long a server takes that finds a log of which nothing is
// projected, from when it serves until both projections have reached its end.
func benchCatchUp(ctx context.Context, r *run) error {
	p, err := r.startPostgres(ctx)
	if err != nil {
		return err
	}
	defer p.stop()
	agents := min(catchUpAgents, max(1, r.events/20))
	if err := r.fillDatabase(ctx, p, "log", r.events, agents); err != nil {
		return err
	}
	meter, err := p.newMeter(ctx, nil)
	if err != nil {
		return err
	}
	measured := func(ctx context.Context) (float64, error) {
		if err := p.copyDatabase(ctx, "log", "live"); err != nil {
			return 0, err
		}
		s, err := r.serve(ctx, p, "live")
		if err != nil {
			return 0, err
		}
		defer s.stop()
		meter.server = s.cmd.Process.Pid
		start := time.Now()
		err = meter.during(r.events, func() error { return s.reach(ctx, r.events) })
		return time.Since(start).Seconds(), err
	}
	c, err := r.inTurns(ctx, measured, reading(p, "log"))
	if err != nil {
		return err
	}
	c.by = meter.each("event")
	r.report.add(c.times(fmt.Sprintf("both projectors catch up on %d events of %d agents", r.events, agents), "COPY of the log", catchUpTarget))
	return nil
}

// copyDatabase makes a database a copy of another one, to which nobody is connected.
func (p *postgres) copyDatabase(ctx context.Context, from, to string) error {
	return p.do(ctx, "postgres", func(conn *pgx.Conn) error {
		for _, sql := range []string{
			`DROP DATABASE IF EXISTS ` + to + ` WITH (FORCE)`,
			`CREATE DATABASE ` + to + ` TEMPLATE ` + from,
			`CHECKPOINT`, // or it is written while something is measured
		} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
}

// reach waits until both projections have reached a position. Servers wait by
// themselves, for half a minute at most.
func (s *server) reach(ctx context.Context, position int) error {
	w, err := dial(ctx, s.url)
	if err != nil {
		return err
	}
	defer w.close()
	// This reads what both projections know; of an agent that there is not, it is 404.
	request := get(fmt.Sprintf("/api/reputation/nobody?at_least=%d&wait=30s", position))
	for {
		err := w.do(request, http.StatusNotFound)
		if status := (*statusError)(nil); !errors.As(err, &status) || status.status != http.StatusServiceUnavailable || ctx.Err() != nil {
			return err
		}
	}
}
