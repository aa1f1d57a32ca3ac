package http

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"

	"dixie/reputation"
)

// Rebuilder folds projections anew while they are served.
type Rebuilder interface {
	// StartRebuild begins to rebuild projections and returns when nobody else can. The
	// rebuild goes on when ctx has ended. It fails with a [*reputation.RebuildingError]
	// while one of them is being rebuilt.
	StartRebuild(ctx context.Context, projections ...string) error
	// LastRebuilds returns for each projection the rebuild that is running, in any
	// process, or else the last one. Those that have had none are missing.
	LastRebuilds(ctx context.Context) ([]reputation.Rebuild, error)
}

// rebuildable are the projections that a path names.
var rebuildable = map[string][]string{
	reputation.ProjectionAggregates: {reputation.ProjectionAggregates},
	reputation.ProjectionCohorts:    {reputation.ProjectionCohorts},
	"all":                           {reputation.ProjectionAggregates, reputation.ProjectionCohorts},
}

// rebuildView is a rebuild. For all projections it is the one that is furthest from
// its end.
type rebuildView struct {
	Projection       string                   `json:"projection"` // as it was asked for
	State            reputation.RebuildState  `json:"state"`
	Stage            reputation.RebuildStage  `json:"stage,omitempty"`
	Version          string                   `json:"version,omitempty"`
	Position         int64                    `json:"position"`
	Head             int64                    `json:"head"`
	EventsPerSecond  int64                    `json:"events_per_second"`
	RemainingSeconds *float64                 `json:"remaining_seconds"` // null when it is not known
	StartedAt        string                   `json:"started_at,omitempty"`
	FinishedAt       *string                  `json:"finished_at"` // null while it runs, and when it was interrupted
	Holder           string                   `json:"holder,omitempty"`
	WaitsFor         string                   `json:"waits_for,omitempty"`
	Error            string                   `json:"error,omitempty"`
	Result           map[string]rebuildResult `json:"result"` // by projection, of those that are done
}

type rebuildResult struct {
	Position int64 `json:"position"`
	NFTs     int64 `json:"nfts"`
	SetAside int64 `json:"set_aside"`
}

// startRebuild serves POST /api/admin/projections/{name}/rebuild.
func (s *Server) startRebuild(w http.ResponseWriter, r *http.Request) error {
	name, names, err := s.pathProjections(r)
	if err != nil {
		return err
	}
	if s.Rebuilder == nil {
		return &requestError{
			status: http.StatusConflict, code: "nothing_to_rebuild",
			message: "this service keeps everything in memory: its rows are folded from the log while it runs, and there are no others",
		}
	}
	if err := s.Rebuilder.StartRebuild(r.Context(), names...); err != nil {
		return err
	}
	// It has begun, whether or not it can be read how it goes.
	view := rebuildView{Projection: name, State: reputation.RebuildRunning, Result: map[string]rebuildResult{}}
	if all, err := s.Rebuilder.LastRebuilds(r.Context()); err == nil {
		if found, ok := newRebuildView(name, names, all); ok {
			view = found
		}
	}
	w.Header().Set("Location", "/api/admin/projections/"+name+"/rebuild")
	writeJSON(w, http.StatusAccepted, view)
	return nil
}

// getRebuild serves GET /api/admin/projections/{name}/rebuild.
func (s *Server) getRebuild(w http.ResponseWriter, r *http.Request) error {
	name, names, err := s.pathProjections(r)
	if err != nil {
		return err
	}
	var all []reputation.Rebuild
	if s.Rebuilder != nil {
		if all, err = s.Rebuilder.LastRebuilds(r.Context()); err != nil {
			return err
		}
	}
	view, ok := newRebuildView(name, names, all)
	if !ok {
		return &requestError{status: http.StatusNotFound, code: "not_found", message: "there has been no rebuild of " + name}
	}
	writeJSON(w, http.StatusOK, view)
	return nil
}

// pathProjections are the projections that the path names.
func (s *Server) pathProjections(r *http.Request) (name string, names []string, err error) {
	if err := parseQuery(r).err; err != nil {
		return "", nil, err
	}
	name = pathVariable(r, "name")
	names, ok := rebuildable[name]
	if !ok {
		return "", nil, &requestError{
			status: http.StatusNotFound, code: "not_found",
			message: fmt.Sprintf("there is no projection %q; there are aggregates, cohorts, and all for both", clip(name)),
		}
	}
	return name, names, nil
}

// rebuildOrder has first what tells most of several rebuilds.
var rebuildOrder = []reputation.RebuildState{
	reputation.RebuildRunning, reputation.RebuildFailed, reputation.RebuildInterrupted, reputation.RebuildDone,
}

// newRebuildView is false when none of the projections has been rebuilt.
func newRebuildView(name string, names []string, all []reputation.Rebuild) (rebuildView, bool) {
	all = slices.DeleteFunc(slices.Clone(all), func(r reputation.Rebuild) bool { return !slices.Contains(names, r.Projection) })
	if len(all) == 0 {
		return rebuildView{}, false
	}
	one := slices.MinFunc(all, func(a, b reputation.Rebuild) int {
		return cmp.Or(cmp.Compare(slices.Index(rebuildOrder, a.State), slices.Index(rebuildOrder, b.State)), cmp.Compare(a.Position, b.Position))
	})
	view := rebuildView{
		Projection: name, State: one.State, Version: one.Version, Position: one.Position, Head: one.Head,
		EventsPerSecond: int64(math.Round(one.Rate())), StartedAt: one.StartedAt.UTC().Format(timeLayout),
		Holder: one.Holder, WaitsFor: one.WaitsFor, Error: one.Failure, Result: map[string]rebuildResult{},
	}
	switch one.State {
	case reputation.RebuildRunning, reputation.RebuildInterrupted:
		view.Stage = one.Stage
	default:
		at := one.UpdatedAt.UTC().Format(timeLayout)
		view.FinishedAt = &at
	}
	if left, known := one.Remaining(); known {
		seconds := math.Round(left.Seconds()*10) / 10
		view.RemainingSeconds = &seconds
	}
	for _, r := range all {
		if r.State == reputation.RebuildDone {
			view.Result[r.Projection] = rebuildResult{Position: r.Position, NFTs: r.NFTs, SetAside: r.SetAside}
		}
	}
	return view, true
}
