package http_test

import (
	"bytes"
	"fmt"
	"io"
	nethttp "net/http"
	"slices"
	"strings"
	"testing"

	"dixie/http"
)

// appended is the JSON of an append's answer.
type appended struct {
	Results []struct {
		EventID  string `json:"event_id"`
		Position int64  `json:"position"`
		Status   string `json:"status"`
	} `json:"results"`
	Position int64 `json:"position"`
}

func (a answer) appended(t testing.TB) appended {
	t.Helper()
	var v appended
	a.into(t, &v)
	if got := a.header.Get("X-Reputation-Position"); got != fmt.Sprint(v.Position) {
		t.Errorf("X-Reputation-Position %q, want %d", got, v.Position)
	}
	return v
}

// summary is "status position" of each result.
func (v appended) summary() string {
	parts := make([]string, len(v.Results))
	for i, r := range v.Results {
		parts[i] = fmt.Sprint(r.Status, " ", r.Position)
	}
	return strings.Join(parts, ", ")
}

func TestAppend(t *testing.T) {
	t.Parallel()
	steps := []struct {
		name, nft, body string
		status          int
		want            string
		position        int64
	}{
		{"one event", "a", signal(1, 0.5), 201, "appended 1", 1},
		{"the same again", "a", signal(1, 0.5), 200, "duplicate 1", 1},
		{"the same spelled otherwise", "a", " " + strings.Replace(signal(1, 0.5), "0.5", "5e-1", 1) + "\n", 200, "duplicate 1", 1},
		{"an array of one", "a", array(signal(2, 0.5)), 201, "appended 2", 2},
		{"new ones among old ones", "a", array(signal(2, 0.5), signal(3, 0.5), signal(1, 0.5)), 201, "duplicate 2, appended 3, duplicate 1", 3},
		{"all old ones", "a", array(signal(2, 0.5), signal(1, 0.5)), 200, "duplicate 2, duplicate 1", 2},
		{"twice in one array", "a", array(signal(4, 0.5), signal(4, 0.5)), 201, "appended 4, duplicate 4", 4},
		{"other content under an id of the same array", "a", array(signal(5, 0.5), signal(5, 0.6)), 409, "appended 5, conflict 5", 5},
		{"other content", "a", signal(1, 0.6), 409, "conflict 1", 0},
		{"another NFT", "b", signal(1, 0.5), 409, "conflict 1", 0},
		{"an id with a letter", "a", signal(10, 0.5), 201, "appended 6", 6},
		{"an id with a capital letter", "a", strings.Replace(signal(10, 0.5), "00a", "00A", 1), 409, "conflict 6", 0},
		{"a conflict among others", "a", array(signal(6, 0.5), signal(1, 0.6), signal(7, 0.5)), 409, "appended 7, conflict 1, appended 8", 8},
	}
	eachBackend(t, func(t *testing.T, s *service) {
		for _, step := range steps {
			got := s.do(t, appendTo(step.nft, step.body)).want(t, step.status).appended(t)
			if got.summary() != step.want || got.Position != step.position {
				t.Errorf("%s: %s at %d, want %s at %d", step.name, got.summary(), got.Position, step.want, step.position)
			}
		}
	})
}

// TestAppendConflict: the answer names the ids that are taken, and the log has
// the rest of the array.
func TestAppendConflict(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, s *service) {
		s.do(t, appendTo("a", array(signal(1, 0.1), signal(2, 0.2)))).want(t, 201)
		got := s.do(t, appendTo("a", array(signal(3, 0.3), signal(2, 0), signal(4, 0.4), signal(1, 0))))
		f := got.wantError(t, 409, "conflict")
		same(t, "conflicts", f.Conflicts, []string{eventID(2), eventID(1)})
		same(t, "stored", s.ids(t, "a"), []string{eventID(1), eventID(2), eventID(3), eventID(4)})
	})
}

// The limits of a request, as callers know them.
const (
	mostEvents = 1000
	mostBytes  = 1 << 20
)

func TestAppendLimits(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, s *service) {
		most := s.do(t, appendTo("a", array(signals(mostEvents)...))).want(t, 201).appended(t)
		if len(most.Results) != mostEvents || most.Position != mostEvents {
			t.Errorf("%d results up to position %d", len(most.Results), most.Position)
		}
		s.do(t, appendTo("b", array(signals(mostEvents+1)...))).wantProblem(t, "body")
		if head := s.head(t); head != mostEvents {
			t.Errorf("the log has %d events", head)
		}
	})
}

func TestAppendBodyLimit(t *testing.T) {
	t.Parallel()
	one := array(signal(1, 0.5))
	full := one + strings.Repeat(" ", mostBytes-len(one))
	tests := []struct {
		name, body string
		chunked    bool
		status     int
	}{
		{"at the limit", full, false, 201},
		{"at the limit in chunks", full, true, 201},
		{"over the limit", full + " ", false, 413},
		{"over the limit in chunks", full + " ", true, 413},
		{"far over the limit in chunks", strings.Repeat(full, 3), true, 413},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newService(t, openMemory)
			c := appendTo("a", tt.body)
			if tt.chunked {
				c.reader = io.MultiReader(strings.NewReader(tt.body)) // whose length is not known
			}
			got := s.do(t, c).want(t, tt.status)
			if tt.status == 413 {
				got.wantError(t, 413, "body_too_large")
			}
			if stored := s.head(t) == 1; stored != (tt.status == 201) {
				t.Errorf("stored: %v", stored)
			}
		})
	}
}

// TestBodyTooLargeCloses: a client is told to stop sending, however little there
// is to come.
func TestBodyTooLargeCloses(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	request := appendTo("a", strings.Repeat(" ", mostBytes+1)).request(t, s.web.URL)
	response, err := s.web.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != 413 || !response.Close {
		t.Errorf("status %d, the connection closes: %v", response.StatusCode, response.Close)
	}
}

func TestAppendContentType(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	tests := map[string]int{
		"application/json":                               201,
		"application/json; charset=utf-8":                201,
		`Application/JSON ; profile="https://x.example"`: 201,
		"":                         415,
		"json":                     415,
		"text/json":                415,
		"application/x-ndjson":     415,
		"application/json-seq":     415,
		"application/json, x/y":    415,
		"multipart/form-data; b=1": 415,
		"\xff":                     415,
	}
	n := 0
	for given, status := range tests {
		n++
		got := s.do(t, appendTo("a", signal(n, 0.5)).with("Content-Type", given))
		if got.status != status {
			t.Errorf("%q: status %d, want %d: %s", given, got.status, status, got.body)
		}
		if status == 415 {
			got.wantError(t, 415, "unsupported_media_type")
		}
	}
}

// TestAppendRefused: one bad event, and nothing of the request is stored.
func TestAppendRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		fields     []string // with a problem
	}{
		{"nothing", ``, []string{""}},
		{"null", `null`, []string{""}},
		{"a text", `"event"`, []string{""}},
		{"two events without an array", signal(1, 0.5) + signal(2, 0.5), []string{""}},
		{"an empty array", `[]`, []string{"body"}},
		{"an array that does not end", `[` + signal(1, 0.5) + `,`, []string{"body"}},
		{"more after the array", array(signal(1, 0.5)) + `[]`, []string{"body"}},
		{"no comma", `[` + signal(1, 0.5) + signal(2, 0.5) + `]`, []string{"body"}},
		{"an array in the array", array(array(signal(1, 0.5))), []string{"[0]"}},
		{"the second of two", array(signal(1, 0.5), signal(2, 2)), []string{"[1].score"}},
		{"several problems of several", array(signal(1, 2, `,"x":1`), signal(2, 0.5), `3`), []string{"[0].score", "[0].x", "[2]"}},
		{"a member twice", signal(1, 0.5, `,"score":1`), []string{"score"}},
		{"a member twice in an array", array(signal(1, 0.5), signal(2, 0.5, `,"score":1`), signal(3, 2)), []string{"[1].score", "[2].score"}},
		{"text that is not UTF-8", signal(1, 0.5, ",\"\xff\":1"), []string{""}},
		{"text that is not UTF-8 in an array", array(signal(1, 0.5, ",\"\xff\":1"), signal(2, 2)), []string{"[0]", "[1].score"}},
	}
	s := newService(t, openMemory)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := s.do(t, appendTo("a", tt.body)).want(t, 400).failure(t)
			var fields []string
			for _, p := range got.Errors {
				fields = append(fields, p.Field)
			}
			same(t, "fields with a problem", fields, tt.fields)
			if head := s.head(t); head != 0 {
				t.Errorf("the log has %d events", head)
			}
		})
	}
}

// TestProblemsAreBounded: a hostile array does not get an answer that is larger
// than itself.
func TestProblemsAreBounded(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	bad := array(slices.Repeat([]string{`{}`}, mostEvents)...)
	f := s.do(t, appendTo("a", bad)).wantError(t, 400, "invalid_event")
	if len(f.Errors) != http.MaxReported {
		t.Errorf("%d problems, want %d", len(f.Errors), http.MaxReported)
	}
}

// TestReset: only administrators may reset an agent, however the event comes.
func TestReset(t *testing.T) {
	t.Parallel()
	line := lines("a", reset(1), signal(2, 0.5))
	tests := []struct {
		name   string
		call   call
		status int
		stored int64
	}{
		{"alone", appendTo("a", reset(1)), 403, 0},
		{"in an array", appendTo("a", array(signal(2, 0.5), reset(1))), 403, 0},
		{"in an import", bulk(line), 200, 1},
		{"alone by an administrator", appendTo("a", reset(1)).as("append,admin"), 201, 1},
		{"in an array by an administrator", appendTo("a", array(signal(2, 0.5), reset(1))).as("append,admin"), 201, 2},
		{"in an import by an administrator", bulk(line).as("append,admin"), 200, 2},
		{"by an administrator who may not append", appendTo("a", reset(1)).as("admin"), 403, 0},
		{"in an import by an administrator who may not append", bulk(line).as("admin"), 403, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newService(t, openMemory)
			s.do(t, tt.call).want(t, tt.status)
			if head := s.head(t); head != tt.stored {
				t.Errorf("the log has %d events, want %d", head, tt.stored)
			}
		})
	}
}

// TestResetTakesEffect follows a reset into the view.
func TestResetTakesEffect(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, s *service) {
		s.tell(t)
		s.do(t, appendTo("bear-1", reset(1)).as("append,admin")).want(t, nethttp.StatusCreated)
		s.settle(t)
		var view struct {
			State         string   `json:"state"`
			PersonalScore *float64 `json:"personal_score"`
			SampleCount   int64    `json:"sample_count"`
		}
		s.get(t, "/api/reputation/bear-1").want(t, 200).into(t, &view)
		if view.State != "cold" || view.PersonalScore != nil || view.SampleCount != 0 {
			t.Errorf("after a reset: %+v", view)
		}
		s.do(t, appendTo("bear-1", signal(2, 0.25))).want(t, 201)
		s.settle(t)
		s.get(t, "/api/reputation/bear-1").want(t, 200).into(t, &view)
		if view.PersonalScore == nil || *view.PersonalScore != 0.25 || view.SampleCount != 1 {
			t.Errorf("after the first judgement since: %+v", view)
		}
	})
}

func FuzzDecodeEvents(f *testing.F) {
	for _, seed := range []string{
		signal(1, 0.5), array(signal(1, 0.5), signal(2, 0.25, `,"dimensions":{"depth":1}`)), array(reset(1), `{}`), "", "[", "[]",
		"[1,]", `[{"a":1,"a":2}]`, "[\"\xff\"]", "[\"\\ud800\"]", " \t\r\n[ ]", strings.Repeat("[", 50), `{"type":"quality_signal"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		given := bytes.Clone(body)
		events, err := http.DecodeEvents(body)
		if !bytes.Equal(body, given) {
			t.Error("the body was changed")
		}
		if err != nil {
			if status := http.ErrorStatus(err); status != 400 {
				t.Errorf("status %d for %v", status, err)
			}
			return
		}
		if n := len(events); n < 1 || n > mostEvents {
			t.Errorf("%d events", n)
		}
		for i := range events {
			if err := events[i].Validate(); err != nil {
				t.Errorf("event %d is invalid: %v", i, err)
			}
		}
	})
}
