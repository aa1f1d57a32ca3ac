package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// comparison is a number and its limit, which were measured in turns: what else the
// machine does meanwhile slows both.
type comparison struct {
	measured, limit samples
	ratios          samples // of measured to limit, of each round
	by              string  // the limiting factor; may be empty
}

// inTurns measures so many rounds, after one that warms both up and does not count.
// Which comes first changes from round to round.
func (r *run) inTurns(ctx context.Context, measured, limit func(context.Context) (float64, error)) (comparison, error) {
	var c comparison
	for round := range r.repeat + 1 {
		var values [2]float64
		for turn := range 2 {
			which := (round + turn) % 2
			var err error
			if values[which], err = []func(context.Context) (float64, error){measured, limit}[which](ctx); err != nil {
				return c, err
			}
		}
		r.log.InfoContext(ctx, "round", "number", round, "measured", values[0], "limit", values[1])
		if round > 0 {
			c.measured, c.limit = append(c.measured, values[0]), append(c.limit, values[1])
			c.ratios = append(c.ratios, values[0]/values[1])
		}
	}
	return c, nil
}

// share is the line of a rate that should be at least so much of its limit.
func (c comparison) share(what, unit, limit string, least float64) line {
	rate := func(value float64) string { return fmt.Sprintf("%.0f %s", value, unit) }
	return line{
		what: what, value: c.measured.spread(rate), limit: limit + " " + c.limit.spread(rate),
		ratio:  c.ratios.spread(func(value float64) string { return fmt.Sprintf("%.0f %%", 100*value) }),
		target: fmt.Sprintf("at least %.0f %%", 100*least), met: c.ratios.median() >= least, by: c.by,
	}
}

// times is the line of a time, in seconds, that should be at most so many of its limits.
func (c comparison) times(what, limit string, most float64) line {
	return line{
		what: what, value: c.measured.spread(duration), limit: limit + " " + c.limit.spread(duration),
		ratio:  c.ratios.spread(func(value float64) string { return fmt.Sprintf("%.2f", value) }),
		target: fmt.Sprintf("at most %g", most), met: c.ratios.median() <= most, by: c.by,
	}
}

// spread is the median and the least and the most.
func (s samples) spread(show func(float64) string) string {
	return fmt.Sprintf("%s (%s to %s)", show(s.median()), show(slices.Min(s)), show(slices.Max(s)))
}

// duration shows seconds with three digits.
func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	digits := time.Duration(1)
	for digits*1000 < d {
		digits *= 10
	}
	return d.Round(digits).String()
}
