package main

import (
	"context"

	"github.com/jackc/pgx/v5"

	"dixie/projections"
)

// holdProjectors takes the part of the projectors of a database, as those of another
// replica would, until release is called: the server stands by, and its appends can be
// measured alone. It comes before the server.
func (p *postgres) holdProjectors(ctx context.Context, database string) (release func(), err error) {
	conn, err := pgx.Connect(ctx, p.server.URL(database))
	if err != nil {
		return nil, err
	}
	release = func() { _ = conn.Close(context.WithoutCancel(ctx)) }
	for _, name := range projections.Names {
		if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock(1684633706, hashtext($1))`, name); err != nil {
			release()
			return nil, err
		}
	}
	return release, nil
}
