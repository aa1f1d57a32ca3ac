package main_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// open opens a connection to a server.
func (s *server) open(address string) net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.Replace(strings.TrimPrefix(address, "http://"), "localhost", "127.0.0.1", 1))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// say sends a request on a connection and returns its answer.
func (s *server) say(conn net.Conn, path string) (*http.Response, string) {
	s.t.Helper()
	_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: dixie\r\n\r\n", path) // who is refused may be told before
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response, string(text)
}

// TestMaxConnections: of more connections than there may be, each is told so, and
// operators see it.
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	s := serve(t, []string{"DIXIE_MAX_CONNECTIONS=3", "DIXIE_METRICS_ADDR=127.0.0.1:0", "DIXIE_PPROF_ADDR=127.0.0.1:0"})
	metrics, profiles := s.address("metrics"), s.address("profiles")
	for range 3 {
		if response, text := s.say(s.open(s.url), "/livez"); response.StatusCode != 200 {
			t.Fatalf("status %d: %s", response.StatusCode, text)
		}
	}
	for range 2 {
		response, text := s.say(s.open(s.url), "/livez")
		var body struct {
			Error      string
			RetryAfter int `json:"retry_after"`
		}
		if err := json.Unmarshal([]byte(text), &body); err != nil || response.StatusCode != 503 || body.Error != "too_many_connections" ||
			response.Header.Get("Retry-After") != "1" || !response.Close {
			t.Errorf("status %d, %v: %s", response.StatusCode, err, text)
		}
	}
	_, text := fetch(t, metrics+"/metrics")
	for _, line := range []string{"dixie_http_connections 3\n", "dixie_http_connections_refused_total 2\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("no line %q", line)
		}
	}
	if n := strings.Count(s.log.String(), "connections are refused"); n != 1 {
		t.Errorf("the log says it %d times:\n%s", n, s.log)
	}
	for _, aside := range []string{metrics, profiles} {
		for range 32 {
			s.open(aside)
		}
		if response, _ := s.say(s.open(aside), "/metrics"); response.StatusCode != 503 {
			t.Errorf("%s: status %d above the limit", aside, response.StatusCode)
		}
	}
	free := serve(t, []string{"DIXIE_MAX_CONNECTIONS=0"})
	for range 100 {
		free.open(free.url)
	}
	if _, text := fetch(t, free.url+"/metrics"); !strings.Contains(text, "dixie_http_connections_refused_total 0\n") {
		t.Errorf("without a limit:\n%s", text)
	}
	_, stderr, err := cli(t, []string{"DIXIE_MAX_CONNECTIONS=-1"}, "serve", "--dev", "--port", "0")
	if err == nil || !strings.Contains(stderr, "DIXIE_MAX_CONNECTIONS") {
		t.Errorf("%v: %s", err, stderr)
	}
}

// TestSizes: nothing that is sent may be larger than it is said, and a connection
// whose request was too large is closed.
func TestSizes(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	var bomb bytes.Buffer
	packed := gzip.NewWriter(&bomb)
	_, _ = io.WriteString(packed, strings.Repeat("\n", 64<<20))
	_ = packed.Close()
	event := strings.TrimSuffix(string(history(7, 1, 1)), "\n")
	for name, tt := range map[string]struct {
		path, kind, encoding, body string
		status                     int
		want                       string
	}{
		"append":           {"/api/reputation/bear-1/events", "application/json", "", strings.Repeat(" ", 1<<20+1), 413, "body_too_large"},
		"sign-in":          {"/api/auth/siwe", "application/json", "", strings.Repeat(" ", 32<<10+1), 413, "body_too_large"},
		"anything else":    {"/api/admin/allowlist", "application/json", "", strings.Repeat(" ", 100<<10+1), 413, "body_too_large"},
		"gzip bomb":        {"/api/reputation/events", ndjson, "gzip", bomb.String(), 413, "body_too_large"},
		"gzip elsewhere":   {"/api/reputation/bear-1/events", "application/json", "gzip", bomb.String(), 400, "is not valid JSON"},
		"line of any size": {"/api/reputation/events", ndjson, "", strings.Repeat("x", 8<<20) + "\n" + event, 200, `"appended":1,"duplicates":0,"rejected":1`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range map[string]string{"Authorization": "Bearer " + devKey, "Content-Type": tt.kind, "Content-Encoding": tt.encoding} {
				if value != "" {
					request.Header.Set(name, value)
				}
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			text, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != tt.status || !strings.Contains(string(text), tt.want) || response.Close != (tt.status == 413) {
				t.Errorf("status %d, closed %t, %v: %s", response.StatusCode, response.Close, err, text)
			}
		})
	}
}
