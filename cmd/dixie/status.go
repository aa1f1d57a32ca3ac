package main

import (
	"context"
	"fmt"
	"time"

	"dixie/projections"
)

type statusCmd struct {
	Database database   `embed:""`
	NATS     natsSwitch `embed:""`
}

// Run shows the projections of a database.
func (s *statusCmd) Run(ctx context.Context, c *console) error {
	pool, err := s.Database.open(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	rows := projections.NewPostgres(pool)
	if s.NATS.on() {
		rows.ListPublisher()
	}
	statuses, err := rows.Status(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%-12s  %-16s  %10s  %10s  %10s  %10s  %9s\n",
		"PROJECTION", "VERSION", "POSITION", "HEAD", "BEHIND", "LAG", "SET ASIDE")
	for _, one := range statuses {
		version := one.Version
		if version == "" {
			version = "-"
		}
		fmt.Fprintf(c.out, "%-12s  %-16s  %10d  %10d  %10d  %10s  %9d\n",
			one.Projection, version, one.Position, one.Head, one.Behind(), one.Lag.Round(time.Millisecond), one.SetAside)
	}
	return nil
}
