package reputation_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"dixie/reputation"

	"github.com/google/go-cmp/cmp"
)

// world is what a service keeps: one Agent and one Cohorts for each NFT, one
// Collection for each collection id.
type world struct {
	params      reputation.Params
	agents      map[string]*reputation.Agent
	collections map[string]*reputation.Collection
	cohorts     map[string]*reputation.Cohorts
}

func newWorld(p reputation.Params) *world {
	return &world{
		params:      p,
		agents:      map[string]*reputation.Agent{},
		collections: map[string]*reputation.Collection{},
		cohorts:     map[string]*reputation.Cohorts{},
	}
}

// entry is the value under a key, which is created if need be.
func entry[K comparable, V any](m map[K]*V, key K) *V {
	v, ok := m[key]
	if !ok {
		v = new(V)
		m[key] = v
	}
	return v
}

// fold applies an event to both projections. The event's own collection is the
// one that a service would load; an agent's never differs from it unless the event
// is set aside.
func (w *world) fold(nft string, e *reputation.Event) (aggregate, cohorts error) {
	aggregate = w.params.FoldAggregate(entry(w.agents, nft), entry(w.collections, e.CollectionID), nft, e)
	cohorts = w.params.FoldCohorts(entry(w.cohorts, nft), nft, e)
	return aggregate, cohorts
}

func (w *world) mustFold(t testing.TB, nft string, e *reputation.Event) {
	t.Helper()
	aggregate, cohorts := w.fold(nft, e)
	if aggregate != nil || cohorts != nil {
		t.Fatalf("fold %s of %s: %v, %v", e.Type(), nft, aggregate, cohorts)
	}
}

// minute is a time that many minutes after noon of one day.
func minute(n int) reputation.Timestamp {
	return reputation.TimestampOf(time.Date(2026, 2, 25, 12, n, 0, 0, time.UTC))
}

// happened is a valid event.
func happened(t testing.TB, collection string, at int, body reputation.Body) *reputation.Event {
	t.Helper()
	e := &reputation.Event{
		ID:      fmt.Sprintf("550e8400-e29b-41d4-a716-%012d", at),
		AgentID: "agent", CollectionID: collection, Timestamp: minute(at), Body: body,
	}
	if err := e.Validate(); err != nil {
		t.Fatalf("event %v: %v", body, err)
	}
	return e
}

func signal(score float64) reputation.QualitySignal { return reputation.QualitySignal{Score: score} }

func performance(model string, task reputation.TaskType, score float64, evaluator string) reputation.ModelPerformance {
	return reputation.ModelPerformance{
		ModelID: model, Provider: "provider", PoolID: "pool", TaskType: task,
		Observation: reputation.QualityObservation{Score: score, EvaluatedBy: evaluator},
	}
}

// step is an event of a history and the NFT that it counts for.
type step struct {
	nft  string
	body reputation.Body
}

// workedHistory is that of protocol part I.8.
func workedHistory() []step {
	native := performance("native", reputation.TaskUnspecified, 0.7, "judge-1")
	native.PoolID = "alpha"
	review := performance("native", "legal-guild:contract_review", 0.6, "judge-2")
	review.PoolID = "beta"
	review.Observation.Dimensions = reputation.Dimensions{{"accuracy", 0.9}}
	bear2 := performance("gpt-4o", "analysis", 0.4, "judge-1")
	bear2.Observation.Dimensions = reputation.Dimensions{{"accuracy", 0.5}}
	return []step{
		{"bear-1", reputation.QualitySignal{
			Score: 0.9, TaskType: "analysis",
			Dimensions: reputation.Dimensions{{"accuracy", 0.8}, {"coherence", 0.6}},
		}},
		{"bear-2", bear2},
		{"bear-1", reputation.TaskCompleted{TaskType: "analysis", Success: true, DurationMS: new(int64(1200))}},
		{"bear-1", native},
		{"bear-1", review},
		{"bear-1", reputation.CredentialUpdate{CredentialID: "123E4567-e89b-12d3-a456-426614174000", Action: "issued"}},
		{"bear-1", signal(1)},
		{"bear-1", signal(0.5)},
	}
}

// row is what protocol part I.8 lists of an agent.
type row struct {
	State         reputation.State
	Personal      float64
	Collection    float64
	Blended       float64
	N             int64
	Contributors  int64
	Pool          string
	Dimensions    map[string]float64
	ModelCohorts  []cohort
	TaskCohorts   []cohort
	LastUpdatedAt int
	LastEventAt   int
}

type cohort struct {
	Model string
	Task  reputation.TaskType
	Score float64
	N     int64
}

func (w *world) row(nft string) row {
	a := w.agents[nft]
	g := &a.Aggregate
	minutes := func(at reputation.Timestamp) int { return int(at.Time().Sub(minute(0).Time()) / time.Minute) }
	r := row{
		State: g.State, Personal: *g.PersonalScore, Collection: g.CollectionScore, Blended: g.BlendedScore,
		N: g.SampleCount, Contributors: g.ContributorCount, Pool: g.PoolID, Dimensions: a.DimensionScores(),
		LastUpdatedAt: minutes(g.LastUpdated), LastEventAt: minutes(a.LastEventAt),
	}
	for _, c := range g.ModelCohorts {
		r.ModelCohorts = append(r.ModelCohorts, cohort{c.ModelID, "", *c.PersonalScore, c.SampleCount})
	}
	for _, c := range w.cohorts[nft].Sorted() {
		r.TaskCohorts = append(r.TaskCohorts, cohort{c.ModelID, c.TaskType, *c.PersonalScore, c.SampleCount})
	}
	return r
}

// TestWorkedHistory holds protocol part I.8: after each event both agents' rows,
// bit for bit.
func TestWorkedHistory(t *testing.T) {
	t.Parallel()
	analysis := cohort{"default", "analysis", 0.9, 1}
	review := cohort{"native", "legal-guild:contract_review", 0.6, 1}
	bear1 := []row{
		1: {
			State: "warming", Personal: 0.9, Collection: 0.5, Blended: 0.6, N: 1, Pool: "default",
			Dimensions:  map[string]float64{"accuracy": 0.575, "coherence": 0.525},
			TaskCohorts: []cohort{analysis}, LastUpdatedAt: 1, LastEventAt: 1,
		},
		3: {
			State: "warming", Personal: 0.9, Collection: 0.4, Blended: 0.525, N: 1, Pool: "default",
			Dimensions:  map[string]float64{"accuracy": 0.5, "coherence": 0.45000000000000007},
			TaskCohorts: []cohort{analysis}, LastUpdatedAt: 1, LastEventAt: 3,
		},
		4: {
			State: "warming", Personal: 0.8016, Collection: 0.4, Blended: 0.56064, N: 2, Contributors: 1, Pool: "alpha",
			Dimensions:   map[string]float64{"accuracy": 0.5, "coherence": 0.45000000000000007},
			ModelCohorts: []cohort{{"native", "", 0.7, 1}},
			TaskCohorts:  []cohort{analysis}, LastUpdatedAt: 4, LastEventAt: 4,
		},
		5: {
			State: "warming", Personal: 0.7040256, Collection: 0.3999999999999999, Blended: 0.5520128,
			N: 3, Contributors: 2, Pool: "beta",
			Dimensions:   map[string]float64{"accuracy": 0.57968, "coherence": 0.44999999999999996},
			ModelCohorts: []cohort{{"native", "", 0.6507999999999999, 2}},
			TaskCohorts:  []cohort{analysis, review}, LastUpdatedAt: 5, LastEventAt: 5,
		},
		7: {
			State: "warming", Personal: 0.8449094144, Collection: 0.3999999999999999, Blended: 0.6542339510857141,
			N: 4, Contributors: 2, Pool: "beta",
			Dimensions:   map[string]float64{"accuracy": 0.57968, "coherence": 0.44999999999999996},
			ModelCohorts: []cohort{{"native", "", 0.6507999999999999, 2}},
			TaskCohorts:  []cohort{analysis, review}, LastUpdatedAt: 7, LastEventAt: 7,
		},
		8: {
			State: "established", Personal: 0.6834918084607999, Collection: 0.3999999999999999,
			Blended: 0.5771823802879998, N: 5, Contributors: 2, Pool: "beta",
			Dimensions:   map[string]float64{"accuracy": 0.57968, "coherence": 0.44999999999999996},
			ModelCohorts: []cohort{{"native", "", 0.6507999999999999, 2}},
			TaskCohorts:  []cohort{analysis, review}, LastUpdatedAt: 8, LastEventAt: 8,
		},
	}
	bear1[2] = bear1[1] // an event of another agent does not touch the row
	bear1[6] = bear1[5]
	bear1[6].LastEventAt = 6
	bear2 := row{
		State: "warming", Personal: 0.4, Collection: 0.9, Blended: 0.775, N: 1, Contributors: 1, Pool: "pool",
		Dimensions:   map[string]float64{"accuracy": 0.8},
		ModelCohorts: []cohort{{"gpt-4o", "", 0.4, 1}},
		TaskCohorts:  []cohort{{"gpt-4o", "analysis", 0.4, 1}}, LastUpdatedAt: 2, LastEventAt: 2,
	}

	w := newWorld(reputation.DefaultParams())
	for i, step := range workedHistory() {
		n := i + 1
		w.mustFold(t, step.nft, happened(t, "honey", n, step.body))
		if diff := cmp.Diff(bear1[n], w.row("bear-1")); diff != "" {
			t.Errorf("bear-1 after event %d (-want +got):\n%s", n, diff)
		}
		if n < 2 {
			continue
		}
		if diff := cmp.Diff(bear2, w.row("bear-2")); diff != "" {
			t.Errorf("bear-2 after event %d (-want +got):\n%s", n, diff)
		}
	}
	if got := *w.collections["honey"]; got.Scores != 2 || got.Members != 2 {
		t.Errorf("the collection has %+v, want two members with a score", got)
	}
}

// TestStates holds the state machine of protocol §4 and its worked sample counts.
func TestStates(t *testing.T) {
	t.Parallel()
	one := reputation.DefaultParams()
	one.MinSampleCount = 1
	easy := one
	easy.AuthoritativeWeight = 0
	tests := []struct {
		name   string
		params reputation.Params
		// from the n-th observation on
		established, authoritative int64
	}{
		{"default: 27/30 is 0.9 and does not do", reputation.DefaultParams(), 5, 28},
		{"dixie: 90/100 is 0.9 and does not do", reputation.DixieParams(), 10, 91},
		{"a minimum of one still takes two observations", one, 2, 28},
		{"one step for each observation", easy, 2, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(tt.params)
			for n := int64(1); n <= tt.authoritative+2; n++ {
				w.mustFold(t, "bear-1", happened(t, "honey", int(n), signal(0.5)))
				want := reputation.StateWarming
				switch {
				case n >= tt.authoritative:
					want = reputation.StateAuthoritative
				case n >= tt.established:
					want = reputation.StateEstablished
				}
				if g := w.agents["bear-1"].Aggregate; g.State != want || g.SampleCount != n {
					t.Fatalf("after %d observations: %s with %d, want %s", n, g.State, g.SampleCount, want)
				}
			}
			want := []reputation.Transition{
				{At: minute(1), From: "cold", To: "warming", Trigger: "First QualityEvent recorded"},
				{At: minute(int(tt.established)), From: "warming", To: "established", Trigger: "sample_count >= min_sample_count"},
				{At: minute(int(tt.authoritative)), From: "established", To: "authoritative", Trigger: "personal_weight > AUTHORITATIVE_THRESHOLD"},
			}
			if diff := cmp.Diff(want, w.agents["bear-1"].Aggregate.Transitions, sameEvent); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFirstEvent(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		body reputation.Body
		want reputation.State
	}{
		{"task_completed", reputation.TaskCompleted{TaskType: "general"}, "cold"},
		{"credential_update", reputation.CredentialUpdate{CredentialID: "550e8400-e29b-41d4-a716-446655440000", Action: "issued"}, "cold"},
		{"reputation_reset", reputation.ReputationReset{Reason: "r", Actor: "a"}, "cold"},
		{"quality_signal", signal(0.5), "warming"},
		{"model_performance", performance("m", "general", 0.5, ""), "warming"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := reputation.DixieParams()
			var a reputation.Agent
			var c reputation.Collection
			if a.Known() {
				t.Error("an agent without events is known")
			}
			if err := p.FoldAggregate(&a, &c, "bear-1", happened(t, "honey", 3, tt.body)); err != nil {
				t.Fatal(err)
			}
			g := &a.Aggregate
			if !a.Known() || g.PersonalityID != "bear-1" || g.CollectionID != "honey" || g.ContractVersion != "8.7.0" {
				t.Errorf("identity %+v", g)
			}
			if g.PseudoCount != 10 || g.MinSampleCount != 10 {
				t.Errorf("k %d and minimum %d, want those of the parameters", g.PseudoCount, g.MinSampleCount)
			}
			for _, at := range []reputation.Timestamp{g.CreatedAt, g.LastUpdated, a.LastEventAt} {
				if at.String() != minute(3).String() {
					t.Errorf("created %v, updated %v, last event %v, want all of the event", g.CreatedAt, g.LastUpdated, a.LastEventAt)
				}
			}
			if g.State != tt.want || (g.PersonalScore == nil) != (tt.want == "cold") || (g.SampleCount == 0) != (tt.want == "cold") {
				t.Errorf("state %s, personal score %v of %d, want %s", g.State, g.PersonalScore, g.SampleCount, tt.want)
			}
			if g.CollectionScore != 0.5 || c.Members != 1 {
				t.Errorf("prior %v of %d members, want the neutral one of 1", g.CollectionScore, c.Members)
			}
		})
	}
}

// TestObservationsWithoutScore: task_completed and credential_update change no
// score, count or state (protocol part I.5), yet bring the prior up to date.
func TestObservationsWithoutScore(t *testing.T) {
	t.Parallel()
	w := newWorld(reputation.DefaultParams())
	w.mustFold(t, "bear-1", happened(t, "honey", 1, signal(0.75)))
	w.mustFold(t, "bear-2", happened(t, "honey", 2, signal(0.25)))
	before := *w.collections["honey"]
	w.mustFold(t, "bear-1", happened(t, "honey", 3, reputation.TaskCompleted{TaskType: "analysis"}))
	w.mustFold(t, "bear-1", happened(t, "honey", 4, reputation.CredentialUpdate{CredentialID: "550e8400-e29b-41d4-a716-446655440000", Action: "issued"}))

	g := &w.agents["bear-1"].Aggregate
	if *g.PersonalScore != 0.75 || g.SampleCount != 1 || g.State != "warming" || len(g.Transitions) != 1 {
		t.Errorf("the observation became %v of %d, %s", *g.PersonalScore, g.SampleCount, g.State)
	}
	if g.CollectionScore != 0.25 || g.BlendedScore != 0.375 {
		t.Errorf("prior %v and blend %v, want those of now, 0.25 and 0.375", g.CollectionScore, g.BlendedScore)
	}
	if g.LastUpdated.String() != minute(1).String() {
		t.Errorf("last updated %v, want the last observation", g.LastUpdated)
	}
	if got := *w.collections["honey"]; got != before {
		t.Errorf("the collection moved from %+v to %+v", before, got)
	}
	if n := len(w.cohorts["bear-1"].ByKey); n != 0 {
		t.Errorf("%d task cohorts, want none", n)
	}
}

func TestTaskStats(t *testing.T) {
	t.Parallel()
	w := newWorld(reputation.DefaultParams())
	for i, body := range []reputation.TaskCompleted{
		{TaskType: "analysis", Success: true, DurationMS: new(int64(1200))},
		{TaskType: "analysis", DurationMS: new(int64(0))},
		{TaskType: "analysis", Success: true},
		{TaskType: "unspecified"},
	} {
		w.mustFold(t, "bear-1", happened(t, "honey", i, body))
	}
	want := map[reputation.TaskType]reputation.TaskStats{
		"analysis":    {Completed: 3, Succeeded: 2, Timed: 2, TotalDurationMS: 1200},
		"unspecified": {Completed: 1},
	}
	if diff := cmp.Diff(want, w.agents["bear-1"].Tasks); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestCredentials: one credential is one, however its id is spelled, and the last
// event in the log wins, whatever its clock says.
func TestCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(reputation.DefaultParams())
	for _, e := range []struct {
		at     int
		id     string
		action reputation.CredentialAction
	}{
		{5, "aaaaaaaa-e29b-41d4-a716-446655440000", "issued"},
		{6, "bbbbbbbb-e29b-41d4-a716-446655440000", "issued"},
		{4, "AAAAAAAA-E29B-41d4-a716-446655440000", "revoked"},
	} {
		w.mustFold(t, "bear-1", happened(t, "honey", e.at, reputation.CredentialUpdate{CredentialID: e.id, Action: e.action}))
	}
	want := map[string]reputation.Credential{
		"aaaaaaaa-e29b-41d4-a716-446655440000": {Action: "revoked", At: minute(4)},
		"bbbbbbbb-e29b-41d4-a716-446655440000": {Action: "issued", At: minute(6)},
	}
	if diff := cmp.Diff(want, w.agents["bear-1"].Credentials, sameEvent); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDimensions: each dimension counts its own samples, and one that an event does
// not name stays (protocol part I.4.3).
func TestDimensions(t *testing.T) {
	t.Parallel()
	w := newWorld(reputation.DefaultParams())
	bodies := []reputation.Body{
		reputation.QualitySignal{Score: 1, Dimensions: reputation.Dimensions{{"accuracy", 1}}},
		signal(1),
		reputation.QualitySignal{Score: 1, Dimensions: reputation.Dimensions{}},
		reputation.QualitySignal{Score: 1, Dimensions: reputation.Dimensions{{"accuracy", 0}, {"tone", 0.25}}},
	}
	for i, body := range bodies {
		w.mustFold(t, "bear-1", happened(t, "honey", i, body))
	}
	accuracy := dampened(reputation.DefaultParams().Damping, 0, 1, 0)
	want := map[string]reputation.Running{
		"accuracy": {Count: 2, Score: accuracy[1]}, // the second sample of this dimension, not the fourth
		"tone":     {Count: 1, Score: 0.25},
	}
	a := w.agents["bear-1"]
	if diff := cmp.Diff(want, a.Dimensions); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// (3·0.5 + 1·0.25)/(3 + 1), with the neutral prior.
	if got := a.DimensionScores()["tone"]; got != 0.4375 {
		t.Errorf("blended tone %v, want 0.4375", got)
	}
}

// TestDimensionScoresNeverNil: they are shown as {} and not as null.
func TestDimensionScoresNeverNil(t *testing.T) {
	t.Parallel()
	var a reputation.Agent
	if got := a.DimensionScores(); got == nil || len(got) != 0 {
		t.Errorf("DimensionScores = %#v, want empty and not nil", got)
	}
}

// TestBayesianColdStart: the first sample of the agent, of a dimension and of a
// cohort is pulled towards one half alike.
func TestBayesianColdStart(t *testing.T) {
	t.Parallel()
	p := reputation.DefaultParams()
	p.Damping = canonicalDamping()
	w := newWorld(p)
	body := performance("native", "analysis", 0.9, "")
	body.Observation.Dimensions = reputation.Dimensions{{"accuracy", 0.9}}
	w.mustFold(t, "bear-1", happened(t, "honey", 0, body))
	const want = 0.5363636363636364 // protocol §12.5
	a := w.agents["bear-1"]
	got := []float64{
		*a.Aggregate.PersonalScore, a.Dimensions["accuracy"].Score,
		*a.Aggregate.ModelCohorts[0].PersonalScore, *w.cohorts["bear-1"].Sorted()[0].PersonalScore,
	}
	if diff := cmp.Diff([]float64{want, want, want, want}, got); diff != "" {
		t.Errorf("personal, dimension, model cohort, task cohort (-want +got):\n%s", diff)
	}
}

// TestEvaluators: distinct evaluators are counted, and at most 100 are kept.
func TestEvaluators(t *testing.T) {
	t.Parallel()
	w := newWorld(reputation.DefaultParams())
	observe := func(evaluator string) *reputation.Agent {
		w.mustFold(t, "bear-1", happened(t, "honey", 0, performance("m", "general", 0.5, evaluator)))
		return w.agents["bear-1"]
	}
	if a := observe(""); a.Aggregate.ContributorCount != 0 || len(a.Evaluators) != 0 {
		t.Errorf("an observation without evaluator counts: %v", a.Evaluators)
	}
	observe("b")
	observe("a")
	if a := observe("b"); a.Aggregate.ContributorCount != 2 || !slices.Equal(a.Evaluators, []string{"a", "b"}) {
		t.Errorf("%d contributors %v, want a and b", a.Aggregate.ContributorCount, a.Evaluators)
	}
	for i := range 98 {
		observe(fmt.Sprintf("judge-%02d", i))
	}
	for _, evaluator := range []string{"0", "z", "a"} {
		a := observe(evaluator)
		if a.Aggregate.ContributorCount != 100 || len(a.Evaluators) != 100 || slices.Contains(a.Evaluators, "z") {
			t.Errorf("%d contributors, %d evaluators after %q, want 100", a.Aggregate.ContributorCount, len(a.Evaluators), evaluator)
		}
	}
}

// TestLastUpdated: events may arrive late; the latest time stays.
func TestLastUpdated(t *testing.T) {
	t.Parallel()
	w := newWorld(reputation.DefaultParams())
	tests := []struct {
		at                 int
		body               reputation.Body
		updated, lastEvent int
	}{
		{10, reputation.TaskCompleted{TaskType: "general"}, 10, 10},
		{5, performance("m", "general", 0.5, ""), 10, 10},
		{20, performance("m", "general", 0.5, ""), 20, 20},
		{30, reputation.TaskCompleted{TaskType: "general"}, 20, 30},
		{15, performance("m", "general", 0.5, ""), 20, 30},
		{40, reputation.ReputationReset{Reason: "r", Actor: "a"}, 20, 40},
	}
	for i, tt := range tests {
		w.mustFold(t, "bear-1", happened(t, "honey", tt.at, tt.body))
		a := w.agents["bear-1"]
		if a.Aggregate.LastUpdated.String() != minute(tt.updated).String() || a.LastEventAt.String() != minute(tt.lastEvent).String() {
			t.Errorf("step %d: updated %v, last event %v, want minutes %d and %d",
				i, a.Aggregate.LastUpdated, a.LastEventAt, tt.updated, tt.lastEvent)
		}
		if a.Aggregate.CreatedAt.String() != minute(10).String() {
			t.Errorf("step %d: created %v, want the first event's time", i, a.Aggregate.CreatedAt)
		}
		if i == 4 {
			if c := a.Aggregate.ModelCohorts[0]; c.LastUpdated.String() != minute(20).String() || c.SampleCount != 3 {
				t.Errorf("model cohort %v of %d, want minute 20 of 3", c.LastUpdated, c.SampleCount)
			}
			if c := w.cohorts["bear-1"].Sorted()[0]; c.LastUpdated.String() != minute(20).String() || c.SampleCount != 3 {
				t.Errorf("task cohort %v of %d, want minute 20 of 3", c.LastUpdated, c.SampleCount)
			}
		}
	}
}

// TestModelCohorts: the model's cohort is kept for every task type, unspecified
// included, and counts its own samples.
func TestModelCohorts(t *testing.T) {
	t.Parallel()
	w := newWorld(reputation.DefaultParams())
	w.mustFold(t, "bear-1", happened(t, "honey", 0, signal(0)))
	for i, body := range []reputation.Body{
		performance("b", "general", 1, ""),
		performance("a", reputation.TaskUnspecified, 0.5, ""),
		performance("c", "analysis", 0.25, ""),
		performance("b", "analysis", 0, ""),
	} {
		w.mustFold(t, "bear-1", happened(t, "honey", i+1, body))
	}
	b := dampened(reputation.DefaultParams().Damping, 0, 1, 0)
	want := []cohort{{"a", "", 0.5, 1}, {"b", "", b[1], 2}, {"c", "", 0.25, 1}}
	if diff := cmp.Diff(want, w.row("bear-1").ModelCohorts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestReset holds protocol part I.5: what an administrator takes back, and what
// stays.
func TestReset(t *testing.T) {
	t.Parallel()
	w := newWorld(reputation.DefaultParams())
	for i, step := range workedHistory() {
		w.mustFold(t, step.nft, happened(t, "honey", i+1, step.body))
	}
	reset := happened(t, "honey", 9, reputation.ReputationReset{Reason: "appeal 7", Actor: "admin"})
	w.mustFold(t, "bear-1", reset)

	a := w.agents["bear-1"]
	want := reputation.Agent{
		Aggregate: reputation.Aggregate{
			BlendedScore: 0.4, CollectionID: "honey", CollectionScore: 0.4, ContractVersion: "8.7.0",
			CreatedAt: minute(1), LastUpdated: minute(8), MinSampleCount: 5, PersonalityID: "bear-1",
			PoolID: "beta", PseudoCount: 3, State: "cold",
			Transitions: []reputation.Transition{
				{At: minute(1), From: "cold", To: "warming", Trigger: "First QualityEvent recorded"},
				{At: minute(8), From: "warming", To: "established", Trigger: "sample_count >= min_sample_count"},
				{At: minute(9), From: "established", To: "cold", Trigger: "appeal 7"},
			},
		},
		Credentials: map[string]reputation.Credential{
			"123e4567-e89b-12d3-a456-426614174000": {Action: "issued", At: minute(6)},
		},
		LastEventAt: minute(9),
		Tasks:       map[reputation.TaskType]reputation.TaskStats{"analysis": {Completed: 1, Succeeded: 1, Timed: 1, TotalDurationMS: 1200}},
	}
	// The sum has lost the other member's last bit; the score is compared below.
	prior := a.Aggregate.CollectionScore
	if diff := prior - 0.4; diff > 1e-15 || diff < -1e-15 || a.Aggregate.BlendedScore != prior {
		t.Errorf("prior %v and blend %v, want the other member's score 0.4", prior, a.Aggregate.BlendedScore)
	}
	want.Aggregate.CollectionScore, want.Aggregate.BlendedScore = prior, prior
	if diff := cmp.Diff(want, *a, sameEvent); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if c := w.cohorts["bear-1"]; len(c.ByKey) != 0 || !c.Cleared {
		t.Errorf("cohorts after the reset: %+v", c)
	}
	if c := w.collections["honey"]; c.Scores != 1 || c.Members != 2 {
		t.Errorf("the collection has %+v, want two members and one score", c)
	}

	// A second reset takes back nothing more and is recorded.
	collection := *w.collections["honey"]
	w.mustFold(t, "bear-1", happened(t, "honey", 10, reputation.ReputationReset{Reason: "again", Actor: "admin"}))
	last := a.Aggregate.Transitions[len(a.Aggregate.Transitions)-1]
	if last.From != "cold" || last.To != "cold" || last.Trigger != "again" {
		t.Errorf("the second reset is recorded as %+v", last)
	}
	if got := *w.collections["honey"]; got != collection {
		t.Errorf("the second reset moved the collection from %+v to %+v", collection, got)
	}

	// The next observation is the first again.
	w.mustFold(t, "bear-1", happened(t, "honey", 11, performance("native", "analysis", 0.25, "judge-1")))
	if g := a.Aggregate; *g.PersonalScore != 0.25 || g.SampleCount != 1 || g.State != "warming" || g.ContributorCount != 1 {
		t.Errorf("after the reset: %v of %d, %s, %d contributors", *g.PersonalScore, g.SampleCount, g.State, g.ContributorCount)
	}
	if c := w.row("bear-1"); !cmp.Equal(c.ModelCohorts, []cohort{{"native", "", 0.25, 1}}) {
		t.Errorf("model cohorts after the reset: %v", c.ModelCohorts)
	}
}

// TestCollectionCountsMembersOnce: a busy agent does not count more (protocol part
// I.2). The peer's mean over events would be 0.952 (protocol §5.8).
func TestCollectionCountsMembersOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(reputation.DefaultParams())
	for i := range 20 {
		w.mustFold(t, "busy", happened(t, "honey", i, signal(1)))
	}
	w.mustFold(t, "quiet", happened(t, "honey", 20, signal(0)))
	w.mustFold(t, "idle", happened(t, "honey", 21, reputation.TaskCompleted{TaskType: "general"}))
	c := w.collections["honey"]
	if c.Scores != 2 || c.Members != 3 || c.Mean(0.9) != 0.5 || c.Variance() != 0.25 {
		t.Errorf("%+v with mean %v and variance %v, want 2 of 3 with 0.5 and 0.25", c, c.Mean(0.9), c.Variance())
	}
	if got := w.agents["idle"].Aggregate.CollectionScore; got != 0.5 {
		t.Errorf("prior of a member without score %v, want the mean of all others, 0.5", got)
	}
}

func TestSetAside(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, nft, collection string
		want                  reputation.SetAsideError
	}{
		{"another collection", "bear-1", "jani", reputation.SetAsideError{
			Reason: reputation.ReasonCollectionMismatch,
			Detail: `bear-1 belongs to collection "honey", the event names "jani"`,
		}},
		{"collections differ by letter case", "bear-1", "Honey", reputation.SetAsideError{
			Reason: reputation.ReasonCollectionMismatch,
			Detail: `bear-1 belongs to collection "honey", the event names "Honey"`,
		}},
		{"impossible NFT", "bear 1", "honey", reputation.SetAsideError{
			Reason: reputation.ReasonInvalidNFT,
			Detail: `nft_id: must match ^[A-Za-z0-9._:-]{1,255}$, found "bear 1"`,
		}},
		{"no NFT", "", "honey", reputation.SetAsideError{
			Reason: reputation.ReasonInvalidNFT,
			Detail: `nft_id: must match ^[A-Za-z0-9._:-]{1,255}$, found ""`,
		}},
	}
	bodies := []reputation.Body{
		signal(0.1), performance("m", "general", 0.1, "judge"), reputation.TaskCompleted{TaskType: "general"},
		reputation.CredentialUpdate{CredentialID: "550e8400-e29b-41d4-a716-446655440000", Action: "issued"},
		reputation.ReputationReset{Reason: "r", Actor: "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := reputation.DefaultParams()
			for _, body := range bodies {
				w := newWorld(p)
				w.mustFold(t, "bear-1", happened(t, "honey", 0, performance("m", "general", 0.9, "judge")))
				agent, collection, cohorts := w.agents["bear-1"], w.collections["honey"], w.cohorts["bear-1"]
				before := fmt.Sprint(encode(t, agent), *collection, encode(t, cohorts.Sorted()), cohorts.Cleared)
				e := happened(t, tt.collection, 1, body)
				for _, err := range []error{
					p.FoldAggregate(agent, collection, tt.nft, e), p.FoldCohorts(cohorts, tt.nft, e),
				} {
					var aside *reputation.SetAsideError
					if !errors.As(err, &aside) || *aside != tt.want {
						t.Errorf("%s: %v, want %v", e.Type(), err, &tt.want)
					}
				}
				after := fmt.Sprint(encode(t, agent), *collection, encode(t, cohorts.Sorted()), cohorts.Cleared)
				if diff := cmp.Diff(before, after); diff != "" {
					t.Errorf("%s that was set aside changed something (-before +after):\n%s", e.Type(), diff)
				}
			}
		})
	}
}

// TestSetAsideFirstEvent: an impossible NFT leaves nothing behind.
func TestSetAsideFirstEvent(t *testing.T) {
	t.Parallel()
	p := reputation.DefaultParams()
	var a reputation.Agent
	var c reputation.Collection
	var cohorts reputation.Cohorts
	e := happened(t, "honey", 0, performance("m", "general", 0.9, ""))
	if p.FoldAggregate(&a, &c, "a/b", e) == nil || p.FoldCohorts(&cohorts, "a/b", e) == nil {
		t.Error("an impossible NFT is accepted")
	}
	if a.Known() || c != (reputation.Collection{}) || cohorts.CollectionID != "" || cohorts.ByKey != nil {
		t.Errorf("left behind: %+v, %+v, %+v", a, c, cohorts)
	}
}

// TestClone: what is folded into one clone shows in no other and not in the original.
func TestClone(t *testing.T) {
	t.Parallel()
	p := reputation.DefaultParams()
	a, _ := richAgent(t)
	// Room behind the elements is what clones could share without showing it.
	a.Evaluators = slices.Grow(a.Evaluators, 4)
	a.Aggregate.ModelCohorts = slices.Grow(a.Aggregate.ModelCohorts, 4)
	a.Aggregate.Transitions = slices.Grow(a.Aggregate.Transitions, 4)
	before := encode(t, &a)
	if got := encode(t, a.Clone()); got != before {
		t.Fatalf("the clone is %s, want %s", got, before)
	}
	folded := func(body reputation.Body) *reputation.Agent {
		clone := a.Clone()
		c := reputation.Collection{Sum: *a.Aggregate.PersonalScore, Scores: 1, Members: 1}
		if err := p.FoldAggregate(clone, &c, "bear-1", happened(t, "honey", 60, body)); err != nil {
			t.Fatal(err)
		}
		return clone
	}
	perform := performance("native", "analysis", 0.1, "judge-0")
	perform.Observation.Dimensions = reputation.Dimensions{{"accuracy", 0.1}}
	bodies := []reputation.Body{
		perform,
		performance("aaa", "analysis", 0.1, "judge-00"),
		performance("zzz", "analysis", 0.1, "judge-9"),
		performance("zzzz", "analysis", 0.1, "judge-99"),
		reputation.TaskCompleted{TaskType: "analysis"},
		reputation.CredentialUpdate{CredentialID: "123e4567-e89b-12d3-a456-426614174000", Action: "revoked"},
		reputation.ReputationReset{Reason: "one", Actor: "a"},
		reputation.ReputationReset{Reason: "two", Actor: "a"},
	}
	var clones []*reputation.Agent
	var texts []string
	for _, body := range bodies {
		clones = append(clones, folded(body))
		texts = append(texts, encode(t, clones[len(clones)-1]))
		if diff := cmp.Diff(before, encode(t, &a)); diff != "" {
			t.Errorf("folding a %T into a clone changed the original (-before +after):\n%s", body, diff)
		}
	}
	for i, clone := range clones {
		if diff := cmp.Diff(texts[i], encode(t, clone)); diff != "" {
			t.Errorf("the clone with %+v changed with another one (-before +after):\n%s", bodies[i], diff)
		}
	}
}

func TestStateValid(t *testing.T) {
	t.Parallel()
	for _, s := range []reputation.State{"cold", "warming", "established", "authoritative"} {
		if !s.Valid() || !slices.Contains(reputation.States, s) {
			t.Errorf("%q is not valid", s)
		}
	}
	for _, s := range []reputation.State{"", "Cold", "hot"} {
		if s.Valid() {
			t.Errorf("%q is valid", s)
		}
	}
}
