package projections_test

import (
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/eventstore"
	"dixie/internal/pgtest"
	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) projectionstest.Backend{
		"memory": func(t *testing.T) projectionstest.Backend { return openMemory(testLogger(t)) },
		"postgres": func(t *testing.T) projectionstest.Backend {
			backend, _ := openPostgres(t, pgtest.Pool(t))
			return backend
		},
		"postgres, catching up": func(t *testing.T) projectionstest.Backend {
			return openCatchingUp(t, pgtest.Pool(t), 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			projectionstest.Test(t, open)
		})
	}
}

func testLogger(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

func openMemory(logger *slog.Logger) projectionstest.Backend {
	log := eventstore.NewMemory()
	rows := projections.NewMemory(log)
	return projectionstest.Backend{
		Log: log, Store: rows, Reader: rows,
		Projectors: func(params reputation.Params, pageSize int) []*projections.Projector {
			return rows.NewProjectors(projections.Config{Log: log, Params: params, PageSize: pageSize, Logger: logger})
		},
		Past: func(config projections.PastConfig) *projections.Past {
			config.Log = log
			return rows.NewPast(config)
		},
		Publisher: func(params reputation.Params, pageSize int, broker projections.Broker) *projections.Projector {
			config := projections.Config{Log: log, Params: params, PageSize: pageSize, Broker: broker, Logger: logger}
			return rows.NewProjectors(config)[len(projections.Names)]
		},
	}
}

// openPostgres is what one process has of a database.
func openPostgres(t testing.TB, pool *pgxpool.Pool) (projectionstest.Backend, *projections.Postgres) {
	t.Helper()
	return openProcess(t, pool, 0)
}

// openCatchingUp is a process whose projectors catch up whenever they are so many
// events behind.
func openCatchingUp(t testing.TB, pool *pgxpool.Pool, far int64) projectionstest.Backend {
	t.Helper()
	backend, _ := openProcess(t, pool, far)
	return backend
}

func openProcess(t testing.TB, pool *pgxpool.Pool, far int64) (projectionstest.Backend, *projections.Postgres) {
	t.Helper()
	logger := testLogger(t)
	log := eventstore.OpenPostgres(pool, logger)
	t.Cleanup(log.Close)
	rows := projections.NewPostgres(pool)
	return projectionstest.Backend{
		Log: log, Store: rows, Reader: rows,
		Projectors: func(params reputation.Params, pageSize int) []*projections.Projector {
			return rows.NewProjectors(projections.Config{Log: log, Params: params, PageSize: pageSize, CatchUp: far, Logger: logger})
		},
		Past: func(config projections.PastConfig) *projections.Past {
			config.Log = log
			return rows.NewPast(config)
		},
		Publisher: func(params reputation.Params, pageSize int, broker projections.Broker) *projections.Projector {
			config := projections.Config{Log: log, Params: params, PageSize: pageSize, Broker: broker, Logger: logger}
			return rows.NewProjectors(config)[len(projections.Names)]
		},
	}, rows
}
