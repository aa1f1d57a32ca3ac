package http_test

import (
	"context"
	"errors"
	"fmt"
	nethttp "net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"dixie/http"
	"dixie/internal/pgtest"
	"dixie/projections"
	"dixie/reputation"
)

// rebuilds are what a rebuilder tells.
type rebuilds struct {
	all     []reputation.Rebuild
	err     error // of telling
	refused error // of starting

	mu      sync.Mutex
	started []string
}

func (r *rebuilds) StartRebuild(_ context.Context, projections ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started = append(r.started, fmt.Sprint(projections))
	return r.refused
}

func (r *rebuilds) LastRebuilds(context.Context) ([]reputation.Rebuild, error) { return r.all, r.err }

func (r *rebuilds) use(c *http.Config) { c.Rebuilder = r }

const rebuildPath = "/api/admin/projections/%s/rebuild"

func postRebuild(name string) call {
	return call{method: nethttp.MethodPost, path: fmt.Sprintf(rebuildPath, name), key: "admin"}
}

func getRebuild(name string) call { return call{path: fmt.Sprintf(rebuildPath, name), key: "admin"} }

// running and done are rebuilds at a known time.
var (
	running = reputation.Rebuild{
		Projection: "aggregates", State: reputation.RebuildRunning, Stage: reputation.StageFolding, Version: "1-0123456789ab",
		Holder: "host-1, process 7", StartedAt: now, UpdatedAt: now.Add(10 * time.Second), Position: 250_000, Head: 1_000_000,
	}
	done = reputation.Rebuild{
		Projection: "cohorts", State: reputation.RebuildDone, Stage: reputation.StageSwapping, Version: "1-0123456789ab",
		Holder: "host-1, process 7", StartedAt: now, UpdatedAt: now.Add(20 * time.Second), Position: 1_000_000, Head: 1_000_000,
		NFTs: 10_000, SetAside: 3,
	}
)

func with(r reputation.Rebuild, change func(*reputation.Rebuild)) reputation.Rebuild {
	change(&r)
	return r
}

// TestRebuildAnswers holds the answer for every state.
func TestRebuildAnswers(t *testing.T) {
	t.Parallel()
	waiting := with(running, func(r *reputation.Rebuild) {
		r.Stage, r.Position, r.WaitsFor = reputation.StageSwapping, r.Head, "process 99 (psql) since 2026-02-25T11:00:00Z"
	})
	failed := with(running, func(r *reputation.Rebuild) {
		r.State, r.Failure = reputation.RebuildFailed, "its process was told to stop"
	})
	interrupted := with(running, func(r *reputation.Rebuild) { r.State = reputation.RebuildInterrupted })
	begun := with(running, func(r *reputation.Rebuild) { r.Position, r.Head, r.UpdatedAt = 0, 0, r.StartedAt })
	for name, c := range map[string]struct {
		all  []reputation.Rebuild
		call call
	}{
		"rebuild-started":     {[]reputation.Rebuild{begun}, postRebuild("aggregates")},
		"rebuild-running":     {[]reputation.Rebuild{running, done}, getRebuild("aggregates")},
		"rebuild-done":        {[]reputation.Rebuild{running, done}, getRebuild("cohorts")},
		"rebuild-all-running": {[]reputation.Rebuild{running, done}, getRebuild("all")},
		"rebuild-all-done": {
			[]reputation.Rebuild{with(done, func(r *reputation.Rebuild) { r.Projection, r.SetAside = "aggregates", 2 }), done}, getRebuild("all"),
		},
		"rebuild-waiting":     {[]reputation.Rebuild{waiting}, getRebuild("all")},
		"rebuild-failed":      {[]reputation.Rebuild{failed, done}, getRebuild("all")},
		"rebuild-interrupted": {[]reputation.Rebuild{interrupted}, getRebuild("aggregates")},
		"rebuild-never":       {[]reputation.Rebuild{done}, getRebuild("aggregates")},
		"rebuild-unknown":     {nil, getRebuild("sums")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, openMemory(t), (&rebuilds{all: c.all}).use)
			golden(t, name, s.transcript(t, c.call))
		})
	}
}

// TestRebuildConflict: a second rebuild is told who runs the first, since when.
func TestRebuildConflict(t *testing.T) {
	t.Parallel()
	r := &rebuilds{refused: fmt.Errorf("start: %w", &reputation.RebuildingError{Rebuild: running})}
	s := serve(t, openMemory(t), r.use)
	golden(t, "rebuild-conflict", s.transcript(t, postRebuild("all")))
	if !slices.Equal(r.started, []string{"[aggregates cohorts]"}) {
		t.Errorf("started %v", r.started)
	}
}

// TestRebuildInMemory: there are no rows that could be rebuilt.
func TestRebuildInMemory(t *testing.T) {
	t.Parallel()
	s := serve(t, openMemory(t))
	golden(t, "rebuild-memory", s.transcript(t, postRebuild("all")))
	s.do(t, getRebuild("all")).wantError(t, 404, "not_found")
}

// TestRebuildErrors: who may not, what is misspelt, and what fails behind it.
func TestRebuildErrors(t *testing.T) {
	t.Parallel()
	secretly := fmt.Errorf("%s: %w", internals, reputation.ErrUnavailable)
	s := serve(t, openMemory(t), (&rebuilds{err: secretly, refused: secretly}).use)
	for _, c := range []call{postRebuild("all"), getRebuild("all")} {
		for _, key := range []string{"read", "append"} {
			s.do(t, c.as(key)).wantError(t, 403, "insufficient_scope")
		}
		s.do(t, c.as(anyone)).wantError(t, 401, "unauthorized")
		got := s.do(t, c)
		got.wantError(t, 503, "unavailable")
		wantNoInternals(t, got)
		c.path += "?force=true"
		s.do(t, c).wantProblem(t, "force")
	}
	s.do(t, postRebuild("all%2Fx")).wantError(t, 404, "not_found")
	s.do(t, call{method: nethttp.MethodDelete, path: fmt.Sprintf(rebuildPath, "all"), key: "admin"}).wantError(t, 405, "method_not_allowed")

	// It has begun, although nobody can tell how it goes.
	s = serve(t, openMemory(t), (&rebuilds{err: secretly}).use)
	got := s.do(t, postRebuild("cohorts")).want(t, 202)
	var view struct{ Projection, State string }
	got.into(t, &view)
	if view.Projection != "cohorts" || view.State != "running" || got.header.Get("Location") != fmt.Sprintf(rebuildPath, "cohorts") {
		t.Errorf("%s, Location %q", got.body, got.header.Get("Location"))
	}
}

// TestRebuildThroughTheAPI: started, polled until it is done, while the server
// answers.
func TestRebuildThroughTheAPI(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	rows := projections.NewPostgres(pool)
	rebuilder := rows.NewRebuilder(projections.RebuildConfig{Params: reputation.DefaultParams(), Logger: logger(t), Holder: "the test"})
	t.Cleanup(rebuilder.Close)
	s := newService(t, func(t testing.TB) *backend { return openPool(t, pool) }, func(c *http.Config) { c.Rebuilder = rebuilder })
	s.do(t, bulk(history(t))).want(t, 200)
	s.settle(t)
	before := s.do(t, call{path: "/api/reputation/bear-1"}).want(t, 200).header.Get("ETag")

	s.do(t, getRebuild("all")).wantError(t, 404, "not_found")
	location := s.do(t, postRebuild("all")).want(t, 202).header.Get("Location")
	var view struct {
		State, Holder, Error string
		Position, Head       int64
		Result               map[string]struct{ Position, NFTs int64 }
	}
	for view.State = "running"; view.State == "running"; {
		s.do(t, call{path: location, key: "admin"}).want(t, 200).into(t, &view)
	}
	if view.State != "done" || view.Holder != "the test" || view.Position != view.Head || view.Result["aggregates"].NFTs == 0 || view.Result["cohorts"].Position != view.Head {
		t.Errorf("%+v", view)
	}
	if after := s.do(t, call{path: "/api/reputation/bear-1"}).want(t, 200).header.Get("ETag"); after != before {
		t.Errorf("the reputation was %s and is %s", before, after)
	}
}

// TestRebuildingError: the type that is matched says what there is to say.
func TestRebuildingError(t *testing.T) {
	t.Parallel()
	var target *reputation.RebuildingError
	err := error(&reputation.RebuildingError{Rebuild: reputation.Rebuild{Projection: "cohorts"}})
	if !errors.As(err, &target) || err.Error() != "projection cohorts is being rebuilt by another process" {
		t.Errorf("%v", err)
	}
}
