package projections

import (
	"context"
	"errors"
	"time"

	"dixie/eventstore"
	"dixie/reputation"
)

// defaultPastEvents is how many events an answer about the past may be folded from,
// when nothing else is configured: some seconds of one processor.
const defaultPastEvents = 500_000

// PastConfig sets a [Past] up.
type PastConfig struct {
	Log    PastLog
	Params reputation.Params
	// MaxEvents is how many events one answer may be folded from; 0 means 500,000.
	MaxEvents int64
}

// PastLog is the part of a log that reads the events of one NFT, and finds times.
type PastLog interface {
	History(ctx context.Context, nft string, after int64, limit int) ([]reputation.Recorded, error)
	PositionAt(ctx context.Context, at time.Time) (int64, error)
}

// Past tells what reputations were. It folds the log again with the functions of
// the projectors, so that an answer as of a position is, to the last bit, what a
// replay of the log up to there gives.
//
// The prior of an agent moves with all agents of its collection, and so an answer
// takes the events of the whole collection up to the agent's last one. They are
// read in one pass, and memory grows with the agents of the collection, not with
// events. Which agents these are is known from the cohorts projection, which must
// have reached the position. It is safe for concurrent use.
type Past struct {
	PastConfig
	source pastSource
}

// NewPast returns the past of the log that p is folded from.
func (p *Postgres) NewPast(config PastConfig) *Past { return newPast(p, config) }

// NewPast returns the past of the log that m is folded from.
func (m *Memory) NewPast(config PastConfig) *Past { return newPast(m, config) }

func newPast(source pastSource, config PastConfig) *Past {
	if config.MaxEvents <= 0 {
		config.MaxEvents = defaultPastEvents
	}
	return &Past{PastConfig: config, source: source}
}

// pastSource reads what the past is folded from.
type pastSource interface {
	// collectionOf is the collection of an NFT; [reputation.ErrNotFound] without
	// one.
	collectionOf(ctx context.Context, nft string) (string, error)
	// collectionHistory calls fold with the events of all NFTs of an NFT's
	// collection, up to the NFT's last event at or before a position and in order.
	// Events are valid until fold returns. It fails with [ErrBehind] when it is not
	// known yet who belongs to the collection, and before the first event with a
	// [*reputation.HistoryTooLongError] when there are more than most.
	collectionHistory(ctx context.Context, nft string, until, most int64, fold func(collection string, e *eventstore.PageEvent) error) error
	// folded is the agent as it has been folded, and the position that the
	// aggregates projection has reached; [reputation.ErrNotFound] without an event.
	folded(ctx context.Context, nft string) (*reputation.Agent, int64, error)
}

// PositionAt is the position of the last event that was stored at a time or before
// it, and 0 when there is none.
func (p *Past) PositionAt(ctx context.Context, at time.Time) (int64, error) {
	return p.Log.PositionAt(ctx, at)
}

// Collection is the collection that an NFT belongs to, or
// [reputation.ErrNotFound] while it has had no event.
func (p *Past) Collection(ctx context.Context, nft string) (string, error) {
	return p.source.collectionOf(ctx, nft)
}

// ReputationAt is the reputation of an NFT after a position, which all projections
// must have reached. Its Collection is as of the agent's last event. The error is
// [reputation.ErrNotFound] when nothing was known of the NFT then.
func (p *Past) ReputationAt(ctx context.Context, nft string, position int64) (Reputation, error) {
	f := p.newFold(nft)
	err := p.source.collectionHistory(ctx, nft, position, p.MaxEvents, func(collection string, e *eventstore.PageEvent) error {
		_ = f.apply(collection, e) // what is set aside has no effect
		return nil
	})
	if err != nil {
		return Reputation{}, err
	}
	if !f.agent.Known() {
		return Reputation{}, reputation.ErrNotFound
	}
	return Reputation{Agent: &f.agent, Cohorts: f.cohorts.Sorted(), Collection: f.collection, Mark: reputation.Mark{Position: position}}, nil
}

// Timeline calls visit with the agent after each of its events that lies after one
// position and not after another, in order. Events that were set aside left it as
// it was, and are passed over. It ends with the first error of visit.
func (p *Past) Timeline(ctx context.Context, nft string, after, until int64, visit func(reputation.Step) error) error {
	f := p.newFold(nft)
	return p.source.collectionHistory(ctx, nft, until, p.MaxEvents, func(collection string, e *eventstore.PageEvent) error {
		if f.apply(collection, e) != nil || e.NFT != nft || e.Position <= after {
			return nil
		}
		return visit(reputation.NewStep(e.Position, e.CreatedAt, &e.Event, &f.agent))
	})
}

// Snapshot is the aggregate of an NFT after a position with the hash of the events
// up to there; a negative position is as far as the aggregates projection has come.
func (p *Past) Snapshot(ctx context.Context, nft string, position int64) (reputation.Snapshot, error) {
	var agent *reputation.Agent
	var err error
	if position < 0 {
		agent, position, err = p.source.folded(ctx, nft)
	} else {
		var at Reputation
		at, err = p.ReputationAt(ctx, nft, position)
		agent = at.Agent
	}
	if err != nil {
		return reputation.Snapshot{}, err
	}
	hash, err := p.hash(ctx, nft, position)
	if err != nil {
		return reputation.Snapshot{}, err
	}
	return reputation.Snapshot{
		Aggregate: agent.Aggregate, EventCount: hash.Count(), StreamHash: hash.Sum(), Position: position,
	}, nil
}

// hashPage is how many events are in memory while a history is hashed.
const hashPage = 1000

// hash reads the events of an NFT up to a position.
func (p *Past) hash(ctx context.Context, nft string, until int64) (*reputation.StreamHash, error) {
	hash := &reputation.StreamHash{}
	for after := int64(0); ; {
		page, err := p.Log.History(ctx, nft, after, hashPage)
		if err != nil {
			return nil, err
		}
		for i := range page {
			if page[i].Position > until {
				return hash, nil
			}
			hash.Add(page[i].JSON)
		}
		switch {
		case len(page) == 0:
			return hash, nil
		case hash.Count() > p.MaxEvents:
			return nil, &reputation.HistoryTooLongError{Most: p.MaxEvents}
		}
		after = page[len(page)-1].Position
	}
}

// pastFold folds the events of a collection for one of its agents. Of the others it
// keeps only what the prior needs.
type pastFold struct {
	params     reputation.Params
	nft        string
	agent      reputation.Agent
	cohorts    reputation.Cohorts
	others     map[string]*reputation.Member
	collection reputation.Collection
}

func (p *Past) newFold(nft string) *pastFold {
	return &pastFold{params: p.Params, nft: nft, others: map[string]*reputation.Member{}}
}

// apply folds the next event of a collection. The error says that it has no effect.
func (f *pastFold) apply(collection string, e *eventstore.PageEvent) error {
	if e.Err != nil {
		return e.Err
	}
	prior := &f.collection
	if e.Event.CollectionID != collection {
		prior = &reputation.Collection{} // whatever it moves is another one
	}
	if e.NFT != f.nft {
		return f.applyOther(collection, prior, e)
	}
	return errors.Join(
		f.params.FoldAggregate(&f.agent, prior, e.NFT, &e.Event),
		f.params.FoldCohorts(&f.cohorts, e.NFT, &e.Event),
	)
}

func (f *pastFold) applyOther(collection string, prior *reputation.Collection, e *eventstore.PageEvent) error {
	member, known := f.others[e.NFT]
	if !known {
		member = &reputation.Member{}
	}
	if err := f.params.FoldMember(member, prior, e.NFT, &e.Event); err != nil {
		return err
	}
	if !known {
		f.others[e.NFT] = member
		if member.CollectionID == collection {
			member.CollectionID = collection // which all share
		}
	}
	return nil
}
