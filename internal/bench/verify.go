package main

import (
	"context"
	"fmt"
	"strings"
)

// benchVerify measures dixie verify, for which no target is set.
func benchVerify(ctx context.Context, r *run) error {
	return r.withLog(ctx, func(p *postgres) error { return r.compareVerify(ctx, p) })
}

func (r *run) compareVerify(ctx context.Context, p *postgres) error {
	if _, err := r.runDixie(ctx, p, "log", "rebuild"); err != nil {
		return err
	}
	for _, args := range [][]string{{"verify"}, {"verify", "--sample", "100"}} {
		verifying := func(ctx context.Context) (float64, error) {
			used, err := r.runDixie(ctx, p, "log", args...)
			return used.seconds, err
		}
		c, err := r.inTurns(ctx, verifying, reading(p, "log"))
		if err != nil {
			return err
		}
		c.by = "the processors, as a rebuild, and hashing each event"
		l := c.times(fmt.Sprintf("%s of %d events, %d agents", strings.Join(args, " "), r.events, r.agents), "COPY of the log", 0)
		l.target, l.met = "none", true
		r.report.add(l)
	}
	return nil
}
