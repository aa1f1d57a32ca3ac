package http_test

import (
	"bufio"
	"bytes"
	"io"
	nethttp "net/http"
	"testing"

	"dixie/http"
)

// TestTooManyConnections: what is said to a connection is an answer like others.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	response, err := nethttp.ReadResponse(bufio.NewReader(bytes.NewReader(http.TooManyConnections())), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil || !response.Close {
		t.Errorf("closed %t, %v", response.Close, err)
	}
	a := answer{status: response.StatusCode, header: response.Header, body: string(text)}
	f := a.wantError(t, 503, "too_many_connections")
	if f.RequestID == "" || f.RequestID != a.header.Get("X-Request-Id") || f.RetryAfter != 1 || a.header.Get("Retry-After") != "1" {
		t.Errorf("header %v, body %s", a.header, a.body)
	}
	if err := s.asDescribed(call{path: "/api/reputation"}, a); err != nil {
		t.Error(err)
	}
}
