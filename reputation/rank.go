package reputation

// Rank is the part of an agent that decides about its changes of state: scores do
// not (protocol §4). The zero Rank has seen no event.
type Rank struct {
	CollectionID string // empty before the first event
	Samples      int64  // observations since the last reset
	State        State  // empty before the first event
}

// RankAt is the rank of an agent of a collection after a number of observations
// since its last reset: state and count grow together, so the count is enough.
func (p Params) RankAt(collection string, samples int64) Rank {
	r := Rank{CollectionID: collection, Samples: samples, State: StateCold}
	for n := int64(1); n <= samples && r.State != StateAuthoritative; n++ {
		r.State, _ = p.next(r.State, n)
	}
	return r
}

// FoldRank applies an event to the rank of the agent that it counts for, and
// returns the change of state that [Params.FoldAggregate] makes with this event,
// nil when it makes none. The error is nil or a [*SetAsideError]; after an error
// nothing has changed.
func (p Params) FoldRank(r *Rank, nft string, e *Event) (*Transition, error) {
	// The fold itself, on an agent that has nothing else.
	var agent Agent
	if r.CollectionID != "" {
		agent.Aggregate = Aggregate{
			PersonalityID: nft, CollectionID: r.CollectionID, SampleCount: r.Samples, State: r.State,
		}
	}
	if err := p.FoldAggregate(&agent, &Collection{}, nft, e); err != nil {
		return nil, err
	}
	g := &agent.Aggregate
	*r = Rank{CollectionID: g.CollectionID, Samples: g.SampleCount, State: g.State}
	if len(g.Transitions) == 0 {
		return nil, nil
	}
	return &g.Transitions[0], nil // an event takes at most one step
}

// StateChange is a change of an agent's state, and the event that made it.
type StateChange struct {
	NFT          string
	CollectionID string
	EventID      string // as the event's author spelled it
	Position     int64  // of the event
	Transition
}

// AppendJSON appends the change's canonical JSON (RFC 8785) to dst.
func (c *StateChange) AppendJSON(dst []byte) []byte {
	o := beginObject(dst)
	o.text("at", c.At.text)
	o.text("collection_id", c.CollectionID)
	o.text("event_id", c.EventID)
	o.text("from", string(c.From))
	o.text("nft_id", c.NFT)
	o.integer("position", c.Position)
	o.text("to", string(c.To))
	o.text("trigger", c.Trigger)
	return o.end()
}
