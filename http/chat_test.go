package http_test

import (
	"encoding/json"
	"fmt"
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dixie/http"
	"dixie/internal/fakefinn"
	"dixie/reputation"
)

// TestChat: the first message begins a session, and the next goes on with it.
func TestChat(t *testing.T) {
	t.Parallel()
	s, finn := behind(t, openMemory)
	first := s.do(t, chat("alice", `{"prompt":"hello, bear","more":true}`).with("X-Request-Id", "m-1")).said(t)
	if first.Response != "You said: hello, bear" || first.MessageID != "m-1" {
		t.Errorf("answer %+v", first)
	}
	second := s.do(t, chat("alice", fmt.Sprintf(`{"prompt":"again","sessionId":%q}`, first.SessionID)).with("X-Request-Id", "m-2")).said(t)
	if second.SessionID != first.SessionID || second.Response != "You said: again" || second.MessageID != "m-2" {
		t.Errorf("answer %+v", second)
	}
	asked := finn.Requests("/api/sessions")
	var got []string
	for _, r := range asked {
		got = append(got, fmt.Sprintf("%s %s %s %s %s", r.Method, r.Path, r.Header.Get("X-Request-Id"), r.Header.Get("X-Wallet-Address"), r.Body))
		if r.Header.Get("Authorization") != "" {
			t.Errorf("finn got the caller's key: %s", r.Header)
		}
	}
	alice := wallets["alice"]
	same(t, "requests to finn", got, []string{
		"POST /api/sessions m-1 " + alice + ` {"agentId":"oracle","messageId":"m-1"}`,
		"POST /api/sessions/" + first.SessionID + "/message m-1 " + alice + ` {"text":"hello, bear","prompt":"hello, bear","messageId":"m-1"}`,
		"POST /api/sessions/" + first.SessionID + "/message m-2 " + alice + ` {"text":"again","prompt":"again","messageId":"m-2"}`,
	})
	// What is said twice is not said once.
	third := s.do(t, chat("alice", fmt.Sprintf(`{"prompt":"again","sessionId":%q}`, first.SessionID)))
	third.said(t)
	again := finn.Requests("/message")
	if again[1].Header.Get("X-Idempotency-Key") == again[2].Header.Get("X-Idempotency-Key") {
		t.Error("two messages have one key")
	}
}

// TestChatRequests that are refused before finn hears of them, and some that are
// not.
func TestChatRequests(t *testing.T) {
	t.Parallel()
	s, finn := behind(t, openMemory)
	prompt := func(text string) string {
		body, _ := json.Marshal(map[string]string{"prompt": text})
		return string(body)
	}
	for _, tt := range []struct {
		body   string
		status int
		code   string
	}{
		{prompt("a"), 200, ""},
		{prompt(strings.Repeat("ä", 10_000)), 200, ""},
		{`{"prompt":"a","sessionId":null}`, 200, ""},
		{`{"prompt":"a","sessionId":""}`, 200, ""},
		{prompt(""), 400, "invalid_request"},
		{prompt(strings.Repeat("a", 10_001)), 400, "invalid_request"},
		{prompt(strings.Repeat("a", 101<<10)), 413, "body_too_large"},
		{`{}`, 400, "invalid_request"},
		{`{"prompt":7}`, 400, "invalid_request"},
		{`{"prompt":["a"]}`, 400, "invalid_request"},
		{`[]`, 400, "invalid_request"},
		{``, 400, "invalid_request"},
		{`"a"`, 400, "invalid_request"},
		{`{"prompt":"a"`, 400, "invalid_request"},
		{`{"prompt":"a"}{}`, 400, "invalid_request"},
		{`{"prompt":"a","prompt":"b"}`, 400, "invalid_request"},
		{"{\"prompt\":\"\xff\"}", 400, "invalid_request"},
		{`{"prompt":"\ud800"}`, 400, "invalid_request"},
		{`{"prompt":"a","sessionId":7}`, 400, "invalid_request"},
	} {
		before := len(finn.Requests(""))
		got := s.do(t, chat("append", tt.body)).want(t, tt.status)
		if tt.status == 200 {
			got.said(t)
			continue
		}
		if f := got.wantError(t, tt.status, tt.code); len(finn.Requests("")) != before {
			t.Errorf("%.50s: finn was asked, %s", tt.body, f.Message)
		}
	}
	s.do(t, chat("append", prompt("a")).with("Content-Type", "text/plain")).wantError(t, 415, "unsupported_media_type")
	s.do(t, chat("read", prompt("a"))).wantError(t, 403, "insufficient_scope")
	s.do(t, chat(anyone, prompt("a"))).wantError(t, 401, "unauthorized")
	c := chat("append", prompt("a"))
	c.path += "?a=b"
	s.do(t, c).wantProblem(t, "a")
}

// TestSessionIDs: a session's id can name nothing but a session.
func TestSessionIDs(t *testing.T) {
	t.Parallel()
	s, finn := behind(t, openMemory)
	for _, id := range []string{
		"..", ".", "../../health", "a/b", `a\b`, "%2e%2e", "a%2fb", "a?b", "a#b", "a b", "a\r\nX-Injected: yes", "a\x00", "ä", "a.b", "a:b",
		strings.Repeat("a", 129),
	} {
		body, _ := json.Marshal(map[string]string{"prompt": "hello", "sessionId": id})
		s.do(t, chat("alice", string(body))).wantProblem(t, "sessionId")
	}
	if n := len(finn.Requests("")); n != 0 {
		t.Errorf("finn was asked %d times", n)
	}
	s.do(t, chat("alice", `{"prompt":"hello","sessionId":"`+strings.Repeat("a", 128)+`"}`)).wantError(t, 404, "upstream_error")
}

// TestSessionIDOfFinn: finn is not trusted with a path either.
func TestSessionIDOfFinn(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{`"../../api/admin"`, `".."`, `""`, `7`, `null`} {
		b := openMemory(t)
		answer = fmt.Sprintf(`{"response":"hello","sessionId":%s}`, answer)
		s := serve(t, b, func(c *http.Config) { c.Upstream, c.Ownership = upstreamOf(answer), owning{} })
		s.do(t, chat("append", `{"prompt":"hello"}`)).wantError(t, 502, "upstream_error")
	}
}

// TestChatErrors: of finn's errors callers get the meaning, and none of the words.
func TestChatErrors(t *testing.T) {
	t.Parallel()
	s, finn := behind(t, openMemory)
	for _, tt := range []struct {
		status int
		code   string
		want   int
		as     string
		retry  string
	}{
		{402, "BUDGET_EXCEEDED", 402, "usage_limit", ""},
		{500, "BUDGET_EXCEEDED", 402, "usage_limit", ""},
		{429, "RATE_LIMITED", 429, "rate_limited", "60"},
		{503, "ORACLE_MODEL_UNAVAILABLE", 503, "service_unavailable", "1"},
		{400, "PROVIDER_UNAVAILABLE", 502, "service_unavailable", ""},
		{400, "INVALID_REQUEST", 400, "upstream_error", ""},
		{404, "SESSION_NOT_FOUND", 404, "upstream_error", ""},
		{409, "", 409, "upstream_error", ""},
		{401, "AUTH_REQUIRED", 502, "upstream_error", ""},
		{407, "", 502, "upstream_error", ""},
		{302, "", 502, "upstream_error", ""},
		{500, "PROMPT_FAILED", 500, "upstream_error", ""},
		{503, "", 503, "upstream_error", "1"},
	} {
		finn.Change(func(b *fakefinn.Behaviour) { b.Status, b.Code = tt.status, tt.code })
		got := s.do(t, chat("alice", `{"prompt":"hello"}`))
		f := got.wantError(t, tt.want, tt.as)
		if retry := got.header.Get("Retry-After"); retry != tt.retry || f.RetryAfter != 0 && fmt.Sprint(f.RetryAfter) != retry {
			t.Errorf("%d %s: Retry-After %q, %s", tt.status, tt.code, retry, got.body)
		}
		if strings.Contains(fmt.Sprint(got.header, got.body), fakefinn.Secret) {
			t.Errorf("%d: the answer has finn's words: %s", tt.status, got.body)
		}
		finn.Change(func(b *fakefinn.Behaviour) { b.Status = 0 })
		s.do(t, chat("alice", `{"prompt":"hello"}`)).said(t) // keeps the circuit closed
	}
}

// performance is what finn thinks of an answer.
var performance = map[string]any{
	"task_type": "analysis", "model_id": "gpt-4o", "provider": "openai", "pool_id": "alpha",
	"quality_observation": map[string]any{"score": 0.75, "dimensions": map[string]any{"accuracy": 0.5}, "latency_ms": 12, "evaluated_by": "judge-1"},
}

// TestOutcome: what a chat tells of the agent is in the log when the answer
// arrives.
func TestOutcome(t *testing.T) {
	t.Parallel()
	const id = "0b9f6c1e-3c1a-4d09-9c1c-2f1f6f0f6a11"
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			s, finn := behind(t, b.open)
			finn.Change(func(b *fakefinn.Behaviour) { b.Reply = performance })
			s.do(t, chat("alice", `{"prompt":"hello"}`).with("X-Request-Id", id)).said(t)
			events := s.eventuallyLearnt(t, "mibera:42", 2)
			completed, ok := events[0].Body.(reputation.TaskCompleted)
			if !ok || completed.TaskType != "analysis" || !completed.Success || completed.DurationMS == nil || *completed.DurationMS < 0 || *completed.DurationMS > patience.Milliseconds() {
				t.Errorf("event %+v", events[0].Body)
			}
			latency := int64(12)
			want := reputation.ModelPerformance{
				ModelID: "gpt-4o", Provider: "openai", PoolID: "alpha", TaskType: "analysis",
				Observation: reputation.QualityObservation{
					Score: 0.75, Dimensions: reputation.Dimensions{{Name: "accuracy", Score: 0.5}}, LatencyMS: &latency, EvaluatedBy: "judge-1",
				},
				RequestContext: &reputation.RequestContext{RequestID: id},
			}
			if diff := cmp.Diff(reputation.Body(want), events[1].Body); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
			for _, e := range events {
				if e.AgentID != "mibera:42" || e.CollectionID != "mibera" || !e.Timestamp.Time().Equal(now) {
					t.Errorf("event %+v", e)
				}
			}
			// The client did not get the answer and sends the message again.
			s.do(t, chat("alice", `{"prompt":"hello"}`).with("X-Request-Id", id)).said(t)
			s.do(t, chat("alice", `{"prompt":"hello"}`)).said(t)
			closeServer(t, s.server)
			if n := len(s.learnt(t, "mibera:42")); n != 4 {
				t.Errorf("%d events of two messages, want 4", n)
			}
		})
	}
}

// eventuallyLearnt is what the log has of an NFT, once it has so many events. On a
// machine that is not busy it has them at once.
func (s *service) eventuallyLearnt(t testing.TB, nft string, count int) []reputation.Event {
	t.Helper()
	eventually(t, fmt.Sprint(count, " events"), func() bool { return len(s.learnt(t, nft)) >= count })
	return s.learnt(t, nft)
}

// TestReplies: what finn says of its answer counts as far as it is valid.
func TestReplies(t *testing.T) {
	t.Parallel()
	changed := func(name string, value any) map[string]any {
		reply := map[string]any{}
		for n, v := range performance {
			reply[n] = v
		}
		reply[name] = value
		return reply
	}
	for name, tt := range map[string]struct {
		reply map[string]any
		task  reputation.TaskType
		both  bool
		pool  string
	}{
		"nothing":          {nil, "unspecified", false, ""},
		"task":             {map[string]any{"task_type": "legal-guild:contract_review"}, "legal-guild:contract_review", false, ""},
		"strange task":     {map[string]any{"task_type": "Analysis"}, "unspecified", false, ""},
		"all":              {performance, "analysis", true, "alpha"},
		"no pool":          {changed("pool_id", nil), "analysis", true, "default"},
		"no model":         {changed("model_id", ""), "analysis", false, ""},
		"no observation":   {changed("quality_observation", nil), "analysis", false, ""},
		"bad score":        {changed("quality_observation", map[string]any{"score": 1.5}), "analysis", false, ""},
		"bad observation":  {changed("quality_observation", "good"), "analysis", false, ""},
		"more observation": {changed("quality_observation", map[string]any{"score": 1, "more": true}), "analysis", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, finn := behind(t, openMemory)
			finn.Change(func(b *fakefinn.Behaviour) { b.Reply = tt.reply })
			s.do(t, chat("alice", `{"prompt":"hello"}`).with("X-Request-Id", "m-1")).said(t)
			closeServer(t, s.server)
			events := s.learnt(t, "mibera:42")
			if (len(events) == 2) != tt.both || len(events) == 0 {
				t.Fatalf("events %+v", events)
			}
			if task := events[0].Body.(reputation.TaskCompleted).TaskType; task != tt.task {
				t.Errorf("task type %s, want %s", task, tt.task)
			}
			if tt.both {
				if p := events[1].Body.(reputation.ModelPerformance); p.PoolID != tt.pool || p.RequestContext != nil {
					t.Errorf("event %+v", p)
				}
			}
		})
	}
}

// TestCollection: the event names the collection that the agent has already.
func TestCollection(t *testing.T) {
	t.Parallel()
	s, _ := behind(t, openMemory)
	s.do(t, appendTo("mibera:42", strings.Replace(signal(1, 0.5), `"collection_id":"`, `"collection_id":"older-`, 1))).want(t, 201)
	s.settle(t)
	s.do(t, chat("alice", `{"prompt":"hello"}`)).said(t)
	events := s.eventuallyLearnt(t, "mibera:42", 2)
	if events[0].CollectionID != events[1].CollectionID || !strings.HasPrefix(events[1].CollectionID, "older-") {
		t.Errorf("collections %s and %s", events[0].CollectionID, events[1].CollectionID)
	}
}

// TestNobodysOutcome: callers without an NFT chat like others, and nothing is
// learnt.
func TestNobodysOutcome(t *testing.T) {
	t.Parallel()
	s, finn := behind(t, openMemory)
	finn.Give(wallets["bob"], fakefinn.NFT{Collection: "strange id", Token: "1"})
	for _, caller := range []string{"append", "carol", "bob"} {
		s.do(t, chat(caller, `{"prompt":"hello"}`)).said(t)
	}
	closeServer(t, s.server)
	if head := s.head(t); head != 0 {
		t.Errorf("%d events", head)
	}
}

// TestNoCollection: an event that had to guess the collection would decide it for
// ever.
func TestNoCollection(t *testing.T) {
	t.Parallel()
	var log journal
	b := openMemory(t)
	s := serve(t, b, log.keep, func(c *http.Config) {
		c.Upstream, c.Ownership = upstreamOf(`{"sessionId":"a","response":"hello"}`), owning{{ID: "bear-1"}}
		c.Authenticator = walletRing{c.Authenticator}
	})
	s.do(t, chat("alice", `{"prompt":"hello"}`)).said(t)
	closeServer(t, s.server)
	if head := s.head(t); head != 0 || !strings.Contains(log.String(), "collection_id") {
		t.Errorf("%d events; the log: %s", head, log.String())
	}
}

// TestChatWithoutIdentity: that finn does not know who owns what breaks no chat.
// The event is stored when it does.
func TestChatWithoutIdentity(t *testing.T) {
	t.Parallel()
	s, finn := behind(t, openMemory)
	finn.Change(func(b *fakefinn.Behaviour) { b.Trouble, b.Only = fakefinn.Failing, "/api/identity/" })
	s.do(t, chat("alice", `{"prompt":"hello"}`)).said(t)
	if head := s.head(t); head != 0 {
		t.Errorf("%d events", head)
	}
	finn.Change(func(b *fakefinn.Behaviour) { b.Trouble = fakefinn.Well })
	s.eventuallyLearnt(t, "mibera:42", 1)
}

// TestStreamedChat: pieces arrive as finn sends them, and the outcome is stored
// when the last has.
func TestStreamedChat(t *testing.T) {
	t.Parallel()
	s, finn := behind(t, openMemory)
	finn.Change(func(b *fakefinn.Behaviour) { b.Reply, b.Pause = performance, time.Millisecond })
	c := chat("alice", `{"prompt":"one two three"}`).with("Accept", "text/event-stream").with("X-Request-Id", "m-1")
	got := s.do(t, c).want(t, 200)
	if n := strings.Count(got.body, "event: delta\n"); n != 3 || !strings.Contains(got.body, `"response":"You said: one two three"`) {
		t.Errorf("%d pieces: %s", n, got.body)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Session-Id": "session-1", "X-Message-Id": "m-1", "X-Finn-Internal": "",
	} {
		if value := got.header.Get(name); value != want {
			t.Errorf("%s: %q, want %q", name, value, want)
		}
	}
	if events := s.eventuallyLearnt(t, "mibera:42", 2); events[1].Type() != reputation.TypeModelPerformance {
		t.Errorf("events %+v", events)
	}
}

// TestStreamArrives: the first piece is there long before the last.
func TestStreamArrives(t *testing.T) {
	t.Parallel()
	s, finn := behind(t, openMemory)
	finn.Change(func(b *fakefinn.Behaviour) { b.Pause = time.Hour })
	c := chat("alice", `{"prompt":"one two"}`).with("Accept", "text/event-stream")
	response, err := s.web.Client().Do(c.request(t, s.web.URL))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := readBody(response.Body, 1); err != nil || !strings.Contains(text, `"delta":"one"`) {
		t.Errorf("%q, %v", text, err)
	}
	_ = response.Body.Close() // the client leaves
	closeServer(t, s.server)
	if head := s.head(t); head != 0 {
		t.Errorf("%d events of an answer that nobody got", head)
	}
}

// deaf is a client who cannot be written to.
type deaf struct{ nethttp.ResponseWriter }

func (deaf) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestDeafClient: nothing is learnt from an answer that did not arrive.
func TestDeafClient(t *testing.T) {
	t.Parallel()
	s := newInTime(t)
	c := chat("alice", `{"prompt":"one two"}`).with("Accept", "text/event-stream")
	s.server.ServeHTTP(deaf{httptest.NewRecorder()}, c.request(t, "http://dixie.example"))
	closeServer(t, s.server)
	if n := len(s.learnt(t, "mibera:42")); n != 0 {
		t.Errorf("%d events", n)
	}
}

// TestBrokenStream: when finn breaks off, so does the answer, and nothing is
// learnt.
func TestBrokenStream(t *testing.T) {
	t.Parallel()
	broken := nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if strings.HasSuffix(r.URL.Path, "/message") {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: half\n\n")
			_ = nethttp.NewResponseController(w).Flush()
			panic(nethttp.ErrAbortHandler)
		}
		populated().ServeHTTP(w, r)
	})
	web := quiet(t, broken)
	s := newService(t, openMemory, ask(t, web))
	c := chat("alice", `{"prompt":"hello"}`).with("Accept", "text/event-stream")
	response, err := s.web.Client().Do(c.request(t, s.web.URL))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err == nil || !strings.Contains(string(text), "half") {
		t.Errorf("%q, %v", text, err)
	}
	closeServer(t, s.server)
	if head := s.head(t); head != 0 {
		t.Errorf("%d events of half an answer", head)
	}
}

// TestRubbishChat: an answer that is no reply is not passed on.
func TestRubbishChat(t *testing.T) {
	t.Parallel()
	for _, body := range []string{``, `{}`, `{"response":7}`, `[]`, `"hello"`, `{"response":"a"`, `{"response":"` + strings.Repeat("a", 1<<20) + `"}`} {
		s := serve(t, openMemory(t), func(c *http.Config) { c.Upstream, c.Ownership = upstreamOf(body), owning{} })
		s.do(t, chat("append", `{"prompt":"hello","sessionId":"a"}`)).wantError(t, 502, "upstream_error")
	}
}
