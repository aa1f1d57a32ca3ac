package http

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"dixie/reputation"
)

// Operations is what operators ask about projections.
type Operations interface {
	// Projections tells what becomes of each projection.
	Projections(ctx context.Context) ([]ProjectionReport, error)
	// Failures returns events that a projection set aside, after a position and in
	// order.
	Failures(ctx context.Context, projection string, after int64, limit int) ([]reputation.Failure, error)
}

// ProjectionReport is what becomes of a projection, as one process sees it.
type ProjectionReport struct {
	reputation.ProjectionOverview
	// Rate is how many events are projected per second, wherever; nil when it could
	// not be measured.
	Rate *float64
	// Here is what the projector of this process does: running, standby, retrying,
	// stopped or needs rebuild; empty without one.
	Here string
}

// projectionReportView is the JSON of a projection.
type projectionReportView struct {
	Projection string                     `json:"projection"`
	State      reputation.ProjectionState `json:"state"`
	Here       string                     `json:"this_process,omitempty"`
	Version    string                     `json:"version"`         // of the rows; empty before the first projector
	Wanted     string                     `json:"running_version"` // of this process
	Position   int64                      `json:"position"`
	Head       int64                      `json:"head"`
	LagEvents  int64                      `json:"lag_events"`
	LagSeconds float64                    `json:"lag_seconds"`
	Rate       *float64                   `json:"events_per_second"` // null when it could not be measured
	SetAside   int64                      `json:"set_aside"`
	Holder     *holderView                `json:"holder"`     // null before the first projector
	LastError  *lastErrorView             `json:"last_error"` // null when there was none
	Rebuild    *runningRebuildView        `json:"rebuild"`    // null when none is running
	Remedy     *string                    `json:"remedy"`     // null when nothing needs to be done
	UpdatedAt  *time.Time                 `json:"updated_at"` // when the position last moved; null before
}

// holderView is the projector, or the last one.
type holderView struct {
	Process string    `json:"process"`
	Since   time.Time `json:"since"`
}

type lastErrorView struct {
	At      time.Time `json:"at"`
	Message string    `json:"message"`
}

type runningRebuildView struct {
	Version   string    `json:"version"`
	Process   string    `json:"process"`
	StartedAt time.Time `json:"started_at"`
	Position  int64     `json:"position"`
	Head      int64     `json:"head"`
}

func newProjectionReportView(p ProjectionReport) projectionReportView {
	view := projectionReportView{
		Projection: p.Projection, State: p.State, Here: p.Here, Version: p.Version, Wanted: p.Wanted,
		Position: p.Position, Head: p.Head, LagEvents: p.Behind(), LagSeconds: p.Lag.Seconds(), Rate: p.Rate, SetAside: p.SetAside,
	}
	if p.Holder != "" {
		view.Holder = &holderView{p.Holder, p.HeldSince.UTC()}
	}
	if p.LastError != "" {
		view.LastError = &lastErrorView{p.LastErrorAt.UTC(), p.LastError}
	}
	if r := p.Rebuild; r != nil {
		view.Rebuild = &runningRebuildView{r.Version, r.Holder, r.StartedAt.UTC(), r.Position, r.Head}
	}
	if p.Remedy != "" {
		view.Remedy = &p.Remedy
	}
	if !p.UpdatedAt.IsZero() {
		updated := p.UpdatedAt.UTC()
		view.UpdatedAt = &updated
	}
	return view
}

type projectionList struct {
	Projections []projectionReportView `json:"projections"`
}

// NewProjectionList is the body of GET /api/projections, for whoever shows the same
// without a server.
func NewProjectionList(reports []ProjectionReport) any {
	list := projectionList{Projections: make([]projectionReportView, len(reports))}
	for i, p := range reports {
		list.Projections[i] = newProjectionReportView(p)
	}
	return list
}

// listProjections serves GET /api/projections.
func (s *Server) listProjections(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).err; err != nil {
		return err
	}
	reports, err := s.Operations.Projections(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, NewProjectionList(reports))
	return nil
}

// failureView is an event that was set aside.
type failureView struct {
	Position int64             `json:"position"`
	NFT      string            `json:"nft_id"`
	Reason   reputation.Reason `json:"reason"`
	Detail   string            `json:"detail"`
	FailedAt time.Time         `json:"failed_at"`
}

type failureList struct {
	Failures  []failureView `json:"failures"`
	NextAfter *int64        `json:"next_after"` // null on the last page
}

// settingAside are those that set events aside: the publisher those that it does not
// publish.
var settingAside = []string{reputation.ProjectionAggregates, reputation.ProjectionCohorts, reputation.ProjectionPublisher}

// listFailures serves GET /api/projections/{name}/failures.
func (s *Server) listFailures(w http.ResponseWriter, r *http.Request) error {
	name, err := url.PathUnescape(pathVariable(r, "name"))
	if err != nil || !slices.Contains(settingAside, name) {
		return errNoRoute
	}
	q := parseQuery(r, "after", "limit")
	after := q.integer("after", 0, reputation.MaxInteger, 0)
	limit := int(q.integer("limit", 1, maxListed, defaultListed))
	if q.err != nil {
		return q.err
	}
	// One more than asked for tells whether there is another page.
	failures, err := s.Operations.Failures(r.Context(), name, after, limit+1)
	if err != nil {
		return err
	}
	answer := failureList{Failures: make([]failureView, 0, len(failures))}
	for _, f := range failures[:min(limit, len(failures))] {
		answer.Failures = append(answer.Failures, failureView{f.Position, f.NFT, f.Reason, f.Detail, f.FailedAt.UTC()})
	}
	if len(failures) > limit {
		answer.NextAfter = &failures[limit-1].Position
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}
