package projections

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// lockLoading takes the loading lock of a projection until the end of the transaction.
const lockLoading = `SELECT pg_advisory_xact_lock(` + loadingLock + `, hashtext($1))`

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
	err = r.meanwhile(ctx, func(waiting context.Context) error {
		defer context.AfterFunc(waiting, cancel)()
		return <-done
	})
	if err == nil {
		r.saved()
	}
	return err
}

// loadApart loads shadows through the connection that reads the log.
func (r *rebuild) loadApart(ctx context.Context, shadows []shadow) error {
	if len(shadows) == 0 {
		return nil
	}
	return transact(ctx, r.log.conn, func(tx pgx.Tx) error {
		if err := r.secureLoading(ctx, tx, shadows); err != nil {
			return err
		}
		return r.loadShadows(ctx, tx, shadows)
	})
}

// secureLoading takes the locks that keep the next rebuild of a projection from
// beginning while a session still loads which is not the one that holds the locks
// of the rebuild. With them it is sure that no next rebuild has begun.
func (r *rebuild) secureLoading(ctx context.Context, tx pgx.Tx, shadows []shadow) error {
	_, err := tx.Exec(ctx, `
		SET LOCAL idle_in_transaction_session_timeout = '60s';
		SET LOCAL lock_timeout = '10s'`)
	if err != nil {
		return unavailable("set the loading up", err)
	}
	for _, s := range shadows {
		var held bool
		name := s.setAside().projection
		_, err := tx.Exec(ctx, lockLoading, name)
		if err == nil {
			err = tx.QueryRow(ctx, `SELECT `+holdsLock(rebuildLock, `$1`, `$2`), name, r.pid()).Scan(&held)
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
		if err := s.load(ctx, loader{conn: tx.Conn(), table: r.beside, freeze: true, rest: r.Rest}); err != nil {
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
