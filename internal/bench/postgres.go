package main

import (
	"context"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"dixie/internal/pgtest"
	"dixie/migrations"
)

// postgres is a server of one measurement, or of all where nothing is durable.
type postgres struct {
	server *pgtest.Server
	keep   bool // for the next measurement
}

// startPostgres starts one. It is to be stopped.
func (r *run) startPostgres(ctx context.Context) (*postgres, error) {
	if r.shared != nil {
		return r.shared, nil
	}
	server, err := pgtest.Start(ctx, pgtest.Options{Durable: r.durable})
	if err != nil {
		return nil, err
	}
	r.report.durable = r.durable
	p := &postgres{server: server, keep: !r.durable}
	if p.keep {
		r.shared = p
	}
	err = p.do(ctx, "postgres", func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT split_part(current_setting('server_version'), ' ', 1)`).Scan(&r.report.postgres)
	})
	return p, err
}

// stop ends the server, unless the next measurement is to have it.
func (p *postgres) stop() {
	if !p.keep {
		p.end()
	}
}

func (p *postgres) end() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = p.server.Stop(ctx)
}

// do connects for a while.
func (p *postgres) do(ctx context.Context, database string, work func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, p.server.URL(database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return work(conn)
}

// create makes a migrated database, in place of one that an earlier measurement left.
func (p *postgres) create(ctx context.Context, database string) error {
	err := p.do(ctx, "postgres", func(conn *pgx.Conn) error {
		name := pgx.Identifier{database}.Sanitize()
		if _, err := conn.Exec(ctx, `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, `CREATE DATABASE `+name)
		return err
	})
	if err != nil {
		return err
	}
	return p.do(ctx, database, func(conn *pgx.Conn) error {
		_, err := migrations.Up(ctx, conn)
		return err
	})
}

// readLog is the limit of whatever reads the whole log: a plain COPY of it by a
// client that throws it away. It returns how long that took, in seconds.
func (p *postgres) readLog(ctx context.Context, database string) (seconds float64, err error) {
	err = p.do(ctx, database, func(conn *pgx.Conn) error {
		start := time.Now()
		_, err := conn.PgConn().CopyTo(ctx, io.Discard,
			`COPY (SELECT position, nft_id, event FROM reputation_events ORDER BY position) TO STDOUT`)
		seconds = time.Since(start).Seconds()
		return err
	})
	return seconds, err
}
