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
	if entry.hasID {
		if position, ok := m.byID[entry.id]; ok {
			return Appended{Status: m.compare(position, entry), Position: position}
		}
	}
	position := int64(len(m.log)) + 1
	m.log = append(m.log, Recorded{
		Position: position, NFT: entry.nft, Type: entry.kind,
		CreatedAt: m.now(), JSON: entry.json,
	})
	if entry.hasID {
		m.byID[entry.id] = position
	}
	m.byNFT[entry.nft] = append(m.byNFT[entry.nft], position)
	return Appended{Status: Added, Position: position}
}

// compare says whether an entry whose id is stored at a position is the same
// event. Both are in canonical form.
func (m *Memory) compare(position int64, entry Entry) Status {
	stored := m.log[position-1]
	if stored.NFT == entry.nft && bytes.Equal(stored.JSON, entry.json) {
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
	end := min(start+int64(limit), int64(len(m.log)))
	return slices.Clone(m.log[start:end]), nil
}

// History implements [Store].
func (m *Memory) History(ctx context.Context, nft string, after int64, limit int) ([]Recorded, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	positions := m.byNFT[nft]
	start, _ := slices.BinarySearch(positions, after+1)
	positions = positions[start:min(start+limit, len(positions))]
	events := make([]Recorded, len(positions))
	for i, position := range positions {
		events[i] = m.log[position-1]
	}
	return events, nil
}

// Head implements [Store].
func (m *Memory) Head(ctx context.Context) (int64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return int64(len(m.log)), ctx.Err()
}

// Changed implements [Store].
func (m *Memory) Changed() <-chan struct{} { return m.changed.Changed() }
