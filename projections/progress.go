package projections

import (
	"context"
	"fmt"
	"sync"
	"time"

	"dixie/internal/broadcast"
)

// pollInterval is how often the checkpoints are read while someone waits for a
// projector in another process.
const pollInterval = 20 * time.Millisecond

// progress knows how far projections have come and wakes those who wait for
// them. Projectors of this process report each page; those of others are polled
// for, at most once per interval however many wait.
type progress struct {
	poll    func(context.Context) (map[string]int64, error)
	changed broadcast.Signal

	mu        sync.Mutex
	positions map[string]int64
	polled    time.Time
}

func newProgress(poll func(context.Context) (map[string]int64, error)) *progress {
	return &progress{poll: poll, positions: map[string]int64{}}
}

// report notes that a projection has reached a position.
func (p *progress) report(projection string, position int64) {
	p.mu.Lock()
	p.positions[projection] = position
	p.mu.Unlock()
	p.changed.Wake()
}

// waitFor returns when all projections have reached the position, and fails with
// [ErrBehind] when ctx ends first.
func (p *progress) waitFor(ctx context.Context, position int64, projections []string) error {
	timer := time.NewTimer(pollInterval)
	defer timer.Stop()
	for {
		changed := p.changed.Changed()
		if p.reached(position, projections) {
			return nil
		}
		// A checkpoint that cannot be read is like one that has not moved.
		if p.refresh(ctx) == nil && p.reached(position, projections) {
			return nil
		}
		timer.Reset(pollInterval)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for position %d: %w", position, ErrBehind)
		}
	}
}

func (p *progress) reached(position int64, projections []string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range projections {
		if p.positions[name] < position {
			return false
		}
	}
	return true
}

// refresh polls unless someone has just done so.
func (p *progress) refresh(ctx context.Context) error {
	p.mu.Lock()
	if time.Since(p.polled) < pollInterval {
		p.mu.Unlock()
		return nil
	}
	p.polled = time.Now()
	p.mu.Unlock()
	positions, err := p.poll(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.positions = positions
	p.mu.Unlock()
	return nil
}
