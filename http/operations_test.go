package http_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"dixie/http"
	"dixie/projections"
	"dixie/reputation"
)

// reports has projections in each state.
type reports []http.ProjectionReport

func (r reports) Projections(context.Context) ([]http.ProjectionReport, error) { return r, nil }

func (r reports) Failures(context.Context, string, int64, int) ([]reputation.Failure, error) {
	return nil, nil
}

var everyReport = reports{
	{
		ProjectionOverview: reputation.ProjectionOverview{
			ProjectionStatus: reputation.ProjectionStatus{
				Projection: "aggregates", Version: "1-abc", Position: 7, Head: 10, Lag: 1500 * time.Millisecond, SetAside: 2, UpdatedAt: now,
			},
			State: reputation.ProjectionRunning, Wanted: "1-abc", Holder: "host-1, process 7", HeldSince: now.Add(-time.Hour),
			LastError: "connection reset", LastErrorAt: now.Add(-time.Minute),
		},
		Rate: new(123.5), Here: "standby",
	},
	{
		ProjectionOverview: reputation.ProjectionOverview{
			ProjectionStatus: reputation.ProjectionStatus{Projection: "cohorts", Version: "1-abc", Position: 7, Head: 10, Lag: time.Minute, UpdatedAt: now},
			State:            reputation.ProjectionRebuilding, Wanted: "1-def", Holder: "host-1, process 7", HeldSince: now.Add(-time.Hour),
			Remedy: "run `dixie rebuild cohorts`",
			Rebuild: &reputation.ProjectionRebuild{
				Version: "1-def", Holder: "host-2, process 8", StartedAt: now.Add(-time.Second), Position: 3, Head: 10,
			},
		},
		Here: "needs rebuild",
	},
	{ProjectionOverview: reputation.ProjectionOverview{
		ProjectionStatus: reputation.ProjectionStatus{Projection: "fresh"}, State: reputation.ProjectionStopped, Wanted: "1-abc",
	}},
}

// TestProjections holds every member of a projection's report, with and without a
// value.
func TestProjections(t *testing.T) {
	t.Parallel()
	s := serve(t, openMemory(t), func(c *http.Config) { c.Operations = everyReport })
	golden(t, "projections", s.transcript(t, call{path: "/api/projections", key: "admin"}))
}

// notAlike are the members that differ from one run or backend to the other.
var notAlike = regexp.MustCompile(`"(process|since|updated_at|failed_at)": "[^"]*"`)

// TestOperationsOfBackends: the figures of real projections, and what was set aside.
func TestOperationsOfBackends(t *testing.T) {
	t.Parallel()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			s := newService(t, b.open)
			s.tell(t)
			for n := range 3 {
				entry, err := reputation.RawEntry("bear-1", "mystery", fmt.Appendf(nil, `{"n":%d}`, n))
				if err == nil {
					_, err = s.log.Append(t.Context(), entry)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			s.settle(t)
			var text strings.Builder
			for _, path := range []string{
				"/api/projections", "/api/projections/aggregates/failures?limit=2", "/api/projections/aggregates/failures?after=12",
			} {
				text.WriteString(s.transcript(t, call{path: path, key: "admin"}) + "\n")
			}
			shown := notAlike.ReplaceAllString(text.String(), `"$1": "…"`)
			shown = strings.ReplaceAll(shown, reputation.DefaultParams().Version(), "VERSION")
			if *update && b.name != "memory" {
				t.Skip("the golden file is that of memory")
			}
			golden(t, "operations-backends", shown)
		})
	}
}

// TestNeedsRebuild: a server with other scoring parameters than the rows says so,
// with the command.
func TestNeedsRebuild(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, s *service) {
		s.tell(t)
		other := serve(t, s.backend, func(c *http.Config) { c.Operations = otherParams{s.backend} })
		body := other.do(t, call{path: "/api/projections", key: "admin"}).want(t, 200).body
		for _, name := range projections.Names {
			if !strings.Contains(body, "dixie rebuild "+name) {
				t.Errorf("no command for %s in %s", name, body)
			}
		}
	})
}

// otherParams are operations of a process with other parameters.
type otherParams struct{ *backend }

func (o otherParams) Projections(ctx context.Context) ([]http.ProjectionReport, error) {
	overviews, err := o.rows.Overview(ctx, reputation.DixieParams())
	reports := make([]http.ProjectionReport, len(overviews))
	for i := range overviews {
		reports[i].ProjectionOverview = overviews[i]
	}
	return reports, err
}

func (o otherParams) Failures(context.Context, string, int64, int) ([]reputation.Failure, error) {
	return nil, nil
}
