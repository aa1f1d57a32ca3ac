package http_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	nethttp "net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/*.golden instead of comparing with them")

// golden compares a text with the file of that name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; make it with -update", err)
	}
	same(t, path, got, string(want))
}

// notShown are headers that say nothing about an answer: those of every answer,
// which have tests of their own, and what the transport adds.
var notShown = []string{
	"Content-Security-Policy", "Referrer-Policy", "Strict-Transport-Security", "X-Content-Type-Options", "X-Frame-Options",
	"Content-Length", "Date",
}

// transcript writes a call and its answer down. The same answers give the same
// text, and different ones another, save for when an event was stored.
func (s *service) transcript(t testing.TB, c call) string {
	t.Helper()
	a := s.do(t, c.with("X-Request-Id", "a-test"))
	var text strings.Builder
	fmt.Fprintf(&text, "> %s %s\n", c.verb(), shown(c.path))
	fmt.Fprintf(&text, "> by: %s\n", c.caller())
	writeHeader(&text, "> ", maps.All(c.header))
	if c.body != "" {
		fmt.Fprintf(&text, ">\n> %s\n", strings.ReplaceAll(shown(strings.TrimSuffix(c.body, "\n")), "\n", "\n> "))
	}
	fmt.Fprintf(&text, "< %d %s\n", a.status, nethttp.StatusText(a.status))
	writeHeader(&text, "< ", func(yield func(string, string) bool) {
		for name, values := range a.header {
			if !slices.Contains(notShown, name) && !yield(name, strings.Join(values, ", ")) {
				return
			}
		}
	})
	text.WriteString(readable(t, a))
	return text.String()
}

// shown leaves out the middle of what is very long.
func shown(s string) string {
	if len(s) <= 4000 {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", s[:40], len(s))
}

func writeHeader(text *strings.Builder, prefix string, header func(func(string, string) bool)) {
	var rows []string
	header(func(name, value string) bool {
		rows = append(rows, prefix+name+": "+value+"\n")
		return true
	})
	slices.Sort(rows)
	text.WriteString(strings.Join(rows, ""))
}

// storedAt is when the log stored an event, the one thing that no test can know.
var storedAt = regexp.MustCompile(`("position":\d+,"created_at":")[^"]+`)

// readable is the body with lines. The order of members and the spelling of
// numbers stay as they are.
func readable(t testing.TB, a answer) string {
	t.Helper()
	body := storedAt.ReplaceAllString(a.body, "${1}2026-02-25T12:00:00.123456Z")
	if body == "" || a.header.Get("Content-Type") != "application/json" {
		return body
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, []byte(body), "", "  "); err != nil {
		t.Fatalf("indent %s: %v", body, err)
	}
	return indented.String()
}

// transcripts are those of all exchanges, in their order, on an empty log.
func transcripts(t *testing.T, s *service) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, exchange := range exchanges(t) {
		var parts []string
		for _, c := range exchange.calls {
			parts = append(parts, s.transcript(t, c))
		}
		texts[exchange.name] = strings.Join(parts, "\n")
		s.settle(t)
	}
	return texts
}

// TestAnswers holds every kind of answer, and that memory and PostgreSQL give the
// same.
func TestAnswers(t *testing.T) {
	t.Parallel()
	inMemory := transcripts(t, newService(t, openMemory))
	inPostgres := transcripts(t, newService(t, openPostgres))
	for name, text := range inMemory {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			golden(t, name, text)
			same(t, "PostgreSQL answers otherwise than memory", inPostgres[name], text)
		})
	}
}

// exchange is a golden file.
type exchange struct {
	name  string
	calls []call
}

// exchanges are made in order: the history is told first, and what is appended
// last is not in the answers before.
func exchanges(t testing.TB) []exchange {
	told := history(t)
	return slices.Concat(
		[]exchange{{"import", []call{bulk(told), bulk(told)}}},
		readExchanges, pastExchanges, logExchanges, errorExchanges, appendExchanges, resetExchanges, operationsExchanges,
	)
}

func gets(paths ...string) []call {
	calls := make([]call, len(paths))
	for i, path := range paths {
		calls[i].path = path
	}
	return calls
}

var readExchanges = []exchange{
	{"reputation", gets("/api/reputation/bear-1", "/api/reputation/bear-2?at_least=10&wait=30s")},
	{"reputation-cold", gets("/api/reputation/cub-1")},
	{"reputation-escaped-id", gets("/api/reputation/mibera%3A42")},
	{"reputation-not-modified", []call{
		{path: "/api/reputation/bear-1", header: map[string]string{"If-None-Match": "*"}},
		{path: "/api/reputation/bear-1", header: map[string]string{"If-None-Match": `W/"another"`}, method: nethttp.MethodHead},
	}},
	{"cohorts", gets("/api/reputation/bear-1/cohorts", "/api/reputation/cub-1/cohorts")},
	{"cohorts-task", gets("/api/reputation/bear-1/cohorts?task=analysis", "/api/reputation/cub-1/cohorts?task=analysis")},
	{"score-task-cohort", gets(
		"/api/reputation/bear-1/score?task=analysis",
		"/api/reputation/bear-1/score?task=legal-guild:contract_review&model=native",
	)},
	{"score-aggregate", gets(
		"/api/reputation/bear-1/score",
		"/api/reputation/bear-1/score?model=native",
		"/api/reputation/bear-1/score?model=gpt-4o&task=general",
	)},
	{"score-tier-default", gets("/api/reputation/cub-1/score", "/api/reputation/cub-1/score?model=native&task=analysis")},
	{"query", gets(
		"/api/reputation/query?routingKey=nft:bear-1",
		"/api/reputation/query?routingKey=nft:mibera:42",
		"/api/reputation/query?routingKey=nft:cub-1",
		"/api/reputation/query?routingKey=nft:nobody",
	)},
	{"finn-score", gets(
		"/reputation/bear-1", "/reputation/mibera%3A42", "/reputation/cub-1", "/reputation/nobody", "/reputation/a%2Fb",
	)},
	{"list", gets(
		"/api/reputation",
		"/api/reputation?limit=2",
		"/api/reputation?limit=2&cursor=YmVhci0y",
		"/api/reputation?state=cold",
		"/api/reputation?state=authoritative&limit=1000",
	)},
	{"population", gets(
		"/api/reputation/population",
		"/api/reputation/population?limit=1",
		"/api/reputation/population?limit=1&cursor=aG9uZXk",
	)},
	{"root-livez-readyz", []call{
		{path: "/", key: anyone}, {path: "/livez", key: anyone}, {path: "/readyz", key: anyone},
	}},
}

var logExchanges = []exchange{
	{"history", gets(
		"/api/reputation/bear-1/events?limit=2",
		"/api/reputation/bear-1/events?limit=2&after=7",
		"/api/reputation/bear-1/events?after=8",
	)},
	{"history-ndjson", []call{
		{path: "/api/reputation/bear-2/events", header: map[string]string{"Accept": "application/x-ndjson"}},
		{path: "/api/reputation/bear-1/events?after=1&limit=2", header: map[string]string{"Accept": "application/x-ndjson"}},
		{path: "/api/reputation/bear-1/events?after=8", header: map[string]string{"Accept": "application/x-ndjson"}},
	}},
	{"log-ndjson", gets(
		"/api/reputation/events",
		"/api/reputation/events?after=4&limit=2",
		"/api/reputation/events?after=10",
	)},
	{"log-sse", []call{
		{path: "/api/reputation/events?after=7", header: map[string]string{"Accept": "text/event-stream"}, blocks: 4},
		{
			path:   "/api/reputation/events",
			header: map[string]string{"Accept": "text/event-stream", "Last-Event-ID": "9"}, blocks: 2,
		},
	}},
}

var errorExchanges = []exchange{
	{"error-400-parameters", gets(badParameters...)},
	{"error-400-last-event-id", []call{
		{path: "/api/reputation/events", header: map[string]string{"Accept": "text/event-stream", "Last-Event-ID": "-1"}},
		{path: "/api/reputation/events?limit=1", header: map[string]string{"Accept": "text/event-stream"}},
	}},
	{"error-401-no-token", []call{
		{path: "/api/reputation", key: anyone},
		{path: "/api/reputation", key: anyone, header: map[string]string{"Authorization": "Basic YTpi"}},
	}},
	{"error-401-unknown-token", []call{
		{path: "/api/reputation", key: anyone, header: map[string]string{"Authorization": "Bearer dxk_unknown"}},
	}},
	{"error-403-scope", []call{
		{path: "/api/reputation", key: "append,admin"},
		bulk("").as("read"),
		appendTo("bear-1", "").as("admin"),
	}},
	{"error-403-reset", []call{appendTo("bear-1", array(signal(1, 0.5), reset(2)))}},
	{"error-404-route", []call{{path: "/nowhere", key: anyone}, {path: "/api/reputation/"}, {path: "/api/reputation/bear-1/nowhere"}}},
	{"error-404-nft", gets(
		"/api/reputation/nobody", "/api/reputation/nobody/cohorts",
		"/api/reputation/nobody/score", "/api/reputation/nobody/events",
	)},
	{"error-405", []call{
		{path: "/livez", method: nethttp.MethodPost, key: anyone},
		{path: "/api/reputation/bear-1", method: nethttp.MethodDelete},
		{path: "/api/reputation/query", method: nethttp.MethodPost},
		{path: "/api/reputation/events", method: nethttp.MethodPut},
		{path: "/api/reputation/bear-1/events", method: nethttp.MethodOptions, key: anyone},
	}},
	{"error-413", []call{appendTo("bear-1", strings.Repeat(" ", 1<<20+1))}},
	{"error-415", []call{
		appendTo("bear-1", "").with("Content-Type", "text/plain"),
		bulk("").with("Content-Type", "application/json"),
		bulk("").with("Content-Encoding", "br"),
	}},
	{"error-503-behind", gets("/api/reputation/bear-1?at_least=1000&wait=1ms")},
}

// badParameters has each value that a route refuses.
var badParameters = []string{
	"/api/reputation/a%2Fb",
	"/api/reputation/bear%201/score",
	"/api/reputation/" + strings.Repeat("a", 256) + "/cohorts",
	"/api/reputation/bear+1/events",
	"/api/reputation?state=hot",
	"/api/reputation?state=",
	"/api/reputation?limit=0",
	"/api/reputation?limit=1001",
	"/api/reputation?limit=many",
	"/api/reputation?cursor=%21",
	"/api/reputation?cursor=YQ%0A",
	"/api/reputation?limit=%2B7",
	"/api/reputation/population?cursor=YQ%3D%3D",
	"/api/reputation?at_least=-1",
	"/api/reputation?at_least=9007199254740992",
	"/api/reputation?at_least=1&wait=2",
	"/api/reputation?at_least=1&wait=-1s",
	"/api/reputation?at_least=1&wait=31s",
	"/api/reputation?wait=1s",
	"/api/reputation/bear-1/cohorts?task=Analysis",
	"/api/reputation/bear-1/score?task=",
	"/api/reputation/bear-1/score?model=",
	"/api/reputation/bear-1/score?model=" + strings.Repeat("m", 256),
	"/api/reputation/query",
	"/api/reputation/query?routingKey=bear-1",
	"/api/reputation/query?routingKey=nft:a%2Fb",
	"/api/reputation/events?after=-1",
	"/api/reputation/events?after=1.5",
	"/api/reputation/bear-1/events?limit=1001",
	"/api/reputation/bear-1?verbose=true",
	"/api/reputation/bear-1?at_least=1&at_least=2",
	"/api/reputation/bear-1?a=%zz",
	"/api/health?verbose=true",
}

var appendExchanges = []exchange{
	{"append", []call{appendTo("bear-3", signal(1, 0.5)), appendTo("bear-3", signal(1, 0.5))}},
	{"append-array", []call{appendTo("bear-3", array(signal(1, 0.5), signal(2, 0.25), signal(2, 0.25)))}},
	{"append-conflict", []call{appendTo("bear-3", array(signal(1, 0.75), signal(3, 0.5), signal(2, 0)))}},
	{"append-invalid", []call{
		appendTo("bear-3", `{"type":"model_performance","event_id":"1","agent_id":"","timestamp":"yesterday","model_id":7,`+
			`"provider":"openai","colour":"blue","quality_observation":{"score":1.5,"dimensions":{"Coherence":0.5,"depth":-1}}}`),
		appendTo("bear-3", array(
			signal(4, 0.5), signal(5, 1.5, `,"x":1`), `7`, signal(6, 0.5, `,"score":0.5`), `{"type":"unheard_of"}`,
		)),
		appendTo("bear-3", `{"type":`),
		appendTo("bear-3", ``),
		appendTo("bear-3", `[]`),
		appendTo("bear-3", `[`+signal(4, 0.5)),
		appendTo("bear-3", `[`+signal(4, 0.5)+`] and more`),
	}},
	{"import-rejected", []call{bulk(
		lines("bear-3", signal(4, 0.5), signal(5, 2), reset(6)) +
			"not JSON\n" +
			`{"nft_id":"a/b","event":` + signal(7, 0.5) + "}\n" +
			`{"nft_id":"bear-3"}` + "\n" +
			`{"event":{"type":"quality_signal","event_id":"` + eventID(8) + `","agent_id":"a bear","collection_id":"honey",` +
			`"timestamp":"2026-02-25T12:00:00Z","score":0.5}}` + "\n" +
			lines("bear-3", signal(1, 0.75)),
	)}},
}
