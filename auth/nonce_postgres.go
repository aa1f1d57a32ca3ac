package auth

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/reputation"
)

// PostgresNonces remembers nonces in the table signin_nonces, so that all
// processes on a database agree.
type PostgresNonces struct {
	pool *pgxpool.Pool
}

// NewPostgresNonces returns a store on a migrated database.
func NewPostgresNonces(pool *pgxpool.Pool) *PostgresNonces { return &PostgresNonces{pool} }

// useNonce takes a nonce that is new or has expired. In passing it removes a few
// that have expired, more than one call adds, so that the table stays as large as
// what is remembered. It passes over those that another session is at, and over the
// nonce itself: a statement may change a row only once.
const useNonce = `
WITH expired AS (
	DELETE FROM signin_nonces WHERE nonce IN (
		SELECT nonce FROM signin_nonces WHERE expires_at <= $2 AND nonce <> $1
		ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED)
)
INSERT INTO signin_nonces AS used (nonce, expires_at) VALUES ($1, $3)
ON CONFLICT (nonce) DO UPDATE SET expires_at = excluded.expires_at WHERE used.expires_at <= $2`

// Use is that of [NonceStore].
func (p *PostgresNonces) Use(ctx context.Context, nonce string, now, until time.Time) (bool, error) {
	tag, err := p.pool.Exec(ctx, useNonce, nonce, now, until)
	if err != nil {
		return false, fmt.Errorf("remember a nonce: %w: %w", reputation.ErrUnavailable, err)
	}
	return tag.RowsAffected() == 1, nil
}
