package reputation_test

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"dixie/reputation"
)

// What is written by hand is what the struct tags say, and canonical, whatever the
// history.
func TestStoredValuesAreWrittenAsTagged(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		params := reputation.DefaultParams()
		var agent reputation.Agent
		var cohorts reputation.Cohorts
		var collection reputation.Collection
		for i := range rapid.IntRange(0, 30).Draw(t, "events") {
			e := anyStoredEvent(t, i)
			if err := params.FoldAggregate(&agent, &collection, "bear-1", &e); err != nil {
				t.Fatal(err)
			}
			if err := params.FoldCohorts(&cohorts, "bear-1", &e); err != nil {
				t.Fatal(err)
			}
		}
		aggregate := agent.Aggregate.AppendJSON(nil)
		sameText(t, aggregate, &agent.Aggregate)
		sameText(t, agent.AppendJSON(nil, aggregate), &agent)
		for _, cohort := range cohorts.Sorted() {
			sameText(t, cohort.AppendJSON(nil), &cohort)
		}
	})
}

func sameText(t *rapid.T, got []byte, value any) {
	t.Helper()
	want, err := reputation.Encode(value)
	if err != nil {
		t.Fatal(err)
	}
	canonical, err := reputation.Canonical(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) || !bytes.Equal(got, canonical) {
		t.Fatalf("by hand   %s\nby tags   %s\ncanonical %s", got, want, canonical)
	}
}

// anyStoredEvent draws an event with names that need escaping and numbers that
// need exponents.
func anyStoredEvent(t *rapid.T, i int) reputation.Event {
	at, err := reputation.ParseTimestamp(fmt.Sprintf("2026-02-25T12:00:%02d.5+01:00", i))
	if err != nil {
		t.Fatal(err)
	}
	score := rapid.OneOf(rapid.Float64Range(0, 1), rapid.SampledFrom([]float64{0, 1, 1e-7, 5e-324})).Draw(t, "score")
	task := rapid.SampledFrom([]reputation.TaskType{"analysis", "unspecified", "ab:cd"}).Draw(t, "task")
	name := rapid.SampledFrom([]string{"gpt-4o", "modèle \"é\"", "a<b>&\u2028", "\U0001F43B\\"}).Draw(t, "name")
	duration := rapid.Int64Range(0, 3_600_000).Draw(t, "duration")
	body := rapid.SampledFrom([]reputation.Body{
		reputation.QualitySignal{Score: score, TaskType: task, Dimensions: reputation.Dimensions{{Name: "accuracy", Score: score}}},
		reputation.TaskCompleted{TaskType: task, Success: true, DurationMS: &duration},
		reputation.CredentialUpdate{CredentialID: "AAAAAAAA-0000-4000-8000-000000000000", Action: "issued"},
		reputation.ModelPerformance{ModelID: name, Provider: "p", PoolID: name, TaskType: task,
			Observation: reputation.QualityObservation{Score: score, EvaluatedBy: name}},
		reputation.ReputationReset{Reason: name, Actor: "admin"},
	}).Draw(t, "body")
	return reputation.Event{ID: "11111111-1111-4111-8111-111111111111", AgentID: "a", CollectionID: "café", Timestamp: at, Body: body}
}
