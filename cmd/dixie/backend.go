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
	projectors []*projections.Projector
	rebuilder  http.Rebuilder // nil in memory
	pool       *pgxpool.Pool  // nil in memory
	waiting    *waiting       // nil in memory
	close      func()
}

func (b *backend) importer() eventstore.Importer { return eventstore.Importer{Log: b.log} }

func (s *serveCmd) openBackend(ctx context.Context, params reputation.Params, logger *slog.Logger) (*backend, error) {
	if s.Database.URL == "" {
		return openMemory(ctx, params, logger), nil
	}
	var waiting waiting
	pool, err := s.Database.connect(ctx, &waiting)
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
	log := eventstore.OpenPostgres(pool, logger)
	rebuilder := rows.NewRebuilder(projections.RebuildConfig{
		Params: params, Logger: logger, Processors: max(1, runtime.GOMAXPROCS(0)-1),
	})
	return &backend{
		store: "postgres", log: log, reader: rows, rows: rows, rebuilder: rebuilder, pool: pool, waiting: &waiting,
		projectors: rows.NewProjectors(projections.Config{Log: log, Params: params, Logger: logger}),
		close: func() {
			rebuilder.Close()
			log.Close()
			pool.Close()
		},
	}, nil
}

func openMemory(ctx context.Context, params reputation.Params, logger *slog.Logger) *backend {
	logger.WarnContext(ctx, "no DATABASE_URL: everything is in memory, and events are lost when this process stops")
	log := eventstore.NewMemory()
	rows := projections.NewMemory(log)
	return &backend{
		store: "memory", log: log, reader: rows, rows: rows,
		projectors: rows.NewProjectors(projections.Config{Log: log, Params: params, Logger: logger}),
		close:      func() {},
	}
}

// checkSchema migrates when it was asked to, and else refuses an old schema.
func (s *serveCmd) checkSchema(ctx context.Context, pool *pgxpool.Pool, logger *slog.Logger) error {
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
