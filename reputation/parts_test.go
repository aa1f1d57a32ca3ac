package reputation_test

import (
	"slices"
	"testing"

	"dixie/reputation"

	"pgregory.net/rapid"
)

// without is an agent of which only some parts are there.
func without(a *reputation.Agent, parts reputation.Parts) *reputation.Agent {
	partial := a.Clone()
	partial.Aggregate.Transitions = nil
	replace(partial, &reputation.Agent{}, ^parts)
	return partial
}

// replace puts parts of one agent into another.
func replace(to, from *reputation.Agent, parts reputation.Parts) {
	if parts&reputation.PartModelCohorts != 0 {
		to.Aggregate.ModelCohorts = from.Aggregate.ModelCohorts
	}
	if parts&reputation.PartCredentials != 0 {
		to.Credentials = from.Credentials
	}
	if parts&reputation.PartDimensions != 0 {
		to.Dimensions = from.Dimensions
	}
	if parts&reputation.PartEvaluators != 0 {
		to.Evaluators = from.Evaluators
	}
	if parts&reputation.PartTasks != 0 {
		to.Tasks = from.Tasks
	}
}

func stored(a *reputation.Agent) string {
	return string(a.AppendJSON(nil, a.Aggregate.AppendJSON(nil)))
}

// TestPartsOf: an event folded into an agent of which there is only what the event
// touches gives the same as when all is there, in every history.
func TestPartsOf(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := reputation.DefaultParams()
		agents := map[string]*reputation.Agent{}
		collections := map[string]*reputation.Collection{"a": {}, "b": {}}
		for _, l := range history(60).Draw(t, "history") {
			if agents[l.nft] == nil {
				agents[l.nft] = &reputation.Agent{}
			}
			whole, parts := agents[l.nft], reputation.PartsOf(l.event)
			before, partial := whole.Clone(), without(whole, parts)
			c, other := collections[l.event.CollectionID], *collections[l.event.CollectionID]
			if p.FoldAggregate(whole, c, l.nft, l.event) != nil {
				continue
			}
			if err := p.FoldAggregate(partial, &other, l.nft, l.event); err != nil || other != *c {
				t.Fatalf("error %v, collection %+v, want %+v", err, other, *c)
			}
			if rest := without(partial, ^parts); len(rest.Aggregate.ModelCohorts)+len(rest.Credentials)+len(rest.Dimensions)+len(rest.Evaluators)+len(rest.Tasks) > 0 {
				t.Fatalf("parts that %T does not touch: %s", l.event.Body, stored(rest))
			}
			replace(partial, before, ^parts)
			partial.Aggregate.Transitions = slices.Concat(before.Aggregate.Transitions, partial.Aggregate.Transitions)
			if got, want := stored(partial), stored(whole); got != want {
				t.Fatalf("after %T\n got %s\nwant %s", l.event.Body, got, want)
			}
		}
	})
}
