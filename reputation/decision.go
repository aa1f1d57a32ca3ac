package reputation

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"time"
)

// The views in this file depend on the time of asking. They are never stored.

const day = 24 * time.Hour

// Reliability says whether a reputation may be relied on, and if not why.
type Reliability struct {
	Reliable bool     `json:"reliable"`
	Reasons  []string `json:"reasons"` // empty when reliable, never nil
}

// Reliability judges the aggregate at a time (protocol part I.7).
func (p Params) Reliability(g *Aggregate, now time.Time) Reliability {
	reasons := []string{}
	if g.SampleCount < p.ReliableSamples {
		reasons = append(reasons, fmt.Sprintf("sample_count %d is below the minimum of %d", g.SampleCount, p.ReliableSamples))
	}
	age := now.Sub(g.LastUpdated.Time())
	// Compared as floats: a limit of centuries is more than a Duration can hold.
	if g.SampleCount > 0 && float64(age) > p.StaleAfterDays*float64(day) {
		reasons = append(reasons, fmt.Sprintf("last observation is %d days old, more than %v", int(age/day), p.StaleAfterDays))
	}
	return Reliability{Reliable: len(reasons) == 0, Reasons: reasons}
}

// Path is the kind of knowledge that a decision rests on.
type Path string

// The paths of the scoring cascade, best first (protocol §6.1).
const (
	PathTaskCohort  Path = "task_cohort"
	PathAggregate   Path = "aggregate"
	PathTierDefault Path = "tier_default"
)

// AnyModel stands in a scoring path for a question that named no model.
const AnyModel = "any"

// Question asks for a score to decide by. Model and Task may be empty.
type Question struct {
	Model string
	Task  TaskType
	At    time.Time
}

// Decision is the answer of the scoring cascade: the score, the path that led to
// it, and all numbers that went in.
type Decision struct {
	Score  float64 `json:"score"` // in [0, 1]
	Path   Path    `json:"path"`
	Reason string  `json:"reason"` // in words

	Inputs  Inputs      `json:"inputs"`
	Weights Weights     `json:"weights"`
	Entry   ScoringPath `json:"scoring_path"`
}

// Inputs are what a decision was made from.
type Inputs struct {
	Prior             float64  `json:"prior"`              // the collection's now, without the agent
	PersonalScore     *float64 `json:"personal_score"`     // of the agent, or of its model cohort
	SampleCount       int64    `json:"sample_count"`       // behind the personal score
	AgeDays           float64  `json:"age_days"`           // of the last observation; 0 without one
	DecayedCount      float64  `json:"decayed_count"`      // what the samples are worth at that age
	HalfLifeDays      float64  `json:"half_life_days"`     //
	PseudoCount       int64    `json:"pseudo_count"`       //
	AggregateEstimate float64  `json:"aggregate_estimate"` // blend of the above
	CohortScore       *float64 `json:"cohort_score"`       // nil without a cohort of the task
	CohortCount       int64    `json:"cohort_count"`       // samples behind it
}

// Weights are the shares in the score. They add up to 1.
type Weights struct {
	Cohort   float64 `json:"cohort"`
	Personal float64 `json:"personal"`
	Prior    float64 `json:"prior"`
}

// Decide runs the scoring cascade (protocol part I.7): the cohorts of the task,
// else the agent's own score – or its score with the model –, else the
// collection's prior. prior is that of the collection at the time of asking,
// without the agent. cohorts are the agent's task cohorts; those of other tasks
// and models are passed over.
func (p Params) Decide(a *Agent, cohorts []TaskCohort, prior float64, q Question) Decision {
	in, subject := p.estimate(a, prior, q)
	in.CohortScore, in.CohortCount = cohortScore(cohorts, q)
	d := Decision{Inputs: in}
	switch {
	case in.CohortScore != nil:
		p.decideByCohort(&d, q)
	case in.PersonalScore != nil:
		d.Path, d.Score = PathAggregate, in.AggregateEstimate
		d.Weights = blendWeights(in, 1)
		d.Reason = fmt.Sprintf("%s: %d samples worth %.2f after %.1f days, against a collection prior worth %d",
			subject, in.SampleCount, in.DecayedCount, in.AgeDays, in.PseudoCount)
	default:
		d.Path, d.Score = PathTierDefault, prior
		d.Weights = Weights{Prior: 1}
		d.Reason = "no observations of the agent: the collection's prior"
	}
	d.Entry = newScoringPath(d, q)
	return d
}

// estimate is the aggregate step of the cascade, and whose score it used.
func (p Params) estimate(a *Agent, prior float64, q Question) (in Inputs, subject string) {
	g := &a.Aggregate
	in = Inputs{
		Prior: prior, PersonalScore: g.PersonalScore, SampleCount: g.SampleCount,
		HalfLifeDays: p.HalfLifeDays, PseudoCount: p.PseudoCount,
	}
	last, subject := g.LastUpdated, "the agent's own score"
	for _, c := range g.ModelCohorts {
		if q.Model != "" && c.ModelID == q.Model && c.PersonalScore != nil {
			in.PersonalScore, in.SampleCount = c.PersonalScore, c.SampleCount
			last, subject = c.LastUpdated, "the agent's score with "+shorten(q.Model)
		}
	}
	if in.SampleCount > 0 {
		in.AgeDays = max(0, float64(q.At.Sub(last.Time()))/float64(day))
	}
	in.DecayedCount = DecayedSamples(float64(in.SampleCount), in.AgeDays, p.HalfLifeDays)
	in.AggregateEstimate = Blend(in.PersonalScore, prior, in.DecayedCount, p.PseudoCount)
	return in, subject
}

// cohortScore is the count-weighted mean of the cohorts that answer the question.
func cohortScore(cohorts []TaskCohort, q Question) (*float64, int64) {
	if !q.Task.Known() {
		return nil, 0
	}
	var matching []Weighted
	var count int64
	for _, c := range cohorts {
		if c.TaskType != q.Task || q.Model != "" && c.ModelID != q.Model || c.PersonalScore == nil {
			continue
		}
		matching = append(matching, Weighted{Score: c.PersonalScore, Weight: float64(c.SampleCount)})
		count += c.SampleCount
	}
	return CrossModel(matching), count
}

func (p Params) decideByCohort(d *Decision, q Question) {
	in := d.Inputs
	confidence := math.Min(1, float64(in.CohortCount)/float64(p.ConfidenceThreshold))
	d.Path = PathTaskCohort
	d.Score = float64(confidence**in.CohortScore) + float64((1-confidence)*in.AggregateEstimate)
	d.Weights = blendWeights(in, 1-confidence)
	d.Weights.Cohort = confidence
	d.Reason = fmt.Sprintf("%d samples at %s of the %d for full confidence, the rest from the aggregate",
		in.CohortCount, shorten(string(q.Task)), p.ConfidenceThreshold)
	if confidence == 1 {
		d.Reason = fmt.Sprintf("%d samples at %s, full confidence from %d",
			in.CohortCount, shorten(string(q.Task)), p.ConfidenceThreshold)
	}
}

// blendWeights splits a share of the score between the personal score and the
// prior.
func blendWeights(in Inputs, share float64) Weights {
	if in.PersonalScore == nil {
		return Weights{Prior: share}
	}
	personal := in.DecayedCount / (float64(in.PseudoCount) + in.DecayedCount)
	return Weights{Personal: share * personal, Prior: share * (1 - personal)}
}

// genesisHash is the SHA-256 of nothing: what the first entry of a chain of
// scoring paths follows (protocol §6.3).
const genesisHash = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// ScoringPath is the protocol's record of a decision (§6.2). Members are declared
// in the order of their JSON names.
type ScoringPath struct {
	EntryHash    string   `json:"entry_hash"`
	ModelID      string   `json:"model_id,omitempty"`
	Path         Path     `json:"path"`
	PreviousHash string   `json:"previous_hash"`
	Reason       string   `json:"reason,omitempty"`
	ScoredAt     string   `json:"scored_at,omitempty"`
	TaskType     TaskType `json:"task_type,omitempty"`
}

func newScoringPath(d Decision, q Question) ScoringPath {
	s := ScoringPath{
		ModelID: q.Model, Path: d.Path, PreviousHash: genesisHash,
		Reason: d.Reason, ScoredAt: q.At.UTC().Format("2006-01-02T15:04:05.000Z"), TaskType: q.Task,
	}
	if s.ModelID == "" && d.Path != PathTierDefault {
		s.ModelID = AnyModel
	}
	s.EntryHash = s.Hash()
	return s
}

// Hash is the entry hash of protocol §6.3: SHA-256 over the canonical JSON of
// path, model, task, reason and time. It does not cover the previous hash.
func (s ScoringPath) Hash() string {
	o := beginObject(nil)
	for _, member := range [...]struct{ name, value string }{
		{"model_id", s.ModelID}, {"path", string(s.Path)}, {"reason", s.Reason},
		{"scored_at", s.ScoredAt}, {"task_type", string(s.TaskType)},
	} {
		if member.value != "" {
			o.text(member.name, member.value)
		}
	}
	sum := sha256.Sum256(o.end())
	return "sha256:" + hex.EncodeToString(sum[:])
}
