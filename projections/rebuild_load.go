package projections

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// errLostLock says that the session that holds the lock of a rebuild has ended.
var errLostLock = errors.New("the rebuild has lost its lock")

// load makes the shadow tables and fills them. Those of the first projection are
// loaded through the connection that holds the locks; those of another at the same
// time through the one that has read the log, if more than one processor may be
// used: making rows and indexes keeps one session of PostgreSQL busy.
func (r *rebuild) load(ctx context.Context) error {
	here, apart := r.shadows, r.shadows[:0]
	if r.Processors != 1 {
		here, apart = r.shadows[:1], r.shadows[1:]
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.loadApart(ctx, apart) }()
	err := r.transact(ctx, func(tx pgx.Tx) error {
		if err := r.loadShadows(ctx, tx, here); err != nil {
			return err
		}
		return r.saveFailures(ctx)
	})
	if err != nil {
		cancel()
		<-done
		return err
	}
	if err := r.meanwhile(ctx, func(context.Context) error { return <-done }); err != nil {
		return err
	}
	r.saved()
	return nil
}

// loadApart loads shadows through the connection that reads the log.
func (r *rebuild) loadApart(ctx context.Context, shadows []shadow) error {
	if len(shadows) == 0 {
		return nil
	}
	return transact(ctx, r.log.conn, func(tx pgx.Tx) error {
		if err := r.lockLoading(ctx, tx, shadows); err != nil {
			return err
		}
		return r.loadShadows(ctx, tx, shadows)
	})
}

// lockLoading takes the locks that keep the next rebuild of a projection from
// beginning while a session still loads which is not the one that holds the locks
// of the rebuild. With them it is sure that no next rebuild has begun.
func (r *rebuild) lockLoading(ctx context.Context, tx pgx.Tx, shadows []shadow) error {
	_, err := tx.Exec(ctx, `
		SET LOCAL idle_in_transaction_session_timeout = '60s';
		SET LOCAL lock_timeout = '10s'`)
	if err != nil {
		return unavailable("set the loading up", err)
	}
	for _, s := range shadows {
		var held bool
		_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(1684633708, hashtext($1))`, s.setAside().projection)
		if err == nil {
			err = tx.QueryRow(ctx, `
				SELECT EXISTS (
				       SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = $2 AND classid = 1684633707
				          AND objid = (hashtext($1)::bigint & 4294967295)::oid
				          AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`,
				s.setAside().projection, r.pid()).Scan(&held)
		}
		if err != nil {
			return unavailable("lock the loading", err)
		}
		if !held {
			return errLostLock
		}
	}
	return nil
}

// loadShadows makes and fills tables in a transaction.
func (r *rebuild) loadShadows(ctx context.Context, tx pgx.Tx, shadows []shadow) error {
	tables := r.tablesOf(shadows)
	for _, p := range tables {
		if err := p.create(ctx, tx); err != nil {
			return err
		}
	}
	for _, s := range shadows {
		if err := s.load(ctx, tx.Conn(), r.beside); err != nil {
			return err
		}
	}
	for _, p := range tables {
		if err := p.finish(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

func (r *rebuild) tablesOf(shadows []shadow) (tables []pair) {
	for _, s := range shadows {
		for _, name := range s.live() {
			tables = append(tables, r.pairs[name])
		}
	}
	return tables
}
