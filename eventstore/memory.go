package eventstore

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"dixie/internal/broadcast"
)

// Memory is a log that lives as long as the process. Use [NewMemory].
type Memory struct {
	changed broadcast.Signal

	mu    sync.RWMutex
	log   []Recorded         // position p is at p-1
	byID  map[[16]byte]int64 // positions
	byNFT map[string][]int64 // positions, ascending
}

// NewMemory returns an empty log.
func NewMemory() *Memory {
	return &Memory{byID: map[[16]byte]int64{}, byNFT: map[string][]int64{}}
}

var _ Store = (*Memory)(nil)

// Append implements [Store].
func (m *Memory) Append(ctx context.Context, entries ...Entry) ([]Appended, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, nil
	}
	m.mu.Lock()
	results := make([]Appended, len(entries))
	for i, entry := range entries {
		results[i] = m.append(entry)
	}
	m.mu.Unlock()
	m.changed.Wake()
	return results, nil
}

func (m *Memory) append(entry Entry) Appended {
	if entry.HasID {
		if position, ok := m.byID[entry.ID]; ok {
			return Appended{Status: m.compare(position, entry), Position: position}
		}
	}
	position := int64(len(m.log)) + 1
	m.log = append(m.log, Recorded{
		Position: position, NFT: entry.NFT, Type: entry.Type,
		CreatedAt: m.now(), JSON: entry.JSON,
	})
	if entry.HasID {
		m.byID[entry.ID] = position
	}
	m.byNFT[entry.NFT] = append(m.byNFT[entry.NFT], position)
	return Appended{Status: Added, Position: position}
}

// compare says whether an entry whose id is stored at a position is the same
// event. Both are in canonical form.
func (m *Memory) compare(position int64, entry Entry) Status {
	stored := m.log[position-1]
	if stored.NFT == entry.NFT && bytes.Equal(stored.JSON, entry.JSON) {
		return Duplicate
	}
	return Conflict
}

// now is later than the time of the last event, like the database's default.
func (m *Memory) now() time.Time {
	now := time.Now().UTC().Truncate(time.Microsecond)
	if n := len(m.log); n > 0 && !now.After(m.log[n-1].CreatedAt) {
		return m.log[n-1].CreatedAt.Add(time.Microsecond)
	}
	return now
}

// Read implements [Store].
func (m *Memory) Read(ctx context.Context, after int64, limit int) ([]Recorded, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	start := min(max(after, 0), int64(len(m.log)))
	rest := m.log[start:]
	return slices.Clone(rest[:min(limit, len(rest))]), nil
}

// History implements [Store].
func (m *Memory) History(ctx context.Context, nft string, after int64, limit int) ([]Recorded, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	positions := m.byNFT[nft]
	start, found := slices.BinarySearch(positions, after)
	if found {
		start++
	}
	positions = positions[start:]
	positions = positions[:min(limit, len(positions))]
	events := make([]Recorded, len(positions))
	for i, position := range positions {
		events[i] = m.log[position-1]
	}
	return events, nil
}

// PositionAt is the position of the last event that was stored at a time or before
// it, and 0 when there is none.
func (m *Memory) PositionAt(ctx context.Context, at time.Time) (int64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	later, _ := slices.BinarySearchFunc(m.log, at, func(r Recorded, at time.Time) int {
		if r.CreatedAt.After(at) {
			return 1
		}
		return -1
	})
	return int64(later), ctx.Err()
}

// Head implements [Store].
func (m *Memory) Head(ctx context.Context) (int64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return int64(len(m.log)), ctx.Err()
}

// Changed implements [Store].
func (m *Memory) Changed() <-chan struct{} { return m.changed.Changed() }
