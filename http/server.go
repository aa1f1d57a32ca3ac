// Package http serves reputations and the log over HTTP, on gorilla/mux. It knows
// the domain and the small interfaces below, and nothing of databases.
package http

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/mux"

	"dixie/reputation"
)

// Reputations are the projections that answers are read from. Each answer comes
// with the position that it contains the log up to.
type Reputations interface {
	Reputation(ctx context.Context, nft string) (reputation.Standing, error)
	Score(ctx context.Context, nft string) (reputation.Score, error)
	// Unchanged tells how far some projections are, and whether a reading of an NFT
	// would give what one gave that has the mark.
	Unchanged(ctx context.Context, nft string, mark reputation.Mark, projections ...string) (position int64, unchanged bool, err error)
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
	Import(ctx context.Context, in io.Reader, check func(nft string, e *reputation.Event) error, alive func()) (reputation.ImportReport, error)
}

// Caller is who asks.
type Caller struct {
	Name   string   // for the log
	Scopes []string // what the caller may do: read, append, admin
	Wallet string   // the wallet that signed in, with its checksum (EIP-55); empty for everybody else
}

// May reports whether the caller has a scope.
func (c Caller) May(scope string) bool { return slices.Contains(c.Scopes, scope) }

// Monitor is what health and readiness report. Implementations answer within the
// context's time.
type Monitor interface {
	// Ready is nil when requests can be served, and else says why not: with
	// [ErrBehind] when a projection's lag is the only reason.
	Ready(ctx context.Context) error
	// Health describes the parts of the service.
	Health(ctx context.Context) Health
}

// Config sets a [Server] up. All fields without a stated default are required.
type Config struct {
	Log           reputation.Log
	Importer      Importer
	Reputations   Reputations
	Past          Past
	Operations    Operations
	Authenticator Authenticator
	Allowlist     Allowlist
	Monitor       Monitor
	Rebuilder     Rebuilder // nil when there is nothing to rebuild
	Params        reputation.Params
	Logger        *slog.Logger
	Version       string
	Now           func() time.Time // time.Now when nil
	MaxStreams    int              // open streams of the log; 100 when 0
	MaxImports    int              // bulk imports at the same time; 16 when 0
	AnswerBytes   int              // memory for answers that are kept; 32 MiB when 0, none when negative
	MaxPasts      int              // requests that read the past at the same time; 2 when 0
	PastTimeout   time.Duration    // for which one may; 30 s when 0

	SignIn   SignIn // nil: nobody can sign in
	AdminKey string // what administrators send in X-Admin-Key; there is no such key when empty

	Origins        []string       // origins whose pages may use the API (CORS), or "*"; none when empty
	TrustedProxies []netip.Prefix // proxies whose X-Forwarded-For is believed
	RateLimits     RateLimits
	PaymentHeaders bool // answers say that payment is a scaffold

	// Upstream and Ownership are nil together where there is no finn.
	Upstream    Upstream
	Ownership   Ownership
	ChatTimeout time.Duration // of finn's answer to a message; its usual one when 0
	MaxOutcomes int           // chats whose outcome is not in the log yet; 1,000 when 0
	// PublicReputation lets anyone ask for the score that finn reads.
	PublicReputation bool

	// Tracing wraps the answering of requests that have an id. [Route] names the
	// route afterwards. No wrapping when nil.
	Tracing func(http.Handler) http.Handler
	// Metrics is told of every request, and MetricsHandler serves GET /metrics to
	// anyone. Nobody is told, and there is no such route, when they are nil.
	Metrics        Metrics
	MetricsHandler http.Handler
}

// Server answers requests. It is safe for concurrent use.
type Server struct {
	Config
	router   *mux.Router // has all routes
	routes   map[*mux.Route]*route
	fixed    map[target]*route     // those without variables
	others   map[shape]*mux.Router // those with variables
	limiters limiters
	adminKey [sha256.Size]byte // hash of the administrators' key
	handler  http.Handler
	openAPI  func() []byte // made when it is first asked for
	docs     func() docsPage
	started  time.Time
	streams  chan struct{} // a place for each open stream
	imports  chan struct{} // a place for each bulk import
	pasts    chan struct{} // a place for each request that reads the past

	reputations, scores *answers

	outcomes *outcomes

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
	if config.MaxImports <= 0 {
		config.MaxImports = 16
	}
	if config.AnswerBytes == 0 {
		config.AnswerBytes = defaultAnswerBytes
	}
	config.AnswerBytes = max(0, config.AnswerBytes)
	if config.Metrics == nil {
		config.Metrics = noMetrics{}
	}
	if config.MaxPasts <= 0 {
		config.MaxPasts = 2
	}
	if config.PastTimeout <= 0 {
		config.PastTimeout = 30 * time.Second
	}
	s := &Server{
		Config: config, started: config.Now(),
		limiters: newLimiters(config.RateLimits), adminKey: sha256.Sum256([]byte(config.AdminKey)),
		streams: make(chan struct{}, config.MaxStreams), imports: make(chan struct{}, config.MaxImports), pasts: make(chan struct{}, config.MaxPasts),
	}
	s.reputations = newAnswers(config.Reputations, config.AnswerBytes/4*3, reputation.ProjectionAggregates, reputation.ProjectionCohorts)
	s.scores = newAnswers(config.Reputations, config.AnswerBytes/4, reputation.ProjectionAggregates)
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.openAPI = sync.OnceValue(func() []byte { return OpenAPI(config.Version) })
	s.docs = sync.OnceValue(func() docsPage { return newDocsPage(s.openAPI()) })
	s.outcomes = s.newOutcomes()
	s.addRoutes()
	s.handler = chain(s.answer(serveRoute),
		dropIdentityHeaders,
		s.requestID,
		s.findRoute,
		slot(s.Tracing),
		s.measure,
		s.recovery,
		securityHeaders,
		s.paymentStatus,
		s.cors(),
		limitBody,
		s.accessLog,
		s.preflight,
		s.authenticate,
		s.limitRate,
		s.gate,
		s.paymentWallet,
	)
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// StopStreams tells the streams of the log to end, which would otherwise stay
// open. Other requests are not affected.
func (s *Server) StopStreams() { s.stop() }

// Close stores what chats told of agents and is not in the log yet, until ctx
// ends. It comes after the last request. It fails when something was lost.
func (s *Server) Close(ctx context.Context) error { return s.outcomes.close(ctx) }

// Who may use a route: anyone, or callers with a scope.
const (
	anyone      = ""
	probe       = "probe"   // anyone, and as often as they like
	signIn      = "sign-in" // anyone, as often as one may try to sign in
	scopeRead   = "read"
	scopeAppend = "append"
	scopeAdmin  = "admin"
)

// route is a line in the table of routes.
type route struct {
	method, path string
	access       string
	handle       handler
}

// open reports whether anyone may use the route.
func (r *route) open() bool {
	return r.access == anyone || r.access == probe || r.access == signIn
}

// target is what a request asks for.
type target struct{ method, path string }

// shape is what a request has in common with every route that it can match: a variable
// stands for one segment of a path.
type shape struct {
	method  string
	slashes int
}

// newRouter leaves it to the handlers to decode and check ids, so that an encoded slash
// is a bad id and not another path.
func newRouter() *mux.Router { return mux.NewRouter().UseEncodedPath().SkipClean(true) }

// addRoutes fills the router of all routes. As it tries one after the other, the routes
// are also kept by what tells most of them apart.
func (s *Server) addRoutes() {
	s.router, s.routes = newRouter(), map[*mux.Route]*route{}
	s.fixed, s.others = map[target]*route{}, map[shape]*mux.Router{}
	for _, route := range s.table() {
		methods := []string{route.method}
		if route.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
		s.routes[s.router.Handle(route.path, http.NotFoundHandler()).Methods(methods...)] = &route
		for _, method := range methods {
			s.addRoute(method, &route)
		}
	}
}

func (s *Server) addRoute(method string, route *route) {
	if !strings.Contains(route.path, "{") {
		s.fixed[target{method, route.path}] = route
		return
	}
	shape := shape{method, strings.Count(route.path, "/")}
	if s.others[shape] == nil {
		s.others[shape] = newRouter()
	}
	s.routes[s.others[shape].Handle(route.path, http.NotFoundHandler())] = route
}

// table is the table of routes. The first match counts, and fixed paths come first, so
// that an NFT cannot hide one by its id.
func (s *Server) table() []route {
	scopeFinn := scopeRead
	if s.PublicReputation {
		scopeFinn = probe // finn takes a refusal for a failure
	}
	table := []route{
		{http.MethodGet, "/", anyone, s.getRoot},
		{http.MethodGet, "/livez", probe, s.getLive},
		{http.MethodGet, "/readyz", probe, s.getReady},
		{http.MethodGet, "/api/health", probe, s.getHealth},
		{http.MethodGet, "/api/openapi.json", probe, s.getOpenAPI},
		{http.MethodGet, "/docs", probe, s.getDocs},

		{http.MethodGet, "/api/auth/nonce", signIn, s.getNonce},
		{http.MethodPost, "/api/auth/siwe", signIn, withBody(maxSignIn, s.postSignIn)},
		{http.MethodGet, "/api/auth/verify", anyone, s.getVerify},
		{http.MethodGet, "/api/auth/.well-known/jwks.json", probe, s.getKeySet},

		{http.MethodGet, "/api/admin/allowlist", scopeAdmin, s.getAllowlist},
		{http.MethodPost, "/api/admin/allowlist", scopeAdmin, s.addToAllowlist},
		{http.MethodDelete, "/api/admin/allowlist/{entry}", scopeAdmin, s.removeFromAllowlist},
		{http.MethodPost, "/api/admin/allowlist/{entry}/rotate", scopeAdmin, s.rotateKey},

		{http.MethodGet, "/api/reputation", scopeRead, s.listReputations},
		{http.MethodGet, "/api/reputation/query", scopeRead, s.queryScore},
		{http.MethodGet, "/api/reputation/population", scopeRead, s.listPopulations},
		{http.MethodGet, "/api/reputation/events", scopeRead, s.streamLog},
		{http.MethodPost, "/api/reputation/events", scopeAppend, withBody(unlimited, s.importEvents)},
		{http.MethodGet, "/api/reputation/{nftId}", scopeRead, s.getReputation},
		{http.MethodGet, "/api/reputation/{nftId}/cohorts", scopeRead, s.getCohorts},
		{http.MethodGet, "/api/reputation/{nftId}/score", scopeRead, s.getScore},
		{http.MethodGet, "/api/reputation/{nftId}/timeline", scopeRead, s.getTimeline},
		{http.MethodGet, "/api/reputation/{nftId}/snapshot", scopeRead, s.getSnapshot},
		{http.MethodGet, "/api/reputation/{nftId}/events", scopeRead, s.getHistory},
		{http.MethodPost, "/api/reputation/{nftId}/events", scopeAppend, withBody(maxBatchBytes, s.appendEvents)},
		{http.MethodGet, "/reputation/{nftId}", scopeFinn, s.getFinnScore},

		{http.MethodPost, "/api/chat", scopeAppend, s.withFinn(s.postChat)},
		{http.MethodGet, "/api/memory/{nftId}", scopeRead, s.forNFT(readMemory)},
		{http.MethodGet, "/api/memory/{nftId}/history", scopeRead, s.forNFT(readHistory)},
		{http.MethodPost, "/api/memory/{nftId}/seal", scopeAppend, s.forNFT(sealMemory)},
		{http.MethodDelete, "/api/memory/{nftId}/{conversationId}", scopeAppend, s.forNFT(deleteMemory)},
		{http.MethodPost, "/api/schedule", scopeAppend, s.withFinn(s.postSchedule)},
		{http.MethodGet, "/api/schedule/{nftId}", scopeRead, s.forNFT(listSchedules)},
		{http.MethodGet, "/api/schedule/{scheduleId}/history", scopeRead, s.forSchedule(scheduleHistory)},
		{http.MethodDelete, "/api/schedule/{scheduleId}", scopeAppend, s.forSchedule(cancelSchedule)},
		{http.MethodGet, "/api/learning/{nftId}/insights", scopeRead, s.forNFT(readInsights)},
		{http.MethodGet, "/api/learning/{nftId}/gaps", scopeRead, s.forNFT(readGaps)},

		{http.MethodGet, "/api/projections", scopeAdmin, s.listProjections},
		{http.MethodGet, "/api/projections/{name}/failures", scopeAdmin, s.listFailures},
		{http.MethodGet, "/api/admin/projections/{name}/rebuild", scopeAdmin, s.getRebuild},
		{http.MethodPost, "/api/admin/projections/{name}/rebuild", scopeAdmin, s.startRebuild},
		{http.MethodPost, "/api/admin/reputation/{nftId}/reset", scopeAdmin, s.resetReputation},
	}
	if s.MetricsHandler != nil {
		table = append(table, route{http.MethodGet, "/metrics", probe, s.getMetrics})
	}
	return table
}

// findRoute looks up where a request goes, which decides how it is treated on the
// way.
func (s *Server) findRoute(next http.Handler) http.Handler {
	noRoute := &route{handle: func(http.ResponseWriter, *http.Request) error { return errNoRoute }}
	noMethod := &route{handle: s.methodNotAllowed}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := infoFrom(r.Context())
		var err error
		switch info.route, info.vars, err = s.match(r); {
		case info.route != nil:
		case errors.Is(err, mux.ErrMethodMismatch):
			info.route = noMethod
		default:
			info.route = noRoute
		}
		next.ServeHTTP(w, r)
	})
}

// match finds the route of a request, with what its path has for variables. Only the
// router of all routes can say why there is none.
func (s *Server) match(r *http.Request) (*route, map[string]string, error) {
	path := r.URL.EscapedPath()
	if route := s.fixed[target{r.Method, path}]; route != nil {
		return route, nil, nil
	}
	if likely := s.others[shape{r.Method, strings.Count(path, "/")}]; likely != nil {
		if match := (mux.RouteMatch{}); likely.Match(r, &match) {
			return s.routes[match.Route], match.Vars, nil
		}
	}
	match := mux.RouteMatch{}
	if !s.router.Match(r, &match) {
		return nil, nil, match.MatchErr
	}
	return s.routes[match.Route], match.Vars, nil
}

// serveRoute is the end of the way.
func serveRoute(w http.ResponseWriter, r *http.Request) error {
	return infoFrom(r.Context()).route.handle(w, r)
}

// methodNotAllowed names the methods that the path has (RFC 9110 §15.5.6).
func (s *Server) methodNotAllowed(w http.ResponseWriter, r *http.Request) error {
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
		probe := r.Clone(r.Context())
		probe.Method = method
		if match := (mux.RouteMatch{}); s.router.Match(probe, &match) {
			w.Header().Add("Allow", method)
		}
	}
	return errMethod
}
