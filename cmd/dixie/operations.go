package main

import (
	"context"
	"sync"
	"time"

	"dixie/http"
	"dixie/projections"
	"dixie/reputation"
)

const (
	// rateSample is how long a rate is measured when nobody has asked before.
	rateSample = 500 * time.Millisecond
	// rateAge is for how long a rate is measured from the same moment, and
	// rateStale is when that moment is too long ago to say anything.
	rateAge   = 5 * time.Second
	rateStale = 5 * time.Minute
)

// operations answers what operators ask. It is safe for concurrent use.
type operations struct {
	reader     projections.Reader
	projectors []*projections.Projector // of this process
	params     reputation.Params
	rates      rates
}

// Projections implements [http.Operations].
func (o *operations) Projections(ctx context.Context) ([]http.ProjectionReport, error) {
	overviews, rates, err := o.rates.measure(ctx, func(ctx context.Context) ([]projections.Overview, error) {
		return o.reader.Overview(ctx, o.params)
	})
	if err != nil {
		return nil, err
	}
	here := map[string]string{}
	for _, p := range o.projectors {
		state, _ := p.State()
		here[p.Name()] = string(state)
	}
	reports := make([]http.ProjectionReport, len(overviews))
	for i, overview := range overviews {
		reports[i] = http.ProjectionReport{ProjectionOverview: overview, Rate: rates[overview.Projection], Here: here[overview.Projection]}
	}
	return reports, nil
}

// Failures implements [http.Operations].
func (o *operations) Failures(ctx context.Context, projection string, after int64, limit int) ([]reputation.Failure, error) {
	return o.reader.Failures(ctx, projection, after, limit)
}

// rates measures how fast projections move between one question and the next: the
// checkpoints, which are all that a process sees of another's projector, tell only
// where they are.
type rates struct {
	mu   sync.Mutex
	last sample
}

type sample struct {
	at        time.Time
	positions map[string]int64
}

func newSample(overviews []projections.Overview) sample {
	s := sample{time.Now(), map[string]int64{}}
	for _, o := range overviews {
		s.positions[o.Projection] = o.Position
	}
	return s
}

// measure reads, and tells the rate of each projection in events per second; it has
// none of a projection that was put back, as by a rebuild. Without a recent earlier
// question it reads twice.
func (r *rates) measure(
	ctx context.Context, read func(context.Context) ([]projections.Overview, error),
) ([]projections.Overview, map[string]*float64, error) {
	overviews, err := read(ctx)
	if err != nil {
		return nil, nil, err
	}
	now := newSample(overviews)
	before, recent := r.since(now)
	if !recent {
		select {
		case <-time.After(rateSample):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		if overviews, err = read(ctx); err != nil {
			return nil, nil, err
		}
		before, now = now, newSample(overviews)
	}
	return overviews, now.rates(before), nil
}

// since is the sample that a rate is measured from, if there is one.
func (r *rates) since(now sample) (before sample, recent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = r.last
	age := now.at.Sub(before.at)
	if age > rateAge {
		r.last = now
	}
	return before, age >= rateSample && age <= rateStale
}

func (s sample) rates(before sample) map[string]*float64 {
	rates := map[string]*float64{}
	for name, position := range s.positions {
		if moved := position - before.positions[name]; moved >= 0 {
			rate := float64(moved) / s.at.Sub(before.at).Seconds()
			rates[name] = &rate
		}
	}
	return rates
}
