package http

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"dixie/reputation"
)

// probeTimeout bounds what a health or readiness check may take.
const probeTimeout = 2 * time.Second

// Health is what is known of the parts of the service.
type Health struct {
	StoreType      string // memory or postgres
	AggregateCount *int64 // nil when it cannot be read
	Database       *DatabaseHealth
	NATS           NATSHealth
	Projections    []ProjectionHealth
	Finn           *FinnHealth // nil where there is none
}

// FinnHealth is the state of finn, as its last probe saw it, and of the way to
// it.
type FinnHealth struct {
	Reachable bool // it answers
	Healthy   bool // it answers that it is well
	Latency   time.Duration
	Circuit   string // closed, open or half_open
}

// NATSHealth is the state of publishing to NATS.
type NATSHealth struct {
	Status string // connected, unreachable or misconfigured; empty is dormant
	Detail string // what is wrong with the stream; empty when nothing is
}

// DatabaseHealth is the state of PostgreSQL and of the pool of connections to it.
type DatabaseHealth struct {
	Reachable            bool
	Latency              time.Duration
	Total, Idle, Waiting int64 // connections, idle ones, and requests waiting for one
}

// ProjectionHealth is the state of a projection and of this process' projector.
type ProjectionHealth struct {
	reputation.ProjectionStatus
	State string // of this process' projector; dormant when it is switched off
}

type healthView struct {
	Status            string                    `json:"status"` // healthy, degraded or unhealthy
	Version           string                    `json:"version"`
	UptimeSeconds     int64                     `json:"uptime_seconds"`
	Services          map[string]serviceView    `json:"services"`
	Infrastructure    map[string]serviceView    `json:"infrastructure"`
	ReputationService reputationServiceView     `json:"reputation_service"`
	Projections       map[string]projectionView `json:"projections"`
	Timestamp         string                    `json:"timestamp"`
}

type serviceView struct {
	Status       string   `json:"status"` // healthy, degraded or unreachable, and those of [NATSHealth]
	LatencyMS    *float64 `json:"latency_ms,omitempty"`
	CircuitState string   `json:"circuit_state,omitempty"` // of finn alone
	Detail       string   `json:"detail,omitempty"`
}

type reputationServiceView struct {
	Initialized    bool   `json:"initialized"`
	AggregateCount *int64 `json:"aggregate_count"`
	StoreType      string `json:"store_type"`
	PoolTotal      *int64 `json:"pool_total,omitempty"`
	PoolIdle       *int64 `json:"pool_idle,omitempty"`
	PoolWaiting    *int64 `json:"pool_waiting,omitempty"`
}

type projectionView struct {
	State      string  `json:"state"`
	Version    string  `json:"version"`
	Position   int64   `json:"position"`
	Head       int64   `json:"head"`
	LagEvents  int64   `json:"lag_events"`
	LagSeconds float64 `json:"lag_seconds"`
	SetAside   int64   `json:"set_aside"`
}

func newHealthView(h Health) healthView {
	view := healthView{
		Status:         "healthy",
		Services:       map[string]serviceView{"dixie": {Status: "healthy"}},
		Infrastructure: map[string]serviceView{},
		Projections:    map[string]projectionView{},
		ReputationService: reputationServiceView{
			Initialized: h.AggregateCount != nil, AggregateCount: h.AggregateCount, StoreType: h.StoreType,
		},
	}
	for _, p := range h.Projections {
		view.Projections[p.Projection] = projectionView{
			State: p.State, Version: p.Version, Position: p.Position, Head: p.Head,
			LagEvents: p.Behind(), LagSeconds: p.Lag.Seconds(), SetAside: p.SetAside,
		}
		if p.State != "running" && p.State != "standby" && p.State != "dormant" {
			view.Status = "degraded"
		}
	}
	if h.AggregateCount == nil {
		view.Status = "unhealthy"
	}
	view.addFinn(h.Finn)
	view.addDatabase(h.Database)
	view.Infrastructure["nats"] = serviceView{Status: cmp.Or(h.NATS.Status, "dormant"), Detail: h.NATS.Detail}
	return view
}

// addFinn adds finn. Without it this service is degraded, and still serves
// reputations.
func (v *healthView) addFinn(f *FinnHealth) {
	if f == nil {
		return
	}
	service := serviceView{Status: "unreachable", CircuitState: f.Circuit}
	if f.Reachable {
		ms := float64(f.Latency.Microseconds()) / 1000
		service.Status, service.LatencyMS = "degraded", &ms
	}
	if f.Healthy {
		service.Status = "healthy"
	}
	if v.Status == "healthy" && (service.Status != "healthy" || f.Circuit != "closed") {
		v.Status = "degraded"
	}
	v.Services["loa_finn"] = service
}

func (v *healthView) addDatabase(d *DatabaseHealth) {
	if d == nil {
		return
	}
	service := serviceView{Status: "unreachable"}
	if d.Reachable {
		ms := float64(d.Latency.Microseconds()) / 1000
		service = serviceView{Status: "healthy", LatencyMS: &ms}
	} else {
		v.Status = "unhealthy"
	}
	v.Infrastructure["postgresql"] = service
	r := &v.ReputationService
	r.PoolTotal, r.PoolIdle, r.PoolWaiting = &d.Total, &d.Idle, &d.Waiting
}

// getHealth serves GET /api/health. It always answers 200 and says in its status
// how the service is; what may fail is /readyz.
func (s *Server) getHealth(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).err; err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), probeTimeout)
	defer cancel()
	view := newHealthView(s.Monitor.Health(ctx))
	view.Version = s.Version
	view.UptimeSeconds = int64(s.Now().Sub(s.started).Seconds())
	view.Timestamp = s.Now().UTC().Format(timeLayout)
	writeJSON(w, http.StatusOK, view)
	return nil
}

type statusView struct {
	Status string `json:"status"`
}

// getLive serves GET /livez: the process answers. It asks no dependency, because
// a restart would not mend one.
func (s *Server) getLive(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, statusView{"alive"})
	return nil
}

// ErrBehind says that a projection is further behind the log than the operator
// allows.
var ErrBehind = errors.New("a projection is too far behind")

// getReady serves GET /readyz: 503 when requests should go elsewhere. With
// exclude=lag it is so only while nothing can be served: the replicas of a
// database share its projections, so a balancer gains nothing from taking all of
// them out, and whoever replaces those that it takes out would make a projector
// begin to catch up anew.
func (s *Server) getReady(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r, "exclude")
	excluded := q.has("exclude")
	if excluded && q.values.Get("exclude") != "lag" {
		q.fail("exclude", "must be lag")
	}
	if q.err != nil {
		return q.err
	}
	ctx, cancel := context.WithTimeout(r.Context(), probeTimeout)
	defer cancel()
	err := s.Monitor.Ready(ctx)
	if excluded && errors.Is(err, ErrBehind) {
		s.Logger.WarnContext(r.Context(), "projections are behind", "error", err)
		err = nil
	}
	if err != nil {
		s.Logger.WarnContext(r.Context(), "not ready", "error", err)
		writeJSON(w, http.StatusServiceUnavailable, statusView{"not ready"})
		return nil
	}
	writeJSON(w, http.StatusOK, statusView{"ready"})
	return nil
}

type rootView struct {
	Service string `json:"service"`
	Status  string `json:"status"`
	Version string `json:"version"`
}

// getRoot serves GET /.
func (s *Server) getRoot(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, rootView{"dixie", "running", s.Version})
	return nil
}
