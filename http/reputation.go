package http

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
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
// when the reputation does, and not when merely the log or the time has moved on.
func (v *reputationView) encode() text {
	v.Position, v.SnapshotAt = 0, ""
	json := marshal(v)
	// A quote within a value is escaped, so that nothing else looks like the last of
	// these.
	from, to := bytes.LastIndex(json, []byte(`,"position":`)), bytes.LastIndex(json, []byte(`,"contract_version":`))
	hash := sha256.Sum256(json)
	return text{
		before: json[:from:from], after: json[to:],
		etag: `W/"` + base64.RawURLEncoding.EncodeToString(hash[:12]) + `"`,
	}
}

// readable is the NFT that the path names, once the projections are as far as the
// request asks for.
func (s *Server) readable(r *http.Request, q *query) (string, error) {
	nft, err := pathNFT(r)
	if err != nil {
		return "", err
	}
	return nft, s.waitFor(r, q, reputation.ProjectionAggregates, reputation.ProjectionCohorts)
}

// standing reads an NFT's reputation, as fresh as the request asks for.
func (s *Server) standing(w http.ResponseWriter, r *http.Request, q *query) (string, reputation.Standing, error) {
	nft, err := s.readable(r, q)
	if err != nil {
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
	nft, err := s.readable(r, q)
	if err != nil {
		return err
	}
	now := s.Now()
	t, position, err := s.reputations.current(r.Context(), q, nft, now, func() (text, int64, error) {
		return s.readReputation(w, r, q, nft, now)
	})
	if err != nil {
		return err
	}
	writeReputation(w, r, t, position, now)
	return nil
}

// readReputation reads a reputation, and keeps it.
func (s *Server) readReputation(w http.ResponseWriter, r *http.Request, q *query, nft string, now time.Time) (text, int64, error) {
	standing, err := s.present(w, r, q, nft)
	if err != nil {
		return text{}, 0, err
	}
	view := newReputationView(nft, standing, s.Params, now)
	t := view.encode()
	if g := &standing.Agent.Aggregate; slices.Equal(view.Reliability.Reasons, s.Params.Reliability(g, now.Add(answerAge)).Reasons) {
		s.reputations.keep(nft, standing.Mark, t, now)
	}
	return t, standing.Position, nil
}

// writeReputation answers with a reputation, or that the caller has it.
func writeReputation(w http.ResponseWriter, r *http.Request, t text, position int64, at time.Time) {
	setPosition(w, position)
	w.Header().Set("ETag", t.etag)
	w.Header().Set("Cache-Control", "private, no-cache")
	if matches(r.Header.Get("If-None-Match"), t.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	between := strconv.AppendInt([]byte(`,"position":`), position, 10)
	between = at.UTC().AppendFormat(append(between, `,"snapshot_at":"`...), timeLayout)
	writeText(w, http.StatusOK, t.before, append(between, '"'), t.after)
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
	now := s.Now()
	t, position, err := s.scores.current(r.Context(), q, nft, now, func() (text, int64, error) {
		return s.readScore(r.Context(), q, nft, now)
	})
	if err != nil {
		return err
	}
	setPosition(w, position)
	writeText(w, http.StatusOK, t.before)
	return nil
}

// readScore reads a score, and keeps it.
func (s *Server) readScore(ctx context.Context, q *query, nft string, now time.Time) (text, int64, error) {
	score, err := s.Reputations.Score(ctx, nft)
	if err == nil {
		err = q.contains(score.Position)
	}
	if err != nil {
		return text{}, 0, err
	}
	t := text{before: marshal(struct {
		Score *float64 `json:"score"`
	}{score.Value})}
	s.scores.keep(nft, score.Mark, t, now)
	return t, score.Position, nil
}

var queryParameters = append([]string{"routingKey"}, freshness...)

// parseRoutingKey reads nft:<id>.
func parseRoutingKey(key string) (nft string, ok bool) {
	nft, ok = strings.CutPrefix(key, "nft:")
	return nft, ok && reputation.ValidNFT(nft)
}
