package main_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"dixie/internal/dixiecmd"
	"dixie/internal/otlptest"
	"dixie/internal/pgtest"
)

// fetch is what anyone gets.
func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// The secrets of a run, none of which may be seen anywhere.
const (
	querySecret    = "query-secret-5d1f"
	argumentSecret = "argument-secret-c03b" // in a query string and then in SQL
	bodySecret     = "body-secret-81aa"
)

// visit sends some traffic of every kind.
func (s *server) visit() {
	s.t.Helper()
	event := func(n int, score float64) string {
		return fmt.Sprintf(`{"type":"model_performance","event_id":"00000000-0000-4000-8000-%012d","agent_id":"bear-1","collection_id":"honey",
			"timestamp":"2026-02-25T12:00:00Z","model_id":"m","provider":"p","pool_id":"a","task_type":"analysis",
			"quality_observation":{"score":%g,"evaluated_by":%q}}`, n, score, bodySecret)
	}
	s.post("/api/reputation/bear-1/events", "application/json", strings.NewReader(event(1, 0.5)), http.StatusCreated, nil)
	s.post("/api/reputation/bear-1/events", "application/json", strings.NewReader(event(1, 0.5)), http.StatusOK, nil)
	s.post("/api/reputation/bear-1/events", "application/json", strings.NewReader(event(1, 0.6)), http.StatusConflict, nil)
	var report importReport
	s.post("/api/reputation/events", ndjson, strings.NewReader(string(history(9, 300, 10))+"no line\n"), http.StatusOK, &report)
	s.get(fmt.Sprintf("/api/reputation/bear-1?at_least=%d&wait=30s", report.Position), http.StatusOK, nil)
	s.get("/api/reputation/bear-1?token="+querySecret, http.StatusBadRequest, nil)
	for _, path := range []string{
		"/", "/livez", "/readyz", "/api/health", "/api/reputation?limit=3", "/api/reputation/query?routingKey=nft:" + argumentSecret,
		"/api/reputation/population", "/api/reputation/events", "/api/reputation/bear-1/events", "/api/reputation/bear-1/score",
		"/api/reputation/bear-1/cohorts",
	} {
		if response, text, err := s.do(http.MethodGet, path, "", nil); err != nil || response.StatusCode != http.StatusOK {
			s.t.Fatalf("%s: %v, %v: %s", path, err, response, text)
		}
	}
	s.get("/nowhere", http.StatusNotFound, nil)
}

// wantNoSecrets fails if a text has one of a run's secrets.
func wantNoSecrets(t *testing.T, what, text string) {
	t.Helper()
	for _, secret := range []string{devKey, querySecret, argumentSecret, bodySecret, "Bearer", "token="} {
		if strings.Contains(text, secret) {
			at := strings.Index(text, secret)
			t.Errorf("%s show %q: …%s…", what, secret, text[max(0, at-200):min(len(text), at+100)])
		}
	}
}

// TestTracedRun: a server with a collector traces requests, batches, pages and
// queries, together where they belong together; when it stops it sends what is
// left; and neither traces nor metrics nor the log have a secret in them.
func TestTracedRun(t *testing.T) {
	t.Parallel()
	collector := otlptest.Start(t)
	s := serve(t, []string{"DATABASE_URL=" + pgtest.EmptyURL(t), "OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "LOG_LEVEL=debug"})
	s.visit()
	_, metrics := fetch(t, s.url+"/metrics")
	if code := s.stop(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, s.log)
	}
	for _, name := range []string{
		"GET /api/reputation/{nftId}", "POST /api/reputation/{nftId}/events", "POST /api/reputation/events", "GET /api/reputation/events",
		"GET", "append", "project aggregates", "project cohorts", "INSERT", "WITH", "SELECT",
	} {
		if len(collector.Named(name)) == 0 {
			t.Errorf("no span %q", name)
		}
	}
	request, batch := collector.Named("POST /api/reputation/{nftId}/events")[0], collector.Named("append")[0]
	if string(batch.ParentSpanId) != string(request.SpanId) || string(batch.TraceId) != string(request.TraceId) {
		t.Errorf("the append of a lone request is not in its trace: %v, %v", request, batch)
	}
	// The import and the export are one span each, without one for each query.
	for _, name := range []string{"POST /api/reputation/events", "GET /api/reputation/events"} {
		for _, span := range collector.Spans() {
			if string(span.ParentSpanId) == string(collector.Named(name)[0].SpanId) {
				t.Errorf("%s has the child %s", name, span.Name)
			}
		}
	}
	for _, span := range collector.Spans() {
		if path := span.Attribute("url.path"); path == "/livez" || path == "/readyz" || path == "/metrics" || path == "/api/health" {
			t.Errorf("a probe was traced: %s", path)
		}
	}
	wantNoSecrets(t, "traces", collector.Text(t))
	wantNoSecrets(t, "metrics", metrics)
	wantNoSecrets(t, "log lines", s.log.String())
}

// TestCollectorHangs: a collector that does not answer delays the end of a server
// by no more than the time that it has for stopping.
func TestCollectorHangs(t *testing.T) {
	t.Parallel()
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(hanging.Close)
	s := serve(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + hanging.URL, "DIXIE_SHUTDOWN_GRACE=2s"})
	s.get("/api/reputation/bear-1", http.StatusNotFound, nil)
	began := time.Now()
	if code := s.stop(); code != 0 || time.Since(began) > 8*time.Second {
		t.Errorf("exit code %d after %s:\n%s", code, time.Since(began), s.log)
	}
	if !strings.Contains(s.log.String(), "traces cannot be exported") {
		t.Errorf("the log does not say it:\n%s", s.log)
	}
}

// address is where a server says that it serves something besides the API. Its log
// arrives here a moment later than it is written.
func (s *server) address(what string) string {
	s.t.Helper()
	line := regexp.MustCompile(`msg="serving ` + what + `" address=(\S+)`)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if match := line.FindStringSubmatch(s.log.String()); match != nil {
			return "http://" + match[1]
		}
	}
	s.t.Fatalf("it does not say where it serves %s:\n%s", what, s.log)
	return ""
}

// TestServedAside: metrics and profiles have addresses of their own when they are
// asked for, and are then not on the port of the API.
func TestServedAside(t *testing.T) {
	t.Parallel()
	s := serve(t, []string{"DIXIE_METRICS_ADDR=127.0.0.1:0", "DIXIE_PPROF_ADDR=localhost:0"})
	metrics, profiles := s.address("metrics"), s.address("profiles")
	for url, want := range map[string]int{
		metrics + "/metrics": 200, metrics + "/": 404, metrics + "/api/reputation": 404, metrics + "/debug/pprof/": 404,
		profiles + "/debug/pprof/": 200, profiles + "/debug/pprof/heap?debug=1": 200, profiles + "/debug/pprof/goroutine": 200,
		profiles + "/debug/pprof/profile?seconds=1": 200, profiles + "/debug/pprof/trace?seconds=0.1": 200,
		profiles + "/debug/pprof/cmdline": 404, profiles + "/metrics": 404,
		s.url + "/metrics": 404, s.url + "/debug/pprof/": 404,
	} {
		if got, text := fetch(t, url); got != want {
			t.Errorf("%s: status %d, want %d: %.200s", url, got, want, text)
		}
	}
	if code := s.stop(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, s.log)
	}
	for _, url := range []string{metrics + "/metrics", profiles + "/debug/pprof/"} {
		if response, err := http.Get(url); err == nil {
			_ = response.Body.Close()
			t.Errorf("%s still answers", url)
		}
	}
}

// TestProfilesStayOnLoopback: any other address is refused with a reason, together
// with all else that is wrong.
func TestProfilesStayOnLoopback(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{":6060", "0.0.0.0:6060", "[::]:6060", "10.0.0.1:6060", "example.com:6060", "localhost.example.com:6060"} {
		_, stderr, err := cli(t, []string{"DIXIE_PPROF_ADDR=" + addr, "DIXIE_METRICS_ADDR=nowhere"}, "serve", "--dev", "--port", "0")
		if err == nil || !strings.Contains(stderr, "loopback") || !strings.Contains(stderr, addr) || !strings.Contains(stderr, "metrics-addr") {
			t.Errorf("%s: error %v, output %q", addr, err, stderr)
		}
	}
	_, stderr, err := cli(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, "serve", "--dev", "--port", "0")
	if err == nil || !strings.Contains(stderr, "OTEL_EXPORTER_OTLP_PROTOCOL") || !strings.Contains(stderr, "URL") {
		t.Errorf("error %v, output %q", err, stderr)
	}
}

// TestLogLines: each line of a server in production is one JSON object, and the
// lines about a request have its ids, once.
func TestLogLines(t *testing.T) {
	t.Parallel()
	keys := filepath.Join(t.TempDir(), "keys.json")
	key := strings.TrimSpace(mustCLI(t, nil, "apikey", "new", "--name", "tests", "--scopes", "read", "--allowlist-path", keys))
	cmd := exec.Command(dixie, "serve", "--port", "0", "--host", "127.0.0.1", "--allowlist-path", keys)
	cmd.Env = dixiecmd.Environ()
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(pipe)
	next := func(message string) map[string]any {
		for lines.Scan() {
			var line map[string]any
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				t.Fatalf("%v: %s", err, lines.Text())
			}
			if line["msg"] == message {
				return line
			}
		}
		t.Fatalf("no line %q", message)
		return nil
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprint(next("serving")["url"])+"/api/reputation/bear-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + key[strings.LastIndex(key, "dxk_"):], "X-Request-Id": "the-id",
		"Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	line := next("request")
	for name, want := range map[string]any{
		"request_id": "the-id", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "status": 404.0, "caller": "tests",
	} {
		if line[name] != want {
			t.Errorf("%s is %v, want %v", name, line[name], want)
		}
	}
	if took, err := time.ParseDuration(fmt.Sprint(line["duration"])); err != nil || took <= 0 {
		t.Errorf("no duration with a unit: %s", lines.Text())
	}
	if n := strings.Count(lines.Text(), "the-id"); n != 1 {
		t.Errorf("the id is there %d times: %s", n, lines.Text())
	}
}
