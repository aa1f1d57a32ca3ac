package main

import (
	"context"
	"fmt"
	"time"

	"dixie/migrations"
)

type migrateCmd struct {
	Up     migrateUpCmd     `cmd:"" help:"Apply pending migrations."`
	Status migrateStatusCmd `cmd:"" help:"List migrations and when they were applied."`
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
