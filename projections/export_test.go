package projections

import (
	"context"

	"dixie/eventstore"
	"dixie/reputation"
)

const (
	KeepInterval = keepInterval
	ListPage     = listPage
)

// Lease is a lease on a projection that a test holds by hand.
type Lease struct {
	lease      lease
	projection projection
	params     reputation.Params
}

// Acquire waits until nobody else is the projector of a projection.
func (p *Postgres) Acquire(ctx context.Context, name string, params reputation.Params) (*Lease, error) {
	for _, projection := range all() {
		if projection.name == name {
			l, err := p.acquire(ctx, name, params.Version(), func() {})
			return &Lease{lease: l, projection: projection, params: params}, err
		}
	}
	panic("no projection " + name)
}

// Fold folds a page as a projector does.
func (l *Lease) Fold(ctx context.Context, page *eventstore.Page) error {
	step := step{from: page.From, to: page.To, at: page.Events[len(page.Events)-1].CreatedAt}
	return l.lease.page(ctx, step, func(ctx context.Context, tx tx) error {
		return l.projection.fold(ctx, l.params, tx, page)
	})
}

func (l *Lease) Position() int64 { return l.lease.position() }
func (l *Lease) Release()        { l.lease.release() }

// Sabotage runs hook in each transaction of the projector before its page is
// folded.
func (p *Projector) Sabotage(hook func(page *eventstore.Page) error) {
	fold := p.projection.fold
	p.projection.fold = func(ctx context.Context, params reputation.Params, tx tx, page *eventstore.Page) error {
		if err := hook(page); err != nil {
			return err
		}
		return fold(ctx, params, tx, page)
	}
}
