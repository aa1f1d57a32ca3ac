package projectionstest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dixie/projections"
	"dixie/reputation"
)

// aggregate is one that another program could have put.
func aggregate(nft string, state reputation.State, score float64) reputation.Aggregate {
	return reputation.Aggregate{
		BlendedScore: score, CollectionID: "honey", CollectionScore: 0.5, ContractVersion: reputation.ContractVersion,
		ContributorCount: 2, CreatedAt: At(1), LastUpdated: At(2), MinSampleCount: 5,
		ModelCohorts:  []reputation.ModelCohort{{LastUpdated: At(2), ModelID: "native", PersonalScore: &score, SampleCount: 1}},
		PersonalScore: &score, PersonalityID: nft, PoolID: "alpha", PseudoCount: 3, SampleCount: 1, State: state,
		Transitions: []reputation.Transition{{At: At(1), From: reputation.StateCold, To: state, Trigger: "by hand"}},
	}
}

func put(t TB, b Backend, nft string, a reputation.Aggregate) {
	t.Helper()
	if err := b.Store.PutAggregate(t.Context(), nft, a); err != nil {
		t.Fatal(err)
	}
}

func wantAggregate(t TB, b Backend, nft string, want reputation.Aggregate) {
	t.Helper()
	got, err := b.Store.Aggregate(t.Context(), nft)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(encode(t, &want), encode(t, &got)); diff != "" {
		t.Errorf("aggregate of %s (-want +got):\n%s", nft, diff)
	}
}

func testAggregate(t *testing.T, b Backend) {
	_, err := b.Store.Aggregate(t.Context(), "bear-1")
	wantError(t, err, reputation.ErrNotFound)
	put(t, b, "bear-1", aggregate("bear-1", reputation.StateWarming, 1.0/3))
	wantAggregate(t, b, "bear-1", aggregate("bear-1", reputation.StateWarming, 1.0/3))
	_, err = b.Store.Aggregate(t.Context(), "BEAR-1")
	wantError(t, err, reputation.ErrNotFound)
}

func testReplaceAggregate(t *testing.T, b Backend) {
	put(t, b, "bear-1", aggregate("bear-1", reputation.StateWarming, 0.25))
	before := collect(t, b.Store.AllAggregates(t.Context()))
	put(t, b, "bear-1", aggregate("bear-1", reputation.StateCold, 0.75))
	after := collect(t, b.Store.AllAggregates(t.Context()))
	wantAggregate(t, b, "bear-1", aggregate("bear-1", reputation.StateCold, 0.75))
	if len(before) != 1 || len(after) != 1 {
		t.Fatalf("%d rows, then %d, want one", len(before), len(after))
	}
	if !after[0].UpdatedAt.After(before[0].UpdatedAt) {
		t.Errorf("updated at %v, then at %v", before[0].UpdatedAt, after[0].UpdatedAt)
	}
}

// collect reads a stream to its end.
func collect(t TB, rows iter.Seq2[projections.StoredAggregate, error]) []projections.StoredAggregate {
	t.Helper()
	var all []projections.StoredAggregate
	for row, err := range rows {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, row)
	}
	return all
}

func nftsOf(rows []projections.StoredAggregate) []string {
	var nfts []string
	for _, row := range rows {
		nfts = append(nfts, row.NFT)
	}
	return nfts
}

func testColdAggregates(t *testing.T, b Backend) {
	for i, state := range []reputation.State{"cold", "warming", "cold", "established", "authoritative", "cold"} {
		nft := fmt.Sprintf("bear-%d", i)
		put(t, b, nft, aggregate(nft, state, 0.5))
	}
	put(t, b, "bear-2", aggregate("bear-2", reputation.StateWarming, 0.5)) // no longer
	put(t, b, "bear-4", aggregate("bear-4", reputation.StateCold, 0.5))    // now
	cold := collect(t, b.Store.ColdAggregates(t.Context()))
	if diff := cmp.Diff([]string{"bear-0", "bear-4", "bear-5"}, nftsOf(cold)); diff != "" {
		t.Errorf("cold (-want +got):\n%s", diff)
	}
	for _, row := range cold {
		if row.Aggregate.State != reputation.StateCold || row.Aggregate.PersonalityID != row.NFT {
			t.Errorf("%s has the aggregate of %s, %s", row.NFT, row.Aggregate.PersonalityID, row.Aggregate.State)
		}
	}
}

func testCount(t *testing.T, b Backend) {
	wantCount(t, b, 0)
	put(t, b, "a", aggregate("a", reputation.StateCold, 0.5))
	wantCount(t, b, 1)
	put(t, b, "b", aggregate("b", reputation.StateWarming, 0.5))
	put(t, b, "a", aggregate("a", reputation.StateWarming, 0.5))
	wantCount(t, b, 2)
}

func wantCount(t TB, b Backend, want int64) {
	t.Helper()
	if count, err := b.Store.Count(t.Context()); err != nil || count != want {
		t.Errorf("count %d, error %v, want %d", count, err, want)
	}
}

// putMany puts aggregates of as many NFTs, at once, and returns these sorted.
func putMany(t TB, b Backend, count int) []string {
	t.Helper()
	var nfts []string
	for i := range count {
		nfts = append(nfts, fmt.Sprintf("bear-%d", i))
	}
	var puts sync.WaitGroup
	for part := range slices.Chunk(nfts, count/8+1) {
		puts.Go(func() {
			for _, nft := range part {
				if err := b.Store.PutAggregate(t.Context(), nft, aggregate(nft, reputation.StateCold, 0.5)); err != nil {
					t.Errorf("put: %v", err)
				}
			}
		})
	}
	puts.Wait()
	slices.Sort(nfts)
	return nfts
}

func testAllAggregates(t *testing.T, b Backend) {
	want := putMany(t, b, 1203)
	all := collect(t, b.Store.AllAggregates(t.Context()))
	if diff := cmp.Diff(want, nftsOf(all)); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	for _, row := range all {
		if row.Aggregate.PersonalityID != row.NFT || row.UpdatedAt.IsZero() {
			t.Fatalf("%s: %+v", row.NFT, row)
		}
	}
}

// testFullPage: the end of the rows is the end of a page of the stream.
func testFullPage(t *testing.T, b Backend) {
	want := putMany(t, b, 500)
	if diff := cmp.Diff(want, nftsOf(collect(t, b.Store.ColdAggregates(t.Context())))); diff != "" {
		t.Errorf("cold (-want +got):\n%s", diff)
	}
}

func testStopEarly(t *testing.T, b Backend) {
	want := putMany(t, b, 600)
	for _, stop := range []int{1, 500, 501} {
		var got []string
		for row, err := range b.Store.AllAggregates(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, row.NFT); len(got) == stop {
				break
			}
		}
		if diff := cmp.Diff(want[:stop], got); diff != "" {
			t.Errorf("the first %d (-want +got):\n%s", stop, diff)
		}
	}
}

// testCancelledList: the error comes once, and nothing after it.
func testCancelledList(t *testing.T, b Backend) {
	putMany(t, b, 600)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var errs []error
	rows := 0
	for _, err := range b.Store.AllAggregates(ctx) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if rows++; rows == 10 {
			cancel() // the page that is being read may still come
		}
	}
	if len(errs) != 1 || !errors.Is(errs[0], context.Canceled) || rows == 600 {
		t.Errorf("%d rows and errors %v, want the rest of a page and one error", rows, errs)
	}
}

func cohort(score float64, samples int64) reputation.TaskCohort {
	return reputation.TaskCohort{
		LastUpdated: At(samples), ModelID: "native", PersonalScore: &score, SampleCount: samples, TaskType: "analysis",
	}
}

func putCohort(t TB, b Backend, nft string, c reputation.TaskCohort) {
	t.Helper()
	if err := b.Store.PutTaskCohort(t.Context(), nft, c); err != nil {
		t.Fatal(err)
	}
}

func wantCohort(t TB, b Backend, nft string, want reputation.TaskCohort) {
	t.Helper()
	got, err := b.Store.TaskCohort(t.Context(), nft, want.Key())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(encode(t, want), encode(t, got)); diff != "" {
		t.Errorf("cohort of %s (-want +got):\n%s", nft, diff)
	}
}

func testTaskCohort(t *testing.T, b Backend) {
	putCohort(t, b, "bear-1", cohort(0.25, 1))
	empty := cohort(0, 0)
	empty.TaskType, empty.PersonalScore = "legal-guild:contract_review", nil
	putCohort(t, b, "bear-1", empty)
	wantCohort(t, b, "bear-1", cohort(0.25, 1))
	wantCohort(t, b, "bear-1", empty)
	for nft, key := range map[string]reputation.CohortKey{
		"bear-1": {Model: "native", Task: "general"},
		"bear-2": {Model: "native", Task: "analysis"},
		"BEAR-1": {Model: "native", Task: "analysis"},
	} {
		_, err := b.Store.TaskCohort(t.Context(), nft, key)
		wantError(t, err, reputation.ErrNotFound)
	}
}

func testReplaceTaskCohort(t *testing.T, b Backend) {
	putCohort(t, b, "bear-1", cohort(0.25, 1))
	putCohort(t, b, "bear-1", cohort(0.75, 2))
	wantCohort(t, b, "bear-1", cohort(0.75, 2))
}

// testHistory: the log completes the operations of the store.
func testHistory(t *testing.T, b Backend) {
	b.Append(t, Signal("bear-1", 0.1), Signal("bear-2", 0.2), Signal("bear-1", 0.3))
	b.Append(t, Signal("bear-1", 0.4))
	events, err := b.Log.History(t.Context(), "bear-1", 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	var positions []int64
	for _, e := range events {
		positions = append(positions, e.Position)
	}
	if diff := cmp.Diff([]int64{1, 3, 4}, positions); diff != "" {
		t.Errorf("history, oldest first (-want +got):\n%s", diff)
	}
}
