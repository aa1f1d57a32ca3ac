package http

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"dixie/reputation"
)

const timeLayout = "2006-01-02T15:04:05.000Z"

// reputationView is the JSON of an agent's reputation.
type reputationView struct {
	NFT              string                           `json:"nft_id"`
	CollectionID     string                           `json:"collection_id"`
	PoolID           string                           `json:"pool_id"`
	State            reputation.State                 `json:"state"`
	PersonalScore    *float64                         `json:"personal_score"`
	CollectionScore  float64                          `json:"collection_score"`
	BlendedScore     float64                          `json:"blended_score"`
	SampleCount      int64                            `json:"sample_count"`
	PseudoCount      int64                            `json:"pseudo_count"`
	MinSampleCount   int64                            `json:"min_sample_count"`
	ContributorCount int64                            `json:"contributor_count"`
	Reliability      reputation.Reliability           `json:"reliability"`
	DimensionScores  map[string]float64               `json:"dimension_scores"`
	ModelCohorts     []reputation.ModelCohort         `json:"model_cohorts"`
	TaskCohorts      []reputation.TaskCohort          `json:"task_cohorts"`
	Dimensions       []reputation.TaskCohort          `json:"dimensions"` // task_cohorts, as older clients call them
	Tasks            map[reputation.TaskType]taskView `json:"tasks"`
	Credentials      map[string]reputation.Credential `json:"credentials"`
	Transitions      []reputation.Transition          `json:"transition_history"`
	CreatedAt        reputation.Timestamp             `json:"created_at"`
	LastUpdated      reputation.Timestamp             `json:"last_updated"`
	LastEventAt      reputation.Timestamp             `json:"last_event_at"`
	Position         int64                            `json:"position"`
	SnapshotAt       string                           `json:"snapshot_at"`
	ContractVersion  string                           `json:"contract_version"`
}

type taskView struct {
	Completed      int64    `json:"completed"`
	Succeeded      int64    `json:"succeeded"`
	SuccessRate    float64  `json:"success_rate"`
	MeanDurationMS *float64 `json:"mean_duration_ms"` // null when no completion named one
}

func newReputationView(nft string, standing reputation.Standing, params reputation.Params, now time.Time) reputationView {
	agent := standing.Agent
	g := &agent.Aggregate
	recent := reputation.Recent(standing.Cohorts)
	view := reputationView{
		NFT: nft, CollectionID: g.CollectionID, PoolID: g.PoolID, State: g.State,
		PersonalScore: g.PersonalScore, CollectionScore: g.CollectionScore, BlendedScore: g.BlendedScore,
		SampleCount: g.SampleCount, PseudoCount: g.PseudoCount, MinSampleCount: g.MinSampleCount,
		ContributorCount: g.ContributorCount, Reliability: params.Reliability(g, now),
		DimensionScores: agent.DimensionScores(), ModelCohorts: g.ModelCohorts,
		TaskCohorts: recent, Dimensions: recent,
		Tasks: map[reputation.TaskType]taskView{}, Credentials: agent.Credentials,
		Transitions: g.Transitions, CreatedAt: g.CreatedAt, LastUpdated: g.LastUpdated, LastEventAt: agent.LastEventAt,
		Position: standing.Position, SnapshotAt: now.UTC().Format(timeLayout), ContractVersion: g.ContractVersion,
	}
	for task, stats := range agent.Tasks {
		view.Tasks[task] = newTaskView(stats)
	}
	return view
}

func newTaskView(s reputation.TaskStats) taskView {
	view := taskView{Completed: s.Completed, Succeeded: s.Succeeded, SuccessRate: float64(s.Succeeded) / float64(s.Completed)}
	if s.Timed > 0 {
		mean := float64(s.TotalDurationMS) / float64(s.Timed)
		view.MeanDurationMS = &mean
	}
	return view
}

// encode is the JSON of a view and its weak validator (RFC 9110 §8.8.1), which changes
// when the reputation does, and not when merely the log or the time has moved on. Both
// are of one text, as encoding is the largest part of an answer.
func (v reputationView) encode() (text []byte, etag string) {
	text = marshal(v)
	// Between these are position and snapshot_at. A quote within a value is escaped, so
	// that nothing else looks like the last of them.
	from, to := bytes.LastIndex(text, []byte(`,"position":`)), bytes.LastIndex(text, []byte(`,"contract_version":`))
	hash := sha256.New()
	hash.Write(text[:from])
	hash.Write([]byte(`,"position":0,"snapshot_at":""`)) // as if it had neither
	hash.Write(text[to:])
	return text, `W/"` + base64.RawURLEncoding.EncodeToString(hash.Sum(nil)[:12]) + `"`
}

// standing reads an NFT's reputation, as fresh as the request asks for.
func (s *Server) standing(w http.ResponseWriter, r *http.Request, q *query) (string, reputation.Standing, error) {
	nft, err := pathNFT(r)
	if err != nil {
		return "", reputation.Standing{}, err
	}
	if err := s.waitFor(r, q, reputation.ProjectionAggregates, reputation.ProjectionCohorts); err != nil {
		return "", reputation.Standing{}, err
	}
	standing, err := s.present(w, r, q, nft)
	return nft, standing, err
}

// present is an NFT's reputation as the projections have it.
func (s *Server) present(w http.ResponseWriter, r *http.Request, q *query, nft string) (reputation.Standing, error) {
	standing, err := s.Reputations.Reputation(r.Context(), nft)
	if err == nil {
		err = q.contains(standing.Position)
	}
	if err != nil {
		return standing, err
	}
	setPosition(w, standing.Position)
	if standing.Agent == nil {
		return standing, reputation.ErrNotFound
	}
	return standing, nil
}

// getReputation serves GET /api/reputation/{nftId}, as it is or as of a point of the
// past.
func (s *Server) getReputation(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r, append([]string{"as_of"}, freshness...)...)
	if q.has("as_of") {
		return s.getReputationAt(w, r, q)
	}
	nft, standing, err := s.standing(w, r, q)
	if err != nil {
		return err
	}
	s.writeReputation(w, r, newReputationView(nft, standing, s.Params, s.Now()))
	return nil
}

// writeReputation answers with a reputation, or that the caller has it.
func (s *Server) writeReputation(w http.ResponseWriter, r *http.Request, view reputationView) {
	text, etag := view.encode()
	w.Header().Set("ETag", etag)
	w.Header().Set("Cache-Control", "private, no-cache")
	if matches(r.Header.Get("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	writeText(w, http.StatusOK, text)
}

// matches compares weakly (RFC 9110 §13.1.2).
func matches(header, etag string) bool {
	for candidate := range strings.SplitSeq(header, ",") {
		candidate = strings.TrimSpace(candidate)
		if candidate == "*" || strings.TrimPrefix(candidate, "W/") == strings.TrimPrefix(etag, "W/") {
			return header != ""
		}
	}
	return false
}

type cohortsView struct {
	Cohorts         []reputation.TaskCohort `json:"cohorts"`
	CrossModelScore *float64                `json:"cross_model_score"`
	TaskAwareScore  **float64               `json:"task_aware_score,omitzero"` // only when a task was asked for; may be null
	Position        int64                   `json:"position"`
}

// getCohorts serves GET /api/reputation/{nftId}/cohorts.
func (s *Server) getCohorts(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r, append([]string{"task"}, freshness...)...)
	task := q.task()
	_, standing, err := s.standing(w, r, q)
	if err != nil {
		return err
	}
	view := cohortsView{
		Cohorts:         standing.Cohorts,
		CrossModelScore: reputation.TaskAware(standing.Cohorts, ""),
		Position:        standing.Position,
	}
	if task != "" {
		score := reputation.TaskAware(standing.Cohorts, task)
		view.TaskAwareScore = &score
	}
	writeJSON(w, http.StatusOK, view)
	return nil
}

// task is the parameter task, and empty when absent.
func (q *query) task() reputation.TaskType {
	task := reputation.TaskType(q.values.Get("task"))
	if q.has("task") && !task.Valid() {
		q.fail("task", fmt.Sprintf("must be a task type of the protocol or namespace:type, found %q", clip(string(task))))
	}
	return task
}

type scoreView struct {
	NFT   string              `json:"nft_id"`
	Model string              `json:"model,omitempty"`
	Task  reputation.TaskType `json:"task,omitempty"`
	reputation.Decision
	Position int64 `json:"position"`
}

// getScore serves GET /api/reputation/{nftId}/score: the scoring cascade.
func (s *Server) getScore(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r, append([]string{"model", "task"}, freshness...)...)
	question := reputation.Question{Model: q.values.Get("model"), Task: q.task(), At: s.Now()}
	if n := utf8.RuneCountInString(question.Model); q.has("model") && (n < 1 || n > 255) {
		q.fail("model", fmt.Sprintf("must have 1 to 255 characters, found %d", n))
	}
	if !utf8.ValidString(question.Model) || strings.Contains(question.Model, "\x00") {
		q.fail("model", "must be UTF-8 without U+0000")
	}
	nft, standing, err := s.standing(w, r, q)
	if err != nil {
		return err
	}
	prior := standing.Collection.Prior(standing.Agent.Aggregate.PersonalScore, s.Params)
	writeJSON(w, http.StatusOK, scoreView{
		NFT: nft, Model: question.Model, Task: question.Task,
		Decision: s.Params.Decide(standing.Agent, standing.Cohorts, prior, question),
		Position: standing.Position,
	})
	return nil
}

// queryScore serves GET /api/reputation/query?routingKey=nft:<id>: one number,
// null when nothing is known of the NFT.
func (s *Server) queryScore(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r, queryParameters...)
	nft, ok := parseRoutingKey(q.values.Get("routingKey"))
	if !ok {
		q.fail("routingKey", "must be nft:<id>, where the id "+nftRule)
	}
	if err := s.waitFor(r, q, reputation.ProjectionAggregates); err != nil {
		return err
	}
	score, position, err := s.Reputations.Score(r.Context(), nft)
	if err == nil {
		err = q.contains(position)
	}
	if err != nil {
		return err
	}
	setPosition(w, position)
	writeText(w, http.StatusOK, scoreJSON(score))
	return nil
}

var queryParameters = append([]string{"routingKey"}, freshness...)

// scoreJSON is the JSON of one score, or none. It is asked for more often than anything
// else, and so short that encoding it in general took longer than the rest of the answer.
func scoreJSON(score *float64) []byte {
	if score == nil {
		return []byte(`{"score":null}`)
	}
	return append(reputation.AppendNumber([]byte(`{"score":`), *score), '}')
}

// parseRoutingKey reads nft:<id>.
func parseRoutingKey(key string) (nft string, ok bool) {
	nft, ok = strings.CutPrefix(key, "nft:")
	return nft, ok && reputation.ValidNFT(nft)
}
