package reputation_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"dixie/reputation"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const day = 24 * time.Hour

func TestReliability(t *testing.T) {
	t.Parallel()
	updated := time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC)
	few := func(n string) string { return "sample_count " + n + " is below the minimum of 5" }
	tests := []struct {
		name    string
		samples int64
		age     time.Duration
		want    []string
	}{
		{"enough and fresh", 5, 0, []string{}},
		{"many", 500, day, []string{}},
		{"too few", 4, 0, []string{few("4")}},
		{"none are not stale", 0, 1000 * day, []string{few("0")}},
		{"exactly 60 days", 5, 60 * day, []string{}},
		{"a nanosecond more", 5, 60*day + 1, []string{"last observation is 60 days old, more than 60"}},
		{"61 days", 5, 61 * day, []string{"last observation is 61 days old, more than 60"}},
		{"both", 1, 90*day + time.Hour, []string{few("1"), "last observation is 90 days old, more than 60"}},
		{"from the future", 5, -day, []string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := reputation.Aggregate{SampleCount: tt.samples, LastUpdated: reputation.TimestampOf(updated)}
			got := reputation.DefaultParams().Reliability(&g, updated.Add(tt.age))
			if diff := cmp.Diff(reputation.Reliability{Reliable: len(tt.want) == 0, Reasons: tt.want}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestReliabilityParameters(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name    string
		minimum int64
		stale   float64
		age     time.Duration
		want    []string
	}{
		{"nothing asked for", 0, 1e9, 1000 * day, []string{}},
		{"half a day", 0, 0.5, 12*time.Hour + 1, []string{"last observation is 0 days old, more than 0.5"}},
		{"half a day to the nanosecond", 0, 0.5, 12 * time.Hour, []string{}},
		{"no day", 0, 0, 1, []string{"last observation is 0 days old, more than 0"}},
		{"another minimum", 9, 60, 0, []string{"sample_count 8 is below the minimum of 9"}},
		// More nanoseconds than a time.Duration can hold.
		{"three hundred years", 0, 300 * 365, 10 * 365 * day, []string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := reputation.DefaultParams()
			p.ReliableSamples, p.StaleAfterDays = tt.minimum, tt.stale
			if err := p.Validate(); err != nil {
				t.Fatal(err)
			}
			g := reputation.Aggregate{SampleCount: 8, LastUpdated: reputation.TimestampOf(now.Add(-tt.age))}
			if diff := cmp.Diff(tt.want, p.Reliability(&g, now).Reasons); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// decider is an agent with 9 samples of 0.8 and 3 of 0.6 with the model native, all
// of noon.
func decider() *reputation.Agent {
	return &reputation.Agent{Aggregate: reputation.Aggregate{
		PersonalityID: "bear-1", PersonalScore: new(0.8), SampleCount: 9, PseudoCount: 3, LastUpdated: minute(0),
		State: reputation.StateEstablished,
		ModelCohorts: []reputation.ModelCohort{
			{ModelID: "empty", LastUpdated: minute(0)},
			{ModelID: "native", PersonalScore: new(0.6), SampleCount: 3, LastUpdated: minute(0)},
			{ModelID: "old", PersonalScore: new(0.6), SampleCount: 6, LastUpdated: reputation.TimestampOf(minute(0).Time().Add(-30 * day))},
		},
	}}
}

func deciderCohorts() []reputation.TaskCohort {
	cohort := func(model string, task reputation.TaskType, score *float64, n int64) reputation.TaskCohort {
		return reputation.TaskCohort{ModelID: model, TaskType: task, PersonalScore: score, SampleCount: n, LastUpdated: minute(0)}
	}
	return []reputation.TaskCohort{
		cohort("empty", "analysis", nil, 0),
		cohort("gpt-4o", "analysis", new(0.7), 5),
		cohort("native", "analysis", new(0.9), 15),
		cohort("native", "general", new(0.2), 60),
		cohort("native", "summarization", nil, 7),
	}
}

// TestDecide holds the cascade of protocol part I.7. The numbers are worked by hand
// from the formulas there; k is 3, the prior 0.5.
func TestDecide(t *testing.T) {
	t.Parallel()
	third := 1.0 / 3
	cold := &reputation.Agent{Aggregate: reputation.Aggregate{PersonalityID: "bear-1", PseudoCount: 3, LastUpdated: minute(0)}}
	own := reputation.Inputs{
		Prior: 0.5, PersonalScore: new(0.8), SampleCount: 9, DecayedCount: 9, HalfLifeDays: 30, PseudoCount: 3,
		AggregateEstimate: 0.725, // (3·0.5 + 9·0.8)/12
	}
	native := own
	native.PersonalScore, native.SampleCount, native.DecayedCount, native.AggregateEstimate = new(0.6), 3, 3, 0.55
	with := func(in reputation.Inputs, change func(*reputation.Inputs)) reputation.Inputs {
		change(&in)
		return in
	}
	const prior = "no observations of the agent: the collection's prior"
	const ownReason = "the agent's own score: 9 samples worth 9.00 after 0.0 days, against a collection prior worth 3"
	tests := []struct {
		name    string
		agent   *reputation.Agent
		cohorts []reputation.TaskCohort
		q       reputation.Question
		after   time.Duration
		want    reputation.Decision
		// model and task of the scoring path
		entryModel string
	}{
		{
			"no model, no task", decider(), deciderCohorts(), reputation.Question{}, 0,
			reputation.Decision{
				Score: 0.725, Path: "aggregate", Reason: ownReason, Inputs: own,
				Weights: reputation.Weights{Personal: 0.75, Prior: 0.25},
			}, "any",
		},
		{
			"after one half-life", decider(), nil, reputation.Question{}, 30 * day,
			reputation.Decision{
				Score: 0.68, Path: "aggregate", // (3·0.5 + 4.5·0.8)/7.5
				Reason: "the agent's own score: 9 samples worth 4.50 after 30.0 days, against a collection prior worth 3",
				Inputs: with(own, func(in *reputation.Inputs) {
					in.AgeDays, in.DecayedCount, in.AggregateEstimate = 30, 4.5, 0.68
				}),
				Weights: reputation.Weights{Personal: 0.6, Prior: 0.4},
			}, "any",
		},
		{
			"asked before the last observation", decider(), nil, reputation.Question{}, -30 * day,
			reputation.Decision{
				Score: 0.725, Path: "aggregate", Reason: ownReason, Inputs: own,
				Weights: reputation.Weights{Personal: 0.75, Prior: 0.25},
			}, "any",
		},
		{
			"model", decider(), nil, reputation.Question{Model: "native"}, 0,
			reputation.Decision{
				Score: 0.55, Path: "aggregate", Inputs: native,
				Reason:  "the agent's score with native: 3 samples worth 3.00 after 0.0 days, against a collection prior worth 3",
				Weights: reputation.Weights{Personal: 0.5, Prior: 0.5},
			}, "native",
		},
		{
			"the age is that of the model's own last observation", decider(), nil, reputation.Question{Model: "old"}, 0,
			reputation.Decision{
				Score: 0.55, Path: "aggregate", // worth 3 of 6 samples
				Reason: "the agent's score with old: 6 samples worth 3.00 after 30.0 days, against a collection prior worth 3",
				Inputs: with(native, func(in *reputation.Inputs) {
					in.SampleCount, in.AgeDays = 6, 30
				}),
				Weights: reputation.Weights{Personal: 0.5, Prior: 0.5},
			}, "old",
		},
		{
			"model that is not known", decider(), deciderCohorts(), reputation.Question{Model: "gemini"}, 0,
			reputation.Decision{
				Score: 0.725, Path: "aggregate", Reason: ownReason, Inputs: own,
				Weights: reputation.Weights{Personal: 0.75, Prior: 0.25},
			}, "gemini",
		},
		{
			"model whose cohort has no score", decider(), deciderCohorts(), reputation.Question{Model: "empty", Task: "analysis"}, 0,
			reputation.Decision{
				Score: 0.725, Path: "aggregate", Reason: ownReason, Inputs: own,
				Weights: reputation.Weights{Personal: 0.75, Prior: 0.25},
			}, "empty",
		},
		{
			"task of several models", decider(), deciderCohorts(), reputation.Question{Task: "analysis"}, 0,
			reputation.Decision{
				// The cohorts' mean is (5·0.7 + 15·0.9)/20 = 0.85, of which 20/30 count.
				Score: 0.85*2/3 + 0.725/3, Path: "task_cohort",
				Reason: "20 samples at analysis of the 30 for full confidence, the rest from the aggregate",
				Inputs: with(own, func(in *reputation.Inputs) {
					in.CohortScore, in.CohortCount = new(0.85), 20
				}),
				Weights: reputation.Weights{Cohort: 2 * third, Personal: 0.25, Prior: third / 4},
			}, "any",
		},
		{
			"task and model", decider(), deciderCohorts(), reputation.Question{Model: "native", Task: "analysis"}, 0,
			reputation.Decision{
				Score: 0.725, Path: "task_cohort", // 0.5·0.9 + 0.5·0.55, the model's own estimate
				Reason: "15 samples at analysis of the 30 for full confidence, the rest from the aggregate",
				Inputs: with(native, func(in *reputation.Inputs) {
					in.CohortScore, in.CohortCount = new(0.9), 15
				}),
				Weights: reputation.Weights{Cohort: 0.5, Personal: 0.25, Prior: 0.25},
			}, "native",
		},
		{
			"full confidence", decider(), deciderCohorts(), reputation.Question{Task: "general"}, 0,
			reputation.Decision{
				Score: 0.2, Path: "task_cohort", Reason: "60 samples at general, full confidence from 30",
				Inputs: with(own, func(in *reputation.Inputs) {
					in.CohortScore, in.CohortCount = new(0.2), 60
				}),
				Weights: reputation.Weights{Cohort: 1},
			}, "any",
		},
		{
			// A cohort's own age is not decayed: only the aggregate estimate is.
			"task after a half-life", decider(), deciderCohorts(), reputation.Question{Model: "native", Task: "analysis"}, 30 * day,
			reputation.Decision{
				Score: 0.45 + (1.5+0.9)/4.5/2, Path: "task_cohort",
				Reason: "15 samples at analysis of the 30 for full confidence, the rest from the aggregate",
				Inputs: with(native, func(in *reputation.Inputs) {
					in.AgeDays, in.DecayedCount, in.AggregateEstimate = 30, 1.5, (1.5+0.9)/4.5
					in.CohortScore, in.CohortCount = new(0.9), 15
				}),
				Weights: reputation.Weights{Cohort: 0.5, Personal: third / 2, Prior: third},
			}, "native",
		},
		{
			"task that the model never did", decider(), deciderCohorts(), reputation.Question{Model: "gpt-4o", Task: "general"}, 0,
			reputation.Decision{
				Score: 0.725, Path: "aggregate", Reason: ownReason, Inputs: own,
				Weights: reputation.Weights{Personal: 0.75, Prior: 0.25},
			}, "gpt-4o",
		},
		{
			"task whose cohort has no score", decider(), deciderCohorts(), reputation.Question{Task: "summarization"}, 0,
			reputation.Decision{
				Score: 0.725, Path: "aggregate", Reason: ownReason, Inputs: own,
				Weights: reputation.Weights{Personal: 0.75, Prior: 0.25},
			}, "any",
		},
		{
			"unspecified is not a task", decider(), []reputation.TaskCohort{
				{ModelID: "native", TaskType: "unspecified", PersonalScore: new(0.1), SampleCount: 60},
			}, reputation.Question{Task: "unspecified"}, 0,
			reputation.Decision{
				Score: 0.725, Path: "aggregate", Reason: ownReason, Inputs: own,
				Weights: reputation.Weights{Personal: 0.75, Prior: 0.25},
			}, "any",
		},
		{
			"nothing known", cold, nil, reputation.Question{Task: "analysis"}, 30 * day,
			reputation.Decision{
				Score: 0.5, Path: "tier_default", Reason: prior,
				Inputs:  reputation.Inputs{Prior: 0.5, HalfLifeDays: 30, PseudoCount: 3, AggregateEstimate: 0.5},
				Weights: reputation.Weights{Prior: 1},
			}, "",
		},
		{
			"nothing known of a model", cold, nil, reputation.Question{Model: "native"}, 0,
			reputation.Decision{
				Score: 0.5, Path: "tier_default", Reason: prior,
				Inputs:  reputation.Inputs{Prior: 0.5, HalfLifeDays: 30, PseudoCount: 3, AggregateEstimate: 0.5},
				Weights: reputation.Weights{Prior: 1},
			}, "native",
		},
		{
			"agent without any event", &reputation.Agent{}, nil, reputation.Question{}, 0,
			reputation.Decision{
				Score: 0.5, Path: "tier_default", Reason: prior,
				Inputs:  reputation.Inputs{Prior: 0.5, HalfLifeDays: 30, PseudoCount: 3, AggregateEstimate: 0.5},
				Weights: reputation.Weights{Prior: 1},
			}, "",
		},
		{
			// Another program may have written the cohort row; the prior stands in
			// for the missing aggregate.
			"cohort without aggregate", cold, deciderCohorts(), reputation.Question{Model: "native", Task: "analysis"}, 0,
			reputation.Decision{
				Score: 0.7, Path: "task_cohort", // 0.5·0.9 + 0.5·0.5
				Reason: "15 samples at analysis of the 30 for full confidence, the rest from the aggregate",
				Inputs: reputation.Inputs{
					Prior: 0.5, HalfLifeDays: 30, PseudoCount: 3, AggregateEstimate: 0.5, CohortScore: new(0.9), CohortCount: 15,
				},
				Weights: reputation.Weights{Cohort: 0.5, Prior: 0.5},
			}, "native",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.q.At = minute(0).Time().Add(tt.after)
			got := reputation.DefaultParams().Decide(tt.agent, tt.cohorts, 0.5, tt.q)
			opts := cmp.Options{
				cmpopts.EquateApprox(0, 1e-14), // decay uses exp
				cmpopts.IgnoreFields(reputation.Decision{}, "Entry"),
			}
			if diff := cmp.Diff(tt.want, got, opts); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			entry := reputation.ScoringPath{
				EntryHash: got.Entry.Hash(), ModelID: tt.entryModel, Path: tt.want.Path,
				PreviousHash: "sha256:" + sha(""), Reason: tt.want.Reason,
				ScoredAt: tt.q.At.Format("2006-01-02T15:04:05.000Z"), TaskType: tt.q.Task,
			}
			if diff := cmp.Diff(entry, got.Entry); diff != "" {
				t.Errorf("scoring path (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDecideOwnPseudoCount: a decision uses the parameters of now, an aggregate keeps
// those that it was stored with.
func TestDecideOwnPseudoCount(t *testing.T) {
	t.Parallel()
	p := reputation.DefaultParams()
	p.PseudoCount, p.HalfLifeDays, p.ConfidenceThreshold = 9, 15, 60
	q := reputation.Question{Task: "analysis", At: minute(0).Time().Add(15 * day)}
	d := p.Decide(decider(), deciderCohorts(), 0.5, q)
	want := reputation.Weights{Cohort: 20.0 / 60, Personal: 2.0 / 3 / 3, Prior: 2.0 / 3 * 2 / 3}
	if diff := cmp.Diff(want, d.Weights, cmpopts.EquateApprox(0, 1e-14)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestScoringPathTime: whole milliseconds in UTC, as the peer writes them.
func TestScoringPathTime(t *testing.T) {
	t.Parallel()
	tests := map[string]time.Time{
		"2026-02-25T12:00:00.000Z": time.Date(2026, 2, 25, 14, 0, 0, 0, time.FixedZone("", 2*3600)),
		"2026-02-25T12:00:00.999Z": time.Date(2026, 2, 25, 12, 0, 0, 999_999_999, time.UTC),
	}
	for want, at := range tests {
		d := reputation.DefaultParams().Decide(decider(), nil, 0.5, reputation.Question{At: at})
		if d.Entry.ScoredAt != want {
			t.Errorf("asked at %v, scored at %q, want %q", at, d.Entry.ScoredAt, want)
		}
	}
}

// TestDecideLongNames: the protocol bounds the reason of a scoring path to 500
// characters (protocol §6.2).
func TestDecideLongNames(t *testing.T) {
	t.Parallel()
	model := strings.Repeat("🐻", 255)
	task := reputation.TaskType("ab:" + strings.Repeat("c", 252))
	a := decider()
	a.Aggregate.SampleCount = math.MaxInt64
	a.Aggregate.ModelCohorts[1].ModelID = model
	a.Aggregate.ModelCohorts[1].SampleCount = math.MaxInt64
	cohorts := []reputation.TaskCohort{{ModelID: model, TaskType: task, PersonalScore: new(0.5), SampleCount: 1}}
	for _, q := range []reputation.Question{{Model: model}, {Model: model, Task: task}} {
		q.At = minute(0).Time()
		d := reputation.DefaultParams().Decide(a, cohorts, 0.5, q)
		if n := len(d.Entry.Reason); n > 500 || d.Entry.ModelID != model || d.Entry.TaskType != q.Task {
			t.Errorf("reason of %d bytes, model %q, task %q", n, d.Entry.ModelID, d.Entry.TaskType)
		}
	}
}

// TestScoringPathHash holds protocol §12.16.
func TestScoringPathHash(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		s    reputation.ScoringPath
		want string
	}{
		{
			"first",
			reputation.ScoringPath{Path: "tier_default", Reason: "No reputation data", ScoredAt: "2026-02-25T00:00:00.000Z"},
			"sha256:cfd710835d59a62c8be26909c57fb4a8ada60458d299fcab217934258535e2a0",
		},
		{
			"second",
			reputation.ScoringPath{
				Path: "task_cohort", ModelID: "gpt-4o", TaskType: "code_review", Reason: "Task cohort data available",
				ScoredAt:     "2026-02-25T00:00:01.000Z",
				PreviousHash: "sha256:cfd710835d59a62c8be26909c57fb4a8ada60458d299fcab217934258535e2a0",
			},
			"sha256:3241a5af9693137ab2b11c3961e7c21a58c1d3407156478b67e67b1dc5e96748",
		},
		{
			"without reason",
			reputation.ScoringPath{Path: "aggregate", ModelID: "native", ScoredAt: "2026-02-25T00:00:02Z"},
			"sha256:22502fad02c29f7955e85fe4df53f4b2887e99d780b165352c4a0c7d88296b3f",
		},
		{
			"escapes and characters beyond ASCII",
			reputation.ScoringPath{Path: "aggregate", ModelID: "modèle-é", Reason: `α→β "q" \ /`},
			"sha256:ac949321f2d5e1cfcba3b7b25819abbba1d2ca82c5b49e9d6278c0f58b4af7d9",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.s.Hash(); got != tt.want {
				t.Errorf("Hash = %s, want %s", got, tt.want)
			}
			tt.s.EntryHash, tt.s.PreviousHash = "sha256:x", "sha256:y"
			if got := tt.s.Hash(); got != tt.want {
				t.Errorf("Hash covers the hashes: %s, want %s", got, tt.want)
			}
		})
	}
}

// TestScoringPathJSON: absent members are left out, and the text is canonical.
func TestScoringPathJSON(t *testing.T) {
	t.Parallel()
	q := reputation.Question{At: minute(0).Time()}
	got := encode(t, reputation.DefaultParams().Decide(&reputation.Agent{}, nil, 0.5, q).Entry)
	const content = `"reason":"no observations of the agent: the collection's prior","scored_at":"2026-02-25T12:00:00.000Z"}`
	want := `{"entry_hash":"sha256:` + sha(`{"path":"tier_default",`+content) + `","path":"tier_default",` +
		`"previous_hash":"sha256:` + sha("") + `",` + content
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
