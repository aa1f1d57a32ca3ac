package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	nethttp "net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"

	"dixie/http"
	"dixie/internal/telemetry"
	"dixie/projections"
)

const (
	// leastFlush is what traces get to be sent when requests have used up the time
	// for stopping.
	leastFlush = time.Second

	// profileTimeout bounds a profile; CPU profiles and execution traces take as long
	// as their caller says.
	profileTimeout = 5 * time.Minute
	// scrapeTimeout bounds a scrape, which takes two seconds at most and is small.
	scrapeTimeout = 30 * time.Second
)

// observation is what operators see of a server.
type observation struct {
	*telemetry.Metrics
	traces *telemetry.Traces
	logger *slog.Logger
	aside  []*asideServer // beside the API: metrics and profiles
}

// observe starts to trace, and listens where it was asked to.
func (o observeSettings) observe(ctx context.Context, build telemetry.Build, logger *slog.Logger) (*observation, error) {
	traces, err := telemetry.StartTraces(ctx, telemetry.TraceConfig{Endpoint: o.OTLP, Version: build.Version, Logger: logger})
	if err != nil {
		return nil, err
	}
	seen := &observation{Metrics: telemetry.NewMetrics(build), traces: traces, logger: logger}
	if o.MetricsAddr != "" {
		err = seen.serveAside(ctx, "metrics", o.MetricsAddr, metricsMux(seen.Handler(logger)), scrapeTimeout)
	}
	if o.PprofAddr != "" && err == nil {
		err = seen.serveAside(ctx, "profiles", o.PprofAddr, pprofMux(), profileTimeout)
	}
	if err != nil {
		seen.stop(0)
		return nil, err
	}
	return seen, nil
}

// stop sends the traces that are left within a time, and stops listening.
func (o *observation) stop(left time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), max(left, leastFlush))
	defer cancel()
	if err := o.traces.Shutdown(ctx); err != nil {
		o.logger.WarnContext(ctx, "the last traces were not sent", "error", err)
	}
	for _, server := range o.aside {
		server.close()
	}
}

// timeLeft tells how much is left of the time for stopping, which begins when ctx
// ends.
func timeLeft(ctx context.Context, grace time.Duration) func() time.Duration {
	var until atomic.Pointer[time.Time]
	context.AfterFunc(ctx, func() {
		deadline := time.Now().Add(grace)
		until.Store(&deadline)
	})
	return func() time.Duration {
		if deadline := until.Load(); deadline != nil {
			return time.Until(*deadline)
		}
		return grace
	}
}

// tracer is the tracer of connections: that of queries, and one more.
func (o *observation) tracer(other pgx.QueryTracer) pgx.QueryTracer { return o.traces.Database(other) }

// pages is the middleware of projectors.
func (o *observation) pages() []message.HandlerMiddleware {
	return []message.HandlerMiddleware{o.traces.Pages, o.Pages}
}

// requests is the middleware of the HTTP server.
func (o *observation) requests() func(nethttp.Handler) nethttp.Handler {
	return o.traces.Requests(telemetry.Routes{Of: http.Route, Skip: isProbe, Long: isLong})
}

// isProbe reports whether a request is one of those that come every few seconds.
func isProbe(r *nethttp.Request) bool {
	switch r.URL.Path {
	case "/livez", "/readyz", "/metrics", "/api/health":
		return true
	}
	return false
}

// isLong reports whether a request may move the whole log: bulk imports, exports
// and streams.
func isLong(r *nethttp.Request) bool { return r.URL.Path == "/api/reputation/events" }

// metricsHandler serves metrics on the port of the API, and is nil when they have
// an address of their own.
func (o *observation) metricsHandler(settings observeSettings) nethttp.Handler {
	if settings.MetricsAddr != "" {
		return nil
	}
	return o.Handler(o.logger)
}

// watch adds what is known when everything runs.
func (o *observation) watch(b *backend, api *http.Server) {
	o.Gauge("http_streams_open", "Open streams of the log.", func() float64 { return float64(api.Streams()) })
	o.Counter("http_answers_kept_total", "Reads of single agents that were answered with a kept answer, which was still right.", func() float64 {
		kept, _ := api.KeptAnswers()
		return float64(kept)
	})
	o.Counter("http_answers_read_total", "Reads of single agents that were read from the projections.", func() float64 {
		_, read := api.KeptAnswers()
		return float64(read)
	})
	o.Gauge("append_queue", "Appends that wait to be written.", func() float64 { return float64(b.queued()) })
	if b.pool != nil {
		o.WatchPool(b.pool.Stat, b.waiting.count.Load)
	}
	o.WatchProjections(telemetry.ProjectionSource{States: projectorStates, State: b.states, Report: b.report})
}

var projectorStates = []string{
	string(projections.Stopped), string(projections.Standby), string(projections.Running),
	string(projections.Retrying), string(projections.NeedsRebuild),
}

// states are what this process' projectors are doing.
func (b *backend) states() map[string]string {
	states := make(map[string]string, len(b.projectors))
	for _, p := range b.projectors {
		state, _ := p.State()
		states[p.Name()] = string(state)
	}
	return states
}

// report is how the projections are, for metrics.
func (b *backend) report(ctx context.Context) (reports []telemetry.ProjectionReport, head int64, err error) {
	statuses, err := b.reader.Status(ctx)
	if err != nil {
		return nil, 0, err
	}
	rebuilds, err := b.rebuilds(ctx)
	if err != nil {
		return nil, 0, err
	}
	for _, s := range statuses {
		head = s.Head
		report := telemetry.ProjectionReport{
			Projection: s.Projection, Position: s.Position, Lag: s.Behind(), Age: s.Lag, SetAside: s.SetAside,
		}
		for _, r := range rebuilds {
			if r.Projection == s.Projection {
				report.Rebuild = telemetry.RebuildReport{StartedAt: r.StartedAt, Position: r.Position, Head: r.Head}
			}
		}
		reports = append(reports, report)
	}
	return reports, head, nil
}

// asideServer is a small server beside that of the API.
type asideServer struct {
	server *nethttp.Server
	done   chan struct{}
}

// serveAside serves to few, whose answers may take until longest.
func (o *observation) serveAside(ctx context.Context, what, addr string, handler nethttp.Handler, longest time.Duration) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for %s: %w", what, err)
	}
	server := newWebServer(handler, timeouts{headerTimeout, headerTimeout, longest, idleTimeout}, o.logger)
	s := &asideServer{done: make(chan struct{}), server: server}
	limited := limitConnections(ctx, listener, asideConnections, o.logger)
	go func() {
		defer close(s.done)
		if err := s.server.Serve(limited); !errors.Is(err, nethttp.ErrServerClosed) {
			o.logger.ErrorContext(ctx, "serving "+what+" ended", "error", err)
		}
	}()
	o.aside = append(o.aside, s)
	o.logger.InfoContext(ctx, "serving "+what, "address", listener.Addr().String())
	return nil
}

// close ends the server at once: nobody loses anything by it.
func (s *asideServer) close() {
	_ = s.server.Close()
	<-s.done
}

func metricsMux(metrics nethttp.Handler) nethttp.Handler {
	mux := nethttp.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	return mux
}

// pprofMux serves all profiles. The command line is left out: it may have secrets.
func pprofMux() nethttp.Handler {
	mux := nethttp.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	return mux
}
