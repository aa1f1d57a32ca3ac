package projections

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"dixie/eventstore"
	"dixie/reputation"
)

// projection folds pages of the log into rows of its own.
type projection struct {
	name   string
	fold   func(ctx context.Context, params reputation.Params, tx tx, page *eventstore.Page) error
	shadow func(params reputation.Params) shadow // that it can catch up in
}

// All projections, in the order of their names.
func all() []projection {
	return []projection{
		{Aggregates, foldAggregates, func(p reputation.Params) shadow { return newAgentShadow(p) }},
		{Cohorts, foldCohorts, func(p reputation.Params) shadow { return newCohortShadow(p) }},
	}
}

// foldAggregates folds a page into the aggregates projection.
func foldAggregates(ctx context.Context, params reputation.Params, tx tx, page *eventstore.Page) error {
	rows, err := tx.loadAgents(ctx, nfts(page), collections(page))
	if err != nil {
		return err
	}
	touched := make(map[string]int64, len(rows.agents))
	changed := make(map[string]*reputation.Collection, len(rows.collections))
	var failures []Failure
	for i := range page.Events {
		e := &page.Events[i]
		err := e.Err
		if err == nil {
			agent := obtain(rows.agents, e.NFT)
			collection := obtain(rows.collections, e.Event.CollectionID)
			if err = params.FoldAggregate(agent, collection, e.NFT, &e.Event); err == nil {
				touched[e.NFT] = e.Position
				changed[e.Event.CollectionID] = collection
				continue
			}
		}
		failures = append(failures, newFailure(Aggregates, e, err))
	}
	changes := agentChanges{collections: changed, failures: failures}
	for nft, position := range touched {
		changes.agents = append(changes.agents, changedAgent{nft: nft, agent: rows.agents[nft], position: position})
	}
	// Rows are locked in one order by everybody who writes several.
	slices.SortFunc(changes.agents, func(a, b changedAgent) int { return cmp.Compare(a.nft, b.nft) })
	return tx.saveAgents(ctx, changes)
}

// foldCohorts folds a page into the cohorts projection.
func foldCohorts(ctx context.Context, params reputation.Params, tx tx, page *eventstore.Page) error {
	loaded, err := tx.loadCohorts(ctx, nfts(page), cohortIDs(page))
	if err != nil {
		return err
	}
	changes := cohortChanges{members: map[string]string{}}
	touched := map[cohortID]int64{}
	for i := range page.Events {
		e := &page.Events[i]
		err := e.Err
		if err == nil {
			cohorts := obtain(loaded, e.NFT)
			joins := cohorts.CollectionID == ""
			if err = params.FoldCohorts(cohorts, e.NFT, &e.Event); err == nil {
				if joins {
					changes.members[e.NFT] = cohorts.CollectionID
				}
				if key, _, ok := reputation.CohortOf(&e.Event); ok {
					touched[cohortID{e.NFT, key}] = e.Position
				}
				continue
			}
		}
		changes.failures = append(changes.failures, newFailure(Cohorts, e, err))
	}
	changes.collect(loaded, touched)
	return tx.saveCohorts(ctx, changes)
}

// collect gathers the cohorts that were touched and still are there, and the NFTs
// that a reset cleared.
func (c *cohortChanges) collect(loaded map[string]*reputation.Cohorts, touched map[cohortID]int64) {
	for nft, cohorts := range loaded {
		if cohorts.Cleared {
			c.cleared = append(c.cleared, nft)
		}
	}
	for id, position := range touched {
		if cohort, ok := loaded[id.nft].ByKey[id.key]; ok {
			c.cohorts = append(c.cohorts, changedCohort{nft: id.nft, cohort: cohort, position: position})
		}
	}
	slices.Sort(c.cleared)
	slices.SortFunc(c.cohorts, func(a, b changedCohort) int {
		return cmp.Or(cmp.Compare(a.nft, b.nft), a.cohort.Key().Compare(b.cohort.Key()))
	})
}

// obtain returns the value of a key, and puts a zero value where there is none.
func obtain[V any](m map[string]*V, key string) *V {
	v, ok := m[key]
	if !ok {
		v = new(V)
		m[key] = v
	}
	return v
}

// nfts are the distinct NFTs that a page touches.
func nfts(page *eventstore.Page) []string {
	return distinct(page, func(e *eventstore.PageEvent) string { return e.NFT })
}

// collections are the distinct collections that a page touches.
func collections(page *eventstore.Page) []string {
	return distinct(page, func(e *eventstore.PageEvent) string { return e.Event.CollectionID })
}

func distinct(page *eventstore.Page, of func(*eventstore.PageEvent) string) []string {
	seen := make(map[string]struct{}, len(page.Events))
	var values []string
	for i := range page.Events {
		if page.Events[i].Err != nil {
			continue
		}
		value := of(&page.Events[i])
		if _, ok := seen[value]; !ok {
			seen[value] = struct{}{}
			values = append(values, value)
		}
	}
	return values
}

// cohortIDs are the distinct cohorts that a page touches.
func cohortIDs(page *eventstore.Page) []cohortID {
	seen := map[cohortID]struct{}{}
	var ids []cohortID
	for i := range page.Events {
		e := &page.Events[i]
		if e.Err != nil {
			continue
		}
		key, _, ok := reputation.CohortOf(&e.Event)
		id := cohortID{e.NFT, key}
		if _, again := seen[id]; ok && !again {
			seen[id] = struct{}{}
			ids = append(ids, id)
		}
	}
	return ids
}

// newFailure records why an event was set aside.
func newFailure(projection string, e *eventstore.PageEvent, err error) Failure {
	f := Failure{
		Projection: projection, Position: e.Position, NFT: e.NFT,
		Reason: reputation.ReasonInvalidEvent, Detail: err.Error(),
	}
	var aside *reputation.SetAsideError
	if errors.As(err, &aside) {
		f.Reason, f.Detail = aside.Reason, aside.Detail
	}
	return f
}
