package reputation

import (
	"fmt"
	"slices"
	"strings"
)

// maxEvaluators is how many distinct evaluators of an agent are remembered.
const maxEvaluators = 100

// FoldAggregate applies one event to the agent that it counts for and to that
// agent's collection. The caller keeps one Agent for each NFT and one Collection
// for each collection id, and applies a collection's events in log order.
//
// nft is the NFT that the event counts for. The error is nil or a
// [*SetAsideError]; after an error nothing has changed.
func (p Params) FoldAggregate(a *Agent, c *Collection, nft string, e *Event) error {
	if err := accept(nft, a.Aggregate.CollectionID, e); err != nil {
		return err
	}
	if !a.Known() {
		p.create(a, nft, e)
		c.Members++
	}
	switch body := e.Body.(type) {
	case QualitySignal:
		p.observe(a, c, e, body.Score, body.Dimensions)
	case ModelPerformance:
		p.observe(a, c, e, body.Observation.Score, body.Observation.Dimensions)
		p.perform(a, e, body)
	case TaskCompleted:
		a.complete(body)
	case CredentialUpdate:
		a.credential(e, body)
	case ReputationReset:
		a.reset(c, e, body)
	}
	a.LastEventAt = a.LastEventAt.Later(e.Timestamp)
	p.blend(a, c)
	return nil
}

// accept decides whether an event counts. It is the one rule of all projections,
// so that they set the same events aside. collection is the agent's, and empty
// before its first event.
func accept(nft, collection string, e *Event) error {
	if !ValidNFT(nft) {
		return &SetAsideError{
			Reason: ReasonInvalidNFT,
			Detail: "nft_id: " + nftRule + found(nft),
		}
	}
	if collection != "" && e.CollectionID != collection {
		return &SetAsideError{
			Reason: ReasonCollectionMismatch,
			Detail: fmt.Sprintf("%s belongs to collection %q, the event names %q", nft, collection, e.CollectionID),
		}
	}
	return nil
}

// create makes the agent that an NFT's first event finds (protocol part I.3).
func (p Params) create(a *Agent, nft string, e *Event) {
	a.Aggregate = Aggregate{
		CollectionID:    e.CollectionID,
		ContractVersion: ContractVersion,
		CreatedAt:       e.Timestamp,
		LastUpdated:     e.Timestamp,
		MinSampleCount:  p.MinSampleCount,
		PersonalityID:   nft,
		PoolID:          DefaultPool,
		PseudoCount:     p.PseudoCount,
		State:           StateCold,
	}
}

// observe folds a judgement (protocol part I.4).
func (p Params) observe(a *Agent, c *Collection, e *Event, score float64, dimensions Dimensions) {
	g := &a.Aggregate
	g.PersonalScore, g.SampleCount = p.score(c, g.PersonalScore, g.SampleCount, score)
	p.observeDimensions(a, dimensions)
	p.advance(g, e.Timestamp)
	g.LastUpdated = g.LastUpdated.Later(e.Timestamp)
}

func (p Params) observeDimensions(a *Agent, dimensions Dimensions) {
	if len(dimensions) > 0 && a.Dimensions == nil {
		a.Dimensions = make(map[string]Running, len(dimensions))
	}
	for _, d := range dimensions {
		running := a.Dimensions[d.Name]
		a.Dimensions[d.Name] = p.running(running, d.Score)
	}
}

// running is the next value of a score that counts its own samples.
func (p Params) running(r Running, score float64) Running {
	var old *float64
	if r.Count > 0 {
		old = &r.Score
	}
	return Running{Count: r.Count + 1, Score: p.Damping.Dampen(old, score, r.Count)}
}

// advance takes at most one step of the state machine, judged by the state before
// the event.
func (p Params) advance(g *Aggregate, at Timestamp) {
	if to, trigger := p.next(g.State, g.SampleCount); to != g.State {
		g.step(to, at, trigger)
	}
}

// next is the state after an observation that makes the count of samples, and why
// (protocol §4). It is the state before when nothing changes.
func (p Params) next(before State, samples int64) (state State, trigger string) {
	switch {
	case before == StateCold:
		return StateWarming, "First QualityEvent recorded"
	case before == StateWarming && samples >= p.MinSampleCount:
		return StateEstablished, "sample_count >= min_sample_count"
	case before == StateEstablished && PersonalWeight(samples, p.PseudoCount) > p.AuthoritativeWeight:
		return StateAuthoritative, "personal_weight > AUTHORITATIVE_THRESHOLD"
	}
	return before, ""
}

func (g *Aggregate) step(to State, at Timestamp, trigger string) {
	g.Transitions = append(g.Transitions, Transition{At: at, From: g.State, To: to, Trigger: trigger})
	g.State = to
}

// perform folds what only a model_performance says.
func (p Params) perform(a *Agent, e *Event, body ModelPerformance) {
	g := &a.Aggregate
	g.PoolID = body.PoolID
	a.evaluatedBy(body.Observation.EvaluatedBy)
	i, known := slices.BinarySearchFunc(g.ModelCohorts, body.ModelID, func(c ModelCohort, id string) int {
		return strings.Compare(c.ModelID, id)
	})
	if !known {
		g.ModelCohorts = slices.Insert(g.ModelCohorts, i, ModelCohort{ModelID: body.ModelID})
	}
	c := &g.ModelCohorts[i]
	score := p.Damping.Dampen(c.PersonalScore, body.Observation.Score, c.SampleCount)
	c.PersonalScore = &score
	c.SampleCount++
	c.LastUpdated = c.LastUpdated.Later(e.Timestamp)
}

func (a *Agent) evaluatedBy(evaluator string) {
	if evaluator == "" || len(a.Evaluators) >= maxEvaluators {
		return
	}
	if i, known := slices.BinarySearch(a.Evaluators, evaluator); !known {
		a.Evaluators = slices.Insert(a.Evaluators, i, evaluator)
		a.Aggregate.ContributorCount = int64(len(a.Evaluators))
	}
}

func (a *Agent) complete(body TaskCompleted) {
	if a.Tasks == nil {
		a.Tasks = make(map[TaskType]TaskStats, 1)
	}
	s := a.Tasks[body.TaskType]
	s.Completed++
	if body.Success {
		s.Succeeded++
	}
	if body.DurationMS != nil {
		s.Timed++
		s.TotalDurationMS += *body.DurationMS
	}
	a.Tasks[body.TaskType] = s
}

func (a *Agent) credential(e *Event, body CredentialUpdate) {
	if a.Credentials == nil {
		a.Credentials = make(map[string]Credential, 1)
	}
	a.Credentials[strings.ToLower(body.CredentialID)] = Credential{Action: body.Action, At: e.Timestamp}
}

// reset makes the agent start again. History, task statistics and credentials
// stay.
func (a *Agent) reset(c *Collection, e *Event, body ReputationReset) {
	g := &a.Aggregate
	c.move(g.PersonalScore, nil)
	g.PersonalScore = nil
	g.SampleCount = 0
	g.ModelCohorts = nil
	g.ContributorCount = 0
	a.Dimensions = nil
	a.Evaluators = nil
	g.step(StateCold, e.Timestamp, body.Reason)
}

// blend brings the row up to date after any event (protocol part I.6).
func (p Params) blend(a *Agent, c *Collection) {
	g := &a.Aggregate
	g.CollectionScore = c.Prior(g.PersonalScore, p)
	g.BlendedScore = Blend(g.PersonalScore, g.CollectionScore, float64(g.SampleCount), p.PseudoCount)
}
