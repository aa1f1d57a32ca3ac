package http_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"dixie/http"
	"dixie/reputation"
)

// obliging is a finn that answers everything, and to which every NFT is the
// caller's.
type obliging struct {
	answer func() (*http.UpstreamResponse, error)
	// lists is set when the schedule that a request is about is looked for first.
	lists bool
}

func (obliging) Owned(context.Context, string) ([]http.NFT, error) {
	return []http.NFT{{ID: "bear-1"}}, nil
}

func (obliging) Access(context.Context, string, string, http.Freshness) (http.Access, error) {
	return http.Owner, nil
}

func (o obliging) Send(_ context.Context, r http.UpstreamRequest) (*http.UpstreamResponse, error) {
	response, err := o.answer()
	if err == nil && o.lists && r.Method == nethttp.MethodGet && len(r.Path) == 3 {
		response = finnSays(200, `{"schedules":[{"id":"s-1"}]}`)
	}
	return response, err
}

func finnSays(status int, body string) *http.UpstreamResponse {
	header := nethttp.Header{"Content-Type": {"application/json"}}
	return &http.UpstreamResponse{Status: status, Header: header, Body: io.NopCloser(strings.NewReader(body))}
}

// chatty is what every request to finn can be answered with.
func chatty() (*http.UpstreamResponse, error) {
	return finnSays(200, `{"sessionId":"s-1","response":"hello"}`), nil
}

// newWhole starts a server that has all routes, on the history.
func newWhole(t testing.TB, change ...func(*http.Config)) *service {
	t.Helper()
	return newWholeOn(t, openMemory(t), change...)
}

func newWholeOn(t testing.TB, b *backend, change ...func(*http.Config)) *service {
	t.Helper()
	b.project(t)
	whole := func(c *http.Config) {
		c.Upstream, c.Ownership = obliging{chatty, true}, obliging{}
		c.MetricsHandler = nethttp.HandlerFunc(metricsPage)
	}
	s := serve(t, b, append([]func(*http.Config){withGateway(t), whole}, change...)...)
	s.tell(t)
	return s
}

// hand gives a call to the server without a network, and checks the answer by the
// description.
func (s *service) hand(t testing.TB, c call) answer {
	t.Helper()
	w := httptest.NewRecorder()
	s.server.ServeHTTP(w, c.request(t, "http://dixie.example"))
	a := answer{status: w.Code, header: w.Header(), body: w.Body.String()}
	if err := s.asDescribed(c, a); err != nil {
		t.Errorf("%s %s is answered with %d: %v\n%s", c.verb(), c.path, a.status, err, a.body)
	}
	return a
}

// filled are values for the variables of all paths.
var filled = map[string]string{
	"nftId": "bear-1", "entry": "hive", "name": "cohorts", "conversationId": "c-1", "scheduleId": "s-1", "id": "s-1",
}

// callOf is a request that an operation takes, by somebody who may.
func (n node) callOf(method, path string) call {
	c := call{method: method, key: anyone, path: variable.ReplaceAllStringFunc(path, func(name string) string {
		return url.PathEscape(filled[strings.Trim(name, "{}")])
	})}
	if path == "/api/reputation/query" {
		c.path += "?routingKey=nft:bear-1"
	}
	if content, ok := n.down("requestBody", "content"); ok {
		for _, media := range []string{"application/json", "application/x-ndjson"} {
			if content.value[media] != nil {
				c = c.with("Content-Type", media)
			}
		}
		c.body = `{"prompt":"hello","nftId":"bear-1"}`
	}
	switch {
	case n.value["x-scope"] == "admin":
		return admin(c)
	case len(n.value["security"].([]any)) > 0:
		return c.by(member)
	}
	return c
}

// describes reports whether an operation tells of a status itself.
func (n node) describes(status string) bool {
	_, ok := n.down("responses", status)
	return ok
}

// slowBody does not come in time.
type slowBody struct{}

func (slowBody) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

// TestMistakes makes the mistakes that can be made with every operation that tells of
// them.
func TestMistakes(t *testing.T) {
	t.Parallel()
	s := newWhole(t)
	limited := newWhole(t, func(c *http.Config) { c.RateLimits = http.RateLimits{Clients: 1, Keys: 1, SignIn: 1} })
	for operation, place := range described().operations() {
		c := operation.callOf(place[0], place[1])
		typed := map[string]string{"Content-Type": c.header["Content-Type"]}
		for status, mistake := range map[string]call{
			"400": {method: c.method, path: and(c.path, "unknown=1"), key: c.key, header: c.header, body: c.body},
			"401": {method: c.method, path: c.path, key: anyone, header: typed},
			"403": c.by(stranger),
			"408": {method: c.method, path: c.path, key: c.key, header: c.header, reader: slowBody{}},
			"413": {method: c.method, path: c.path, key: c.key, header: c.header, body: strings.Repeat(" ", mostBytes+1)},
			"415": c.with("Content-Type", "text/plain"),
		} {
			if status == "413" && operation.value["operationId"] == "importEvents" { // of any length, if it is not compressed
				mistake = gzipped(t, strings.Repeat("\n", 8<<20)).by(member)
			}
			if operation.describes(status) && (status != "401" && status != "403" || len(operation.value["security"].([]any)) > 0) {
				if got := s.hand(t, mistake); fmt.Sprint(got.status) != status {
					t.Errorf("%s %s: %d, want %s: %s", c.method, c.path, got.status, status, got.body)
				}
			}
		}
		if operation.describes("429") {
			limited.hand(t, c)
			limited.hand(t, c).want(t, 429)
		}
	}
}

// faulty panics wherever the server asks it something.
type faulty struct{ door }

func (faulty) Authenticate(context.Context, string) (http.Caller, error)    { panic(internals) }
func (faulty) Nonce(context.Context) (string, error)                        { panic(internals) }
func (faulty) KeySet() []byte                                               { panic(internals) }
func (faulty) Ready(context.Context) error                                  { panic(internals) }
func (faulty) Health(context.Context) http.Health                           { panic(internals) }
func (faulty) SignIn(context.Context, string, string) (http.Session, error) { panic(internals) }
func (faulty) ServeHTTP(nethttp.ResponseWriter, *nethttp.Request)           { panic(internals) }

// TestFaults: every operation tells what it answers when the service is at fault, or
// its database away.
func TestFaults(t *testing.T) {
	t.Parallel()
	s := serve(t, openMemory(t), withGateway(t), func(c *http.Config) {
		c.Authenticator, c.SignIn, c.Monitor, c.MetricsHandler = faulty{}, faulty{}, faulty{}, faulty{}
	})
	away := serve(t, openMemory(t), withGateway(t), func(c *http.Config) {
		c.Authenticator = broken{fmt.Errorf("%s: %w", internals, reputation.ErrUnavailable)}
	})
	for operation, place := range described().operations() {
		if rare(operation, "500") {
			continue
		}
		c := operation.callOf(place[0], place[1]).with("Authorization", "Bearer dxk_any")
		got := s.hand(t, c)
		got.wantError(t, 500, "internal_error")
		wantNoInternals(t, got)
		if operation.value["x-scope"] != nil {
			got := away.hand(t, c)
			got.wantError(t, 503, "unavailable")
			wantNoInternals(t, got)
		}
	}
}

// throughFinn are the paths of operations that ask finn.
var throughFinn = regexp.MustCompile(`^/api/(chat|memory|schedule|learning)`)

// TestWhatFinnAnswers passes what finn can answer through every operation that asks
// it.
func TestWhatFinnAnswers(t *testing.T) {
	t.Parallel()
	refuses := func(status int, code string) error { return &http.UpstreamError{Status: status, Code: code} }
	for _, tt := range []struct {
		err    error
		says   int
		body   string
		status int
	}{
		{nil, 200, `{"sessionId":"s-1","response":"hello"}`, 200}, {nil, 201, `{}`, 201}, {nil, 204, "", 204}, {nil, 200, `{"sessionId":`, 502},
		{refuses(302, ""), 0, "", 502}, {refuses(401, "AUTH_REQUIRED"), 0, "", 502}, {refuses(400, ""), 0, "", 400}, {refuses(403, ""), 0, "", 403},
		{refuses(404, ""), 0, "", 404}, {refuses(409, ""), 0, "", 409}, {refuses(429, ""), 0, "", 429}, {refuses(400, "BUDGET_EXCEEDED"), 0, "", 402},
		{refuses(429, "RATE_LIMITED"), 0, "", 429}, {refuses(500, ""), 0, "", 500}, {refuses(501, ""), 0, "", 501},
		{refuses(503, "ORACLE_MODEL_UNAVAILABLE"), 0, "", 503}, {refuses(502, "PROVIDER_UNAVAILABLE"), 0, "", 502},
		{http.ErrUpstreamAway, 0, "", 503}, {http.ErrCircuitOpen, 0, "", 503},
	} {
		finn := &obliging{answer: func() (*http.UpstreamResponse, error) {
			if tt.err != nil {
				return nil, errors.Join(errors.New(internals), tt.err)
			}
			return finnSays(tt.says, tt.body), nil
		}}
		s := newWhole(t, func(c *http.Config) { c.Upstream = finn })
		for operation, place := range described().operations() {
			if !throughFinn.MatchString(place[1]) || place[1] == "/api/chat" && (tt.status == 201 || tt.status == 204) {
				continue // a chat has an answer
			}
			id := operation.value["operationId"]
			finn.lists = id == "cancelSchedule" || id == "scheduleHistory"
			wantNoInternals(t, s.hand(t, operation.callOf(place[0], place[1])).want(t, tt.status))
		}
	}
}
