package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/migrations"
)

type migrateCmd struct {
	Up     migrateUpCmd     `cmd:"" help:"Apply pending migrations."`
	Status migrateStatusCmd `cmd:"" help:"List migrations and when they were applied."`
	Roles  migrateRolesCmd  `cmd:"" help:"Make roles with few rights, dixie_append, dixie_project and dixie_read, to be granted to those that log in. Again after each migration."`
}

type migrateUpCmd struct {
	Database database `embed:""`
}

// Run applies pending migrations. Replicas may do so at the same time.
func (m *migrateUpCmd) Run(ctx context.Context, c *console) error {
	pool, err := m.Database.connect(ctx, nil)
	if err != nil {
		return err
	}
	defer pool.Close()
	applied, err := migrate(ctx, pool)
	for _, a := range applied {
		fmt.Fprintln(c.out, "applied", a)
	}
	if err == nil && len(applied) == 0 {
		fmt.Fprintln(c.out, "the schema is current")
	}
	return err
}

type migrateRolesCmd struct {
	Database database `embed:""`
}

// Run makes the roles, or grants them what they lack.
func (m *migrateRolesCmd) Run(ctx context.Context, c *console) error {
	pool, err := m.Database.connect(ctx, nil)
	if err != nil {
		return err
	}
	defer pool.Close()
	err = pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error { return migrations.Roles(ctx, conn.Conn()) })
	if err == nil {
		fmt.Fprintln(c.out, "the roles dixie_append, dixie_project and dixie_read have what they need here")
	}
	return err
}

type migrateStatusCmd struct {
	Database database `embed:""`
}

// Run lists the migrations.
func (m *migrateStatusCmd) Run(ctx context.Context, c *console) error {
	pool, err := m.Database.connect(ctx, nil)
	if err != nil {
		return err
	}
	defer pool.Close()
	all, err := migrations.Status(ctx, pool)
	if err != nil {
		return err
	}
	for _, one := range all {
		applied := "pending"
		if !one.AppliedAt.IsZero() {
			applied = "applied " + one.AppliedAt.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(c.out, "%-24s %s\n", one, applied)
	}
	return nil
}
