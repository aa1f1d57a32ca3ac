package reputation

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

// ContractVersion is the version of the protocol whose aggregates this service
// writes.
const ContractVersion = "8.7.0"

// DefaultPool is the pool of an agent before any model_performance names one.
const DefaultPool = "default"

// DefaultModel is the model whose cohort a quality_signal with a task type counts
// for, as it names none.
const DefaultModel = "default"

// State is how well an agent is known (protocol §4).
type State string

// The states in their order.
const (
	StateCold          State = "cold"
	StateWarming       State = "warming"
	StateEstablished   State = "established"
	StateAuthoritative State = "authoritative"
)

// States are all states in their order.
var States = []State{StateCold, StateWarming, StateEstablished, StateAuthoritative}

// Valid reports whether s is a state.
func (s State) Valid() bool { return slices.Contains(States, s) }

// Fields of stored types are declared in the order of their JSON names, so that
// encoding them gives canonical JSON without a second pass.

// Aggregate is an agent's reputation as the protocol shows it (§3.5): a closed
// object.
type Aggregate struct {
	BlendedScore     float64       `json:"blended_score"`     // in [0, 1]; the collection's while there is no personal score
	CollectionID     string        `json:"collection_id"`     //
	CollectionScore  float64       `json:"collection_score"`  // in [0, 1]; the prior at the agent's last event
	ContractVersion  string        `json:"contract_version"`  //
	ContributorCount int64         `json:"contributor_count"` // distinct evaluators, at most 100
	CreatedAt        Timestamp     `json:"created_at"`        // of the first event
	LastUpdated      Timestamp     `json:"last_updated"`      // the latest observation, or CreatedAt
	MinSampleCount   int64         `json:"min_sample_count"`  //
	ModelCohorts     []ModelCohort `json:"model_cohorts"`     // sorted by model
	PersonalScore    *float64      `json:"personal_score"`    // in [0, 1]; nil while cold
	PersonalityID    string        `json:"personality_id"`    // the NFT id
	PoolID           string        `json:"pool_id"`           //
	PseudoCount      int64         `json:"pseudo_count"`      //
	SampleCount      int64         `json:"sample_count"`      // observations since the last reset
	State            State         `json:"state"`             //
	Transitions      []Transition  `json:"transition_history"`
}

// Transition is one step of the state machine.
type Transition struct {
	At      Timestamp `json:"at"`
	From    State     `json:"from"`
	To      State     `json:"to"`
	Trigger string    `json:"trigger"`
}

// ModelCohort is the agent's score with one model (protocol §3.4).
type ModelCohort struct {
	LastUpdated   Timestamp `json:"last_updated"`
	ModelID       string    `json:"model_id"`
	PersonalScore *float64  `json:"personal_score"`
	SampleCount   int64     `json:"sample_count"`
}

// TaskCohort is the agent's score with one model at one kind of task (protocol
// §3.4).
type TaskCohort struct {
	LastUpdated   Timestamp `json:"last_updated"`
	ModelID       string    `json:"model_id"`
	PersonalScore *float64  `json:"personal_score"`
	SampleCount   int64     `json:"sample_count"`
	TaskType      TaskType  `json:"task_type"`
}

// Key identifies the cohort within its agent.
func (c TaskCohort) Key() CohortKey { return CohortKey{Model: c.ModelID, Task: c.TaskType} }

// CohortKey identifies a task cohort within its agent.
type CohortKey struct {
	Model string
	Task  TaskType
}

// Compare orders keys by model and then by task, bytewise.
func (k CohortKey) Compare(other CohortKey) int {
	if c := strings.Compare(k.Model, other.Model); c != 0 {
		return c
	}
	return strings.Compare(string(k.Task), string(other.Task))
}

// Running is a running score and the number of samples in it.
type Running struct {
	Count int64   `json:"count"`
	Score float64 `json:"score"`
}

// TaskStats counts completed tasks of one type.
type TaskStats struct {
	Completed       int64 `json:"completed"`
	Succeeded       int64 `json:"succeeded"`
	Timed           int64 `json:"timed"`             // completions that named a duration
	TotalDurationMS int64 `json:"total_duration_ms"` // of the timed ones
}

// Credential is the last thing that became of a credential.
type Credential struct {
	Action CredentialAction `json:"action"`
	At     Timestamp        `json:"at"`
}

// Agent is everything that the aggregates projection knows of one NFT: the
// protocol's aggregate and what the closed aggregate has no field for. The zero
// Agent has seen no event. Its JSON holds the whole state, so that folding on
// from a stored Agent is the same as never having stopped.
type Agent struct {
	Aggregate   Aggregate              `json:"aggregate"`
	Credentials map[string]Credential  `json:"credentials,omitempty"` // by lower-case id
	Dimensions  map[string]Running     `json:"dimensions,omitempty"`
	Evaluators  []string               `json:"evaluators,omitempty"` // sorted, at most 100
	LastEventAt Timestamp              `json:"last_event_at"`        // the latest event of any type
	Tasks       map[TaskType]TaskStats `json:"tasks,omitempty"`
}

// Known reports whether the agent has had an event.
func (a *Agent) Known() bool { return a.Aggregate.PersonalityID != "" }

// DimensionScores are the dimensions' blended scores,
// (k·prior + n_d·score_d)/(k + n_d) with the prior of the agent's last event. It
// is never nil.
func (a *Agent) DimensionScores() map[string]float64 {
	scores := make(map[string]float64, len(a.Dimensions))
	for name, d := range a.Dimensions {
		scores[name] = Blend(&d.Score, a.Aggregate.CollectionScore, float64(d.Count), a.Aggregate.PseudoCount)
	}
	return scores
}

// Clone is a copy that shares nothing that the fold changes.
func (a *Agent) Clone() *Agent {
	c := *a
	c.Aggregate.ModelCohorts = slices.Clone(a.Aggregate.ModelCohorts)
	c.Aggregate.Transitions = slices.Clone(a.Aggregate.Transitions)
	c.Credentials = maps.Clone(a.Credentials)
	c.Dimensions = maps.Clone(a.Dimensions)
	c.Evaluators = slices.Clone(a.Evaluators)
	c.Tasks = maps.Clone(a.Tasks)
	return &c
}

// Encode is the canonical JSON of a stored value, by its struct tags: an
// [Aggregate], [Agent] or [TaskCohort]. Their AppendJSON methods give the same.
func Encode(v any) ([]byte, error) {
	b, err := json.Marshal(v, json.Deterministic(true), json.FormatNilSliceAsNull(false))
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return b, nil
}
