package projectionstest

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dixie/projections"
	"dixie/reputation"
)

// unchanged asks whether a reading of both projections would give the same.
func (b Backend) unchanged(t TB, nft string, mark reputation.Mark) (position int64, unchanged bool) {
	t.Helper()
	position, unchanged, err := b.Reader.Unchanged(t.Context(), nft, mark, projections.Names...)
	if err != nil {
		t.Fatal(err)
	}
	return position, unchanged
}

// kept is a reading that is known to be unchanged: the first question may only tell
// what later ones compare with.
func (b Backend) kept(t TB, nft string) projections.Reputation {
	t.Helper()
	for range 2 {
		r := b.Reputation(t, nft)
		if position, unchanged := b.unchanged(t, nft, r.Mark); unchanged && position == r.Position {
			return r
		}
	}
	t.Fatalf("readings of %s are never unchanged", nft)
	return projections.Reputation{}
}

// testUnchanged: a reading is unchanged until its NFT has an event, or somebody puts
// a row.
func testUnchanged(t *testing.T, b Backend) {
	b.Append(t, Signal("bear-1", 0.5), Signal("bear-2", 0.5), Task("bear-2", "native", "analysis", 0.5))
	b.Project(t)
	b.Settle(t)
	first, second, nobody := b.kept(t, "bear-1"), b.kept(t, "bear-2"), b.kept(t, "nobody")
	head := b.Append(t, Signal("bear-2", 1), Signal("nobody", 1))
	b.Settle(t)
	for nft, mark := range map[string]reputation.Mark{"bear-2": second.Mark, "nobody": nobody.Mark} {
		if position, unchanged := b.unchanged(t, nft, mark); unchanged || position != head {
			t.Errorf("%s had an event: unchanged %t as of %d, want false as of %d", nft, unchanged, position, head)
		}
	}
	if position, _ := b.unchanged(t, "bear-1", first.Mark); position != head {
		t.Errorf("as of %d, want %d", position, head)
	}
	aggregate, cohort := b.kept(t, "bear-1"), b.kept(t, "bear-2")
	if err := b.Store.PutAggregate(t.Context(), "bear-1", aggregate.Agent.Aggregate); err != nil {
		t.Fatal(err)
	}
	if _, unchanged := b.unchanged(t, "bear-1", aggregate.Mark); unchanged {
		t.Error("unchanged after an aggregate was put")
	}
	if err := b.Store.PutTaskCohort(t.Context(), "bear-2", cohort.Cohorts[0]); err != nil {
		t.Fatal(err)
	}
	if _, unchanged := b.unchanged(t, "bear-2", cohort.Mark); unchanged {
		t.Error("unchanged after a cohort was put")
	}
}

// testUnchangedPositions: the position is that of the projections that were asked for.
func testUnchangedPositions(t *testing.T, b Backend) {
	head := b.Append(t, Signal("bear-1", 0.5))
	Run(t, b.Projectors(reputation.DefaultParams(), 0)[0])
	b.Await(t, head, projections.Aggregates)
	for _, tt := range []struct {
		names []string
		want  int64
	}{
		{[]string{projections.Aggregates}, head},
		{[]string{projections.Cohorts}, 0},
		{projections.Names, 0},
	} {
		position, _, err := b.Reader.Unchanged(t.Context(), "bear-1", reputation.Mark{}, tt.names...)
		if err != nil || position != tt.want {
			t.Errorf("%v are at %d, error %v, want %d", tt.names, position, err, tt.want)
		}
	}
}

// testUnchangedIsSo: whatever happens, what is said to be unchanged is what a reading
// gives, of the agent and its cohorts to the last bit.
func testUnchangedIsSo(t *testing.T, b Backend) {
	b.Project(t)
	random := rand.New(rand.NewPCG(1, 2))
	nfts := []string{"bear-1", "bear-2", "bear-3", "bear-4"}
	kept := map[string]projections.Reputation{}
	scores := map[string]reputation.Score{}
	same := 0
	for range 60 {
		for range random.IntN(3) {
			nft := nfts[random.IntN(len(nfts))]
			b.Append(t, []Event{Signal(nft, random.Float64()), Task(nft, "native", "analysis", random.Float64()), Reset(nft)}[random.IntN(3)])
		}
		b.Settle(t)
		for _, nft := range nfts {
			had, ok := kept[nft]
			now := b.Reputation(t, nft)
			kept[nft] = now
			position, unchanged := b.unchanged(t, nft, had.Mark)
			if !ok || !unchanged {
				continue
			}
			same++
			if position != now.Position {
				t.Errorf("%s: as of %d, and a reading before as of %d", nft, position, now.Position)
			}
			if diff := cmp.Diff(shown(t, had), shown(t, now)); diff != "" {
				t.Errorf("%s is not unchanged (-kept +read):\n%s", nft, diff)
			}
		}
		for _, nft := range nfts {
			had := scores[nft]
			now, err := b.Reader.Score(t.Context(), nft)
			if err != nil {
				t.Fatal(err)
			}
			scores[nft] = now
			_, unchanged, err := b.Reader.Unchanged(t.Context(), nft, had.Mark, projections.Aggregates)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(had.Value, now.Value); unchanged && diff != "" {
				t.Errorf("the score of %s is not unchanged (-kept +read):\n%s", nft, diff)
			}
		}
	}
	if same == 0 {
		t.Error("nothing was ever unchanged")
	}
}

// shown is a reading without its mark and without the agent's collection, which
// events of others change.
func shown(t TB, r projections.Reputation) []string {
	t.Helper()
	if r.Agent == nil {
		return nil
	}
	return append(encodeAll(t, r.Cohorts), encode(t, r.Agent))
}
