package faults_test

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	insertRow       = `INSERT INTO reputation_events (nft_id, event_type, event) VALUES ($1, $2, $3) RETURNING position`
	uniqueViolation = "23505"
	sqlPatience     = 20 * time.Second
)

// sqlWriter is another program that writes rows, some of which are garbage.
func (c *client) sqlWriter(ctx context.Context) {
	var conn *pgx.Conn
	defer func() { closeConn(conn) }()
	for ctx.Err() == nil {
		if conn == nil || conn.IsClosed() {
			closeConn(conn)
			conn, _ = pgx.Connect(ctx, c.w.postgres.url(c.w.database))
		}
		if conn != nil {
			c.write(conn)
		}
		c.pause(ctx, 400*time.Millisecond)
	}
}

// write inserts a row. What is not known of one is known when it is written again, if
// it has an id that the database keeps unique.
func (c *client) write(conn *pgx.Conn) {
	e := c.author.event()
	if c.random.IntN(3) > 0 {
		e = c.author.garbage()
		c.w.ledger.sendGarbage(e)
	} else {
		c.w.ledger.send(e)
	}
	c.insert(conn, e)
	if e.id != "" && c.random.IntN(3) == 0 {
		c.insert(conn, e)
	}
}

func (c *client) insert(conn *pgx.Conn, e event) {
	ctx, cancel := context.WithTimeout(context.Background(), sqlPatience)
	defer cancel()
	var position int64
	err := conn.QueryRow(ctx, insertRow, e.nft, e.kind(), e.json).Scan(&position)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == uniqueViolation && e.id != "" {
		err = nil // and where is not known
	}
	if err != nil {
		return // PostgreSQL is being broken
	}
	if err := c.w.ledger.stored(e, position); err != nil {
		c.w.errorf("SQL: %v", err)
	}
}

func closeConn(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
