package http_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dixie/http"
	"dixie/reputation"
)

// internals is a text that no caller may see.
const internals = "secret: postgres://dixie:hunter2@10.0.0.7/dixie"

// broken is every dependency at once, and fails.
type broken struct{ err error }

func (b broken) Append(context.Context, ...reputation.Entry) ([]reputation.Appended, error) {
	return nil, b.err
}

func (b broken) Read(context.Context, int64, int) ([]reputation.Recorded, error) { return nil, b.err }

func (b broken) History(context.Context, string, int64, int) ([]reputation.Recorded, error) {
	return nil, b.err
}

func (b broken) Head(context.Context) (int64, error) { return 0, b.err }
func (b broken) Changed() <-chan struct{}            { return nil }

func (b broken) Import(context.Context, io.Reader, func(string, *reputation.Event) error, func()) (reputation.ImportReport, error) {
	return reputation.ImportReport{Lines: 3, Appended: 2, Duplicates: 1}, b.err
}

func (b broken) Reputation(context.Context, string) (reputation.Standing, error) {
	return reputation.Standing{}, b.err
}

func (b broken) Score(context.Context, string) (reputation.Score, error) {
	return reputation.Score{}, b.err
}

func (b broken) Unchanged(context.Context, string, reputation.Mark, ...string) (int64, bool, error) {
	return 0, false, b.err
}

func (b broken) List(context.Context, reputation.State, string, int) ([]reputation.StoredAggregate, int64, error) {
	return nil, 0, b.err
}

func (b broken) Populations(context.Context, string, int) ([]reputation.Population, int64, error) {
	return nil, 0, b.err
}

func (b broken) WaitFor(context.Context, int64, ...string) error { return b.err }

func (b broken) PositionAt(context.Context, time.Time) (int64, error) { return 0, b.err }

func (b broken) ReputationAt(context.Context, string, int64) (reputation.Standing, error) {
	return reputation.Standing{}, b.err
}

func (b broken) Timeline(context.Context, string, int64, int64, func(reputation.Step) error) error {
	return b.err
}

func (b broken) Snapshot(context.Context, string, int64) (reputation.Snapshot, error) {
	return reputation.Snapshot{}, b.err
}

func (b broken) Collection(context.Context, string) (string, error) { return "", b.err }

func (b broken) Projections(context.Context) ([]http.ProjectionReport, error) { return nil, b.err }

func (b broken) Failures(context.Context, string, int64, int) ([]reputation.Failure, error) {
	return nil, b.err
}

func (b broken) Authenticate(context.Context, string) (http.Caller, error) {
	return http.Caller{}, b.err
}

func (b broken) Ready(context.Context) error        { return b.err }
func (b broken) Health(context.Context) http.Health { return http.Health{} }

// breakStores makes everything behind the API fail.
func breakStores(err error) func(*http.Config) {
	b := broken{err}
	return func(c *http.Config) {
		c.Log, c.Importer, c.Reputations, c.Past, c.Operations = b, b, b, b, b
	}
}

// storeCalls use each operation of what is behind the API.
var storeCalls = []call{
	appendTo("bear-1", `{"type":"quality_signal","event_id":"11111111-1111-4111-8111-000000000001","agent_id":"a",`+
		`"collection_id":"c","timestamp":"2026-02-25T12:00:00Z","score":0.5}`),
	bulk(""),
	{path: "/api/reputation"},
	{path: "/api/reputation?at_least=1"},
	{path: "/api/reputation/population"},
	{path: "/api/reputation/query?routingKey=nft:bear-1"},
	{path: "/api/reputation/bear-1"},
	{path: "/api/reputation/bear-1/cohorts"},
	{path: "/api/reputation/bear-1/score"},
	{path: "/api/reputation/bear-1/events"},
	{path: "/api/reputation/bear-1/events", header: map[string]string{"Accept": "application/x-ndjson"}},
	{path: "/api/reputation/events"},
	{path: "/api/reputation/bear-1?as_of=1"},
	{path: "/api/reputation/bear-1?as_of=2026-02-25T12:00:00Z"},
	{path: "/api/reputation/bear-1?as_of=0"},
	{path: "/api/reputation/bear-1/timeline"},
	{path: "/api/reputation/bear-1/timeline?from=2026-02-25T12:00:00Z"},
	{path: "/api/reputation/bear-1/timeline?to=7", header: map[string]string{"Accept": "application/x-ndjson"}},
	{path: "/api/reputation/bear-1/snapshot"},
	{path: "/api/reputation/bear-1/snapshot?as_of=0"},
	{path: "/api/projections", key: "admin"},
	{path: "/api/projections/cohorts/failures", key: "admin"},
	resetOf("bear-1", `{"reason":"a test"}`),
}

// TestErrors: what is worth a retry says so, everything else is a 500, and no
// answer tells what happened inside. The log does.
func TestErrors(t *testing.T) {
	t.Parallel()
	secretly := func(err error) error { return fmt.Errorf("%s: %w", internals, err) }
	tests := []struct {
		name   string
		err    error
		status int
		code   string
	}{
		{"unavailable", secretly(reputation.ErrUnavailable), 503, "unavailable"},
		{"too late", secretly(context.DeadlineExceeded), 503, "unavailable"},
		{"behind", secretly(reputation.ErrBehind), 503, "projection_behind"},
		{"unknown", secretly(errors.New("relation does not exist")), 500, "internal_error"},
		{"cancelled by nobody", secretly(context.Canceled), 500, "internal_error"},
		{"the end of something", secretly(io.EOF), 500, "internal_error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var log journal
			s := serve(t, openMemory(t), breakStores(tt.err), log.keep)
			for _, c := range storeCalls {
				got := s.do(t, c)
				f := got.wantError(t, tt.status, tt.code)
				if retry := got.header.Get("Retry-After"); (retry == "1") != (tt.status == 503) || (f.RetryAfter == 1) != (tt.status == 503) {
					t.Errorf("%s: Retry-After %q, %s", c.path, retry, got.body)
				}
				wantNoInternals(t, got)
				// An import that fails tells where the log ends.
				if position := got.header.Get("X-Reputation-Position"); position != "" && c.verb()+" "+c.path != "POST /api/reputation/events" {
					t.Errorf("%s: a failure with the position %s", c.path, position)
				}
			}
			if n := strings.Count(log.String(), "hunter2"); n < len(storeCalls) {
				t.Errorf("the log tells of %d failures, want %d", n, len(storeCalls))
			}
		})
	}
}

// wantNoInternals checks an answer to its last byte.
func wantNoInternals(t testing.TB, a answer) {
	t.Helper()
	text := fmt.Sprint(a.header, a.body)
	for _, word := range []string{"secret", "hunter2", "postgres", "goroutine", ".go:", "panic", "relation"} {
		if strings.Contains(text, word) {
			t.Errorf("the answer tells %q: %s", word, text)
		}
	}
}

// TestImportFails: the answer counts what was stored before the log failed.
func TestImportFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err    error
		status int
		code   string
	}{
		{reputation.ErrUnavailable, 503, "unavailable"},
		{errors.New(internals), 500, "internal_error"},
		{&reputation.ReadError{Line: 7, Err: errors.New(internals)}, 400, "invalid_request"},
	} {
		b := openMemory(t)
		s := serve(t, b, func(c *http.Config) { c.Importer = broken{tt.err} })
		got := s.do(t, bulk(""))
		f := got.wantError(t, tt.status, tt.code)
		same(t, "counts", got.imported(t).counts(), [3]int64{2, 1, 0})
		if !strings.Contains(f.Message, "sending the same file again is safe") {
			t.Errorf("message %q", f.Message)
		}
		wantNoInternals(t, got)
	}
}

// TestAuthenticatorFails: that keys cannot be looked up does not make a key
// unknown.
func TestAuthenticatorFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err    error
		status int
		code   string
	}{
		{fmt.Errorf("%s: %w", internals, http.ErrUnauthenticated), 401, "invalid_token"},
		{fmt.Errorf("%s: %w", internals, reputation.ErrUnavailable), 503, "unavailable"},
		{errors.New(internals), 500, "internal_error"},
	} {
		s := serve(t, openMemory(t), func(c *http.Config) { c.Authenticator = broken{tt.err} })
		got := s.get(t, "/api/reputation")
		got.wantError(t, tt.status, tt.code)
		wantNoInternals(t, got)
		s.get(t, "/livez").want(t, 200)
	}
}

// panicky panics.
type panicky struct{ http.Reputations }

func (panicky) List(context.Context, reputation.State, string, int) ([]reputation.StoredAggregate, int64, error) {
	panic(internals)
}

func (panicky) Score(context.Context, string) (reputation.Score, error) {
	panic(errors.New(internals))
}

func (panicky) Reputation(context.Context, string) (reputation.Standing, error) {
	var nothing *reputation.Standing
	return *nothing, nil
}

// TestPanic: a panic is a 500 without detail, the log has the rest, and the
// server goes on.
func TestPanic(t *testing.T) {
	t.Parallel()
	var log journal
	s := serve(t, openMemory(t), func(c *http.Config) { c.Reputations = panicky{} }, log.keep)
	for _, path := range []string{"/api/reputation", "/api/reputation/query?routingKey=nft:a", "/api/reputation/bear-1"} {
		got := s.get(t, path)
		got.wantError(t, 500, "internal_error")
		wantNoInternals(t, got)
	}
	s.get(t, "/livez").want(t, 200)
	if text := log.String(); !strings.Contains(text, "hunter2") || !strings.Contains(text, "faults_test.go") {
		t.Errorf("the log has neither reason nor place: %s", text)
	}
}

// TestPanicInTheMiddle: when an answer has begun, the connection breaks off.
func TestPanicInTheMiddle(t *testing.T) {
	t.Parallel()
	server := http.NewServer(openMemory(t).config(t))
	server.Probe("/probe", func(w nethttp.ResponseWriter, _ *nethttp.Request) {
		_, _ = io.WriteString(w, "half of it")
		_ = nethttp.NewResponseController(w).Flush()
		panic(internals)
	})
	response, err := nethttp.Get(listen(t, server).URL + "/probe")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) || string(body) != "half of it" {
		t.Errorf("%q, %v", body, err)
	}
}

// hanging waits until its caller gives up.
type hanging struct {
	broken
	begun chan struct{}
	ended chan error
}

func newHanging() hanging {
	return hanging{begun: make(chan struct{}, 1), ended: make(chan error, 1)}
}

func (h hanging) wait(ctx context.Context) error {
	h.begun <- struct{}{}
	<-ctx.Done()
	h.ended <- ctx.Err()
	return fmt.Errorf("hanging: %w", ctx.Err())
}

func (h hanging) Append(ctx context.Context, _ ...reputation.Entry) ([]reputation.Appended, error) {
	return nil, h.wait(ctx)
}

func (h hanging) List(ctx context.Context, _ reputation.State, _ string, _ int) ([]reputation.StoredAggregate, int64, error) {
	return nil, 0, h.wait(ctx)
}

func (h hanging) WaitFor(ctx context.Context, _ int64, _ ...string) error {
	_ = h.wait(ctx)
	return reputation.ErrBehind
}

func (h hanging) Import(ctx context.Context, _ io.Reader, _ func(string, *reputation.Event) error, _ func()) (reputation.ImportReport, error) {
	return reputation.ImportReport{}, h.wait(ctx)
}

var hangingCalls = map[string]call{
	"append": appendTo("a", signal(1, 0.5)),
	"import": bulk(""),
	"list":   {path: "/api/reputation"},
	"wait":   {path: "/api/reputation?at_least=1&wait=30s"},
}

// TestClientLeaves: what a client asked for is given up when it leaves.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	for name, c := range hangingCalls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log journal
			h := newHanging()
			s := serve(t, openMemory(t), func(c *http.Config) { c.Log, c.Importer, c.Reputations = h, h, h }, log.keep)
			ctx, leave := context.WithCancel(t.Context())
			go func() {
				<-h.begun
				leave()
			}()
			response, err := s.web.Client().Do(c.request(t, s.web.URL).WithContext(ctx))
			if !errors.Is(err, context.Canceled) {
				t.Errorf("answer %v, error %v", response, err)
			}
			if err := <-h.ended; !errors.Is(err, context.Canceled) {
				t.Errorf("ended by %v", err)
			}
			if line := log.request(t); !strings.Contains(line, `"status":0`) {
				t.Errorf("the log has %s", line)
			}
		})
	}
}

// TestHalfClosed: a client that has closed its side of the connection and still
// listens gets no answer at all. An empty 200, which net/http makes of a handler
// that writes nothing, would tell it that its events are stored.
func TestHalfClosed(t *testing.T) {
	t.Parallel()
	for name, c := range hangingCalls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHanging()
			s := serve(t, openMemory(t), func(c *http.Config) { c.Log, c.Importer, c.Reputations = h, h, h })
			var request strings.Builder
			if err := c.request(t, s.web.URL).Write(&request); err != nil {
				t.Fatal(err)
			}
			response, err := s.raw(t, request.String())
			if err == nil {
				_ = response.Body.Close()
				t.Errorf("status %d", response.StatusCode)
			}
		})
	}
}

// TestUnreachable is a client whose connection is gone before it has asked for
// anything whole.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	for range 5 {
		conn, err := net.Dial("tcp", s.web.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, rawPost("/api/reputation/events", "application/x-ndjson", "Content-Length: 100", "{"))
		_ = conn.Close()
	}
	s.do(t, appendTo("a", signal(1, 0.5))).want(t, 201)
}

// FuzzAppend: whatever a caller sends, the answer is one of those that are
// documented, and an error that the caller can read.
func FuzzAppend(f *testing.F) {
	f.Add("bear-1", signal(1, 0.5), true)
	f.Add("mibera%3A42", array(signal(1, 0.5), signal(1, 0.5)), true)
	f.Add("a%2Fb", array(reset(1)), false)
	f.Add("a", "[\"\xff\", {\"\xff\":1}, {\"\xc3\":\"\xff\"}]", true)
	f.Add("a", `{"type":"\ud800","event_id":"\u0000"}`, true)
	f.Add("a", lines("a", signal(1, 0.5))+"{\"nft_id\":\"\xff\"}\n\xff\n", false)
	f.Add("a", `{"nft_id":"\u0000\ud83d","event":{"\ud83d":1}}`, false)
	f.Fuzz(func(t *testing.T, nft, body string, one bool) {
		server := http.NewServer(openMemory(t).config(t))
		path, media := "/api/reputation/events", "application/x-ndjson"
		if one {
			path, media = "/api/reputation/"+nft+"/events", "application/json"
		}
		request, err := nethttp.NewRequestWithContext(t.Context(), nethttp.MethodPost, "http://dixie.example"+path, strings.NewReader(body))
		if err != nil {
			t.Skip("net/http does not let such a path through")
		}
		request.Header.Set("Authorization", "Bearer "+secret("append"))
		request.Header.Set("Content-Type", media)
		w := httptest.NewRecorder()
		server.ServeHTTP(w, request)
		switch w.Code {
		case 200, 201, 400, 403, 404, 405, 409:
		default:
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
	})
}
