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
	// openAgents is how many agents are kept unpacked: those that had events last.
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

	index map[string]int32 // of rows, by NFT
	rows  chunked[agentRow]

	// The agents that are unpacked. They are closed in turn, those last that had an
	// event since the hand passed.
	open []openAgent
	hand int32

	collections map[string]*collectionRow

	changed changes
}

type agentRow struct {
	nft      string
	packed   string // empty while the agent is open
	position int64  // of the last event in it
	open     int32  // its place in agentShadow.open, or noRow
}

type openAgent struct {
	agent *reputation.Agent
	row   int32 // or noRow
	used  bool
}

type collectionRow struct {
	reputation.Collection
	position int64 // of the last event in it
}

func newAgentShadow(params reputation.Params) *agentShadow {
	names := newNames()
	return &agentShadow{
		aside: aside{projection: Aggregates}, params: params, names: names, packer: packer{names: names},
		index: map[string]int32{}, collections: map[string]*collectionRow{},
	}
}

func (s *agentShadow) live() []string { return []string{aggregatesTable, collectionsTable} }
func (s *agentShadow) nfts() int64    { return int64(s.rows.length) }

// fold folds one event.
func (s *agentShadow) fold(e *eventstore.PageEvent) {
	if e.Err != nil {
		s.set(e, e.Err)
		return
	}
	i, known := s.index[e.NFT]
	if !known {
		i = noRow
	}
	at := s.obtain(i)
	collection, old := s.collections[e.Event.CollectionID]
	if !old {
		collection = &collectionRow{}
	}
	if err := s.params.FoldAggregate(s.open[at].agent, &collection.Collection, e.NFT, &e.Event); err != nil {
		s.set(e, err)
		return
	}
	if !known {
		i = s.add(e.NFT, at)
	}
	if !old {
		s.collections[s.names.share(e.Event.CollectionID)] = collection
	}
	row := s.rows.at(i)
	s.changed.note(i, row.position)
	row.position, collection.position = e.Position, e.Position
}

// obtain opens the agent of a row and tells where in open it is. An NFT that has
// no row gets an agent that has seen nothing, and no row unless its first event
// counts.
func (s *agentShadow) obtain(i int32) int32 {
	if i != noRow && s.rows.at(i).open != noRow {
		at := s.rows.at(i).open
		s.open[at].used = true
		return at
	}
	at := s.vacant()
	open := &s.open[at]
	if i == noRow {
		*open.agent = reputation.Agent{}
		return at
	}
	row := s.rows.at(i)
	unpack(s.names, row.packed, row.nft, open.agent)
	row.packed, row.open = "", at
	open.row, open.used = i, true
	return at
}

// vacant is a place in open. It closes an agent that has been without events since
// the hand passed it.
func (s *agentShadow) vacant() int32 {
	if len(s.open) < openAgents {
		s.open = append(s.open, openAgent{agent: &reputation.Agent{}, row: noRow})
		return int32(len(s.open) - 1)
	}
	for s.open[s.hand].used {
		s.open[s.hand].used = false
		s.hand = (s.hand + 1) % openAgents
	}
	at := s.hand
	s.hand = (s.hand + 1) % openAgents
	open := &s.open[at]
	if open.row != noRow {
		row := s.rows.at(open.row)
		row.packed, row.open = s.packer.pack(open.agent), noRow
		open.row = noRow
	}
	return at
}

// add makes a row for an agent that is open.
func (s *agentShadow) add(nft string, at int32) int32 {
	nft = strings.Clone(nft) // it is part of an event
	open := &s.open[at]
	open.agent.Aggregate.PersonalityID = nft
	open.row, open.used = s.rows.add(agentRow{nft: nft, open: at}), true
	s.index[nft] = open.row
	return open.row
}

// agent is that of a row, for reading and until the next call.
func (s *agentShadow) agent(i int32, scratch *reputation.Agent) *reputation.Agent {
	row := s.rows.at(i)
	if row.open != noRow {
		return s.open[row.open].agent
	}
	unpack(s.names, row.packed, row.nft, scratch)
	return scratch
}

func (s *agentShadow) load(ctx context.Context, conn *pgx.Conn, beside func(string) string) error {
	var aggregate, scratch = []byte(nil), &reputation.Agent{}
	i := int32(-1)
	err := copyRows(ctx, conn, beside(aggregatesTable), "nft_id, state, aggregate, folded, position", func(w *copyWriter) bool {
		if i++; int(i) == s.rows.length {
			return false
		}
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
	return s.loadCollections(ctx, conn, beside(collectionsTable))
}

func (s *agentShadow) loadCollections(ctx context.Context, conn *pgx.Conn, table string) error {
	ids := make([]string, 0, len(s.collections))
	for id := range s.collections {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return copyRows(ctx, conn, table, "collection_id, sum, squares, scores, members", func(w *copyWriter) bool {
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
