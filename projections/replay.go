package projections

import (
	"maps"
	"slices"

	"dixie/reputation"
)

// Replay folds a history in memory, all projections at once, with the same
// functions as the projectors. It is not safe for concurrent use.
type Replay struct {
	params      reputation.Params
	agents      map[string]*reputation.Agent
	cohorts     map[string]*reputation.Cohorts
	collections map[string]*reputation.Collection
}

// NewReplay starts before the first event.
func NewReplay(params reputation.Params) *Replay {
	return &Replay{
		params:      params,
		agents:      map[string]*reputation.Agent{},
		cohorts:     map[string]*reputation.Cohorts{},
		collections: map[string]*reputation.Collection{},
	}
}

// Apply folds the next event of the log. The error is a
// [*reputation.SetAsideError] when the event has no effect.
func (r *Replay) Apply(nft string, event *reputation.Event) error {
	if err := r.applyAggregates(nft, event); err != nil {
		return err
	}
	return r.applyCohorts(nft, event)
}

func (r *Replay) applyAggregates(nft string, event *reputation.Event) error {
	collection := r.collections[event.CollectionID]
	if collection == nil {
		collection = &reputation.Collection{}
	}
	agent := r.agents[nft]
	if agent == nil {
		agent = &reputation.Agent{}
	}
	if err := r.params.FoldAggregate(agent, collection, nft, event); err != nil {
		return err
	}
	r.agents[nft], r.collections[event.CollectionID] = agent, collection
	return nil
}

func (r *Replay) applyCohorts(nft string, event *reputation.Event) error {
	cohorts := r.cohorts[nft]
	if cohorts == nil {
		cohorts = &reputation.Cohorts{}
	}
	if err := r.params.FoldCohorts(cohorts, nft, event); err != nil {
		return err
	}
	r.cohorts[nft] = cohorts
	return nil
}

// Agent is the present state of an NFT, nil when it has had no event. It changes
// with the next event.
func (r *Replay) Agent(nft string) *reputation.Agent { return r.agents[nft] }

// Cohorts are the present task cohorts of an NFT, by model and task.
func (r *Replay) Cohorts(nft string) []reputation.TaskCohort {
	if c := r.cohorts[nft]; c != nil {
		return c.Sorted()
	}
	return []reputation.TaskCohort{}
}

// NFTs are all that have had an event, in byte order.
func (r *Replay) NFTs() []string { return slices.Sorted(maps.Keys(r.agents)) }
