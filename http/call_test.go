package http_test

import (
	"encoding/json"
	"io"
	nethttp "net/http"
	"strings"
	"testing"

	"dixie/reputation"
)

// call is a request. Without a key it has that for the scope that the method
// usually needs.
type call struct {
	method string // GET when empty
	path   string
	key    string // one of keys; anyone: no key at all
	header map[string]string
	body   string
	reader io.Reader // instead of body; makes the request chunked
	blocks int       // hang up after so many empty lines; 0 reads all
}

// anyone is who has no key.
const anyone = "anyone"

func (c call) verb() string {
	if c.method == "" {
		return nethttp.MethodGet
	}
	return c.method
}

func (c call) caller() string {
	switch {
	case c.key != "":
		return c.key
	case c.verb() == nethttp.MethodPost:
		return "append"
	}
	return "read"
}

// request is the call as net/http sends it.
func (c call) request(t testing.TB, url string) *nethttp.Request {
	t.Helper()
	body := c.reader
	if body == nil {
		body = strings.NewReader(c.body)
	}
	r, err := nethttp.NewRequestWithContext(t.Context(), c.verb(), url+c.path, body)
	if err != nil {
		t.Fatal(err)
	}
	if c.caller() != anyone {
		r.Header.Set("Authorization", "Bearer "+secret(c.caller()))
	}
	for name, value := range c.header {
		r.Header.Set(name, value)
	}
	return r
}

// answer is a response that has been read.
type answer struct {
	status int
	header nethttp.Header
	body   string
}

// do makes a call, reads the answer and checks it by the description of the API. It
// may be used in any goroutine: without an answer the test fails and goes on, with
// the status 0.
func (s *service) do(t testing.TB, c call) answer {
	t.Helper()
	a := s.send(t, c)
	if err := s.asDescribed(c, a); err != nil {
		t.Errorf("%s %s by %s is answered with %d: %v\n%s", c.verb(), c.path, c.caller(), a.status, err, a.body)
	}
	return a
}

// send is do without the check.
func (s *service) send(t testing.TB, c call) answer {
	t.Helper()
	response, err := s.web.Client().Do(c.request(t, s.web.URL))
	if err != nil {
		t.Error(err)
		return answer{}
	}
	defer response.Body.Close()
	body, err := readBody(response.Body, c.blocks)
	if err != nil {
		t.Errorf("%s %s: read the answer: %v", c.verb(), c.path, err)
	}
	return answer{status: response.StatusCode, header: response.Header, body: body}
}

// readBody reads up to the end, or up to so many empty lines.
func readBody(r io.Reader, blocks int) (string, error) {
	if blocks == 0 {
		text, err := io.ReadAll(r)
		return string(text), err
	}
	var text strings.Builder
	one := make([]byte, 1)
	for strings.Count(text.String(), "\n\n") < blocks {
		if _, err := io.ReadFull(r, one); err != nil {
			return text.String(), err
		}
		text.Write(one)
	}
	return text.String(), nil
}

func (s *service) get(t testing.TB, path string) answer {
	t.Helper()
	return s.do(t, call{path: path})
}

// appendTo is an append of JSON.
func appendTo(nft, body string) call {
	return call{
		method: nethttp.MethodPost, path: "/api/reputation/" + nft + "/events", body: body,
		header: map[string]string{"Content-Type": "application/json"},
	}
}

// bulk is an import of NDJSON.
func bulk(body string) call {
	return call{
		method: nethttp.MethodPost, path: "/api/reputation/events", body: body,
		header: map[string]string{"Content-Type": "application/x-ndjson"},
	}
}

// resetOf is a reset of an NFT by an administrator.
func resetOf(nft, body string) call {
	return call{
		method: nethttp.MethodPost, path: "/api/admin/reputation/" + nft + "/reset", body: body, key: "admin",
		header: map[string]string{"Content-Type": "application/json"},
	}
}

// with is the call with a header more.
func (c call) with(name, value string) call {
	header := map[string]string{name: value}
	for n, v := range c.header {
		if n != name {
			header[n] = v
		}
	}
	c.header = header
	return c
}

// as is the call by another caller.
func (c call) as(key string) call {
	c.key = key
	return c
}

// want checks the status and returns the answer.
func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// into decodes a JSON answer.
func (a answer) into(t testing.TB, v any) {
	t.Helper()
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q, want application/json", got)
	}
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		t.Fatalf("decode %s: %v", a.body, err)
	}
}

// failure is the JSON of every error.
type failure struct {
	Error      string               `json:"error"`
	Message    string               `json:"message"`
	RequestID  string               `json:"request_id"`
	RetryAfter int                  `json:"retry_after"`
	Errors     []reputation.Problem `json:"errors"`
	Conflicts  []string             `json:"conflicts"`
}

func (a answer) failure(t testing.TB) failure {
	t.Helper()
	var f failure
	a.into(t, &f)
	return f
}

// wantError checks status and code, and that the answer names its request.
func (a answer) wantError(t testing.TB, status int, code string) failure {
	t.Helper()
	f := a.want(t, status).failure(t)
	if f.Error != code || f.Message == "" || f.RequestID == "" || f.RequestID != a.header.Get("X-Request-Id") {
		t.Errorf("error %s, want code %s and the request's id", a.body, code)
	}
	return f
}

// wantProblem checks a 400 about one field.
func (a answer) wantProblem(t testing.TB, field string) {
	t.Helper()
	f := a.wantError(t, nethttp.StatusBadRequest, "invalid_request")
	if len(f.Errors) != 1 || f.Errors[0].Field != field {
		t.Errorf("problems %v, want one of %q", f.Errors, field)
	}
}
