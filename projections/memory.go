package projections

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"dixie/eventstore"
	"dixie/reputation"
)

// Memory keeps rows as long as the process lives. Use [NewMemory].
type Memory struct {
	log      *eventstore.Memory
	progress *progress
	leases   map[string]chan struct{} // holds a token while nobody is the projector

	mu          sync.RWMutex
	agents      map[string]*memoryAgent
	order       []string // keys of agents, sorted; nil after one was added
	collections map[string]*reputation.Collection
	cohorts     map[string]*reputation.Cohorts
	checkpoints map[string]*memoryCheckpoint
}

type memoryAgent struct {
	agent     *reputation.Agent // never changed in place
	updatedAt time.Time
}

type memoryCheckpoint struct {
	version   string
	position  int64
	updatedAt time.Time
	failures  []Failure
}

var (
	_ Store   = (*Memory)(nil)
	_ Reader  = (*Memory)(nil)
	_ backend = (*Memory)(nil)
)

// NewMemory returns empty rows, to be folded from a log.
func NewMemory(log *eventstore.Memory) *Memory {
	m := &Memory{
		log:         log,
		leases:      map[string]chan struct{}{},
		agents:      map[string]*memoryAgent{},
		collections: map[string]*reputation.Collection{},
		cohorts:     map[string]*reputation.Cohorts{},
		checkpoints: map[string]*memoryCheckpoint{},
	}
	for _, name := range Names {
		m.leases[name] = make(chan struct{}, 1)
		m.leases[name] <- struct{}{}
	}
	m.progress = newProgress(m.positions)
	return m
}

func (m *Memory) positions(context.Context) (map[string]int64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	positions := map[string]int64{}
	for name, c := range m.checkpoints {
		positions[name] = c.position
	}
	return positions, nil
}

func (m *Memory) acquire(ctx context.Context, projection, version string, standby func()) (lease, error) {
	token := m.leases[projection]
	select {
	case <-token:
	default:
		standby()
		select {
		case <-token:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.checkpoints[projection]
	if !ok {
		c = &memoryCheckpoint{version: version}
		m.checkpoints[projection] = c
	}
	if c.version != version {
		token <- struct{}{}
		return nil, &VersionError{Projection: projection, Stored: c.version, Running: version}
	}
	return &memoryLease{m: m, name: projection, checkpoint: c, token: token}, nil
}

type memoryLease struct {
	m          *Memory
	name       string
	checkpoint *memoryCheckpoint
	token      chan struct{}
}

func (l *memoryLease) position() int64            { return l.checkpoint.position }
func (l *memoryLease) keep(context.Context) error { return nil }
func (l *memoryLease) release()                   { l.token <- struct{}{} }

func (l *memoryLease) page(ctx context.Context, step step, work func(context.Context, tx) error) error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.checkpoint.position != step.from {
		return ErrLost
	}
	if err := work(ctx, memoryTx{l.m, l.checkpoint}); err != nil {
		return err
	}
	l.checkpoint.position = step.to
	l.checkpoint.updatedAt = time.Now()
	l.m.progress.report(l.name, step.to)
	return nil
}

// memoryTx runs under the lock of the rows. It hands out copies and puts them in
// place when all is folded, so that a page that fails changes nothing.
type memoryTx struct {
	m          *Memory
	checkpoint *memoryCheckpoint
}

func (t memoryTx) loadAgents(_ context.Context, nfts, collections []string) (agentRows, error) {
	rows := agentRows{agents: map[string]*reputation.Agent{}, collections: map[string]*reputation.Collection{}}
	for _, nft := range nfts {
		// A row that was put from outside has had no event.
		if row, ok := t.m.agents[nft]; ok && !row.agent.LastEventAt.IsZero() {
			rows.agents[nft] = row.agent.Clone()
		}
	}
	for _, id := range collections {
		if c, ok := t.m.collections[id]; ok {
			copied := *c
			rows.collections[id] = &copied
		}
	}
	return rows, nil
}

func (t memoryTx) saveAgents(_ context.Context, changes agentChanges) error {
	now := time.Now()
	for _, c := range changes.agents {
		t.m.putAgent(c.nft, &memoryAgent{agent: c.agent, updatedAt: now})
	}
	maps.Copy(t.m.collections, changes.collections)
	t.addFailures(changes.failures, now)
	return nil
}

func (t memoryTx) addFailures(failures []Failure, now time.Time) {
	for _, f := range failures {
		f.FailedAt = now
		t.checkpoint.failures = append(t.checkpoint.failures, f)
	}
}

func (t memoryTx) loadCohorts(_ context.Context, nfts []string, _ []cohortID) (map[string]*reputation.Cohorts, error) {
	loaded := map[string]*reputation.Cohorts{}
	for _, nft := range nfts {
		if c, ok := t.m.cohorts[nft]; ok {
			loaded[nft] = &reputation.Cohorts{CollectionID: c.CollectionID, ByKey: maps.Clone(c.ByKey)}
		}
	}
	return loaded, nil
}

func (t memoryTx) saveCohorts(_ context.Context, changes cohortChanges) error {
	for nft, collection := range changes.members {
		obtain(t.m.cohorts, nft).CollectionID = collection
	}
	for _, nft := range changes.cleared {
		t.m.cohorts[nft] = &reputation.Cohorts{CollectionID: t.m.cohorts[nft].CollectionID}
	}
	for _, c := range changes.cohorts {
		t.m.putCohort(c.nft, c.cohort)
	}
	t.addFailures(changes.failures, time.Now())
	return nil
}

func (m *Memory) putAgent(nft string, row *memoryAgent) {
	if _, ok := m.agents[nft]; !ok {
		m.order = nil
	}
	m.agents[nft] = row
}

func (m *Memory) putCohort(nft string, cohort reputation.TaskCohort) {
	c := obtain(m.cohorts, nft)
	if c.ByKey == nil {
		c.ByKey = map[reputation.CohortKey]reputation.TaskCohort{}
	}
	c.ByKey[cohort.Key()] = cohort
}

// Aggregate implements [Store].
func (m *Memory) Aggregate(ctx context.Context, nft string) (reputation.Aggregate, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	row, ok := m.agents[nft]
	if !ok {
		return reputation.Aggregate{}, reputation.ErrNotFound
	}
	return row.agent.Aggregate, ctx.Err()
}

// PutAggregate implements [Store].
func (m *Memory) PutAggregate(ctx context.Context, nft string, aggregate reputation.Aggregate) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	agent := &reputation.Agent{}
	if row, ok := m.agents[nft]; ok {
		agent = row.agent.Clone()
	}
	agent.Aggregate = aggregate
	m.putAgent(nft, &memoryAgent{agent: agent, updatedAt: time.Now()})
	return ctx.Err()
}

// ColdAggregates implements [Store].
func (m *Memory) ColdAggregates(ctx context.Context) iter.Seq2[StoredAggregate, error] {
	return aggregatePages(ctx, m.listAggregates, reputation.StateCold)
}

// AllAggregates implements [Store].
func (m *Memory) AllAggregates(ctx context.Context) iter.Seq2[StoredAggregate, error] {
	return aggregatePages(ctx, m.listAggregates, "")
}

func (m *Memory) listAggregates(ctx context.Context, state reputation.State, after string, limit int) ([]StoredAggregate, error) {
	m.mu.Lock() // sorted may sort
	defer m.mu.Unlock()
	var page []StoredAggregate
	for _, nft := range m.sortedAfter(after) {
		row := m.agents[nft]
		if state != "" && row.agent.Aggregate.State != state {
			continue
		}
		page = append(page, StoredAggregate{NFT: nft, Aggregate: row.agent.Aggregate, UpdatedAt: row.updatedAt})
		if len(page) == limit {
			break
		}
	}
	return page, ctx.Err()
}

// sortedAfter are the ids of NFTs after one. The order is kept until an NFT is
// added.
func (m *Memory) sortedAfter(after string) []string {
	if m.order == nil {
		m.order = slices.Sorted(maps.Keys(m.agents))
	}
	start, found := slices.BinarySearch(m.order, after)
	if found {
		start++
	}
	return m.order[start:]
}

// Count implements [Store].
func (m *Memory) Count(ctx context.Context) (int64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return int64(len(m.agents)), ctx.Err()
}

// TaskCohort implements [Store].
func (m *Memory) TaskCohort(ctx context.Context, nft string, key reputation.CohortKey) (reputation.TaskCohort, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if c, ok := m.cohorts[nft]; ok {
		if cohort, ok := c.ByKey[key]; ok {
			return cohort, ctx.Err()
		}
	}
	return reputation.TaskCohort{}, reputation.ErrNotFound
}

// PutTaskCohort implements [Store].
func (m *Memory) PutTaskCohort(ctx context.Context, nft string, cohort reputation.TaskCohort) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.putCohort(nft, cohort)
	return ctx.Err()
}

// Reputation implements [Reader].
func (m *Memory) Reputation(ctx context.Context, nft string) (Reputation, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r := Reputation{Position: m.reached(Names...)}
	row, ok := m.agents[nft]
	if !ok {
		return r, ctx.Err()
	}
	r.Agent = row.agent.Clone()
	if c, ok := m.cohorts[nft]; ok {
		r.Cohorts = c.Sorted()
	}
	if c, ok := m.collections[row.agent.Aggregate.CollectionID]; ok {
		r.Collection = *c
	}
	return r, ctx.Err()
}

// Score implements [Reader].
func (m *Memory) Score(ctx context.Context, nft string) (*float64, int64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	row, ok := m.agents[nft]
	if !ok {
		return nil, m.reached(Aggregates), ctx.Err()
	}
	score := row.agent.Aggregate.BlendedScore
	return &score, m.reached(Aggregates), ctx.Err()
}

// List implements [Reader].
func (m *Memory) List(ctx context.Context, state reputation.State, after string, limit int) ([]StoredAggregate, int64, error) {
	m.mu.RLock()
	position := m.reached(Aggregates)
	m.mu.RUnlock()
	rows, err := m.listAggregates(ctx, state, after, limit)
	return rows, position, err
}

// Populations implements [Reader].
func (m *Memory) Populations(ctx context.Context, after string, limit int) ([]Population, int64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var page []Population
	for id, c := range m.collections {
		if id > after {
			page = append(page, Population{CollectionID: id, Collection: *c})
		}
	}
	slices.SortFunc(page, func(a, b Population) int { return strings.Compare(a.CollectionID, b.CollectionID) })
	return page[:min(limit, len(page))], m.reached(Aggregates), ctx.Err()
}

// WaitFor implements [Reader].
func (m *Memory) WaitFor(ctx context.Context, position int64, projections ...string) error {
	return m.progress.waitFor(ctx, position, projections)
}

// Status implements [Reader].
func (m *Memory) Status(ctx context.Context) ([]Status, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	statuses := make([]Status, 0, len(Names))
	for _, name := range Names {
		s := Status{Projection: name}
		if c, ok := m.checkpoints[name]; ok {
			s.Version, s.Position, s.UpdatedAt, s.SetAside = c.version, c.position, c.updatedAt, int64(len(c.failures))
		}
		var err error
		if s.Head, err = m.log.Head(ctx); err != nil {
			return nil, err
		}
		if oldest, err := m.log.Read(ctx, s.Position, 1); err == nil && len(oldest) > 0 {
			s.Lag = time.Since(oldest[0].CreatedAt)
		}
		statuses = append(statuses, s)
	}
	return statuses, nil
}

// Failures implements [Reader].
func (m *Memory) Failures(ctx context.Context, projection string, after int64, limit int) ([]Failure, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	c, ok := m.checkpoints[projection]
	if !ok {
		return nil, ctx.Err()
	}
	start, _ := slices.BinarySearchFunc(c.failures, after+1, func(f Failure, position int64) int {
		return int(f.Position - position)
	})
	return slices.Clone(c.failures[start:min(start+limit, len(c.failures))]), ctx.Err()
}

// reached is the position that all of some projections have reached.
func (m *Memory) reached(projections ...string) int64 {
	reached := int64(-1)
	for _, name := range projections {
		var position int64
		if c, ok := m.checkpoints[name]; ok {
			position = c.position
		}
		if reached < 0 || position < reached {
			reached = position
		}
	}
	return max(reached, 0)
}
