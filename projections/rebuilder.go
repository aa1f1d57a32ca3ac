package projections

import (
	"context"
	"fmt"
	"sync"
)

// Rebuilder runs rebuilds that go on after whoever started them has left, one of a
// projection at a time. Use [Postgres.NewRebuilder]; it is to be closed. It is safe
// for concurrent use.
type Rebuilder struct {
	*Postgres
	config RebuildConfig

	mu      sync.Mutex // guards running against Add after Wait
	closed  bool
	running sync.WaitGroup
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
}

// errStopping says that a process rebuilds no more because it is about to end.
var errStopping = fmt.Errorf("%w: the process is stopping", ErrUnavailable)

// NewRebuilder returns a rebuilder whose rebuilds have a configuration, but for
// their projections.
func (p *Postgres) NewRebuilder(config RebuildConfig) *Rebuilder {
	b := &Rebuilder{Postgres: p, config: config}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// StartRebuild begins to rebuild projections, all when none is named, and returns
// when nobody else can rebuild them any more. The error is a [*RebuildingError]
// while another rebuild runs. How it goes on is told by [Postgres.LastRebuilds] and
// by the log.
func (b *Rebuilder) StartRebuild(ctx context.Context, projections ...string) error {
	config := b.config
	config.Projections = projections
	r, err := b.newRebuild(ctx, config)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		r.abandon(ctx, b.Postgres, context.Canceled)
		r.close()
		return errStopping
	}
	b.running.Go(func() { b.run(r) })
	return nil
}

func (b *Rebuilder) run(r *rebuild) {
	r.Logger.InfoContext(b.ctx, "rebuilding", "projections", r.Projections)
	done, err := b.rebuild(b.ctx, r)
	if err != nil {
		r.Logger.ErrorContext(b.ctx, "rebuild failed", "projections", r.Projections, "error", err)
		return
	}
	for _, one := range done {
		r.Logger.InfoContext(b.ctx, "rebuilt", "projection", one.Projection,
			"position", one.Position, "nfts", one.NFTs, "set_aside", one.SetAside, "locked", one.Locked)
	}
}

// Close stops the rebuilds that run, which leaves the live rows as they are, and
// returns when they have ended.
func (b *Rebuilder) Close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cancel()
	b.running.Wait()
}
