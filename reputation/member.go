package reputation

// Member is what the fold of a collection needs to know of an agent: what it adds
// to the prior of the others. The zero Member has seen no event.
type Member struct {
	CollectionID  string   // empty before the first event
	PersonalScore *float64 // nil while there is none
	SampleCount   int64
}

// FoldMember applies one event to an agent of which only the collection matters.
// Member and collection change as the agent and the collection do in
// [Params.FoldAggregate], at a small part of the memory. The error is nil or the
// [*SetAsideError] that FoldAggregate gives; after an error nothing has changed.
func (p Params) FoldMember(m *Member, c *Collection, nft string, e *Event) error {
	if err := accept(nft, m.CollectionID, e); err != nil {
		return err
	}
	if m.CollectionID == "" {
		m.CollectionID = e.CollectionID
		c.Members++
	}
	switch body := e.Body.(type) {
	case QualitySignal:
		m.PersonalScore, m.SampleCount = p.score(c, m.PersonalScore, m.SampleCount, body.Score)
	case ModelPerformance:
		m.PersonalScore, m.SampleCount = p.score(c, m.PersonalScore, m.SampleCount, body.Observation.Score)
	case ReputationReset:
		c.move(m.PersonalScore, nil)
		m.PersonalScore, m.SampleCount = nil, 0
	}
	return nil
}

// score is the personal score after one more of n samples, and their number. The
// collection moves with it (protocol part I.2).
func (p Params) score(c *Collection, personal *float64, n int64, score float64) (*float64, int64) {
	next := p.Damping.Dampen(personal, score, n)
	c.move(personal, &next)
	return &next, n + 1
}
