package http_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dixie/http"
	"dixie/identity"
	"dixie/internal/fakefinn"
	"dixie/reputation"
)

// The wallets of tests, by the name of their callers.
var wallets = map[string]string{
	"alice": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
	"bob":   "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
	"carol": "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
}

// walletRing also knows callers with a wallet.
type walletRing struct{ http.Authenticator }

func (ring walletRing) Authenticate(ctx context.Context, token string) (http.Caller, error) {
	for name, wallet := range wallets {
		if token == secret(name) {
			return http.Caller{Name: wallet, Wallet: wallet, Scopes: []string{"read", "append"}}, nil
		}
	}
	return ring.Authenticator.Authenticate(ctx, token)
}

// gateway is finn as cmd/dixie gives it to the server.
type gateway struct {
	client   *identity.Client
	resolver *identity.Resolver
}

func (g gateway) Send(ctx context.Context, r http.UpstreamRequest) (*http.UpstreamResponse, error) {
	response, err := g.client.Send(ctx, identity.Request(r))
	var status *identity.StatusError
	switch {
	case err == nil:
		return (*http.UpstreamResponse)(response), nil
	case errors.As(err, &status):
		return nil, (*http.UpstreamError)(status)
	case errors.Is(err, identity.ErrCircuitOpen):
		return nil, fmt.Errorf("%w: %w", http.ErrCircuitOpen, err)
	case errors.Is(err, identity.ErrUnavailable):
		return nil, fmt.Errorf("%w: %w", http.ErrUpstreamAway, err)
	}
	return nil, err
}

func (g gateway) Owned(ctx context.Context, wallet string) ([]http.NFT, error) {
	owned, err := g.resolver.Owned(ctx, wallet, identity.Stale)
	nfts := make([]http.NFT, len(owned))
	for i, n := range owned {
		nfts[i] = http.NFT{ID: n.ID, Collection: n.Collection}
	}
	return nfts, unknown(err)
}

func (g gateway) Access(ctx context.Context, wallet, nft string, f http.Freshness) (http.Access, error) {
	n, err := g.resolver.ResolveOwnership(ctx, wallet, nft, identity.Freshness(f))
	switch {
	case err != nil:
		return http.NoAccess, unknown(err)
	case n.OwnedBy(wallet):
		return http.Owner, nil
	}
	return http.Delegated, nil
}

func unknown(err error) error {
	switch {
	case errors.Is(err, identity.ErrNoNFT):
		return nil
	case errors.Is(err, identity.ErrUnavailable):
		return fmt.Errorf("%w: %w", http.ErrOwnershipUnknown, err)
	}
	return err
}

// ask makes a server ask a finn through a client.
func ask(t testing.TB, config identity.Config) func(*http.Config) {
	t.Helper()
	config.Outgoing, config.Logger = http.Outgoing, logger(t)
	client, err := identity.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	resolver := identity.NewResolver(client, identity.ResolverConfig{})
	t.Cleanup(func() {
		resolver.Close()
		client.Close()
	})
	return func(c *http.Config) {
		c.Upstream, c.Ownership = gateway{client, resolver}, gateway{client, resolver}
		c.Authenticator = walletRing{c.Authenticator}
	}
}

// newFinn is a finn on a network, of which alice owns mibera:42 and mibera:43 and
// has delegated the first to bob. carol has nothing.
func newFinn(t testing.TB) (*fakefinn.Server, identity.Config) {
	t.Helper()
	finn := populated()
	return finn, quiet(t, finn)
}

// quiet serves a handler that breaks connections off on purpose.
func quiet(t testing.TB, h nethttp.Handler) identity.Config {
	t.Helper()
	web := httptest.NewUnstartedServer(h)
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	web.Start()
	t.Cleanup(web.Close)
	return identity.Config{BaseURL: web.URL}
}

// upstreamOf answers everything with one text.
type upstreamOf string

func (u upstreamOf) Send(context.Context, http.UpstreamRequest) (*http.UpstreamResponse, error) {
	return &http.UpstreamResponse{
		Status: 200, Header: nethttp.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(u))),
	}, nil
}

// owning is what every wallet owns.
type owning []http.NFT

func (o owning) Owned(context.Context, string) ([]http.NFT, error) { return o, nil }

func (o owning) Access(context.Context, string, string, http.Freshness) (http.Access, error) {
	return http.Owner, nil
}

func populated() *fakefinn.Server {
	finn := fakefinn.New()
	shared := fakefinn.NFT{Collection: "mibera", Token: "42", Owner: wallets["alice"], Delegates: []string{wallets["bob"]}}
	finn.Give(wallets["alice"], shared, fakefinn.NFT{Collection: "mibera", Token: "43"})
	finn.Give(wallets["bob"], shared)
	finn.Remember("mibera:42", map[string]any{"nftId": "mibera:42", "summary": "likes honey"})
	finn.Plan("mibera:42", "daily-1")
	finn.Plan("mibera:43", "daily-2")
	return finn
}

// behind is a service in front of a finn on a network.
func behind(t testing.TB, open func(testing.TB) *backend, change ...func(*http.Config)) (*service, *fakefinn.Server) {
	t.Helper()
	finn, config := newFinn(t)
	s := newService(t, open, append([]func(*http.Config){ask(t, config)}, change...)...)
	t.Cleanup(func() { closeServer(t, s.server) })
	return s, finn
}

// closeServer stores what is under way.
func closeServer(t testing.TB, server *http.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := server.Close(ctx); err != nil {
		t.Error(err)
	}
}

// direct calls a handler without a network, so that tests can run in fake time.
type direct struct{ nethttp.Handler }

func (d direct) RoundTrip(r *nethttp.Request) (response *nethttp.Response, err error) {
	defer func() {
		if value := recover(); value != nil {
			response, err = nil, fmt.Errorf("connection reset: %v", value)
		}
	}()
	if r.Body == nil {
		r.Body = nethttp.NoBody
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// inTime serves in fake time, without a network on either side.
type inTime struct {
	*backend
	server *http.Server
	finn   *fakefinn.Server
}

func newInTime(t testing.TB, change ...func(*http.Config)) *inTime {
	t.Helper()
	finn := populated()
	b := openMemory(t)
	config := b.config(t)
	for _, c := range append([]func(*http.Config){ask(t, identity.Config{BaseURL: "http://finn.example", Transport: direct{finn}})}, change...) {
		c(&config)
	}
	return &inTime{backend: b, server: http.NewServer(config), finn: finn}
}

// do makes a call and reads the answer.
func (s *inTime) do(t testing.TB, c call) answer {
	t.Helper()
	w := httptest.NewRecorder()
	r := c.request(t, "http://dixie.example")
	if r.Body == nil {
		r.Body = nethttp.NoBody
	}
	s.server.ServeHTTP(w, r)
	return answer{status: w.Code, header: w.Header(), body: w.Body.String()}
}

// chat is a message of a caller's.
func chat(key, body string) call {
	return call{
		method: nethttp.MethodPost, path: "/api/chat", key: key, body: body,
		header: map[string]string{"Content-Type": "application/json"},
	}
}

// said is the JSON of a chat's answer.
type said struct {
	SessionID string `json:"sessionId"`
	MessageID string `json:"messageId"`
	Response  string `json:"response"`
}

func (a answer) said(t testing.TB) said {
	t.Helper()
	var v said
	a.want(t, 200).into(t, &v)
	if v.MessageID != a.header.Get("X-Request-Id") || v.SessionID == "" {
		t.Errorf("answer %s to the request %s", a.body, a.header.Get("X-Request-Id"))
	}
	return v
}

// learnt is what the log has of an NFT.
func (b *backend) learnt(t testing.TB, nft string) []reputation.Event {
	t.Helper()
	stored, err := b.log.History(t.Context(), nft, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	events := make([]reputation.Event, len(stored))
	for i := range stored {
		if events[i], err = stored[i].Event(); err != nil {
			t.Fatalf("%v: %s", err, stored[i].JSON)
		}
	}
	return events
}

// routesOfFinn are the routes that cannot be served without finn, as its owner
// uses them.
var routesOfFinn = []call{
	chat("alice", `{"prompt":"hello"}`),
	{path: "/api/memory/mibera:42"},
	{path: "/api/memory/mibera:42/history?limit=3&cursor=abc&includeSealed=true"},
	post("/api/memory/mibera:42/seal", `{"conversationId":"c-1"}`),
	{path: "/api/memory/mibera:42/c-1", method: nethttp.MethodDelete},
	post("/api/schedule", `{"nftId":"mibera:42","nlExpression":"daily","prompt":"hello"}`),
	{path: "/api/schedule/mibera:42"},
	{path: "/api/schedule/daily-1/history?nftId=mibera:42"},
	{path: "/api/schedule/daily-1?nftId=mibera:42", method: nethttp.MethodDelete},
	{path: "/api/learning/mibera:42/insights?limit=3"},
	{path: "/api/learning/mibera:42/gaps"},
}

func post(path, body string) call {
	return call{method: nethttp.MethodPost, path: path, body: body, header: map[string]string{"Content-Type": "application/json"}}
}

// TestWithoutFinn: what needs finn says so, and everything else works.
func TestWithoutFinn(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory, func(c *http.Config) { c.Authenticator = walletRing{c.Authenticator} })
	for _, c := range append(routesOfFinn, appendTo("mibera:42", signal(1, 0.5))) {
		a := s.do(t, c.as("alice"))
		if f := a.wantError(t, 503, "identity_unconfigured"); f.RetryAfter != 0 || a.header.Get("Retry-After") != "" {
			t.Errorf("trying again does not help: %s", a.body)
		}
	}
	s.do(t, appendTo("mibera:42", signal(1, 0.5))).want(t, 201)
	s.settle(t)
	s.get(t, "/api/reputation/mibera:42").want(t, 200)
}

// TestFinnInTrouble: whatever finn does, no request hangs beyond its limit, no
// answer tells what finn said, the circuit opens and closes, and nobody is taken
// for a wallet without an NFT.
func TestFinnInTrouble(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]fakefinn.Trouble{
		"slow": fakefinn.Slow, "down": fakefinn.Down, "failing": fakefinn.Failing, "rubbish": fakefinn.Rubbish, "flapping": fakefinn.Flapping,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newInTime(t)
				codes := map[string]bool{}
				s.finn.Change(func(b *fakefinn.Behaviour) { b.Trouble, b.Delay = trouble, time.Hour })
				for range 3 {
					for _, c := range routesOfFinn {
						start := time.Now()
						got := s.do(t, c.as("alice"))
						if waited := time.Since(start); waited > 11*time.Second { // two requests, and the memory
							t.Errorf("%s: answered after %s", c.path, waited)
						}
						codes[wantTrouble(t, c, got)] = true
					}
				}
				lasting := trouble != fakefinn.Rubbish && trouble != fakefinn.Flapping
				if codes["circuit_open"] != lasting {
					t.Errorf("answers %v", codes)
				}
				time.Sleep(11 * time.Second)
				s.finn.Plan("mibera:42", "daily-1") // which may be cancelled
				s.finn.Change(func(b *fakefinn.Behaviour) { b.Trouble = fakefinn.Well })
				for _, c := range routesOfFinn {
					if got := s.do(t, c.as("alice")); got.status > 299 {
						t.Errorf("%s, when finn is back: %d %s", c.path, got.status, got.body)
					}
				}
				closeServer(t, s.server)
			})
		})
	}
}

// wantTrouble checks an answer while finn is in trouble: it may be a success,
// when finn flaps, and never says that the wallet owns nothing. It returns the
// answer's code.
func wantTrouble(t testing.TB, c call, got answer) string {
	t.Helper()
	if strings.Contains(fmt.Sprint(got.header, got.body), fakefinn.Secret) {
		t.Errorf("%s: the answer has finn's words: %s", c.path, got.body)
	}
	switch got.status {
	case 200, 201, 204, 404: // flapping; the schedule is cancelled
	case 500, 502, 503:
		f := got.failure(t)
		switch f.Error {
		case "upstream_error", "circuit_open", "identity_unavailable":
		default:
			t.Errorf("%s: %s", c.path, got.body)
		}
		retry := map[string]string{"circuit_open": "10"}[f.Error]
		if retry == "" && got.status == 503 {
			retry = "1"
		}
		if given := got.header.Get("Retry-After"); given != retry {
			t.Errorf("%s: Retry-After %q, %s", c.path, given, got.body)
		}
		return f.Error
	default:
		t.Errorf("%s: status %d: %s", c.path, got.status, got.body)
	}
	return ""
}
