package http_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	nethttp "net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"dixie/auth"
	"dixie/eventstore"
	"dixie/http"
	"dixie/internal/pgtest"
	"dixie/projections"
	"dixie/reputation"
)

// patience bounds only tests that fail.
const patience = time.Minute

// now is the time of asking in all tests. Most of testdata/history.ndjson
// happens at this moment, so that no answer in a golden file depends on exp,
// whose last bit differs between platforms.
var now = time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC)

// backend is the log and the projections.
type backend struct {
	log        reputation.Log
	rows       projections.Reader
	past       func(projections.PastConfig) *projections.Past
	projectors []*projections.Projector
}

// backends are the ways to keep log and projections. Callers of the API must not
// be able to tell them apart.
var backends = []struct {
	name string
	open func(testing.TB) *backend
}{
	{"memory", openMemory},
	{"postgres", openPostgres},
}

func openMemory(t testing.TB) *backend {
	log := eventstore.NewMemory()
	rows := projections.NewMemory(log)
	past := func(c projections.PastConfig) *projections.Past { c.Log = log; return rows.NewPast(c) }
	return &backend{log: log, rows: rows, past: past, projectors: rows.NewProjectors(projecting(t, log))}
}

func openPostgres(t testing.TB) *backend {
	t.Helper()
	return openPool(t, pgtest.Pool(t))
}

// openPool is one process's backend of several on a database.
func openPool(t testing.TB, pool *pgxpool.Pool) *backend {
	log := eventstore.OpenPostgres(pool, logger(t))
	t.Cleanup(log.Close)
	rows := projections.NewPostgres(pool)
	past := func(c projections.PastConfig) *projections.Past { c.Log = log; return rows.NewPast(c) }
	return &backend{log: log, rows: rows, past: past, projectors: rows.NewProjectors(projecting(t, log))}
}

func projecting(t testing.TB, log eventstore.Reader) projections.Config {
	return projections.Config{Log: log, Params: reputation.DefaultParams(), Logger: logger(t)}
}

func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// project runs the projectors until the test ends.
func (b *backend) project(t testing.TB) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	for _, p := range b.projectors {
		running.Go(func() { p.Run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// keys are the API keys of every test server, by a name that says what they may
// do, which is their scopes.
var keys = []string{"read", "append", "admin", "append,admin"}

func secret(name string) string { return auth.KeyPrefix + "secret-of-a-test-" + name }

// keyring is what cmd/dixie makes of the keys.
type keyring struct {
	*auth.Keys
}

func newKeyring(t testing.TB) keyring {
	t.Helper()
	ring := keyring{auth.NewKeys()}
	for _, name := range keys {
		scopes, err := auth.ParseScopes(name)
		if err != nil {
			t.Fatal(err)
		}
		ring.Add(auth.KeyOf(name, secret(name), scopes, now))
	}
	return ring
}

func (k keyring) Authenticate(_ context.Context, token string) (http.Caller, error) {
	key, err := k.Find(token)
	if err != nil {
		return http.Caller{}, fmt.Errorf("%w: %w", http.ErrUnauthenticated, err)
	}
	caller := http.Caller{Name: key.Name}
	for _, scope := range key.Scopes {
		caller.Scopes = append(caller.Scopes, string(scope))
	}
	return caller, nil
}

// monitor tells a fixed story.
type monitor struct {
	health http.Health
	ready  error
}

func (m monitor) Ready(context.Context) error        { return m.ready }
func (m monitor) Health(context.Context) http.Health { return m.health }

// config is a server's on a backend.
func (b *backend) config(t testing.TB) http.Config {
	t.Helper()
	return http.Config{
		Log: b.log, Importer: eventstore.Importer{Log: b.log}, Reputations: b.rows,
		Past: b.past(projections.PastConfig{Params: reputation.DefaultParams()}), Operations: operations{b},
		Authenticator: newKeyring(t), Allowlist: &guests{wallets: slices.Sorted(maps.Values(wallets))}, Monitor: monitor{}, Params: reputation.DefaultParams(),
		Logger: logger(t), Version: "test", Now: func() time.Time { return now },
	}
}

// service is a server that listens.
type service struct {
	*backend
	server *http.Server
	web    *httptest.Server
}

// serve starts a server on a backend whose projectors may or may not run. The
// configuration can be changed before.
func serve(t testing.TB, b *backend, change ...func(*http.Config)) *service {
	t.Helper()
	config := b.config(t)
	for _, c := range change {
		c(&config)
	}
	server := http.NewServer(config)
	return &service{backend: b, server: server, web: listen(t, server)}
}

// listen serves until the test ends.
func listen(t testing.TB, server *http.Server) *httptest.Server {
	web := httptest.NewUnstartedServer(server)
	web.Config.ErrorLog = slog.NewLogLogger(logger(t).Handler(), slog.LevelDebug)
	web.Start()
	web.Client().Timeout = patience
	t.Cleanup(func() {
		server.StopStreams()
		web.Close()
	})
	return web
}

// newService starts a server and the projectors on an empty log.
func newService(t testing.TB, open func(testing.TB) *backend, change ...func(*http.Config)) *service {
	t.Helper()
	b := open(t)
	b.project(t)
	return serve(t, b, change...)
}

// eachBackend runs a test against a server on an empty log, for each backend.
func eachBackend(t *testing.T, test func(*testing.T, *service)) {
	t.Helper()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			test(t, newService(t, b.open))
		})
	}
}

// settle waits until the projections contain the log.
func (s *service) settle(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	head, err := s.log.Head(ctx)
	if err == nil {
		err = s.rows.WaitFor(ctx, head, projections.Names...)
	}
	if err != nil {
		t.Fatalf("settle: %v", err)
	}
}

// tell imports the history and waits until it is projected.
func (s *service) tell(t testing.TB) {
	t.Helper()
	s.do(t, bulk(history(t))).want(t, nethttp.StatusOK)
	s.settle(t)
}

// head is the position of the last event.
func (s *service) head(t testing.TB) int64 {
	t.Helper()
	head, err := s.log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// ids are those of the events of an NFT in the order of the log.
func (s *service) ids(t testing.TB, nft string) []string {
	t.Helper()
	stored, err := s.log.History(t.Context(), nft, 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]string, len(stored))
	for i := range stored {
		event, err := stored[i].Event()
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = event.ID
	}
	return ids
}

// eventually waits for what another goroutine is about to do.
func eventually(t testing.TB, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !happened(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// same reports a difference.
func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// TestRoutersAgree: whichever way a route is found, it is the first of the table that
// matches.
func TestRoutersAgree(t *testing.T) {
	t.Parallel()
	s := serve(t, openMemory(t), func(c *http.Config) { c.MetricsHandler = nethttp.NotFoundHandler() }).server
	routes := s.Routes()
	others := []string{"", "events", "query", "seal", "history", "rotate", "bear-1", "%2F", "quer%79", "a%20b", "x;y"}
	methods := []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "get", ""}
	rapid.Check(t, func(r *rapid.T) {
		segments := strings.Split(rapid.SampledFrom(routes).Draw(r, "route")[1], "/")
		for i, segment := range segments[1:] {
			if strings.HasPrefix(segment, "{") || rapid.IntRange(0, 9).Draw(r, "change") == 0 {
				segments[i+1] = rapid.SampledFrom(others).Draw(r, "segment")
			}
		}
		method, path := rapid.SampledFrom(methods).Draw(r, "method"), strings.Join(segments, "/")
		if got, want := s.RouteOf(method, path), s.RouteOfAll(method, path); got != want {
			r.Errorf("%s %s goes to %q, want %q", method, path, got, want)
		}
	})
	for _, route := range routes {
		if got := s.RouteOf(route[0], route[1]); got != route[1] {
			t.Errorf("%s %s goes to %q", route[0], route[1], got)
		}
	}
}
