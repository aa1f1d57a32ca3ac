package projections

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"dixie/eventstore"
	"dixie/reputation"
)

// noRow is the index of no row.
const noRow = -1

const (
	// An agent whose packed form is longer than largeAgent is kept unpacked while it
	// is one of the openAgents large ones that had events last: each event would
	// take as long as the agent is large.
	largeAgent = 4 << 10
	openAgents = 512

	// chunkRows is how many rows are allocated at once. A slice that doubles would
	// have twice what it needs.
	chunkRows = 1024

	// saveRows is how many rows are saved by one statement. With four times as many
	// the largest buffers took half of a server's memory, and nothing was faster.
	saveRows = 500
)

// chunked is a list that grows without moving.
type chunked[V any] struct {
	chunks [][]V
	length int
}

func (c *chunked[V]) at(i int32) *V { return &c.chunks[i/chunkRows][i%chunkRows] }

func (c *chunked[V]) add(v V) int32 {
	if c.length%chunkRows == 0 {
		c.chunks = append(c.chunks, make([]V, chunkRows))
	}
	i := int32(c.length)
	c.length++
	*c.at(i) = v
	return i
}

// agentShadow is the aggregates projection in memory.
type agentShadow struct {
	aside
	params reputation.Params
	names  *names
	packer packer

	index rowIndex
	rows  chunked[agentRow]

	scratch reputation.Agent // of small rows, while they are folded
	open    largeAgents

	collections map[string]*collectionRow

	changed changes
	touched byte // keeps the compiler from leaving touch out
}

type agentRow struct {
	nft      string
	packed   []byte // nil while the agent is open
	position int64  // of the last event in it

	collection *collectionRow // nil until an event has been folded
}

type collectionRow struct {
	reputation.Collection
	position int64 // of the last event in it, or noPosition
}

// noPosition is the position of a collection that no event has been folded into.
const noPosition = -1

func newAgentShadow(params reputation.Params) *agentShadow {
	names := newNames()
	return &agentShadow{
		aside: aside{projection: Aggregates}, params: params, names: names, packer: packer{names: names},
		index: rowIndex{}, open: largeAgents{places: map[int32]int{}}, collections: map[string]*collectionRow{},
	}
}

func (s *agentShadow) live() []string { return []string{aggregatesTable, collectionsTable} }
func (s *agentShadow) nfts() int64    { return int64(s.rows.length) }

// fold implements [shadow].
func (s *agentShadow) fold(events []eventstore.PageEvent) {
	s.index.each(events, s.touch, s.foldOne)
}

// touch has a row read into the cache.
func (s *agentShadow) touch(i int32) {
	packed := s.rows.at(i).packed
	for at := 0; at < min(len(packed), 16*cacheLine); at += cacheLine {
		s.touched += packed[at]
	}
}

// foldOne folds the event of a row, if there is one.
func (s *agentShadow) foldOne(e *eventstore.PageEvent, i int32) {
	if e.Err != nil {
		s.set(e, e.Err)
		return
	}
	known := i != noRow
	collection := s.collectionFor(i, e.Event.CollectionID)
	agent := s.agentFor(i, &e.Event)
	if err := s.params.FoldAggregate(agent, &collection.Collection, e.NFT, &e.Event); err != nil {
		s.set(e, err)
		return
	}
	if collection.position == noPosition {
		s.collections[s.names.share(e.Event.CollectionID)] = collection
	}
	if known {
		s.keep(i, &e.Event)
	} else {
		i = s.add(e.NFT)
	}
	row := s.rows.at(i)
	row.collection = collection
	s.changed.note(i, row.position)
	row.position, collection.position = e.Position, e.Position
}

// collectionFor is the collection of a row, which is that of its events or they do
// not count, and a new one if there is none.
func (s *agentShadow) collectionFor(i int32, id string) *collectionRow {
	if i != noRow {
		if collection := s.rows.at(i).collection; collection != nil {
			return collection
		}
	}
	if collection, known := s.collections[id]; known {
		return collection
	}
	return &collectionRow{position: noPosition}
}

// agentFor is the agent of a row, as far as an event touches it. An NFT that has no
// row gets an agent that has seen nothing.
func (s *agentShadow) agentFor(i int32, e *reputation.Event) *reputation.Agent {
	if i == noRow {
		blank(&s.scratch)
		return &s.scratch
	}
	row := s.rows.at(i)
	if row.packed != nil && len(row.packed) <= largeAgent {
		sections := split(row.packed)
		unpackParts(s.names, &sections, reputation.PartsOf(e), row.nft, &s.scratch)
		return &s.scratch
	}
	return s.opened(i)
}

// keep packs the agent of a row that an event has changed, unless it is open.
func (s *agentShadow) keep(i int32, e *reputation.Event) {
	if row := s.rows.at(i); row.packed != nil {
		row.packed = s.packer.repack(row.packed, reputation.PartsOf(e), &s.scratch)
	}
}

// add makes a row for the agent in scratch. An NFT has none before its first event
// that counts.
func (s *agentShadow) add(nft string) int32 {
	nft = strings.Clone(nft) // it is part of an event
	i := s.rows.add(agentRow{nft: nft, packed: s.packer.pack(&s.scratch)})
	s.index[nft] = i
	return i
}

// largeAgents are unpacked. They are closed in turn, those last that had an event
// since the hand passed.
type largeAgents struct {
	places map[int32]int // in all, by row
	all    []largeAgentRow
	hand   int
}

type largeAgentRow struct {
	agent *reputation.Agent
	row   int32
	used  bool
}

// opened is the unpacked agent of a row.
func (s *agentShadow) opened(i int32) *reputation.Agent {
	at, ok := s.open.places[i]
	if !ok {
		at = s.vacant()
		row := s.rows.at(i)
		unpack(s.names, row.packed, row.nft, s.open.all[at].agent)
		row.packed, s.open.all[at].row, s.open.places[i] = nil, i, at
	}
	s.open.all[at].used = true
	return s.open.all[at].agent
}

// vacant is a place for a large agent. When there is none, it packs an agent that
// has been without events since the hand passed it.
func (s *agentShadow) vacant() int {
	open := &s.open
	if len(open.all) < openAgents {
		open.all = append(open.all, largeAgentRow{agent: &reputation.Agent{}})
		return len(open.all) - 1
	}
	for open.all[open.hand].used {
		open.all[open.hand].used = false
		open.hand = (open.hand + 1) % openAgents
	}
	at := open.hand
	open.hand = (open.hand + 1) % openAgents
	s.rows.at(open.all[at].row).packed = s.packer.pack(open.all[at].agent)
	delete(open.places, open.all[at].row)
	return at
}

// agent is that of a row, for reading and until the next call.
func (s *agentShadow) agent(i int32, scratch *reputation.Agent) *reputation.Agent {
	if at, ok := s.open.places[i]; ok {
		return s.open.all[at].agent
	}
	row := s.rows.at(i)
	unpack(s.names, row.packed, row.nft, scratch)
	return scratch
}

func (s *agentShadow) load(ctx context.Context, l loader) error {
	var aggregate, scratch = []byte(nil), &reputation.Agent{}
	rows := inOrder(s.rows.length, func(i int32) string { return s.rows.at(i).nft })
	err := l.copyRows(ctx, aggregatesTable, "nft_id, state, aggregate, folded, position", func(w *copyWriter) bool {
		if len(rows) == 0 {
			return false
		}
		i := rows[0]
		rows = rows[1:]
		row, agent := s.rows.at(i), s.agent(i, scratch)
		aggregate = agent.Aggregate.AppendJSON(aggregate[:0])
		w.tuple(5)
		w.text(row.nft)
		w.text(string(agent.Aggregate.State))
		w.jsonb(aggregate)
		w.value(func(dst []byte) []byte { return agent.AppendJSON(dst, aggregate) })
		w.bigint(row.position)
		return true
	})
	if err != nil {
		return err
	}
	return s.loadCollections(ctx, l)
}

// inOrder are so many rows in the order of their NFTs. The index of a table that is
// loaded in its order is made faster, and who reads the table finds neighbours together.
func inOrder(rows int, nft func(i int32) string) []int32 {
	order := make([]int32, rows)
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return strings.Compare(nft(a), nft(b)) })
	return order
}

func (s *agentShadow) loadCollections(ctx context.Context, l loader) error {
	ids := make([]string, 0, len(s.collections))
	for id := range s.collections {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return l.copyRows(ctx, collectionsTable, "collection_id, sum, squares, scores, members", func(w *copyWriter) bool {
		if len(ids) == 0 {
			return false
		}
		c := s.collections[ids[0]]
		w.tuple(5)
		w.text(ids[0])
		w.double(c.Sum)
		w.double(c.Squares)
		w.bigint(c.Scores)
		w.bigint(c.Members)
		ids = ids[1:]
		return true
	})
}

// save writes what has changed since the last call of saved.
func (s *agentShadow) save(ctx context.Context, tx pgx.Tx, beside func(string) string) error {
	slices.Sort(s.changed.rows)
	for part := range slices.Chunk(s.changed.rows, saveRows) {
		agents := make([]changedAgent, len(part))
		for n, i := range part {
			row := s.rows.at(i)
			agents[n] = changedAgent{nft: row.nft, agent: s.agent(i, &reputation.Agent{}), position: row.position}
		}
		var batch pgx.Batch
		queueAgents(&batch, beside(aggregatesTable), agents)
		if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
			return unavailable("save aggregates", err)
		}
	}
	changed := map[string]*reputation.Collection{}
	for id, c := range s.collections {
		if c.position > s.changed.since {
			changed[id] = &c.Collection
		}
	}
	var batch pgx.Batch
	queueCollections(&batch, beside(collectionsTable), changed)
	if batch.Len() == 0 {
		return nil
	}
	return unavailable("save collections", tx.SendBatch(ctx, &batch).Close())
}

func (s *agentShadow) saved(position int64) { s.changed.clear(position) }
