package main

import (
	"context"
	"fmt"
)

// benchVerify measures dixie verify, for which no target is set.
func benchVerify(ctx context.Context, r *run) error {
	p, err := r.startPostgres(ctx)
	if err != nil {
		return err
	}
	defer p.stop()
	if err := r.fillDatabase(ctx, p, "log", r.events, r.agents); err != nil {
		return err
	}
	if _, err := r.runDixie(ctx, p, "log", "rebuild"); err != nil {
		return err
	}
	var copies, all, some samples
	for range r.repeat {
		seconds, err := p.readLog(ctx, "log")
		if err != nil {
			return err
		}
		copies = append(copies, seconds)
		for _, m := range []struct {
			to   *samples
			args []string
		}{{&all, []string{"verify"}}, {&some, []string{"verify", "--sample", "100"}}} {
			used, err := r.runDixie(ctx, p, "log", m.args...)
			if err != nil {
				return err
			}
			*m.to = append(*m.to, used.seconds)
		}
	}
	for what, measured := range map[string]samples{"verify": all, "verify --sample 100": some} {
		r.report.add(line{
			what:  fmt.Sprintf("%s of %d events, %d agents", what, r.events, r.agents),
			value: measured.String(), limit: "COPY of the log " + copies.String(),
			ratio: fmt.Sprintf("%.2f", measured.median()/copies.median()), target: "none", met: true,
			by: "the processors, as a rebuild, and hashing each event",
		})
	}
	return nil
}
