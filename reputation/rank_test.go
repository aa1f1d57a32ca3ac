package reputation_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"dixie/reputation"
)

// TestPropertyRankChangesAsTheAgentDoes: the changes of a rank are the agent's
// whole history of states, also when nothing but collection and count is kept
// from one event to the next.
func TestPropertyRankChangesAsTheAgentDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := anyParams().Draw(t, "params")
		forget := rapid.Bool().Draw(t, "forget")
		agents, collections := map[string]*reputation.Agent{}, map[string]*reputation.Collection{}
		ranks, changes := map[string]reputation.Rank{}, map[string][]reputation.Transition{}
		for _, l := range history(120).Draw(t, "history") {
			agent, collection := obtain(agents, l.nft), obtain(collections, l.event.CollectionID)
			asideOfAgent := p.FoldAggregate(agent, collection, l.nft, l.event)
			rank := ranks[l.nft]
			if forget && rank.CollectionID != "" {
				rank = p.RankAt(rank.CollectionID, rank.Samples)
			}
			before := rank
			change, aside := p.FoldRank(&rank, l.nft, l.event)
			if diff := cmp.Diff(asideOfAgent, aside); diff != "" {
				t.Fatalf("set aside otherwise (-agent +rank):\n%s", diff)
			}
			if aside != nil && (change != nil || rank != before) {
				t.Fatalf("set aside, and yet %+v became %+v with %+v", before, rank, change)
			}
			if change != nil {
				changes[l.nft] = append(changes[l.nft], *change)
			}
			ranks[l.nft] = rank
		}
		for nft, agent := range agents {
			g := agent.Aggregate
			if diff := cmp.Diff(g.Transitions, changes[nft], sameTime); diff != "" {
				t.Fatalf("changes of %s (-agent +rank):\n%s", nft, diff)
			}
			if want := (reputation.Rank{CollectionID: g.CollectionID, Samples: g.SampleCount, State: g.State}); ranks[nft] != want {
				t.Fatalf("rank of %s is %+v, want %+v", nft, ranks[nft], want)
			}
		}
	})
}

var sameTime = cmp.Comparer(func(a, b reputation.Timestamp) bool { return a.String() == b.String() })

func obtain[V any](m map[string]*V, key string) *V {
	if m[key] == nil {
		m[key] = new(V)
	}
	return m[key]
}

func TestRankAt(t *testing.T) {
	t.Parallel()
	p := reputation.DefaultParams() // established at 5 samples, authoritative where n/(3+n) > 0.9
	for samples, want := range map[int64]reputation.State{
		0: reputation.StateCold, 1: reputation.StateWarming, 4: reputation.StateWarming,
		5: reputation.StateEstablished, 27: reputation.StateEstablished,
		28: reputation.StateAuthoritative, 1 << 40: reputation.StateAuthoritative,
	} {
		if got := p.RankAt("honey", samples); got != (reputation.Rank{CollectionID: "honey", Samples: samples, State: want}) {
			t.Errorf("RankAt(%d) = %+v, want state %s", samples, got, want)
		}
	}
	// One step for each observation, however low the thresholds are.
	p.MinSampleCount, p.AuthoritativeWeight = 1, 0.1
	for samples, want := range []reputation.State{"cold", "warming", "established", "authoritative"} {
		if got := p.RankAt("honey", int64(samples)).State; got != want {
			t.Errorf("RankAt(%d) is %s, want %s", samples, got, want)
		}
	}
}

// A change is written in canonical form, with these members.
func TestStateChangeJSON(t *testing.T) {
	t.Parallel()
	c := reputation.StateChange{
		NFT: "bear-1", CollectionID: "mead \"é\"", EventID: "550E8400-e29b-41d4-a716-446655440000", Position: 7,
		Transition: reputation.Transition{At: minute(1), From: "cold", To: "warming", Trigger: "First QualityEvent recorded"},
	}
	got := c.AppendJSON(nil)
	want := `{"at":"` + minute(1).String() + `","collection_id":"mead \"é\"","event_id":"550E8400-e29b-41d4-a716-446655440000",` +
		`"from":"cold","nft_id":"bear-1","position":7,"to":"warming","trigger":"First QualityEvent recorded"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if canonical, err := reputation.Canonical(got); err != nil || string(canonical) != want {
		t.Errorf("canonical form %s, error %v", canonical, err)
	}
}
