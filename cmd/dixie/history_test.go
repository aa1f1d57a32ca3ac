package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dixie/internal/pgtest"
)

// told is a line of a history, as an export has it when it has a position.
func told(position int, nft, rest string) string {
	exported := ""
	if position > 0 {
		exported = fmt.Sprintf(`"position":%d,"created_at":"2026-03-01T00:00:%02d.5Z",`, position, position)
	}
	return fmt.Sprintf(`{%s"nft_id":%q,"event":{"event_id":"00000000-0000-4000-8000-%012d","agent_id":"a","collection_id":"honey",`+
		`"timestamp":"2026-02-25T12:00:00Z",%s}}`+"\n", exported, nft, position, rest)
}

func toldScore(position int, nft string, score float64) string {
	return told(position, nft, fmt.Sprintf(`"type":"quality_signal","score":%v`, score))
}

// A replay shows the past at points, step by step, of a file without any server. An
// export tells its positions and times, of which the second is no event.
func TestReplayPoints(t *testing.T) {
	t.Parallel()
	path := file(t, "export.ndjson", []byte(
		toldScore(1, "bear-1", 0.9)+
			`{"position":2,"created_at":"2026-03-01T00:00:02.5Z","nft_id":"bear-1","event":{"a":1}}`+"\n"+
			toldScore(3, "bear-2", 0.4)+
			told(4, "bear-1", `"type":"task_completed","task_type":"analysis","success":true`)+
			told(7, "bear-1", `"type":"reputation_reset","reason":"stolen","actor":"admin"`)))
	const header = "NFT     STATE           BLENDED  PERSONAL  SAMPLES\n"
	const first = "bear-1  warming        0.600000  0.900000        1\n"
	const second = first + "bear-2  warming        0.775000  0.400000        1\n"
	for _, tt := range []struct{ args, want string }{
		{"--until 1", header + first},
		{"--until 2", header + first},
		{"--until 3", header + second},
		{"--until 2026-03-01T00:00:03.499Z", header + first},
		{"--until 2026-03-01T00:00:03.5Z", header + second},
		{"--until 2026-03-01T02:00:03.5+02:00", header + second},
		{"--at 3", "at 3, after position 3\n" + header + second},
		{"--at 5", "at 5, after position 4\n" + header + strings.Replace(second, "0.600000", "0.525000", 1)},
		{"--at 2026-03-01T00:00:02.7Z --at 1", "at 1, after position 1\n" + header + first +
			"at 2026-03-01T00:00:02.7Z, after position 2\n" + header + first},
		{"--at 3 --nft bear-2", "at 3, after position 3\n" + header + "bear-2  warming        0.775000  0.400000        1\n"},
		{"--at 7 --until 7 --nft bear-1", "at 7, after position 7\n" + header + "bear-1  cold           0.400000         -        0\n"},
		{"--until 3 --nft bear-1", "       1  2026-02-25T12:00:00Z  quality_signal             - -> 0.600000  warming\n"},
		{"--steps", "       1  bear-1                    2026-02-25T12:00:00Z  quality_signal             - -> 0.600000  warming\n" +
			"       3  bear-2                    2026-02-25T12:00:00Z  quality_signal             - -> 0.775000  warming\n" +
			"       4  bear-1                    2026-02-25T12:00:00Z  task_completed      0.600000 -> 0.525000\n" +
			"       7  bear-1                    2026-02-25T12:00:00Z  reputation_reset    0.525000 -> 0.400000  warming -> cold\n"},
		{"--steps --json --until 2", `{"blended_score":0.6,"collection_score":0.5,"created_at":"2026-03-01T00:00:01.5Z",` +
			`"event_id":"00000000-0000-4000-8000-000000000001","nft_id":"bear-1","personal_score":0.9,"position":1,"sample_count":1,` +
			`"state":"warming","timestamp":"2026-02-25T12:00:00Z","type":"quality_signal"}` + "\n"},
	} {
		if got := mustCLI(t, nil, append([]string{"replay", path}, strings.Fields(tt.args)...)...); got != tt.want {
			t.Errorf("%s:\ngot\n%s\nwant\n%s", tt.args, got, tt.want)
		}
	}
}

func TestReplayRefusesPoints(t *testing.T) {
	t.Parallel()
	path := file(t, "plain.ndjson", []byte(toldScore(0, "bear-1", 0.9)))
	for _, tt := range []struct{ args, want string }{
		{"--until yesterday", "--until must be a position, or an RFC 3339 date"},
		{"--at -1", "--at must be a position, or an RFC 3339 date"},
		{"--until 2", "--until 2 lies beyond the end of the history, which is at position 1"},
		{"--until 2 --steps", "which is at position 1; the steps that were shown are all that there are"},
		{"--at 1 --at 2", "--at 2 lies beyond the end of the history, which is at position 1"},
		{"--at 1 --until 0", "--at 1 lies beyond --until 0"},
		{"--until 2026-03-01T00:00:00Z", "it is not known when the event after position 1 was stored"},
		{"--at 2026-03-01T00:00:00Z", "it is not known when the event after position 1 was stored"},
		{"--until 0 --nft bear-1", "no event of bear-1"},
		{"--snapshot", "--snapshot needs --nft"},
		{"--snapshot --nft bear-1 --steps", "goes with neither --steps nor --at"},
		{"--snapshot --nft bear-1 --at 1", "goes with neither --steps nor --at"},
	} {
		_, stderr, err := cli(t, nil, append([]string{"replay", path}, strings.Fields(strings.ReplaceAll(tt.args, "--at -1", "--at=-1"))...)...)
		if err == nil || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: %v: %s", tt.args, err, stderr)
		}
	}
}

// What a server says of the past, and the hash of a snapshot, is what anyone gets who
// has the export, also where only SQL can have written an event.
func TestPastFromAnExport(t *testing.T) {
	t.Parallel()
	url := pgtest.EmptyURL(t)
	env := []string{"DATABASE_URL=" + url}
	s := serve(t, env)
	var report importReport
	s.post("/api/reputation/events", ndjson, bytes.NewReader(history(20, 600, 8)), http.StatusOK, &report)
	for _, garbage := range []string{`{"a":1e-7}`, `"text"`, `{"type":"quality_signal","score":2}`} {
		if _, err := connect(t, url).Exec(t.Context(),
			`INSERT INTO reputation_events (nft_id, event_type, event) VALUES ('agent:3', 'x', $1)`, garbage); err != nil {
			t.Fatal(err)
		}
	}
	s.post("/api/reputation/events", ndjson, bytes.NewReader(history(21, 200, 8)), http.StatusOK, &report)
	s.post("/api/admin/reputation/agent:3/reset", "application/json", strings.NewReader(`{"reason":"a test"}`), http.StatusCreated, nil)
	export := filepath.Join(t.TempDir(), "log.ndjson.gz")
	mustCLI(t, env, "export", export)
	for _, beyond := range []string{"--until", "--at"} { // which the log tells before anything is shown
		stdout, stderr, err := cli(t, env, "replay", "--steps", beyond, "805")
		if err == nil || stdout != "" || !strings.Contains(stderr, beyond+" 805 lies beyond the end of the history, which is at position 804\n") {
			t.Errorf("%s: %v\n%s%s", beyond, err, stdout, stderr)
		}
	}
	for _, position := range []int{5, 300, 601, 603, 700, 804} {
		for _, nft := range []string{"agent:3", "agent:5"} {
			var view map[string]json.RawMessage
			s.get(fmt.Sprintf("/api/reputation/%s?as_of=%d&wait=30s", nft, position), http.StatusOK, &view)
			args := []string{"--nft", nft, "--until", fmt.Sprint(position)}
			fromFile := mustCLI(t, nil, append([]string{"replay", export, "--json"}, args...)...)
			compareAgent(t, nft, fromFile, view)
			if fromLog := mustCLI(t, env, append([]string{"replay", "--json"}, args...)...); fromLog != fromFile {
				t.Errorf("%s at %d: the log gives %s, its export %s", nft, position, fromLog, fromFile)
			}
			var served, fileSnapshot, logSnapshot map[string]any
			s.get(fmt.Sprintf("/api/reputation/%s/snapshot?as_of=%d", nft, position), http.StatusOK, &served)
			decode(t, mustCLI(t, nil, append([]string{"replay", export, "--snapshot"}, args...)...), &fileSnapshot)
			decode(t, mustCLI(t, env, append([]string{"replay", "--snapshot"}, args...)...), &logSnapshot)
			for _, other := range []map[string]any{fileSnapshot, logSnapshot} {
				other["snapshot_at"] = served["snapshot_at"] // when each was made
				if fmt.Sprint(other) != fmt.Sprint(served) {
					t.Errorf("%s at %d:\nserved   %v\nreplayed %v", nft, position, served, other)
				}
			}
		}
	}
}

func decode(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// compareAgent compares a replayed agent with a view, save for the order in which
// they show cohorts.
func compareAgent(t *testing.T, nft, replayed string, view map[string]json.RawMessage) {
	t.Helper()
	var want map[string]json.RawMessage
	decode(t, replayed, &want)
	for _, name := range slices.DeleteFunc(slices.Clone(compared), func(name string) bool { return name == "task_cohorts" }) {
		var a, b any
		decode(t, string(want[name]), &a)
		decode(t, string(view[name]), &b)
		if fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%s: %s is %s, a replay gives %s", nft, name, view[name], want[name])
		}
	}
}

// Status tells who projects, in whatever process, and what is to be done when the
// scoring settings have changed.
func TestStatus(t *testing.T) {
	t.Parallel()
	env := []string{"DATABASE_URL=" + pgtest.EmptyURL(t)}
	other := append(slices.Clone(env), "DIXIE_SCORING_PRESET=dixie")
	s := serve(t, env)
	var report importReport
	s.post("/api/reputation/events", ndjson, bytes.NewReader(history(22, 300, 5)), http.StatusOK, &report)
	s.get("/api/reputation/agent:1?at_least=300&wait=30s", http.StatusOK, nil)

	pid := fmt.Sprintf("process %d, since 20", s.cmd.Process.Pid)
	wantStatus(t, env, "aggregates    running", "cohorts       running", " 300         300           0          0s", pid)
	wantStatus(t, other, "aggregates    running", "give it the settings of the projector", "`dixie rebuild cohorts`")
	var served struct {
		Projections []struct {
			Projection, State string
			Here              string   `json:"this_process"`
			Rate              *float64 `json:"events_per_second"`
		}
	}
	s.get("/api/projections", http.StatusOK, &served)
	for _, p := range served.Projections {
		if p.State != "running" || p.Here != "running" || p.Rate == nil {
			t.Errorf("served %+v", p)
		}
	}
	if code := s.stop(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	wantStatus(t, env, "aggregates    stopped", "none; the last was ")
	wantStatus(t, other, "aggregates    needs rebuild", "`dixie rebuild aggregates`", "`dixie rebuild cohorts`")
	mustCLI(t, other, "rebuild")
	wantStatus(t, other, "aggregates    stopped", "cohorts       stopped")
	var told map[string][]map[string]any
	decode(t, mustCLI(t, env, "status", "--json"), &told)
	if len(told["projections"]) != 2 || told["projections"][0]["state"] != "needs rebuild" {
		t.Errorf("as JSON %v", told)
	}
}

// wantStatus waits until the status has all parts: the session of a process that has
// ended takes a moment to end.
func wantStatus(t *testing.T, env []string, parts ...string) {
	t.Helper()
	var status string
	for deadline := time.Now().Add(time.Minute); ; {
		status = mustCLI(t, env, "status")
		missing := slices.IndexFunc(parts, func(part string) bool { return !strings.Contains(status, part) })
		if missing < 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q is missing from\n%s", parts[missing], status)
		}
	}
}

// withFailures is a database without a server, where two of four events of bear-1 were
// set aside: the third, of another collection, and the fourth, which is none.
func withFailures(t *testing.T) (url string, env []string) {
	t.Helper()
	url = pgtest.EmptyURL(t)
	env = []string{"DATABASE_URL=" + url}
	s := serve(t, env)
	if got := mustCLI(t, env, "failures", "retry"); got != "no event was set aside\n" {
		t.Errorf("retry of nothing: %s", got)
	}
	var report importReport
	s.post("/api/reputation/events", ndjson, strings.NewReader(
		toldScore(1, "bear-1", 0.9)+toldScore(2, "bear-1", 0.5)+
			strings.Replace(toldScore(3, "bear-1", 0.5), "honey", "mead", 1)), http.StatusOK, &report)
	if _, err := connect(t, url).Exec(t.Context(),
		`INSERT INTO reputation_events (nft_id, event_type, event) VALUES ('bear-1', 'x', '{"b":1,"a":1.0}')`); err != nil {
		t.Fatal(err)
	}
	s.get("/api/reputation/bear-1?at_least=4&wait=30s", http.StatusOK, nil) // of both projections
	if code := s.stop(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	return url, env
}

// What was set aside can be listed and shown, and what was not is no failure.
func TestFailures(t *testing.T) {
	t.Parallel()
	_, env := withFailures(t)
	const third = "         3  bear-1                    collection_mismatch   bear-1 belongs to collection"
	const fourth = "         4  bear-1                    invalid_event"
	for _, tt := range []struct {
		args    string
		parts   []string
		without string
	}{
		{"list", []string{third, fourth}, "cohorts"},
		{"list cohorts --after 3 --json", []string{`"nft_id":"bear-1","position":4,"reason":"invalid_event"}`}, "mismatch"},
		{"list --limit 1", []string{third}, "invalid_event"},
		{"list publisher", []string{"publisher: no event is set aside\n"}, "POSITION"},
		{"list --after 4", []string{"aggregates: no event is set aside after position 4\n"}, "POSITION"},
		{"list publisher --json", nil, "event"},
		{"show 4", []string{`"event_type": "x"`, `"projection": "aggregates"`, `"projection": "cohorts"`, `"b": 1`, `"reason": "invalid_event"`}, "mismatch"},
	} {
		got := mustCLI(t, env, append([]string{"failures"}, strings.Fields(tt.args)...)...)
		for _, part := range tt.parts {
			if !strings.Contains(got, part) {
				t.Errorf("failures %s: %q is missing from\n%s", tt.args, part, got)
			}
		}
		if strings.Contains(got, tt.without) {
			t.Errorf("failures %s: %q is in\n%s", tt.args, tt.without, got)
		}
	}
	for args, want := range map[string]string{
		"show 1":  "no projection has set the event at position 1 aside: dixie failures list tells",
		"show 9":  "the log, whose head is 4, has no event at position 9: dixie failures list tells",
		"retry 1": "no projection has set the event at position 1 aside",
		"retry":   "no event would be folded now", "retry 3 --rebuild": "no event would be folded now",
	} {
		if _, stderr, err := cli(t, env, append([]string{"failures"}, strings.Fields(args)...)...); err == nil || !strings.Contains(stderr, want) {
			t.Errorf("failures %s: %v: %s", args, err, stderr)
		}
	}
}

// An event that would be accepted now is folded by a rebuild, in its place, and never
// into the rows that are there.
func TestRetry(t *testing.T) {
	t.Parallel()
	url, env := withFailures(t)
	// As if an older version had not known the type of the second event.
	if _, err := connect(t, url).Exec(t.Context(), `
		INSERT INTO projection_failures (projection, position, nft_id, reason, detail)
		VALUES ('aggregates', 2, 'bear-1', 'invalid_event', 'type: unknown'), ('cohorts', 2, 'bear-1', 'invalid_event', 'type: unknown')`); err != nil {
		t.Fatal(err)
	}
	got := mustCLI(t, env, "failures", "retry")
	for _, part := range []string{
		"position 2 of bear-1: would be folded\n", "position 3 of bear-1: would be set aside again, collection_mismatch",
		"1 of 3 events would be folded now; dixie rebuild all",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is missing from\n%s", part, got)
		}
	}
	if list := mustCLI(t, env, "failures", "list"); strings.Count(list, "\n") != 4 {
		t.Errorf("asking has changed what was set aside:\n%s", list)
	}
	mustCLI(t, env, "failures", "retry", "2", "--rebuild")
	if list := mustCLI(t, env, "failures", "list"); strings.Count(list, "\n") != 3 || strings.Contains(list, "         2  ") {
		t.Errorf("after the rebuild:\n%s", list)
	}
}
