package projections

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	cohorts     map[string]*memoryCohorts
	checkpoints map[string]*memoryCheckpoint
	ranks       map[string]reputation.Rank // of the publisher
	epoch       int64                      // counts changes of rows
	publishing  atomic.Bool                // by this process
}

// Other programs put what is shown; the projector builds on what it has folded.

type memoryAgent struct {
	shown     reputation.Aggregate
	folded    *reputation.Agent // nil before the first event; never changed in place
	updatedAt time.Time
}

type memoryCohorts struct {
	collection string // empty before the first event
	byKey      map[reputation.CohortKey]memoryCohort
}

type memoryCohort struct {
	shown  reputation.TaskCohort
	folded *reputation.TaskCohort // nil before the first event
}

type memoryCheckpoint struct {
	version   string
	position  int64
	updatedAt time.Time
	failures  []Failure

	held        bool      // somebody is the projector
	heldSince   time.Time // or was the last time
	lastError   string
	lastErrorAt time.Time
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
		cohorts:     map[string]*memoryCohorts{},
		checkpoints: map[string]*memoryCheckpoint{},
		ranks:       map[string]reputation.Rank{},
	}
	for _, name := range append(slices.Clone(Names), Publisher) {
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
	c.held, c.heldSince = true, time.Now()
	return &memoryLease{m: m, name: projection, checkpoint: c, token: token}, nil
}

func (m *Memory) noteError(_ context.Context, projection, message string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.checkpoints[projection]; ok {
		c.lastError, c.lastErrorAt = message, time.Now()
	}
	return nil
}

type memoryLease struct {
	m          *Memory
	name       string
	checkpoint *memoryCheckpoint
	token      chan struct{}
}

func (l *memoryLease) position() int64                                     { return l.checkpoint.position }
func (l *memoryLease) keep(context.Context) error                          { return nil }
func (l *memoryLease) head(ctx context.Context) (int64, error)             { return l.m.log.Head(ctx) }
func (l *memoryLease) catchUp(context.Context, int64, func() shadow) error { return nil } // rows are changed in place

func (l *memoryLease) release() {
	l.m.mu.Lock()
	l.checkpoint.held = false
	l.m.mu.Unlock()
	l.token <- struct{}{}
}

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
	l.m.epoch++
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
		if row, ok := t.m.agents[nft]; ok && row.folded != nil {
			rows.agents[nft] = row.folded.Clone()
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
		t.m.putAgent(c.nft, &memoryAgent{shown: c.agent.Aggregate, folded: c.agent, updatedAt: now})
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
		c, ok := t.m.cohorts[nft]
		if !ok {
			continue
		}
		folded := map[reputation.CohortKey]reputation.TaskCohort{}
		for key, cohort := range c.byKey {
			if cohort.folded != nil {
				folded[key] = *cohort.folded
			}
		}
		loaded[nft] = &reputation.Cohorts{CollectionID: c.collection, ByKey: folded}
	}
	return loaded, nil
}

func (t memoryTx) saveCohorts(_ context.Context, changes cohortChanges) error {
	for nft, collection := range changes.members {
		obtain(t.m.cohorts, nft).collection = collection
	}
	for _, nft := range changes.cleared {
		t.m.cohorts[nft].byKey = nil
	}
	for _, c := range changes.cohorts {
		t.m.putCohort(c.nft, memoryCohort{shown: c.cohort, folded: &c.cohort})
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

func (m *Memory) putCohort(nft string, cohort memoryCohort) {
	c := obtain(m.cohorts, nft)
	if c.byKey == nil {
		c.byKey = map[reputation.CohortKey]memoryCohort{}
	}
	c.byKey[cohort.shown.Key()] = cohort
}

// Aggregate implements [Store].
func (m *Memory) Aggregate(ctx context.Context, nft string) (reputation.Aggregate, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	row, ok := m.agents[nft]
	if !ok {
		return reputation.Aggregate{}, reputation.ErrNotFound
	}
	return row.shown, ctx.Err()
}

// PutAggregate implements [Store].
func (m *Memory) PutAggregate(ctx context.Context, nft string, aggregate reputation.Aggregate) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	row := &memoryAgent{shown: aggregate, updatedAt: time.Now()}
	if old, ok := m.agents[nft]; ok {
		row.folded = old.folded
	}
	m.putAgent(nft, row)
	m.epoch++
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
		if len(page) == limit {
			break
		}
		row := m.agents[nft]
		if state == "" || row.shown.State == state {
			page = append(page, StoredAggregate{NFT: nft, Aggregate: row.shown, UpdatedAt: row.updatedAt})
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
		if cohort, ok := c.byKey[key]; ok {
			return cohort.shown, ctx.Err()
		}
	}
	return reputation.TaskCohort{}, reputation.ErrNotFound
}

// PutTaskCohort implements [Store].
func (m *Memory) PutTaskCohort(ctx context.Context, nft string, cohort reputation.TaskCohort) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	put := memoryCohort{shown: cohort}
	if c, ok := m.cohorts[nft]; ok {
		put.folded = c.byKey[cohort.Key()].folded
	}
	m.putCohort(nft, put)
	m.epoch++
	return ctx.Err()
}

// Reputation implements [Reader].
func (m *Memory) Reputation(ctx context.Context, nft string) (Reputation, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r := Reputation{Mark: m.mark(Names...)}
	row, ok := m.agents[nft]
	if !ok {
		return r, ctx.Err()
	}
	var agent reputation.Agent
	if row.folded != nil {
		agent = *row.folded
	}
	agent.Aggregate = row.shown
	r.Agent = agent.Clone()
	if c, ok := m.cohorts[nft]; ok {
		r.Cohorts = c.shown()
	}
	if c, ok := m.collections[row.shown.CollectionID]; ok {
		r.Collection = *c
	}
	return r, ctx.Err()
}

// shown are the cohorts by model and task.
func (c *memoryCohorts) shown() []reputation.TaskCohort {
	all := reputation.Cohorts{ByKey: map[reputation.CohortKey]reputation.TaskCohort{}}
	for key, cohort := range c.byKey {
		all.ByKey[key] = cohort.shown
	}
	return all.Sorted()
}

// Score implements [Reader].
func (m *Memory) Score(ctx context.Context, nft string) (reputation.Score, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	score := reputation.Score{Mark: m.mark(Aggregates)}
	if row, ok := m.agents[nft]; ok {
		score.Value = new(row.shown.BlendedScore)
	}
	return score, ctx.Err()
}

// Unchanged implements [Reader]. Here each change counts for all NFTs: reading again
// costs little.
func (m *Memory) Unchanged(ctx context.Context, _ string, mark reputation.Mark, projections ...string) (position int64, unchanged bool, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	now := m.mark(projections...)
	return now.Position, now.Epoch == mark.Epoch, ctx.Err()
}

// mark is the present moment of some projections.
func (m *Memory) mark(projections ...string) reputation.Mark {
	return reputation.Mark{Position: m.reached(projections...), Epoch: m.epoch}
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
	names := Names
	if m.publishing.Load() {
		names = append(slices.Clone(names), Publisher)
	}
	statuses := make([]Status, 0, len(names))
	for _, name := range names {
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
	start, found := slices.BinarySearchFunc(c.failures, after, func(f Failure, position int64) int {
		return cmp.Compare(f.Position, position)
	})
	if found {
		start++
	}
	rest := c.failures[start:]
	return slices.Clone(rest[:min(limit, len(rest))]), ctx.Err()
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
