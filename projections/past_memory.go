package projections

import (
	"context"
	"fmt"

	"dixie/eventstore"
	"dixie/reputation"
)

var _ pastSource = (*Memory)(nil)

func (m *Memory) collectionOf(ctx context.Context, nft string) (string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	c, ok := m.cohorts[nft]
	if !ok || c.collection == "" {
		return "", reputation.ErrNotFound
	}
	return c.collection, ctx.Err()
}

// members are the NFTs of the collection of one of them, when the cohorts
// projection has reached a position.
func (m *Memory) members(nft string, position int64) (collection string, members map[string]bool, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if reached := m.reached(Cohorts); reached < position {
		return "", nil, fmt.Errorf("%w: %s is at position %d, not at %d", ErrBehind, Cohorts, reached, position)
	}
	c, ok := m.cohorts[nft]
	if !ok || c.collection == "" {
		return "", nil, reputation.ErrNotFound
	}
	members = map[string]bool{}
	for other, of := range m.cohorts {
		if of.collection == c.collection {
			members[other] = true
		}
	}
	return c.collection, members, nil
}

func (m *Memory) collectionHistory(
	ctx context.Context, nft string, until, most int64, fold func(collection string, e *eventstore.PageEvent) error,
) error {
	collection, members, err := m.members(nft, until)
	if err != nil {
		return err
	}
	// Counted first: nobody is told half of what is too long.
	var count, counted, last int64
	for r, err := range eventstore.All(ctx, m.log, 0, until) {
		if err != nil {
			return err
		}
		if members[r.NFT] {
			counted++
		}
		if r.NFT == nft {
			count, last = counted, r.Position
		}
	}
	if count > most {
		return &reputation.HistoryTooLongError{Most: most}
	}
	for r, err := range eventstore.All(ctx, m.log, 0, last) {
		if err != nil {
			return err
		}
		if !members[r.NFT] {
			continue
		}
		e := eventstore.PageEvent{Recorded: r}
		e.Event, e.Err = r.Event()
		if err := fold(collection, &e); err != nil {
			return err
		}
	}
	return nil
}

func (m *Memory) folded(ctx context.Context, nft string) (*reputation.Agent, int64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	row, ok := m.agents[nft]
	if !ok || row.folded == nil {
		return nil, 0, reputation.ErrNotFound
	}
	return row.folded.Clone(), m.reached(Aggregates), ctx.Err()
}
