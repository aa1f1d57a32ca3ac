package projectionstest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"dixie/projections"
	"dixie/reputation"
)

// testNothingKnown: before the first projector, and so before the first event is
// folded, there is nothing, as of position 0.
func testNothingKnown(t *testing.T, b Backend) {
	b.Append(t, Signal("bear-1", 0.5))
	if r := b.Reputation(t, "bear-1"); r.Agent != nil || len(r.Cohorts) > 0 || r.Position != 0 {
		t.Errorf("reputation %+v", r)
	}
	wantList(t, b, "", "", 10, 0)
	if pops, position := populations(t, b, "", 10); len(pops) > 0 || position != 0 {
		t.Errorf("populations %v as of %d", pops, position)
	}
	if score, position := score(t, b, "bear-1"); score != nil || position != 0 {
		t.Errorf("score %v as of %d", score, position)
	}
	for _, name := range projections.Names {
		if failures := b.Failures(t, name); len(failures) > 0 {
			t.Errorf("failures %v", failures)
		}
	}
}

func score(t TB, b Backend, nft string) (*float64, int64) {
	t.Helper()
	score, err := b.Reader.Score(t.Context(), nft)
	if err != nil {
		t.Fatal(err)
	}
	return score.Value, score.Position
}

func populations(t TB, b Backend, after string, limit int) ([]projections.Population, int64) {
	t.Helper()
	pops, position, err := b.Reader.Populations(t.Context(), after, limit)
	if err != nil {
		t.Fatal(err)
	}
	return pops, position
}

// wantList lists agents and checks their ids and the position.
func wantList(t TB, b Backend, state reputation.State, after string, limit int, position int64, want ...string) {
	t.Helper()
	rows, at, err := b.Reader.List(t.Context(), state, after, limit)
	if err != nil {
		t.Fatal(err)
	}
	if at != position {
		t.Errorf("the list is as of %d, want %d", at, position)
	}
	if diff := cmp.Diff(want, nftsOf(rows), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%d agents in state %q after %q (-want +got):\n%s", limit, state, after, diff)
	}
}

func testUnknownNFT(t *testing.T, b Backend) {
	b.Append(t, Signal("bear-1", 0.5), Task("bear-1", "native", "analysis", 0.5))
	b.Project(t)
	b.Settle(t)
	if r := b.Reputation(t, "bear-2"); r.Agent != nil || len(r.Cohorts) > 0 || r.Position != 2 {
		t.Errorf("reputation %+v", r)
	}
	if score, position := score(t, b, "bear-2"); score != nil || position != 2 {
		t.Errorf("score %v as of %d", score, position)
	}
}

// testReputation: one answer has the agent, its cohorts and its collection.
func testReputation(t *testing.T, b Backend) {
	b.Append(t,
		Task("bear-1", "native", "analysis", 0.5), Task("bear-1", "gpt-4o", "general", 0.75), Task("bear-1", "Z", "analysis", 1),
		Task("bear-1", "native", "a-guild:fishing", 0), Signal("bear-2", 0.25),
		Event{NFT: "wasp-1", Collection: "mead", Body: reputation.QualitySignal{Score: 1}})
	b.Project(t)
	b.CheckFolded(t, reputation.DefaultParams())
	r := b.Reputation(t, "bear-1")
	var keys []reputation.CohortKey
	for _, c := range r.Cohorts {
		keys = append(keys, c.Key())
	}
	if diff := cmp.Diff([]reputation.CohortKey{
		{Model: "Z", Task: "analysis"}, {Model: "gpt-4o", Task: "general"},
		{Model: "native", Task: "a-guild:fishing"}, {Model: "native", Task: "analysis"},
	}, keys); diff != "" {
		t.Errorf("cohorts in the order of their keys (-want +got):\n%s", diff)
	}
	if c := r.Collection; c.Members != 2 || c.Scores != 2 || c.Sum != *r.Agent.Aggregate.PersonalScore+0.25 {
		t.Errorf("collection %+v", c)
	}
}

// testPositions: an answer is as of the projection that it was read from, and one
// that was read from both as of the slower.
func testPositions(t *testing.T, b Backend) {
	head := b.Append(t, Signal("bear-1", 0.5), Task("bear-1", "native", "analysis", 1), Signal("bear-2", 1))
	projectors := b.Projectors(reputation.DefaultParams(), 0)
	Run(t, projectors[0])
	b.Await(t, head, projections.Aggregates)
	wantPositions(t, b, head, 0)
	Run(t, projectors[1])
	b.Settle(t)
	wantPositions(t, b, head, head)
	b.Settle(t)
	head = b.Append(t, Signal("bear-3", 1))
	b.Settle(t)
	wantPositions(t, b, head, head)
}

func wantPositions(t TB, b Backend, aggregates, all int64) {
	t.Helper()
	if r := b.Reputation(t, "bear-1"); r.Position != all {
		t.Errorf("reputation as of %d, want %d", r.Position, all)
	}
	if r := b.Reputation(t, "nobody"); r.Position != all {
		t.Errorf("reputation of an unknown NFT as of %d, want %d", r.Position, all)
	}
	if _, position := score(t, b, "bear-1"); position != aggregates {
		t.Errorf("score as of %d, want %d", position, aggregates)
	}
	if _, position := populations(t, b, "", 10); position != aggregates {
		t.Errorf("populations as of %d, want %d", position, aggregates)
	}
	if _, position, err := b.Reader.List(t.Context(), "", "", 10); err != nil || position != aggregates {
		t.Errorf("list as of %d, error %v, want %d", position, err, aggregates)
	}
}

// testScore: the score is, to the last bit, the aggregate's.
func testScore(t *testing.T, b Backend) {
	b.Append(t, Signal("bear-1", 1.0/3), Signal("bear-2", 0.1), Signal("bear-3", math.SmallestNonzeroFloat64),
		Signal("bear-1", 0.7), Signal("bear-4", 1e-7), Reset("bear-4"))
	b.Project(t)
	b.Settle(t)
	for _, nft := range []string{"bear-1", "bear-2", "bear-3", "bear-4"} {
		want := b.Reputation(t, nft).Agent.Aggregate.BlendedScore
		if got, _ := score(t, b, nft); got == nil || *got != want {
			t.Errorf("score of %s is %v, want %v", nft, got, want)
		}
	}
}

func testList(t *testing.T, b Backend) {
	for i := range 4 {
		b.Append(t, Event{NFT: fmt.Sprintf("cold-%d", i), Collection: "honey", Body: reputation.TaskCompleted{TaskType: "general"}},
			Signal(fmt.Sprintf("warm-%d", i), 0.5))
	}
	b.Project(t)
	b.Settle(t)
	wantList(t, b, reputation.StateCold, "", 10, 8, "cold-0", "cold-1", "cold-2", "cold-3")
	wantList(t, b, reputation.StateCold, "", 3, 8, "cold-0", "cold-1", "cold-2")
	wantList(t, b, reputation.StateCold, "cold-2", 3, 8, "cold-3")
	wantList(t, b, reputation.StateCold, "cold-3", 3, 8)
	wantList(t, b, reputation.StateWarming, "cold-2", 2, 8, "warm-0", "warm-1") // an id in another state is a cursor too
	wantList(t, b, reputation.StateWarming, "warm-1x", 10, 8, "warm-2", "warm-3")
	wantList(t, b, reputation.StateEstablished, "", 10, 8)
	wantList(t, b, "", "cold-2", 3, 8, "cold-3", "warm-0", "warm-1")
	wantList(t, b, "", "", 0, 8)
}

// testByteOrder: whatever the collation of the database.
func testByteOrder(t *testing.T, b Backend) {
	want := []string{"-", ".", "10", "9", ":", "A", "Z", "_", "a", "a-b", "a.b", "aB", "a_b", "ab", "b", "z"}
	for _, i := range []int{5, 3, 11, 0, 15, 7, 9, 1, 13, 2, 10, 4, 12, 6, 14, 8} {
		b.Append(t, Signal(want[i], 0.5))
	}
	b.Project(t)
	b.Settle(t)
	for _, state := range []reputation.State{"", reputation.StateWarming} {
		for i := range want {
			wantList(t, b, state, want[i], 5, 16, want[i+1:min(i+6, len(want))]...)
		}
	}
	if got := nftsOf(collect(t, b.Store.AllAggregates(t.Context()))); !slices.Equal(got, want) {
		t.Errorf("all aggregates %v, want %v", got, want)
	}
}

func testPopulations(t *testing.T, b Backend) {
	in := func(collection, nft string, body reputation.Body) Event {
		return Event{NFT: nft, Collection: collection, Body: body}
	}
	b.Append(t,
		in("é", "a", reputation.QualitySignal{Score: 0.5}), in("z", "b", reputation.QualitySignal{Score: 0.25}),
		in("B", "c", reputation.TaskCompleted{TaskType: "general"}), in("z", "d", reputation.QualitySignal{Score: 0.75}),
		in("z", "e", reputation.CredentialUpdate{CredentialID: ID(1), Action: "issued"}))
	b.Project(t)
	b.Settle(t)
	all := []projections.Population{
		{CollectionID: "B", Collection: reputation.Collection{Members: 1}},
		{CollectionID: "z", Collection: reputation.Collection{Sum: 1, Squares: 0.625, Scores: 2, Members: 3}},
		{CollectionID: "é", Collection: reputation.Collection{Sum: 0.5, Squares: 0.25, Scores: 1, Members: 1}},
	}
	for _, q := range []struct {
		after       string
		limit       int
		first, last int
	}{{"", 10, 0, 3}, {"", 2, 0, 2}, {"B", 2, 1, 3}, {"z", 2, 2, 3}, {"y", 1, 1, 2}, {"é", 2, 3, 3}, {"", 0, 0, 0}} {
		got, _ := populations(t, b, q.after, q.limit)
		if diff := cmp.Diff(all[q.first:q.last], got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%d populations after %q (-want +got):\n%s", q.limit, q.after, diff)
		}
	}
}

func testFailurePages(t *testing.T, b Backend) {
	for i := range 5 {
		b.Append(t, Signal("bear-1", 0.5))
		b.AppendEntries(t, Raw(t, fmt.Sprintf("bear-%d", i), `{}`))
	}
	b.Project(t)
	b.Settle(t)
	for _, q := range []struct {
		after int64
		limit int
		want  []int64
	}{
		{0, 10, []int64{2, 4, 6, 8, 10}}, {0, 2, []int64{2, 4}}, {4, 2, []int64{6, 8}}, {5, 2, []int64{6, 8}},
		{9, math.MaxInt, []int64{10}}, {10, 5, nil}, {0, 0, nil}, {math.MaxInt64, 5, nil},
	} {
		failures, err := b.Reader.Failures(t.Context(), projections.Cohorts, q.after, q.limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, f := range failures {
			got = append(got, f.Position)
		}
		if !slices.Equal(got, q.want) {
			t.Errorf("%d failures after %d: %v, want %v", q.limit, q.after, got, q.want)
		}
	}
	if failures, err := b.Reader.Failures(t.Context(), "unknown", 0, 10); err != nil || len(failures) > 0 {
		t.Errorf("failures of an unknown projection: %v, %v", failures, err)
	}
}

// testCancelledReads: no answer is made from nothing.
func testCancelledReads(t *testing.T, b Backend) {
	b.Append(t, Signal("bear-1", 0.5))
	b.Project(t)
	b.Settle(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, reputationErr := b.Reader.Reputation(ctx, "bear-1")
	_, scoreErr := b.Reader.Score(ctx, "bear-1")
	_, _, unchangedErr := b.Reader.Unchanged(ctx, "bear-1", reputation.Mark{}, projections.Names...)
	_, _, listErr := b.Reader.List(ctx, "", "", 10)
	_, _, populationsErr := b.Reader.Populations(ctx, "", 10)
	_, statusErr := b.Reader.Status(ctx)
	_, failuresErr := b.Reader.Failures(ctx, projections.Cohorts, 0, 10)
	_, aggregateErr := b.Store.Aggregate(ctx, "bear-1")
	_, countErr := b.Store.Count(ctx)
	for name, err := range map[string]error{
		"Reputation": reputationErr, "Score": scoreErr, "Unchanged": unchangedErr, "List": listErr, "Populations": populationsErr,
		"Status": statusErr, "Failures": failuresErr, "Aggregate": aggregateErr, "Count": countErr,
	} {
		t.Run(name, func(t *testing.T) { wantError(t, err, context.Canceled) })
	}
}
