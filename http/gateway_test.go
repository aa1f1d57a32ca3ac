package http_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"dixie/auth"
	"dixie/http"
	"dixie/reputation"
)

// Wallets of tests, with their checksums (EIP-55).
const (
	member   = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	stranger = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
)

// adminKey is the administrators' key of servers with a gateway.
const adminKey = "the administrators' key of a test"

// door lets wallets sign in whose message is their address, and knows their tokens:
// "token of" and the address. Signing in fails as the signature says.
type door struct{}

var signInFailures = map[string]error{
	"unreadable": &http.MessageError{Field: "issued-at", Detail: "must be an RFC 3339 date and time"},
	"wrong":      fmt.Errorf("%w: signed by somebody else", http.ErrSignInSignature),
	"expired":    fmt.Errorf("%w: a detail for the log", http.ErrSignInExpired),
	"replayed":   fmt.Errorf("%w: a detail for the log", http.ErrSignInReplayed),
	"elsewhere":  fmt.Errorf("%w: a detail for the log", http.ErrSignInRefused),
	"nobody":     fmt.Errorf("%w: a detail for the log", http.ErrNotAdmitted),
	"unlucky":    fmt.Errorf("remember the nonce: %w", reputation.ErrUnavailable),
}

func (door) Nonce(context.Context) (string, error) { return "k7Qw2Zt9Lm4Xb8Rc", nil }

func (door) SignIn(_ context.Context, message, signature string) (http.Session, error) {
	if err := signInFailures[signature]; err != nil {
		return http.Session{}, err
	}
	if !reputation.ValidNFT(message) || len(message) != len(member) {
		return http.Session{}, signInFailures["unreadable"]
	}
	return session(message), nil
}

func session(wallet string) http.Session {
	return http.Session{
		Token: "token of " + wallet, Wallet: wallet, Role: "team",
		ExpiresAt: now.Add(time.Hour), Lifetime: time.Hour,
	}
}

func (door) Session(token string) (http.Session, error) {
	wallet, ok := strings.CutPrefix(token, "token of ")
	if !ok {
		return http.Session{}, http.ErrUnauthenticated
	}
	return session(wallet), nil
}

func (door) KeySet() []byte { return []byte(`{"keys":[{"kid":"a-test"}]}`) }

// doorkeeper knows keys and tokens.
type doorkeeper struct {
	keyring
	door
}

func (d doorkeeper) Authenticate(ctx context.Context, token string) (http.Caller, error) {
	if caller, err := d.keyring.Authenticate(ctx, token); err == nil {
		return caller, nil
	}
	s, err := d.Session(token)
	return http.Caller{Name: s.Wallet, Scopes: []string{"read", "append"}, Wallet: s.Wallet}, err
}

// guests is an allowlist in memory.
type guests struct {
	wallets []string
	keys    []http.APIKey
}

func (g *guests) Admits(wallet string) bool { return slices.Contains(g.wallets, wallet) }
func (g *guests) Entries() http.Entries     { return http.Entries{Wallets: g.wallets, Keys: g.keys} }

func (g *guests) AddWallet(_ context.Context, wallet string) (string, error) {
	_, err := auth.ParseAddress(wallet)
	switch {
	case err != nil:
		return "", &http.EntryError{Field: "value", Detail: "must be a wallet address"}
	case g.Admits(wallet):
		return "", fmt.Errorf("%w: %s", http.ErrListed, wallet)
	}
	g.wallets = append(g.wallets, wallet)
	return wallet, nil
}

func (g *guests) find(name string) int {
	return slices.IndexFunc(g.keys, func(k http.APIKey) bool { return k.Name == name })
}

func (g *guests) AddKey(_ context.Context, key http.APIKey, secret string) (http.APIKey, string, error) {
	if key.Name == "" {
		key.Name = "named-by-the-service"
	}
	switch {
	case strings.Contains(key.Name, "\n"):
		return key, "", &http.EntryError{Field: "name", Detail: "must be one line"}
	case g.find(key.Name) >= 0:
		return key, "", http.ErrListed
	case secret == "":
		secret = "dxk_made_by_the_server"
	}
	key.CreatedAt = now
	g.keys = append(g.keys, key)
	return key, secret, nil
}

func (g *guests) Remove(_ context.Context, entry string) error {
	if i := slices.Index(g.wallets, entry); i >= 0 {
		g.wallets = slices.Delete(g.wallets, i, i+1)
		return nil
	}
	i := g.find(entry)
	if i < 0 {
		return http.ErrNotListed
	}
	g.keys = slices.Delete(g.keys, i, i+1)
	return nil
}

func (g *guests) RotateKey(_ context.Context, name string) (http.APIKey, string, error) {
	i := g.find(name)
	if i < 0 {
		return http.APIKey{}, "", http.ErrNotListed
	}
	return g.keys[i], "dxk_another_made_by_the_server", nil
}

// withGateway gives a server all that a gateway has.
func withGateway(t testing.TB) func(*http.Config) {
	return func(c *http.Config) {
		c.SignIn, c.Allowlist, c.AdminKey = door{}, &guests{wallets: []string{member}}, adminKey
		c.Authenticator = doorkeeper{newKeyring(t), door{}}
	}
}

func newGateway(t testing.TB, change ...func(*http.Config)) *service {
	t.Helper()
	return serve(t, openMemory(t), append([]func(*http.Config){withGateway(t)}, change...)...)
}

// by is a call with a token.
func (c call) by(wallet string) call {
	return c.as(anyone).with("Authorization", "Bearer token of "+wallet)
}

func signInWith(signature string) call {
	return postJSON("/api/auth/siwe", `{"message":"`+member+`","signature":"`+signature+`"}`)
}

func postJSON(path, body string) call {
	return call{method: "POST", path: path, body: body, key: anyone}.with("Content-Type", "application/json")
}

func admin(c call) call { return c.as(anyone).with("X-Admin-Key", adminKey) }

// TestGatewayAnswers holds every kind of answer of the gateway.
func TestGatewayAnswers(t *testing.T) {
	t.Parallel()
	verify := call{path: "/api/auth/verify", key: anyone}
	keySet := call{path: "/api/auth/.well-known/jwks.json", key: anyone}
	sum := sha256.Sum256(door{}.KeySet())
	for name, calls := range map[string][]call{
		"sign-in": {
			{path: "/api/auth/nonce", key: anyone},
			signInWith("right"),
			verify.by(member),
		},
		"sign-in-refused": {
			signInWith("unreadable"), signInWith("wrong"), signInWith("expired"), signInWith("replayed"),
			signInWith("elsewhere"), signInWith("nobody"), signInWith("unlucky"),
		},
		"sign-in-invalid": {
			postJSON("/api/auth/siwe", `{}`),
			postJSON("/api/auth/siwe", `{"message":"x"}`),
			postJSON("/api/auth/siwe", `{"message":"x","signature":1}`),
			postJSON("/api/auth/siwe", `[]`),
			postJSON("/api/auth/siwe", `{"message"`),
			postJSON("/api/auth/siwe", `{}`).with("Content-Type", "text/plain"),
			{path: "/api/auth/siwe", key: anyone},
			{path: "/api/auth/nonce?size=9", key: anyone},
			postJSON("/api/auth/siwe?chain=1", `{"message":"x","signature":"right"}`),
		},
		"verify-refused": {
			verify,
			verify.with("Authorization", "Basic eDp5"),
			verify.with("Authorization", "Bearer nonsense"),
			verify.by(stranger),
		},
		"key-set": {
			keySet,
			keySet.with("If-None-Match", fmt.Sprintf("%q", base64Start(sum[:12]))),
		},
		"allowlist": {
			admin(call{path: "/api/admin/allowlist"}),
			admin(postJSON("/api/admin/allowlist", `{"type":"wallet","value":"`+stranger+`"}`)),
			admin(postJSON("/api/admin/allowlist", `{"type":"apiKey","name":"hive","scopes":["read","append"]}`)),
			admin(postJSON("/api/admin/allowlist", `{"type":"apiKey","name":"old","value":"dxk_chosen_by_someone"}`)),
			admin(call{path: "/api/admin/allowlist"}),
			admin(call{method: "POST", path: "/api/admin/allowlist/hive/rotate"}),
			admin(call{method: "DELETE", path: "/api/admin/allowlist/hive"}),
			admin(call{method: "DELETE", path: "/api/admin/allowlist/" + stranger}),
			admin(call{path: "/api/admin/allowlist"}),
		},
		"allowlist-refused": {
			admin(postJSON("/api/admin/allowlist", `{"type":"wallet","value":"`+member+`"}`)),
			admin(postJSON("/api/admin/allowlist", `{"type":"wallet","value":"me"}`)),
			admin(postJSON("/api/admin/allowlist", `{"type":"wallet","value":"`+stranger+`","name":"me"}`)),
			admin(postJSON("/api/admin/allowlist", `{"type":"apiKey","name":"two\nlines"}`)),
			admin(postJSON("/api/admin/allowlist", `{"type":"apiKey","scopes":["read,admin"]}`)),
			admin(postJSON("/api/admin/allowlist", `{"type":"apiKey","scopes":[]}`)),
			admin(postJSON("/api/admin/allowlist", `{"type":"friend"}`)),
			admin(postJSON("/api/admin/allowlist", `{"type":"wallet","walet":"me"}`)),
			admin(call{method: "DELETE", path: "/api/admin/allowlist/nobody"}),
			admin(call{method: "DELETE", path: "/api/admin/allowlist/%00"}),
			admin(call{method: "POST", path: "/api/admin/allowlist/nobody/rotate"}),
			call{path: "/api/admin/allowlist"}.as(anyone),
			call{path: "/api/admin/allowlist"}.as("append"),
			call{path: "/api/admin/allowlist"}.by(member),
			admin(call{path: "/api/admin/allowlist"}).with("X-Admin-Key", adminKey+"!"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newGateway(t)
			var parts []string
			for _, c := range calls {
				parts = append(parts, s.transcript(t, c))
			}
			golden(t, name, strings.Join(parts, "\n"))
		})
	}
}

// TestPassingAnswers holds what is answered before a request reaches a handler, and
// what is added to answers on the way.
func TestPassingAnswers(t *testing.T) {
	t.Parallel()
	const ours = "https://dixie.example"
	s := newGateway(t, func(c *http.Config) {
		c.Origins, c.PaymentHeaders, c.RateLimits = []string{ours}, true, http.RateLimits{Clients: 2, SignIn: 1}
	})
	read := call{path: "/api/reputation"}.by(member).with("Origin", ours)
	for name, calls := range map[string][]call{
		"error-429":     {read, read, read},
		"sign-in-often": {{path: "/api/auth/nonce", key: anyone}, {path: "/api/auth/nonce", key: anyone}},
		"preflight": {
			call{method: "OPTIONS", path: "/api/reputation/a/events", key: anyone}.with("Origin", ours).
				with("Access-Control-Request-Method", "POST").with("Access-Control-Request-Headers", "authorization,content-type"),
			call{method: "OPTIONS", path: "/api/reputation/a/events", key: anyone}.with("Origin", "https://evil.example").
				with("Access-Control-Request-Method", "POST"),
		},
	} {
		var parts []string
		for _, c := range calls {
			parts = append(parts, s.transcript(t, c))
		}
		golden(t, name, strings.Join(parts, "\n"))
	}
}

// TestNoSignIn: without a key for tokens nobody signs in, and API keys work.
func TestNoSignIn(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	for _, c := range []call{
		{path: "/api/auth/nonce", key: anyone},
		signInWith("right"),
		call{path: "/api/auth/verify"}.by(member),
	} {
		a := s.do(t, c)
		if f := a.wantError(t, 503, "signin_unconfigured"); f.RetryAfter != 0 || a.header.Get("Retry-After") != "" {
			t.Errorf("trying again does not help: %s", a.body)
		}
	}
	got := s.do(t, call{path: "/api/auth/.well-known/jwks.json", key: anyone}).want(t, 200)
	if got.body != `{"keys":[]}` {
		t.Errorf("the key set is %s", got.body)
	}
	s.get(t, "/api/reputation").want(t, 200)
}

// TestAccess is who may use which kind of route.
func TestAccess(t *testing.T) {
	t.Parallel()
	s := newGateway(t)
	for _, scope := range []string{"read", "append", "admin"} {
		s.server.ProbeAs(scope, "/"+scope, ok)
	}
	both := func(c call) call { return c.with("X-Admin-Key", adminKey) }
	bearer := func(c call) call { return c.as(anyone).with("Authorization", "Bearer "+adminKey) }
	for _, tt := range []struct {
		name string
		call func(call) call
		want map[string]int
	}{
		{"nobody", func(c call) call { return c.as(anyone) }, map[string]int{"read": 401, "append": 401, "admin": 401}},
		{"key for reading", func(c call) call { return c.as("read") }, map[string]int{"read": 200, "append": 403, "admin": 403}},
		{"key of an administrator", func(c call) call { return c.as("admin") }, map[string]int{"read": 403, "append": 403, "admin": 200}},
		{"wallet", func(c call) call { return c.by(member) }, map[string]int{"read": 200, "append": 200, "admin": 403}},
		{"wallet that has left", func(c call) call { return c.by(stranger) }, map[string]int{"read": 403, "append": 403, "admin": 403}},
		{"administrators' key", admin, map[string]int{"read": 403, "append": 403, "admin": 200}},
		{"the same as a bearer", bearer, map[string]int{"read": 403, "append": 403, "admin": 200}},
		{"both", func(c call) call { return both(c.by(member)) }, map[string]int{"read": 200, "append": 200, "admin": 200}},
		{"the key does not mend a token", func(c call) call {
			return both(c.as(anyone).with("Authorization", "Bearer nonsense"))
		}, map[string]int{"read": 401, "append": 401, "admin": 401}},
		{"a wrong key is worth less than none", func(c call) call {
			return c.by(member).with("X-Admin-Key", "wrong")
		}, map[string]int{"read": 403, "append": 403, "admin": 403}},
	} {
		for scope, want := range tt.want {
			if got := s.do(t, tt.call(call{path: "/" + scope})); got.status != want {
				t.Errorf("%s: %d for %s, want %d", tt.name, got.status, scope, want)
			}
		}
	}
}

// TestNoAdminKey: a key that is not configured opens nothing, an empty one least.
func TestNoAdminKey(t *testing.T) {
	t.Parallel()
	s := newGateway(t, func(c *http.Config) { c.AdminKey = "" })
	for _, key := range []string{"", " ", adminKey} {
		c := call{path: "/api/admin/allowlist", key: anyone}
		if got := s.do(t, c.with("X-Admin-Key", key)); got.status < 401 || got.status > 403 {
			t.Errorf("%q gives %d", key, got.status)
		}
		if got := s.do(t, c.with("Authorization", "Bearer "+key)); got.status != 401 {
			t.Errorf("bearer %q gives %d", key, got.status)
		}
	}
}

// TestAccessIsLogged: who was let in or turned away, and why, is one line of the
// log, without what would open the door.
func TestAccessIsLogged(t *testing.T) {
	t.Parallel()
	tests := []struct {
		call call
		want []string
	}{
		{call{path: "/api/reputation"}, []string{`"access":"allow"`, `"caller":"read"`}},
		{call{path: "/api/reputation"}.by(member), []string{`"access":"allow"`, `"caller":"` + member}},
		{call{path: "/api/reputation"}.by(stranger), []string{`"access":"deny"`, `"reason":"not_on_allowlist"`, `"caller":"` + stranger}},
		{call{path: "/api/reputation", key: anyone}, []string{`"access":"deny"`, `"reason":"unauthorized"`}},
		{call{path: "/api/reputation", key: "append"}, []string{`"access":"deny"`, `"reason":"insufficient_scope"`, `"caller":"append"`}},
		{admin(call{path: "/api/admin/allowlist"}).with("X-Admin-Key", "a wrong key of a test"), []string{`"access":"deny"`, `"reason":"wrong_admin_key"`}},
		{signInWith("right"), []string{`"access":"allow"`, `"caller":"` + member}},
		{signInWith("wrong"), []string{`"access":"deny"`, `"reason":"invalid_signature"`, "signed by somebody else"}},
		{call{path: "/api/reputation/" + secret("read")}, []string{`/api/reputation/dxk_…`}},
		{call{path: "/livez", key: anyone}, []string{`"path":"/livez"`}},
	}
	for _, tt := range tests {
		var log journal
		s := newGateway(t, log.keep)
		s.do(t, tt.call)
		line := log.request(t)
		for _, want := range tt.want {
			if !strings.Contains(line, want) {
				t.Errorf("%s %s: the line lacks %s: %s", tt.call.verb(), tt.call.path, want, line)
			}
		}
		for _, never := range []string{secret("read"), secret("append"), adminKey, "token of", "a wrong key of a test"} {
			if strings.Contains(log.String(), never) {
				t.Errorf("%s %s: the log has %q", tt.call.verb(), tt.call.path, never)
			}
		}
	}
}

// TestSignInBody: a sign-in has a small body.
func TestSignInBody(t *testing.T) {
	t.Parallel()
	s := newGateway(t)
	body := `{"message":"` + strings.Repeat("x", 33<<10) + `","signature":"right"}`
	s.do(t, postJSON("/api/auth/siwe", body)).wantError(t, 413, "body_too_large")
	chunked := postJSON("/api/auth/siwe", "")
	chunked.reader = strings.NewReader(body)
	s.do(t, chunked).wantError(t, 413, "body_too_large")
}

// TestPaymentHeaders: the scaffold marks all answers, and does nothing else.
func TestPaymentHeaders(t *testing.T) {
	t.Parallel()
	on := newGateway(t, func(c *http.Config) { c.PaymentHeaders = true })
	off := newGateway(t)
	for _, tt := range []struct {
		call   call
		status int
		wallet string
	}{
		{call{path: "/api/reputation"}.by(member), 200, member},
		{call{path: "/api/reputation"}, 200, ""},
		{call{path: "/api/reputation", key: anyone}, 401, ""},
		{call{path: "/livez", key: anyone}, 200, ""},
		{call{path: "/nowhere", key: anyone}, 404, ""},
		{signInWith("right"), 200, ""},
	} {
		got := on.do(t, tt.call).want(t, tt.status)
		if status, wallet := got.header.Get("X-Payment-Status"), got.header.Get("X-Payment-Wallet"); status != "scaffold" || wallet != tt.wallet {
			t.Errorf("%s: status %q, wallet %q", tt.call.path, status, wallet)
		}
		for name := range off.do(t, tt.call).want(t, tt.status).header {
			if strings.HasPrefix(name, "X-Payment") {
				t.Errorf("%s: switched off, and there is %s", tt.call.path, name)
			}
		}
	}
}

// TestCORS: pages of the origins may use the API, and browsers refuse others.
func TestCORS(t *testing.T) {
	t.Parallel()
	const ours = "https://dixie.example"
	s := newGateway(t, func(c *http.Config) { c.Origins = []string{ours} })
	for origin, want := range map[string]string{ours: ours, "https://evil.example": "", "": ""} {
		got := s.do(t, call{path: "/api/reputation"}.with("Origin", origin)).want(t, 200)
		if allowed := got.header.Get("Access-Control-Allow-Origin"); allowed != want {
			t.Errorf("%q: allowed %q", origin, allowed)
		}
		if !strings.Contains(strings.Join(got.header.Values("Vary"), ","), "Origin") {
			t.Errorf("%q: a cache may give the answer to another origin", origin)
		}
	}
	preflight := call{method: "OPTIONS", path: "/api/reputation/a/events", key: anyone}.
		with("Origin", ours).with("Access-Control-Request-Method", "POST").with("Access-Control-Request-Headers", "authorization,content-type")
	got := s.do(t, preflight).want(t, 204)
	if got.header.Get("Access-Control-Allow-Origin") != ours || got.header.Get("Access-Control-Max-Age") != "3600" ||
		got.header.Get("Access-Control-Allow-Methods") != "POST" {
		t.Errorf("the preflight is answered with %v", got.header)
	}
	refused := s.do(t, preflight.with("Origin", "https://evil.example")).want(t, 204)
	if refused.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("another origin is allowed")
	}
	denied := s.do(t, call{path: "/api/reputation", key: anyone}.with("Origin", ours)).want(t, 401)
	if denied.header.Get("Access-Control-Allow-Origin") != ours {
		t.Error("a page cannot read why it was refused")
	}
	s.do(t, call{method: "OPTIONS", path: "/api/reputation", key: anyone}).want(t, 405) // no preflight
	none := newGateway(t)
	if got := none.do(t, call{path: "/api/reputation"}.with("Origin", ours)); got.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("without origins one is allowed")
	}
}

// TestClientAddress: what a proxy wrote counts as far as proxies are trusted, and
// what anyone can write does not.
func TestClientAddress(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		trusted   string
		forwarded string
		want      string
	}{
		"no proxy":               {"", "203.0.113.9", "127.0.0.1"},
		"not a trusted one":      {"10.0.0.0/8", "203.0.113.9", "127.0.0.1"},
		"one":                    {"127.0.0.0/8", "203.0.113.9", "203.0.113.9"},
		"made up before it":      {"127.0.0.0/8", "198.51.100.1, 203.0.113.9", "203.0.113.9"},
		"two":                    {"127.0.0.0/8,10.0.0.0/8", "198.51.100.1, 203.0.113.9, 10.1.2.3", "203.0.113.9"},
		"all trusted":            {"127.0.0.0/8,10.0.0.0/8", "10.9.9.9, 10.1.2.3", "10.9.9.9"},
		"with a port":            {"127.0.0.0/8", "203.0.113.9:1234", "203.0.113.9"},
		"IPv6":                   {"127.0.0.0/8", "[2001:db8::1]:80", "2001:db8::1"},
		"IPv4 as IPv6":           {"127.0.0.0/8", "::ffff:203.0.113.9", "203.0.113.9"},
		"rubbish":                {"127.0.0.0/8", "unknown", "127.0.0.1"},
		"rubbish before a proxy": {"127.0.0.0/8,10.0.0.0/8", "<script>, 10.1.2.3", "10.1.2.3"},
		"empty":                  {"127.0.0.0/8", "", "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log journal
			s := newGateway(t, log.keep, func(c *http.Config) { c.TrustedProxies = prefixes(t, tt.trusted) })
			s.do(t, call{path: "/api/reputation"}.with("X-Forwarded-For", tt.forwarded)).want(t, 200)
			if line := log.request(t); !strings.Contains(line, `"client":"`+tt.want+`"`) {
				t.Errorf("want %s: %s", tt.want, line)
			}
		})
	}
}

func prefixes(t testing.TB, list string) (all []netip.Prefix) {
	t.Helper()
	for text := range strings.SplitSeq(list, ",") {
		if text == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, prefix)
	}
	return all
}

var errUnlucky = errors.New("unlucky")

// TestErrorsTellNothing: what wraps an error of signing in stays here.
func TestErrorsTellNothing(t *testing.T) {
	t.Parallel()
	s := newGateway(t)
	for signature, err := range signInFailures {
		got := s.do(t, signInWith(signature))
		if strings.Contains(got.body, "somebody else") || strings.Contains(got.body, "detail for the log") || strings.Contains(got.body, "remember") {
			t.Errorf("%v: the caller is told %s", err, got.body)
		}
	}
	broken := newGateway(t, func(c *http.Config) { c.SignIn = brokenDoor{} })
	if got := broken.do(t, signInWith("right")); got.status != 500 || strings.Contains(got.body, "unlucky") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

type brokenDoor struct{ door }

func (brokenDoor) SignIn(context.Context, string, string) (http.Session, error) {
	return http.Session{}, errUnlucky
}

func base64Start(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
