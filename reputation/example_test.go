package reputation_test

import (
	"errors"
	"fmt"
	"time"

	"dixie/reputation"
)

// All problems of an event are reported together.
func ExampleDecode() {
	_, err := reputation.Decode([]byte(`{
		"type": "model_performance",
		"event_id": "550e8400-e29b-41d4-a716-446655440000",
		"agent_id": "bear-1",
		"collection_id": "honey",
		"timestamp": "2026-02-30T12:00:00Z",
		"model_id": "gpt-4o",
		"pool_id": "alpha",
		"task_type": "analysis",
		"quality_observation": {"score": 1.2, "dimensions": {"Coherence": 0.5}},
		"mood": "sour"
	}`))
	var invalid *reputation.InvalidError
	if errors.As(err, &invalid) {
		for _, problem := range invalid.Problems {
			fmt.Println(problem)
		}
	}
	// Output:
	// timestamp: must be an existing RFC 3339 date and time with a zone, such as 2026-02-25T12:00:00Z, found "2026-02-30T12:00:00Z"
	// quality_observation.score: must be between 0 and 1, found 1.2
	// quality_observation.dimensions.Coherence: name must match ^[a-z][a-z0-9_]{0,31}$
	// mood: unknown field
	// provider: is required
}

// A history is folded event by event, with one Agent for each NFT and one Collection
// for each collection.
func ExampleParams_FoldAggregate() {
	params := reputation.DefaultParams()
	collection := &reputation.Collection{}
	agents := map[string]*reputation.Agent{"bear-1": {}, "bear-2": {}}
	for _, text := range []string{
		`{"type":"quality_signal","event_id":"550e8400-e29b-41d4-a716-446655440001","agent_id":"bear-1",` +
			`"collection_id":"honey","timestamp":"2026-02-25T12:00:00Z","score":0.9}`,
		`{"type":"quality_signal","event_id":"550e8400-e29b-41d4-a716-446655440002","agent_id":"bear-2",` +
			`"collection_id":"honey","timestamp":"2026-02-25T13:00:00Z","score":0.4}`,
		`{"type":"quality_signal","event_id":"550e8400-e29b-41d4-a716-446655440003","agent_id":"bear-1",` +
			`"collection_id":"honey","timestamp":"2026-02-25T14:00:00Z","score":0.5}`,
		`{"type":"quality_signal","event_id":"550e8400-e29b-41d4-a716-446655440004","agent_id":"bear-1",` +
			`"collection_id":"jani","timestamp":"2026-02-25T15:00:00Z","score":0.5}`,
	} {
		event, err := reputation.Decode([]byte(text))
		if err != nil {
			fmt.Println(err)
			continue
		}
		// Here agents go by the name of their NFT.
		nft := event.AgentID
		agent := agents[nft]
		if err := params.FoldAggregate(agent, collection, nft, &event); err != nil {
			fmt.Println(err)
			continue
		}
		g := agent.Aggregate
		fmt.Printf("%s %s: personal %.4f, collection %.4f, blended %.4f\n",
			nft, g.State, *g.PersonalScore, g.CollectionScore, g.BlendedScore)
	}
	// Output:
	// bear-1 warming: personal 0.9000, collection 0.5000, blended 0.6000
	// bear-2 warming: personal 0.4000, collection 0.9000, blended 0.7750
	// bear-1 warming: personal 0.7032, collection 0.4000, blended 0.5213
	// collection_mismatch: bear-1 belongs to collection "honey", the event names "jani"
}

// A decision rests on the cohort of the task as far as it is known, and on the
// agent's own score and its collection for the rest.
func ExampleParams_Decide() {
	params := reputation.DefaultParams()
	noon := time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC)
	agent := &reputation.Agent{Aggregate: reputation.Aggregate{
		PersonalityID: "bear-1", PersonalScore: new(0.8), SampleCount: 9, LastUpdated: reputation.TimestampOf(noon),
	}}
	cohorts := []reputation.TaskCohort{
		{ModelID: "native", TaskType: "analysis", PersonalScore: new(0.9), SampleCount: 15},
	}
	collection := reputation.Collection{Sum: 0.8 + 0.4 + 0.6, Scores: 3, Members: 3}
	prior := collection.Prior(agent.Aggregate.PersonalScore, params)
	for _, question := range []reputation.Question{
		{Task: "analysis", At: noon},
		{Task: "general", At: noon.AddDate(0, 0, 30)},
	} {
		d := params.Decide(agent, cohorts, prior, question)
		fmt.Printf("%s: %.3f by %s\n", question.Task, d.Score, d.Path)
		fmt.Printf("  %s\n", d.Reason)
		fmt.Printf("  cohort %.3f, personal %.3f, prior %.3f\n", d.Weights.Cohort, d.Weights.Personal, d.Weights.Prior)
	}
	// Output:
	// analysis: 0.812 by task_cohort
	//   15 samples at analysis of the 30 for full confidence, the rest from the aggregate
	//   cohort 0.500, personal 0.375, prior 0.125
	// general: 0.680 by aggregate
	//   the agent's own score: 9 samples worth 4.50 after 30.0 days, against a collection prior worth 3
	//   cohort 0.000, personal 0.600, prior 0.400
}
