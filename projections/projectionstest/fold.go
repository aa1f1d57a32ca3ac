package projectionstest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dixie/projections"
	"dixie/reputation"
)

// worked is the history of protocol part I.8.
var worked = []Event{
	{"bear-1", "honey", reputation.QualitySignal{Score: 0.9, TaskType: "analysis",
		Dimensions: reputation.Dimensions{{Name: "accuracy", Score: 0.8}, {Name: "coherence", Score: 0.6}}}},
	{"bear-2", "honey", performance("gpt-4o", "default", "analysis", 0.4, "judge-1", reputation.Dimension{Name: "accuracy", Score: 0.5})},
	{"bear-1", "honey", reputation.TaskCompleted{TaskType: "analysis", Success: true, DurationMS: new(int64(1200))}},
	{"bear-1", "honey", performance("native", "alpha", "unspecified", 0.7, "judge-1")},
	{"bear-1", "honey", performance("native", "beta", "legal-guild:contract_review", 0.6, "judge-2", reputation.Dimension{Name: "accuracy", Score: 0.9})},
	{"bear-1", "honey", reputation.CredentialUpdate{CredentialID: ID(77), Action: "issued"}},
	{"bear-1", "honey", reputation.QualitySignal{Score: 1}},
	{"bear-1", "honey", reputation.QualitySignal{Score: 0.5}},
}

func performance(model, pool string, task reputation.TaskType, score float64, judge string, dimensions ...reputation.Dimension) reputation.ModelPerformance {
	return reputation.ModelPerformance{ModelID: model, Provider: "p", PoolID: pool, TaskType: task,
		Observation: reputation.QualityObservation{Score: score, EvaluatedBy: judge, Dimensions: dimensions}}
}

// numbers are a line of the protocol's table.
type numbers struct {
	State                         reputation.State
	Personal, Collection, Blended float64
	Samples, Contributors         int64
	Accuracy, Coherence           float64
}

// workedNumbers are the lines by position, and those of bear-2 at position 2.
var workedNumbers = map[int64]numbers{
	1: {"warming", 0.9, 0.5, 0.6, 1, 0, 0.575, 0.525},
	2: {"warming", 0.4, 0.9, 0.775, 1, 1, 0.8, 0},
	3: {"warming", 0.9, 0.4, 0.525, 1, 0, 0.5, 0.45000000000000007},
	4: {"warming", 0.8016, 0.4, 0.56064, 2, 1, 0.5, 0.45000000000000007},
	5: {"warming", 0.7040256, 0.3999999999999999, 0.5520128, 3, 2, 0.57968, 0.44999999999999996},
	7: {"warming", 0.8449094144, 0.3999999999999999, 0.6542339510857141, 4, 2, 0.57968, 0.44999999999999996},
	8: {"established", 0.6834918084607999, 0.3999999999999999, 0.5771823802879998, 5, 2, 0.57968, 0.44999999999999996},
}

func testWorkedHistory(t *testing.T, b Backend) {
	b.Project(t)
	for _, event := range worked {
		position := b.Append(t, event)
		b.Settle(t)
		want, given := workedNumbers[position]
		if got := numbersOf(b.Reputation(t, event.NFT)); given && got != want {
			t.Errorf("%s after event %d: %+v, want %+v", event.NFT, position, got, want)
		}
	}
	checkWorkedRest(t, b.Reputation(t, "bear-1"))
	b.CheckFolded(t, reputation.DefaultParams())
}

func numbersOf(r projections.Reputation) numbers {
	g, scores := r.Agent.Aggregate, r.Agent.DimensionScores()
	return numbers{g.State, *g.PersonalScore, g.CollectionScore, g.BlendedScore, g.SampleCount, g.ContributorCount,
		scores["accuracy"], scores["coherence"]}
}

// checkWorkedRest checks what else is known of bear-1 at the end.
func checkWorkedRest(t TB, r projections.Reputation) {
	t.Helper()
	var cohorts []string
	for _, c := range r.Agent.Aggregate.ModelCohorts {
		cohorts = append(cohorts, fmt.Sprint(c.ModelID, " ", *c.PersonalScore, " ", c.SampleCount))
	}
	for _, c := range r.Cohorts {
		cohorts = append(cohorts, fmt.Sprint(c.ModelID, " ", c.TaskType, " ", *c.PersonalScore, " ", c.SampleCount))
	}
	if diff := cmp.Diff([]string{
		"native 0.6507999999999999 2", "default analysis 0.9 1", "native legal-guild:contract_review 0.6 1",
	}, cohorts); diff != "" {
		t.Errorf("cohorts (-want +got):\n%s", diff)
	}
	if r.Agent.Aggregate.PoolID != "beta" {
		t.Errorf("pool %s", r.Agent.Aggregate.PoolID)
	}
	tasks := reputation.TaskStats{Completed: 1, Succeeded: 1, Timed: 1, TotalDurationMS: 1200}
	if got := r.Agent.Tasks["analysis"]; got != tasks {
		t.Errorf("tasks %+v", got)
	}
	if got := r.Agent.Credentials[ID(77)]; got.Action != "issued" {
		t.Errorf("credential %+v", got)
	}
}

// valid is the text of a valid event n, with some of its parts replaced.
func valid(n int64, replace ...string) string {
	return strings.NewReplacer(replace...).Replace(string(Signal("", 0.5).Entry(n).JSON))
}

// testGarbage: what cannot be folded is set aside alike by all projections, with
// the reason, and does not keep them from anything else.
func testGarbage(t *testing.T, b Backend) {
	b.Append(t, Signal("bear-1", 0.5))
	b.AppendEntries(t,
		Raw(t, "bear-1", valid(2, `quality_signal`, `mystery`)),
		Raw(t, "bear-1", `{}`),
		Raw(t, "bear-1", valid(4, `0.5`, `"0.5"`)),
		Raw(t, "bear-1", valid(5, `honey`, `mead`)),
		Raw(t, "bear 1!", valid(6)),
		Raw(t, "bear-1", valid(7, `agent"`, strings.Repeat("x", 100<<10)+`"`)),
		Raw(t, "bear-1", `"text"`),
		Raw(t, "bear-1", `[]`),
		Raw(t, "", valid(10)),
		Raw(t, "bear-1", valid(11, `0.5`, `0.5,"more":1`)),
	)
	b.Append(t, Signal("bear-1", 1), Task("bear-2", "native", "analysis", 0.25))
	Run(t, b.Projectors(reputation.DefaultParams(), 4)...)
	b.CheckFolded(t, reputation.DefaultParams())
	b.Append(t, Signal("bear-1", 0.75), Signal("bear-3", 1))
	b.CheckFolded(t, reputation.DefaultParams())

	if n := b.Reputation(t, "bear-1").Agent.Aggregate.SampleCount; n != 3 {
		t.Errorf("bear-1 has %d samples, want 3", n)
	}
	want := []string{
		"2 invalid_event", "3 invalid_event", "4 invalid_event", "5 collection_mismatch", "6 invalid_nft_id",
		"7 invalid_event", "8 invalid_event", "9 invalid_event", "10 invalid_nft_id", "11 invalid_event",
	}
	for _, name := range projections.Names {
		checkReasons(t, b.Failures(t, name), want)
		if n := status(t, b)[name].SetAside; n != int64(len(want)) {
			t.Errorf("%s set %d events aside, want %d", name, n, len(want))
		}
	}
}

func checkReasons(t TB, failures []projections.Failure, want []string) {
	t.Helper()
	var got []string
	for _, f := range failures {
		got = append(got, fmt.Sprint(f.Position, " ", f.Reason))
		if f.Detail == "" || len(f.Detail) > 1000 || f.FailedAt.IsZero() || time.Since(f.FailedAt) > time.Hour {
			t.Errorf("failure %+v", f)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("set aside (-want +got):\n%s", diff)
	}
}

// testOnlyGarbage: a page without any row to write is a page too.
func testOnlyGarbage(t *testing.T, b Backend) {
	b.AppendEntries(t, Raw(t, "bear-1", `{}`), Raw(t, "bear-1", `1`))
	b.Project(t)
	b.CheckFolded(t, reputation.DefaultParams())
	wantCount(t, b, 0)
	wantList(t, b, "", "", 10, 2)
}

// history is what bear-1 has behind it before a reset.
func history() []Event {
	return []Event{
		Task("bear-1", "native", "analysis", 0.5), Task("bear-1", "native", "general", 0.75), Task("bear-2", "native", "analysis", 1),
		{"bear-1", "honey", reputation.TaskCompleted{TaskType: "analysis", Success: true}},
		{"bear-1", "honey", reputation.CredentialUpdate{CredentialID: ID(77), Action: "issued"}},
		{"bear-1", "honey", performance("gpt-4o", "beta", "analysis", 0.25, "judge-1", reputation.Dimension{Name: "accuracy", Score: 1})},
	}
}

func testReset(t *testing.T, b Backend) {
	b.Project(t)
	b.Append(t, history()...)
	b.Settle(t)
	b.Append(t, Reset("bear-1"))
	b.CheckFolded(t, reputation.DefaultParams())
	checkReset(t, b)
	b.Append(t, Task("bear-1", "native", "analysis", 1))
	b.CheckFolded(t, reputation.DefaultParams())
	c, err := b.Store.TaskCohort(t.Context(), "bear-1", reputation.CohortKey{Model: "native", Task: "analysis"})
	if err != nil || c.SampleCount != 1 || *c.PersonalScore != 1 {
		t.Errorf("the cohort did not start again: %+v, %v", c, err)
	}
}

// checkReset checks that bear-1 has been reset, and bear-2 not.
func checkReset(t TB, b Backend) {
	t.Helper()
	r := b.Reputation(t, "bear-1")
	g := r.Agent.Aggregate
	if len(r.Cohorts) > 0 || g.State != reputation.StateCold || g.PersonalScore != nil || g.SampleCount != 0 ||
		len(g.ModelCohorts) > 0 || g.ContributorCount != 0 || len(r.Agent.Dimensions) > 0 {
		t.Errorf("after the reset %+v, %+v", r.Agent, r.Cohorts)
	}
	if len(r.Agent.Tasks) != 1 || len(r.Agent.Credentials) != 1 || g.Transitions[len(g.Transitions)-1].Trigger != "appeal" {
		t.Errorf("history is gone: %+v", r.Agent)
	}
	_, err := b.Store.TaskCohort(t.Context(), "bear-1", reputation.CohortKey{Model: "native", Task: "general"})
	wantError(t, err, reputation.ErrNotFound)
	if n := len(b.Reputation(t, "bear-2").Cohorts); n != 1 {
		t.Errorf("bear-2 has %d cohorts, want 1", n)
	}
	if c := r.Collection; c.Scores != 1 || c.Members != 2 {
		t.Errorf("collection %+v", c)
	}
}

// testResetInPage: what the page brings before the reset is gone, what it brings
// after it is not.
func testResetInPage(t *testing.T, b Backend) {
	b.Append(t, history()...)
	b.Append(t, Task("bear-1", "native", "creative_writing", 1), Reset("bear-1"))
	b.Project(t)
	b.CheckFolded(t, reputation.DefaultParams())
	checkReset(t, b)
	b.Append(t, Task("bear-1", "native", "analysis", 1), Reset("bear-1"), Task("bear-1", "native", "general", 0.5),
		Task("bear-1", "native", "general", 0.75), Reset("bear-2"))
	b.CheckFolded(t, reputation.DefaultParams())
	if r := b.Reputation(t, "bear-1"); len(r.Cohorts) != 1 || r.Cohorts[0].SampleCount != 2 {
		t.Errorf("cohorts %+v", r.Cohorts)
	}
}

// testCollections: a collection's reputations are as if the others were not there.
func testCollections(t *testing.T, b Backend) {
	alone, mixed := []Event{}, []Event{}
	for i := range 40 {
		honey := Task(fmt.Sprintf("bear-%d", i%3), "native", "analysis", float64(i%7)/7)
		mead := Task(fmt.Sprintf("wasp-%d", i%4), "native", "analysis", float64(i%5)/5)
		mead.Collection = "mead"
		alone, mixed = append(alone, honey), append(mixed, honey, mead)
	}
	Run(t, b.Projectors(reputation.DefaultParams(), 7)...)
	b.Append(t, mixed...)
	b.CheckFolded(t, reputation.DefaultParams())
	pops, _ := populations(t, b, "", 10)
	if len(pops) != 2 || pops[0].Collection.Members != 3 || pops[1].Collection.Members != 4 {
		t.Fatalf("populations %+v", pops)
	}
	agents, collection := foldAlone(t, alone)
	for nft, agent := range agents {
		got := b.Reputation(t, nft)
		if g, want := got.Agent.Aggregate, agent.Aggregate; g.BlendedScore != want.BlendedScore || g.CollectionScore != want.CollectionScore {
			t.Errorf("%s has %v of %v, alone %v of %v", nft, g.BlendedScore, g.CollectionScore, want.BlendedScore, want.CollectionScore)
		}
		if got.Collection != *collection {
			t.Errorf("collection %+v, alone %+v", got.Collection, *collection)
		}
	}
}

// foldAlone folds events of one collection.
func foldAlone(t TB, events []Event) (map[string]*reputation.Agent, *reputation.Collection) {
	t.Helper()
	agents, collection := map[string]*reputation.Agent{}, &reputation.Collection{}
	for i, e := range events {
		event, err := reputation.Decode(e.Entry(int64(i)).JSON)
		if err != nil {
			t.Fatal(err)
		}
		agents[e.NFT] = value(agents, e.NFT)
		if err := reputation.DefaultParams().FoldAggregate(agents[e.NFT], collection, e.NFT, &event); err != nil {
			t.Fatal(err)
		}
	}
	return agents, collection
}

// testOutsideAggregate: a row that another program put is served, but the first
// event of its NFT begins anew.
func testOutsideAggregate(t *testing.T, b Backend) {
	outside := aggregate("bear-1", reputation.StateAuthoritative, 1)
	outside.CollectionID = "mead"
	put(t, b, "bear-1", outside)
	b.Append(t, Signal("bear-2", 0.25))
	b.Project(t)
	b.Settle(t)
	wantAggregate(t, b, "bear-1", outside)
	if r := b.Reputation(t, "bear-1"); encode(t, &r.Agent.Aggregate) != encode(t, &outside) {
		t.Errorf("reputation %+v", r)
	}
	if got, _ := score(t, b, "bear-1"); got == nil || *got != 1 {
		t.Errorf("score %v", got)
	}
	wantList(t, b, reputation.StateAuthoritative, "", 10, 1, "bear-1")
	b.Append(t, Signal("bear-1", 0.5))
	b.CheckFolded(t, reputation.DefaultParams())
}

// testAggregatePutOver: a folded row that another program replaces is served as
// it was put, and the next event is folded as if that had not happened.
func testAggregatePutOver(t *testing.T, b Backend) {
	b.Project(t)
	b.Append(t, Signal("bear-1", 0.5), Signal("bear-1", 0.75), Signal("bear-2", 0.25))
	b.Settle(t)
	outside := aggregate("bear-1", reputation.StateAuthoritative, 1)
	outside.SampleCount = 99
	put(t, b, "bear-1", outside)
	put(t, b, "bear-2", outside)
	wantAggregate(t, b, "bear-1", outside)
	wantList(t, b, reputation.StateAuthoritative, "", 10, 3, "bear-1", "bear-2")
	if r := b.Reputation(t, "bear-1"); r.Agent.Aggregate.SampleCount != 99 || r.Agent.LastEventAt.String() != At(2).String() {
		t.Errorf("reputation %+v", r.Agent)
	}
	b.Append(t, Signal("bear-1", 1), Reset("bear-2"))
	b.CheckFolded(t, reputation.DefaultParams())
}

// testOutsideCohort is [testOutsideAggregate] for a task cohort.
func testOutsideCohort(t *testing.T, b Backend) {
	putCohort(t, b, "bear-1", cohort(1, 99))
	b.Append(t, Signal("bear-1", 0.5))
	b.Project(t)
	b.Settle(t)
	wantCohort(t, b, "bear-1", cohort(1, 99))
	if r := b.Reputation(t, "bear-1"); len(r.Cohorts) != 1 || r.Cohorts[0].SampleCount != 99 {
		t.Errorf("cohorts %+v", r.Cohorts)
	}
	b.Append(t, Task("bear-1", "native", "analysis", 0.5))
	b.CheckFolded(t, reputation.DefaultParams())
}

// testCohortPutOver is [testAggregatePutOver] for a task cohort.
func testCohortPutOver(t *testing.T, b Backend) {
	b.Project(t)
	b.Append(t, Task("bear-1", "native", "analysis", 0.5), Task("bear-1", "native", "general", 0.25))
	b.Settle(t)
	putCohort(t, b, "bear-1", cohort(1, 99))
	b.Append(t, Task("bear-1", "native", "general", 0.5)) // another cohort of the NFT
	b.Settle(t)
	wantCohort(t, b, "bear-1", cohort(1, 99))
	b.Append(t, Task("bear-1", "native", "analysis", 1))
	b.CheckFolded(t, reputation.DefaultParams())
}

// testCohortPutReset: a reset clears what was put, too.
func testCohortPutReset(t *testing.T, b Backend) {
	b.Project(t)
	b.Append(t, Task("bear-1", "native", "analysis", 0.5))
	b.Settle(t)
	putCohort(t, b, "bear-1", cohort(1, 99))
	another := cohort(1, 99)
	another.ModelID = "gpt-4o"
	putCohort(t, b, "bear-1", another)
	b.Append(t, Reset("bear-1"))
	b.CheckFolded(t, reputation.DefaultParams())
	_, err := b.Store.TaskCohort(t.Context(), "bear-1", another.Key())
	wantError(t, err, reputation.ErrNotFound)
}
