package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dixie/internal/pgtest"
	"dixie/reputation"
)

// The three ways to fold a history give the same aggregates to the byte: the
// server in memory, the server on PostgreSQL, and a replay of the file.
func TestMemoryPostgresAndReplayAgree(t *testing.T) {
	t.Parallel()
	lines := history(1, 4000, 60)
	path := file(t, "history.ndjson", lines)
	want := map[string]string{}
	for line := range strings.Lines(mustCLI(t, nil, "replay", path, "--json")) {
		nft, fields := splitAgent(t, line)
		want[nft] = fields
	}
	for name, env := range map[string][]string{
		"memory":   nil,
		"postgres": {"DATABASE_URL=" + pgtest.EmptyURL(t)},
	} {
		s := serve(t, env)
		var report importReport
		s.post("/api/reputation/events", ndjson, bytes.NewReader(lines), http.StatusOK, &report)
		if report.Appended != 4000 || report.Rejected != 0 {
			t.Fatalf("%s: imported %+v", name, report)
		}
		for nft, fields := range want {
			if got := s.agent(nft, report.Position); got != fields {
				t.Fatalf("%s: %s\n got %s\nwant %s", name, nft, got, fields)
			}
		}
	}
}

// compared are the members that a replayed agent and the reputation view share.
var compared = []string{
	"blended_score", "collection_id", "collection_score", "contributor_count", "contract_version", "created_at",
	"dimension_scores", "last_updated", "min_sample_count", "model_cohorts", "nft_id", "personal_score",
	"pool_id", "pseudo_count", "sample_count", "state", "task_cohorts", "transition_history",
}

func splitAgent(t *testing.T, line string) (nft, fields string) {
	t.Helper()
	var all map[string]json.RawMessage
	if err := json.Unmarshal([]byte(line), &all); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if err := json.Unmarshal(all["nft_id"], &nft); err != nil {
		t.Fatal(err)
	}
	return nft, pick(t, all)
}

func pick(t *testing.T, all map[string]json.RawMessage) string {
	t.Helper()
	picked := map[string]json.RawMessage{}
	for _, name := range compared {
		if all[name] == nil {
			t.Fatalf("%s is missing", name)
		}
		picked[name] = all[name]
	}
	text, err := json.Marshal(picked)
	if err != nil {
		t.Fatal(err)
	}
	canonical, err := reputation.Canonical(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(canonical)
}

// agent reads a reputation that contains the log up to a position.
func (s *server) agent(nft string, position int64) string {
	s.t.Helper()
	var view, cohorts map[string]json.RawMessage
	s.get(fmt.Sprintf("/api/reputation/%s?at_least=%d&wait=30s", nft, position), http.StatusOK, &view)
	// The view shows the most recent cohorts first; this route has all, in order.
	s.get("/api/reputation/"+nft+"/cohorts", http.StatusOK, &cohorts)
	view["task_cohorts"] = cohorts["cohorts"]
	return pick(s.t, view)
}

// A server that is killed in the middle of an import loses nothing that it
// acknowledged and counts nothing twice: after a restart the import is repeated,
// and the log has each event once.
func TestKillInTheMiddleOfAnImport(t *testing.T) {
	t.Parallel()
	const events = 30_000
	lines := history(2, events, 500)
	path := file(t, "history.ndjson", lines)
	url := pgtest.EmptyURL(t)
	env := []string{"DATABASE_URL=" + url}

	killed := 0
	for attempt := range 4 {
		s := serve(t, env)
		answered := make(chan bool, 1)
		go func() {
			response, _, err := s.do(http.MethodPost, "/api/reputation/events", ndjson, bytes.NewReader(lines))
			answered <- err == nil && response.StatusCode == http.StatusOK
		}()
		waitForEvents(t, url, int64(2000*(attempt+1)))
		s.kill()
		if !<-answered {
			killed++
		}
	}
	if killed == 0 {
		t.Fatal("no import was interrupted: the test shows nothing")
	}

	s := serve(t, env)
	var report importReport
	s.post("/api/reputation/events", ndjson, bytes.NewReader(lines), http.StatusOK, &report)
	if report.Lines != events || report.Rejected != 0 || report.Appended+report.Duplicates != events || report.Position != events {
		t.Fatalf("the repeated import counted %+v", report)
	}
	assertGapless(t, url, events)
	s.assertEqualsReplay(url, path, report.Position)
}

// assertEqualsReplay compares every stored row with a replay of the file in a
// fresh process. The order of the file is the order of the log, also when an
// import was interrupted and repeated.
func (s *server) assertEqualsReplay(url, path string, position int64) {
	s.t.Helper()
	var health struct {
		Projections map[string]struct {
			SetAside int64 `json:"set_aside"`
		}
	}
	s.get(fmt.Sprintf("/api/reputation?limit=1&at_least=%d&wait=30s", position), http.StatusOK, nil)
	s.get("/api/health", http.StatusOK, &health)
	for name, p := range health.Projections {
		if p.SetAside != 0 {
			s.t.Errorf("%s set %d events aside", name, p.SetAside)
		}
	}
	fromFile := mustCLI(s.t, nil, "replay", path, "--json")
	fromLog := mustCLI(s.t, []string{"DATABASE_URL=" + url}, "replay", "--json")
	if fromFile != fromLog {
		s.t.Error("a replay of the log differs from a replay of the file")
	}
	for line := range strings.Lines(fromFile) {
		nft, want := splitAgent(s.t, line)
		if got := s.agent(nft, position); got != want {
			s.t.Fatalf("%s\n got %s\nwant %s", nft, got, want)
		}
	}
}

func waitForEvents(t *testing.T, url string, least int64) {
	t.Helper()
	conn := connect(t, url)
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		var n int64
		if err := conn.QueryRow(t.Context(), `SELECT coalesce(max(position), 0) FROM reputation_events`).Scan(&n); err == nil && n >= least {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("fewer than %d events after a minute", least)
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

func assertGapless(t *testing.T, url string, events int64) {
	t.Helper()
	var count, head, ids int64
	err := connect(t, url).QueryRow(t.Context(),
		`SELECT count(*), max(position), count(DISTINCT id) FROM reputation_events`).Scan(&count, &head, &ids)
	if err != nil {
		t.Fatal(err)
	}
	if count != events || head != events || ids != events {
		t.Errorf("%d rows, head %d, %d ids; want %d of each", count, head, ids, events)
	}
}

// An event that another program inserts by plain SQL is folded like any other.
func TestPlainInsertIsFolded(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	s := serve(t, []string{"DATABASE_URL=" + url})
	_, err := connect(t, url).Exec(t.Context(),
		`INSERT INTO reputation_events (nft_id, event_type, event) VALUES ($1, $2, $3)`, "bear-1", "quality_signal",
		`{"type":"quality_signal","event_id":"11111111-1111-4111-8111-111111111111","agent_id":"bear-1","collection_id":"honey","timestamp":"2026-02-25T12:00:00Z","score":0.9}`)
	if err != nil {
		t.Fatal(err)
	}
	var view struct {
		BlendedScore float64 `json:"blended_score"`
	}
	s.get("/api/reputation/bear-1?at_least=1&wait=30s", http.StatusOK, &view)
	if view.BlendedScore != 0.6 {
		t.Errorf("blended score %v, want 0.6", view.BlendedScore)
	}
}

// Reputations survive a restart, and a stop on SIGTERM is clean.
func TestRestartKeepsReputations(t *testing.T) {
	t.Parallel()
	env := []string{"DATABASE_URL=" + pgtest.EmptyURL(t)}
	s := serve(t, env)
	var report importReport
	s.post("/api/reputation/events", ndjson, bytes.NewReader(history(3, 500, 20)), http.StatusOK, &report)
	before := s.agent("agent:7", report.Position)
	if code := s.stop(); code != 0 {
		t.Fatalf("exit code %d after SIGTERM:\n%s", code, s.log)
	}
	s = serve(t, env)
	if after := s.agent("agent:7", report.Position); after != before {
		t.Errorf("after the restart\n got %s\nwant %s", after, before)
	}
}

// A request that has begun is answered although the server was told to stop.
func TestStopAnswersWhatHasBegun(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	body, writer := io.Pipe()
	answered := make(chan importReport, 1)
	go func() {
		defer close(answered)
		if _, text, err := s.do(http.MethodPost, "/api/reputation/events", ndjson, body); err == nil {
			var report importReport
			_ = json.Unmarshal(text, &report)
			answered <- report
		}
	}()
	lines := history(4, 2000, 20)
	most := len(lines) * 3 / 4 // more than the server stores at once
	_, _ = writer.Write(lines[:most])
	for begun := ""; begun == ""; { // until it has stored some, the server may not have seen the request
		_, text, err := s.do(http.MethodGet, "/api/reputation/events?limit=1", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		begun = string(text)
	}
	stopped := make(chan int, 1)
	go func() { stopped <- s.stop() }()
	time.Sleep(200 * time.Millisecond)
	_, _ = writer.Write(lines[most:])
	_ = writer.Close()
	if report := <-answered; report.Appended != 2000 {
		t.Errorf("the import counted %+v, want 2000 appended", report)
	}
	if code := <-stopped; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// Two servers on one database: one projects, the other takes over when it is
// killed, and every event is folded once.
func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	env := []string{"DATABASE_URL=" + url}
	first, second := serve(t, env), serve(t, env)
	lines := history(5, 3000, 50)
	path := file(t, "history.ndjson", lines)
	half := bytes.IndexByte(lines[len(lines)/2:], '\n') + len(lines)/2 + 1
	var report importReport
	first.post("/api/reputation/events", ndjson, bytes.NewReader(lines[:half]), http.StatusOK, &report)
	first.kill()
	second.post("/api/reputation/events", ndjson, bytes.NewReader(lines[half:]), http.StatusOK, &report)
	second.assertEqualsReplay(url, path, report.Position)
}

// A server that finds an old schema, or no schema, says which command to run, and
// does not migrate by itself.
func TestServeRefusesAnOldSchema(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	_, stderr, err := cli(t, []string{"DATABASE_URL=" + url}, "serve", "--port", "0")
	if err == nil || !strings.Contains(stderr, "dixie migrate up") {
		t.Errorf("error %v, output %q", err, stderr)
	}
	var tables int
	if err := connect(t, url).QueryRow(t.Context(),
		`SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&tables); err != nil || tables != 0 {
		t.Errorf("%d tables were made, error %v", tables, err)
	}
}

// Projections that are ahead of the log mean that the log was restored from an
// older backup: the server does not fold another history on top.
func TestServeRefusesAnotherLog(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	_, err := connect(t, url).Exec(t.Context(),
		`INSERT INTO projection_checkpoints (projection, version, position) VALUES ('aggregates', 'x', 7)`)
	if err != nil {
		t.Fatal(err)
	}
	_, stderr, err := cli(t, []string{"DATABASE_URL=" + url}, "serve", "--port", "0")
	if err == nil || !strings.Contains(stderr, "position 7") || !strings.Contains(stderr, "dixie rebuild aggregates") {
		t.Errorf("error %v, output %q", err, stderr)
	}
}

// All that is wrong with the settings is told at once, and secrets are not.
func TestBadSettings(t *testing.T) {
	t.Parallel()
	_, stderr, err := cli(t, []string{"DIXIE_SCORING_ALPHA_MIN=2", "DIXIE_SCORING_PSEUDO_COUNT=0", "DIXIE_DEV_API_KEY=short-secret"}, "serve", "--dev", "--port", "0")
	if err == nil {
		t.Fatal("bad settings were accepted")
	}
	for _, part := range []string{"alpha_min", "pseudo_count", "DIXIE_DEV_API_KEY"} {
		if !strings.Contains(stderr, part) {
			t.Errorf("the message does not name %s: %s", part, stderr)
		}
	}
	if strings.Contains(stderr, "short-secret") {
		t.Errorf("the message has the key: %s", stderr)
	}
}
