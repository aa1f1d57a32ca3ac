package http_test

import (
	"context"

	"dixie/http"
	"dixie/projections"
	"dixie/reputation"
)

// The past of the history, whose events the log has stored after the time of asking
// in all tests: as if it were asked at that time.
var pastExchanges = []exchange{
	{"as-of", gets(
		"/api/reputation/bear-1?as_of=1",
		"/api/reputation/bear-1?as_of=4&wait=30s",
		"/api/reputation/bear-2?as_of=10",
		"/api/reputation/bear-1?as_of=9999-12-31T23:59:59Z",
	)},
	{"as-of-not-found", gets(
		"/api/reputation/bear-1?as_of=0",
		"/api/reputation/bear-2?as_of=1",
		"/api/reputation/bear-1?as_of=2000-01-01T00:00:00Z",
		"/api/reputation/nobody?as_of=10",
	)},
	{"as-of-not-modified", []call{
		{path: "/api/reputation/bear-1?as_of=4", header: map[string]string{"If-None-Match": "*"}},
	}},
	{"timeline", gets(
		"/api/reputation/bear-1/timeline",
		"/api/reputation/bear-1/timeline?from=3&to=5&wait=30s",
		"/api/reputation/bear-1/timeline?points=3",
		"/api/reputation/bear-1/timeline?to=2000-01-01T00:00:00Z",
		"/api/reputation/cub-1/timeline?from=2000-01-01T00:00:00Z&at_least=10",
		"/api/reputation/bear-1/timeline?from=0&to=0",
		"/api/reputation/bear-1/timeline?from=9999-01-01T00:00:00Z",
		"/api/reputation/bear-1/timeline?from=2000-01-01T00:00:00Z&to=2000-01-01T00:00:00Z",
	)},
	{"timeline-ndjson", []call{
		{path: "/api/reputation/bear-1/timeline", header: map[string]string{"Accept": "application/x-ndjson"}},
		{path: "/api/reputation/bear-1/timeline?points=2", header: map[string]string{"Accept": "application/x-ndjson"}},
		{path: "/api/reputation/bear-1/timeline?to=0", header: map[string]string{"Accept": "application/x-ndjson"}},
	}},
	{"snapshot", gets(
		"/api/reputation/bear-1/snapshot",
		"/api/reputation/bear-1/snapshot?as_of=3",
		"/api/reputation/cub-1/snapshot?at_least=10&wait=30s",
	)},
	{"error-400-past", gets(badPasts...)},
	{"error-404-past", gets("/api/reputation/nobody/timeline", "/api/reputation/nobody/snapshot", "/api/reputation/bear-2/snapshot?as_of=1")},
}

// badPasts has each value that a route of the past refuses.
var badPasts = []string{
	"/api/reputation/bear-1?as_of=",
	"/api/reputation/bear-1?as_of=yesterday",
	"/api/reputation/bear-1?as_of=-1",
	"/api/reputation/bear-1?as_of=11",
	"/api/reputation/bear-1?as_of=9007199254740992",
	"/api/reputation/bear-1?as_of=2026-02-30T00:00:00Z",
	"/api/reputation/bear-1?as_of=4&at_least=4",
	"/api/reputation/bear-1?as_of=4&wait=31s",
	"/api/reputation/a%2Fb?as_of=4",
	"/api/reputation/a%2Fb/timeline",
	"/api/reputation/bear-1/timeline?points=1",
	"/api/reputation/bear-1/timeline?points=2001",
	"/api/reputation/bear-1/timeline?from=-1",
	"/api/reputation/bear-1/timeline?from=11",
	"/api/reputation/bear-1/timeline?to=11",
	"/api/reputation/bear-1/timeline?from=3&to=1",
	"/api/reputation/bear-1/timeline?from=2026-02-25T12:00:00.1Z&to=2026-02-25T12:00:00Z",
	"/api/reputation/bear-1/timeline?from=1&to=2000-01-01T00:00:00Z",
	"/api/reputation/bear-1/timeline?from=9999-01-01T00:00:00Z&to=10",
	"/api/reputation/bear-1/timeline?to=",
	"/api/reputation/bear-1/timeline?wait=1s",
	"/api/reputation/bear-1/timeline?as_of=1",
	"/api/reputation/a%2Fb/snapshot",
	"/api/reputation/bear-1/snapshot?as_of=11",
	"/api/reputation/bear-1/snapshot?wait=1s",
	"/api/reputation/bear-1/snapshot?points=2",
}

var resetExchanges = []exchange{
	{"reset", []call{
		resetOf("bear-3", `{"reason":"stolen","event_id":"`+eventID(100)+`"}`),
		resetOf("bear-3", `{"reason":"stolen","event_id":"`+eventID(100)+`"}`),
		resetOf("bear-3", `{"reason":"stolen","actor":"a judge"}`).with("Idempotency-Key", "once"),
		resetOf("bear-3", `{"reason":"stolen","actor":"a judge"}`).with("Idempotency-Key", "once"),
		{path: "/api/reputation/bear-3?at_least=16&wait=30s"},
	}},
	{"reset-conflict", []call{
		resetOf("bear-3", `{"reason":"found again","event_id":"`+eventID(100)+`"}`),
		resetOf("bear-1", `{"reason":"stolen","event_id":"`+eventID(100)+`"}`),
		resetOf("bear-3", `{"reason":"another","actor":"a judge"}`).with("Idempotency-Key", "once"),
		resetOf("bear-3", `{"reason":"stolen","event_id":"`+eventID(1)+`"}`),
	}},
	{"reset-refused", []call{
		resetOf("nobody", `{"reason":"stolen"}`),
		resetOf("a%2Fb", `{"reason":"stolen"}`),
		resetOf("bear-3", `{"reason":"stolen"}`).as("append"),
		resetOf("bear-3", `{"reason":"stolen"}`).as(anyone),
		resetOf("bear-3", `{"reason":"stolen"}`).with("Content-Type", "text/plain"),
		resetOf("bear-3", `{}`),
		resetOf("bear-3", `{"reason":"","actor":""}`),
		resetOf("bear-3", `{"reason":7}`),
		resetOf("bear-3", `{"reason":"stolen","mood":"bad"}`),
		resetOf("bear-3", `{"reason":"stolen","event_id":"seven"}`),
		resetOf("bear-3", `{"reason":"stolen","event_id":""}`),
		resetOf("bear-3", `{"reason":"stolen","event_id":"`+eventID(100)+`"}`).with("Idempotency-Key", "once"),
		resetOf("bear-3", `{"reason":"stolen"`),
		resetOf("bear-3", `[]`),
		resetOf("bear-3", ``),
		{path: "/api/admin/reputation/bear-3/reset", key: "admin"},
	}},
}

var operationsExchanges = []exchange{
	{"failures", []call{
		{path: "/api/projections/aggregates/failures", key: "admin"},
		{path: "/api/projections/cohorts/failures?after=1&limit=5", key: "admin"},
		{path: "/api/projections/cohorts/failures?limit=0", key: "admin"},
		{path: "/api/projections/cohorts/failures?cursor=1", key: "admin"},
		{path: "/api/projections/publisher/failures", key: "admin"},
		{path: "/api/projections/nothing/failures", key: "admin"},
		{path: "/api/projections/a%2Fb/failures", key: "admin"},
		{path: "/api/projections/cohorts/failures", key: "read"},
		{path: "/api/projections", key: "read"},
		{path: "/api/projections?verbose=true", key: "admin"},
	}},
}

// operations asks a real backend, as those of cmd/dixie do.
type operations struct{ *backend }

func (o operations) Projections(ctx context.Context) ([]http.ProjectionReport, error) {
	overviews, err := o.rows.Overview(ctx, reputation.DefaultParams())
	reports := make([]http.ProjectionReport, len(overviews))
	for i := range overviews {
		reports[i] = http.ProjectionReport{ProjectionOverview: overviews[i], Here: string(projections.Running)}
	}
	return reports, err
}

func (o operations) Failures(ctx context.Context, projection string, after int64, limit int) ([]reputation.Failure, error) {
	return o.rows.Failures(ctx, projection, after, limit)
}
