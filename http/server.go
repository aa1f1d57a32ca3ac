// Package http serves reputations and the log over HTTP, on gorilla/mux. It knows
// the domain and the small interfaces below, and nothing of databases.
package http

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/gorilla/mux"

	"dixie/reputation"
)

// Reputations are the projections that answers are read from. Each answer comes
// with the position that it contains the log up to.
type Reputations interface {
	Reputation(ctx context.Context, nft string) (reputation.Standing, error)
	Score(ctx context.Context, nft string) (score *float64, position int64, err error)
	List(ctx context.Context, state reputation.State, after string, limit int) ([]reputation.StoredAggregate, int64, error)
	Populations(ctx context.Context, after string, limit int) ([]reputation.Population, int64, error)
	WaitFor(ctx context.Context, position int64, projections ...string) error
}

// Authenticator knows who holds a bearer token. It fails with
// [ErrUnauthenticated] when nobody does.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (Caller, error)
}

// Importer stores NDJSON lines of events in bulk.
type Importer interface {
	// Import reads lines until the end of in, stores those whose event check lets
	// through, and calls alive before each batch. With an error it reports what it
	// has stored until then; a [*reputation.ReadError] says that in failed.
	Import(ctx context.Context, in io.Reader, check func(*reputation.Event) error, alive func()) (reputation.ImportReport, error)
}

// Caller is who asks.
type Caller struct {
	Name   string   // for the log
	Scopes []string // what the caller may do: read, append, admin
}

// May reports whether the caller has a scope.
func (c Caller) May(scope string) bool { return slices.Contains(c.Scopes, scope) }

// Monitor is what health and readiness report. Implementations answer within the
// context's time.
type Monitor interface {
	// Ready is nil when requests can be served, and else says why not.
	Ready(ctx context.Context) error
	// Health describes the parts of the service.
	Health(ctx context.Context) Health
}

// Config sets a [Server] up. All fields without a stated default are required.
type Config struct {
	Log           reputation.Log
	Importer      Importer
	Reputations   Reputations
	Authenticator Authenticator
	Monitor       Monitor
	Rebuilder     Rebuilder // nil when there is nothing to rebuild
	Params        reputation.Params
	Logger        *slog.Logger
	Version       string
	Now           func() time.Time // time.Now when nil
	MaxStreams    int              // open streams of the log; 100 when 0
}

// Server answers requests. It is safe for concurrent use.
type Server struct {
	Config
	router  *mux.Router
	handler http.Handler
	started time.Time
	streams chan struct{} // a place for each open stream

	stopping context.Context // done when streams are to end
	stop     context.CancelFunc
}

// NewServer returns a server that is to be served by a [net/http.Server].
func NewServer(config Config) *Server {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.MaxStreams <= 0 {
		config.MaxStreams = 100
	}
	s := &Server{Config: config, started: config.Now(), streams: make(chan struct{}, config.MaxStreams)}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.router = s.newRouter()
	s.handler = chain(s.router,
		s.requestID,
		s.accessLog,
		s.recovery,
		securityHeaders,
		dropIdentityHeaders,
	)
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// StopStreams tells the streams of the log to end, which would otherwise stay
// open. Other requests are not affected.
func (s *Server) StopStreams() { s.stop() }

// The scopes that routes ask for. Anyone may use a route without one.
const (
	anyone      = ""
	scopeRead   = "read"
	scopeAppend = "append"
	scopeAdmin  = "admin"
)

// newRouter is the table of routes. The first match counts, so that an NFT cannot
// hide a fixed path by its id.
func (s *Server) newRouter() *mux.Router {
	// Ids are decoded and checked by the handlers, so that an encoded slash is a bad
	// id and not another path.
	router := mux.NewRouter().UseEncodedPath().SkipClean(true)
	for _, route := range []struct {
		method, path, scope string
		handle              handler
	}{
		{http.MethodGet, "/", anyone, s.getRoot},
		{http.MethodGet, "/livez", anyone, s.getLive},
		{http.MethodGet, "/readyz", anyone, s.getReady},
		{http.MethodGet, "/api/health", anyone, s.getHealth},

		{http.MethodGet, "/api/reputation", scopeRead, s.listReputations},
		{http.MethodGet, "/api/reputation/query", scopeRead, s.queryScore},
		{http.MethodGet, "/api/reputation/population", scopeRead, s.listPopulations},
		{http.MethodGet, "/api/reputation/events", scopeRead, s.streamLog},
		{http.MethodPost, "/api/reputation/events", scopeAppend, s.importEvents},
		{http.MethodGet, "/api/reputation/{nftId}", scopeRead, s.getReputation},
		{http.MethodGet, "/api/reputation/{nftId}/cohorts", scopeRead, s.getCohorts},
		{http.MethodGet, "/api/reputation/{nftId}/score", scopeRead, s.getScore},
		{http.MethodGet, "/api/reputation/{nftId}/events", scopeRead, s.getHistory},
		{http.MethodPost, "/api/reputation/{nftId}/events", scopeAppend, s.appendEvents},

		{http.MethodGet, "/api/admin/projections/{name}/rebuild", scopeAdmin, s.getRebuild},
		{http.MethodPost, "/api/admin/projections/{name}/rebuild", scopeAdmin, s.startRebuild},
	} {
		methods := []string{route.method}
		if route.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
		router.Handle(route.path, s.route(route.scope, route.handle)).Methods(methods...)
	}
	router.NotFoundHandler = s.answer(func(http.ResponseWriter, *http.Request) error { return errNoRoute })
	router.MethodNotAllowedHandler = s.answer(s.methodNotAllowed)
	return router
}

// methodNotAllowed names the methods that the path has (RFC 9110 §15.5.6).
func (s *Server) methodNotAllowed(w http.ResponseWriter, r *http.Request) error {
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		probe := r.Clone(r.Context())
		probe.Method = method
		if match := (mux.RouteMatch{}); s.router.Match(probe, &match) && match.MatchErr == nil {
			w.Header().Add("Allow", method)
		}
	}
	return errMethod
}
