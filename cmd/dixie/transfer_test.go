package main_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dixie/internal/pgtest"
)

// migrated is the environment of a fresh migrated database.
func migrated(t *testing.T) []string {
	t.Helper()
	return []string{"DATABASE_URL=" + pgtest.URL(t)}
}

// What export writes import reads back to the same log, compressed by name, with
// events that only SQL could have written, and through a server as well.
func TestExportImport(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	from := []string{"DATABASE_URL=" + url}
	mustCLI(t, from, "import", file(t, "history.ndjson", history(10, 1500, 30)))
	for _, row := range [][3]string{
		{"agent:1", "quality_signal", `{"type":"unknown"}`},
		{"agent:1", "quality_signal", `[1,2]`},
		{"agent:1", "quality_signal", `{"event_id":"99999999-9999-4999-8999-999999999999","type":"quality_signal","score":"high"}`},
		{"agent:1", "quality_signal", `{"note":"` + strings.Repeat("x", 200_000) + `"}`},
		{"not an NFT", "", `{"type":"unknown","n":1}`},
		{"", "", `null`},
	} {
		if _, err := connect(t, url).Exec(t.Context(),
			`INSERT INTO reputation_events (nft_id, event_type, event) VALUES ($1, $2, $3)`, row[0], row[1], row[2]); err != nil {
			t.Fatal(err)
		}
	}
	first := filepath.Join(t.TempDir(), "log.ndjson.gz")
	mustCLI(t, from, "export", first)

	to := migrated(t)
	mustCLI(t, to, "import", "--keep-invalid", first)
	if diff := cmp.Diff(exported(t, from), exported(t, to)); diff != "" {
		t.Errorf("the log that was read back differs (-written +read):\n%s", diff)
	}

	_, stderr, err := cli(t, migrated(t), "import", first)
	if err == nil || !strings.Contains(stderr, "6 of 1506 lines were rejected") {
		t.Errorf("error %v, output %s", err, stderr)
	}
}

var createdAt = regexp.MustCompile(`"created_at":"[^"]*",`)

// exported are the lines of an export without the times of storing.
func exported(t *testing.T, env []string) []string {
	t.Helper()
	return strings.Split(createdAt.ReplaceAllString(mustCLI(t, env, "export", "-"), ""), "\n")
}

func TestExportImportThroughServer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "history.ndjson")
	if err := os.WriteFile(path, history(11, 1500, 30), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, nil)
	through := []string{"--url", s.url, "--key", devKey}
	mustCLI(t, nil, append([]string{"import", path}, through...)...)
	out := filepath.Join(t.TempDir(), "log.ndjson.gz")
	mustCLI(t, nil, append([]string{"export", out}, through...)...)

	env := migrated(t)
	mustCLI(t, env, "import", out)
	mustCLI(t, env, "import", path)
	if got := strings.Count(mustCLI(t, env, "export", "-"), "\n"); got != 1500 {
		t.Errorf("%d events after importing both, want 1500", got)
	}

	// gzip goes through a server as it is.
	var report importReport
	mustCLI(t, nil, append([]string{"import", out}, through...)...)
	s.post("/api/reputation/events", ndjson, strings.NewReader(""), http.StatusOK, &report)
	if report.Position != 1500 {
		t.Errorf("the log has %d events, want 1500", report.Position)
	}
}

// Importing a file twice changes nothing, and tells so.
func TestImportTwice(t *testing.T) {
	t.Parallel()
	env := migrated(t)
	path := file(t, "history.ndjson", history(12, 2500, 30))
	_, first, err := cli(t, env, "import", path)
	if err != nil || !strings.Contains(first, "2500 appended, 0 duplicates, 0 rejected") {
		t.Errorf("first: %v: %s", err, first)
	}
	_, second, err := cli(t, env, "import", path)
	if err != nil || !strings.Contains(second, "0 appended, 2500 duplicates, 0 rejected") {
		t.Errorf("second: %v: %s", err, second)
	}
}

func TestImportNamesRejectedLines(t *testing.T) {
	t.Parallel()
	lines := string(history(13, 2, 1)) + "\n{\"event\":{}}\nnonsense\n"
	_, stderr, err := cli(t, migrated(t), "import", file(t, "history.ndjson", []byte(lines)))
	if err == nil {
		t.Error("rejected lines were passed over in silence")
	}
	for _, part := range []string{"line 4: event.agent_id: is required", "line 5: is not valid JSON", "2 of 4 lines were rejected"} {
		if !strings.Contains(stderr, part) {
			t.Errorf("%q is missing from %s", part, stderr)
		}
	}
}

func TestReplayOneAgent(t *testing.T) {
	t.Parallel()
	event := func(id int, rest string) string {
		return fmt.Sprintf(`{"event":{"event_id":"00000000-0000-4000-8000-%012d","agent_id":"bear-1","collection_id":"honey","timestamp":"2026-02-25T12:00:0%dZ",%s}}`+"\n", id, id, rest)
	}
	path := file(t, "history.ndjson", []byte(
		event(1, `"type":"quality_signal","score":0.9`)+
			event(2, `"type":"task_completed","task_type":"analysis","success":true`)+
			event(1, `"type":"quality_signal","score":0.9`)+ // again: not counted
			event(3, `"type":"reputation_reset","reason":"stolen","actor":"admin"`)))
	got := mustCLI(t, nil, "replay", path, "--nft", "bear-1")
	want := `       1  2026-02-25T12:00:01Z  quality_signal             - -> 0.600000  warming
       2  2026-02-25T12:00:02Z  task_completed      0.600000 -> 0.600000
       3  2026-02-25T12:00:03Z  reputation_reset    0.600000 -> 0.500000  warming -> cold
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, stderr, err := cli(t, nil, "replay", path, "--nft", "bear-2"); err == nil || !strings.Contains(stderr, "no event of bear-2") {
		t.Errorf("unknown agent: %v: %s", err, stderr)
	}
}

func TestMigrateAndStatus(t *testing.T) {
	t.Parallel()
	env := []string{"DATABASE_URL=" + pgtest.EmptyURL(t)}
	for _, step := range []struct {
		args []string
		want string
	}{
		{[]string{"migrate", "status"}, "pending"},
		{[]string{"migrate", "up"}, "applied 005_reputation"},
		{[]string{"migrate", "up"}, "the schema is current"},
		{[]string{"migrate", "status"}, "applied 20"},
		{[]string{"status"}, "aggregates    stopped        -"},
	} {
		if got := mustCLI(t, env, step.args...); !strings.Contains(got, step.want) {
			t.Errorf("dixie %s: %q is missing from\n%s", strings.Join(step.args, " "), step.want, got)
		}
	}
}

// A key that apikey new prints works, within its scopes, and its file does not
// hold it.
func TestAPIKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.json")
	env := []string{"DIXIE_ALLOWLIST_PATH=" + path}
	secret := strings.TrimSpace(mustCLI(t, env, "apikey", "new", "--name", "reader", "--scopes", "read"))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), secret) {
		t.Error("the file holds the key itself")
	}
	s := serve(t, env)
	for _, c := range []struct {
		key, method string
		status      int
	}{
		{secret, http.MethodGet, http.StatusNotFound},
		{secret, http.MethodPost, http.StatusForbidden},
		{secret + "x", http.MethodGet, http.StatusUnauthorized},
	} {
		path := "/api/reputation/bear-1"
		if c.method == http.MethodPost {
			path += "/events"
		}
		request, err := http.NewRequestWithContext(t.Context(), c.method, s.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+c.key)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != c.status {
			t.Errorf("%s with %q: %d, want %d", c.method, c.key[:8], response.StatusCode, c.status)
		}
	}
}
