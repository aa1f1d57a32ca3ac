package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/eventstore"
	"dixie/http"
	"dixie/internal/nats"
	"dixie/migrations"
	"dixie/projections"
	"dixie/reputation"
)

// backend is the log and the projections, in PostgreSQL or in memory.
type backend struct {
	store      string // as health names it: postgres or memory
	log        reputation.Log
	reader     projections.Reader
	rows       projections.Store
	past       *projections.Past
	projectors []*projections.Projector
	rebuilder  http.Rebuilder // nil in memory
	pool       *pgxpool.Pool  // nil in memory
	waiting    *waiting       // nil in memory
	queued     func() int     // appends that wait
	rebuilds   func(context.Context) ([]projections.Rebuilding, error)
	nats       *nats.Publisher       // nil when publishing is dormant
	close      func(context.Context) // gives up what is not written when the context ends
}

func (b *backend) importer(seen *observation) eventstore.Importer {
	return eventstore.Importer{Log: b.log, Observe: seen.Imported}
}

func (s *serveCmd) openBackend(ctx context.Context, params reputation.Params, seen *observation, logger *slog.Logger) (*backend, error) {
	publisher, err := s.NATS.open(ctx, logger)
	if err != nil {
		return nil, err
	}
	if s.Database.URL == "" {
		return s.openMemory(ctx, params, publisher, seen, logger), nil
	}
	var waiting waiting
	pool, err := s.Database.connect(ctx, seen.tracer(&waiting))
	if err != nil {
		return nil, err
	}
	if err := s.checkSchema(ctx, pool, logger); err != nil {
		pool.Close()
		return nil, err
	}
	rows := projections.NewPostgres(pool)
	if err := refuseOtherLog(ctx, rows, params, logger); err != nil {
		pool.Close()
		return nil, err
	}
	log := eventstore.OpenPostgres(pool, logger, seen.Metrics, seen.traces)
	processors, rest := rebuildEffort(runtime.GOMAXPROCS(0))
	rebuilder := rows.NewRebuilder(projections.RebuildConfig{Params: params, Logger: logger, Processors: processors, Rest: rest})
	return &backend{
		store: "postgres", log: seen.Log(log), reader: rows, rows: rows, rebuilder: rebuilder, pool: pool, waiting: &waiting,
		queued: log.Queued, rebuilds: rows.Rebuilds,
		past:       rows.NewPast(projections.PastConfig{Log: log, Params: params, MaxEvents: s.Past.MaxEvents}),
		nats:       publisher,
		projectors: rows.NewProjectors(projections.Config{Log: log, Params: params, Broker: broker(publisher, seen), Logger: logger, Middleware: seen.pages()}),
		close: func(ctx context.Context) {
			rebuilder.Close()
			closeNATS(publisher)
			log.Shutdown(ctx)
			closePool(ctx, pool)
		},
	}, nil
}

func (s *serveCmd) openMemory(ctx context.Context, params reputation.Params, publisher *nats.Publisher, seen *observation, logger *slog.Logger) *backend {
	logger.WarnContext(ctx, "no DATABASE_URL: everything is in memory, and events are lost when this process stops")
	log := eventstore.NewMemory()
	rows := projections.NewMemory(log)
	return &backend{
		store: "memory", log: seen.Log(log), reader: rows, rows: rows,
		queued:     func() int { return 0 },
		rebuilds:   func(context.Context) ([]projections.Rebuilding, error) { return nil, nil },
		past:       rows.NewPast(projections.PastConfig{Log: log, Params: params, MaxEvents: s.Past.MaxEvents}),
		nats:       publisher,
		projectors: rows.NewProjectors(projections.Config{Log: log, Params: params, Broker: broker(publisher, seen), Logger: logger, Middleware: seen.pages()}),
		close:      func(context.Context) { closeNATS(publisher) },
	}
}

// rebuildEffort is how much of so many processors a rebuild takes beside requests. One
// is kept for them. With few, of which PostgreSQL may keep another one busy for the
// rebuild, it works a third of the time: with half of it, the slowest reads took three
// times as long as without a rebuild, with a third 2.3 times.
func rebuildEffort(all int) (processors int, rest float64) {
	if all < 4 {
		rest = 2
	}
	return max(1, all-1), rest
}

// closePool does not wait longer than until ctx ends: PostgreSQL may not answer, and the
// end of the process closes connections as well.
func closePool(ctx context.Context, pool *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		pool.Close()
	}()
	select {
	case <-closed:
	case <-ctx.Done():
	}
}

// checkSchema migrates when it was asked to, and else refuses an old schema. It refuses
// a login that could not serve: its requests would be told to try again, for ever.
func (s *serveCmd) checkSchema(ctx context.Context, pool *pgxpool.Pool, logger *slog.Logger) error {
	if err := s.prepareSchema(ctx, pool, logger); err != nil {
		return err
	}
	if err := migrations.CheckRights(ctx, pool); err != nil {
		return fmt.Errorf("refusing to start: %w", err)
	}
	return nil
}

func (s *serveCmd) prepareSchema(ctx context.Context, pool *pgxpool.Pool, logger *slog.Logger) error {
	if !s.Migrate {
		return migrations.Check(ctx, pool)
	}
	applied, err := migrate(ctx, pool)
	for _, m := range applied {
		logger.InfoContext(ctx, "migrated", "migration", m.String())
	}
	return err
}

// refuseOtherLog stops the start when projections contain events that the log
// does not have. Those of another version are served as they are.
func refuseOtherLog(ctx context.Context, rows *projections.Postgres, params reputation.Params, logger *slog.Logger) error {
	err := rows.Check(ctx, params)
	if ahead := (*projections.AheadError)(nil); errors.As(err, &ahead) {
		return fmt.Errorf("refusing to start: %w", ahead)
	}
	if version := (*projections.VersionError)(nil); errors.As(err, &version) {
		logger.WarnContext(ctx, "stored rows are of another version", "error", err)
		return nil
	}
	return err
}
