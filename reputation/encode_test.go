package reputation_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"dixie/reputation"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
)

func canonical(t testing.TB, text string) string {
	t.Helper()
	b, err := reputation.Canonical([]byte(text))
	if err != nil {
		t.Fatalf("Canonical(%s): %v", text, err)
	}
	return string(b)
}

func TestAppendJSON(t *testing.T) {
	t.Parallel()
	for _, f := range fixtures() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			e := mustDecode(t, f.text)
			got := string(e.AppendJSON(nil))
			if diff := cmp.Diff(f.text, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if want := canonical(t, f.text); got != want {
				t.Errorf("AppendJSON = %s, Canonical = %s", got, want)
			}
			marshalled, err := json.Marshal(&e)
			if err != nil || string(marshalled) != got {
				t.Errorf("Marshal = %s, %v, want %s", marshalled, err, got)
			}
		})
	}
}

func TestAppendJSONAppends(t *testing.T) {
	t.Parallel()
	e := mustDecode(t, minQualitySignal)
	if got, want := string(e.AppendJSON([]byte("data: "))), "data: "+minQualitySignal; got != want {
		t.Errorf("AppendJSON = %s, want %s", got, want)
	}
}

// TestAppendJSONNumbers pins the spelling of RFC 8785 §3.2.2.3 where Go's own
// differs.
func TestAppendJSONNumbers(t *testing.T) {
	t.Parallel()
	tests := map[float64]string{
		0: "0", math.Copysign(0, -1): "0", 1: "1", 0.5: "0.5", 0.30000000000000004: "0.30000000000000004",
		1e-6: "0.000001", 9.99e-7: "9.99e-7", 1e-7: "1e-7", 1.5e-9: "1.5e-9", 1e-10: "1e-10",
		1.25e-100: "1.25e-100", 5e-324: "5e-324", 2.2250738585072014e-308: "2.2250738585072014e-308",
		0.9999999999999999: "0.9999999999999999", 1.0 / 3: "0.3333333333333333",
	}
	for score, want := range tests {
		e := mustDecode(t, minQualitySignal)
		e.Body = reputation.QualitySignal{Score: score}
		text := string(e.AppendJSON(nil))
		if !strings.Contains(text, `"score":`+want+`,`) {
			t.Errorf("score %g is written as %s, want %s", score, text, want)
		}
		if want := canonical(t, text); text != want {
			t.Errorf("AppendJSON = %s, Canonical = %s", text, want)
		}
	}
}

// TestAppendJSONStrings pins the minimal escaping of RFC 8785 §3.2.2.2.
func TestAppendJSONStrings(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		`"\/`:                 `\"\\/`,
		"\b\t\n\f\r":          `\b\t\n\f\r`,
		"\x01\x0b\x1f":        `\u0001\u000b\u001f`,
		"\x7f":                "\x7f",
		"<script>&'":          "<script>&'",
		"\u2028\u2029":        "\u2028\u2029",
		"é 🐻 \ufffd \ufeff":   "é 🐻 \ufffd \ufeff",
		"e\u0301 stays as is": "e\u0301 stays as is", // not normalised
	}
	for name, want := range tests {
		e := mustDecode(t, minQualitySignal)
		e.AgentID = name
		text := string(e.AppendJSON(nil))
		if !strings.HasPrefix(text, `{"agent_id":"`+want+`",`) {
			t.Errorf("%q is written as %s, want %s", name, text, want)
		}
		if want := canonical(t, text); text != want {
			t.Errorf("AppendJSON = %s, Canonical = %s", text, want)
		}
		if back := mustDecode(t, text); back.AgentID != name {
			t.Errorf("%q is read back as %q", name, back.AgentID)
		}
	}
}

// TestAppendJSONKeepsSpelling: times and ids are hashed as their author wrote them.
func TestAppendJSONKeepsSpelling(t *testing.T) {
	t.Parallel()
	text := edit(t, minQualitySignal, "event_id", `"550E8400-e29b-41d4-a716-446655440000"`)
	text = edit(t, text, "timestamp", `"2026-02-25T14:00:00.500000000000+02:00"`)
	e := mustDecode(t, text)
	if got := string(e.AppendJSON(nil)); got != text {
		t.Errorf("AppendJSON = %s, want %s", got, text)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*reputation.Event)
		want   []string
	}{
		{"as decoded", func(*reputation.Event) {}, nil},
		{"no body", func(e *reputation.Event) { e.Body = nil }, []string{"type: is required"}},
		{
			"zero", func(e *reputation.Event) { *e = reputation.Event{Body: reputation.TaskCompleted{}} },
			[]string{
				"agent_id: must have 1 to 255 characters, found 0",
				"collection_id: must have 1 to 255 characters, found 0",
				`event_id: must be a UUID (8-4-4-4-12 hexadecimal digits), found ""`,
				`task_type: must be code_review, creative_writing, analysis, summarization, general, unspecified, ` +
					`or "namespace:type" matching ^[a-z][a-z0-9_-]+:[a-z][a-z0-9_]+$ with at most 255 characters, found ""`,
				`timestamp: must be an existing RFC 3339 date and time with a zone, such as 2026-02-25T12:00:00Z, found ""`,
			},
		},
		{
			"score NaN", func(e *reputation.Event) { e.Body = reputation.QualitySignal{Score: math.NaN()} },
			[]string{"score: must be a number, found null"},
		},
		{
			"score infinite", func(e *reputation.Event) { e.Body = reputation.QualitySignal{Score: math.Inf(1)} },
			[]string{"score: must be a number, found null"},
		},
		{
			"score too large", func(e *reputation.Event) { e.Body = reputation.QualitySignal{Score: 1e21} },
			[]string{"score: must be between 0 and 1, found 1e+21"},
		},
		{
			"sequence beyond exact numbers", func(e *reputation.Event) { e.Sequence = new(int64(math.MaxInt64)) },
			[]string{"sequence: must be a whole number between 0 and 9007199254740991, found 9.223372036854776e+18"},
		},
		{
			"sequence negative", func(e *reputation.Event) { e.Sequence = new(int64(-1)) },
			[]string{"sequence: must be a whole number between 0 and 9007199254740991, found -1"},
		},
		{
			"dimension twice", func(e *reputation.Event) {
				e.Body = reputation.QualitySignal{Dimensions: reputation.Dimensions{{"a", 0}, {"a", 1}}}
			},
			[]string{"dimensions.a: is given more than once"},
		},
		{
			"dimension of another name", func(e *reputation.Event) {
				e.Body = reputation.QualitySignal{Dimensions: reputation.Dimensions{{`"`, 0}}}
			},
			[]string{`dimensions.": name must match ^[a-z][a-z0-9_]{0,31}$`},
		},
		{
			"observation", func(e *reputation.Event) {
				e.Body = reputation.ModelPerformance{
					ModelID: "m", Provider: "p", PoolID: "a", TaskType: "general",
					Observation: reputation.QualityObservation{
						Score: -1, LatencyMS: new(int64(-1)), Dimensions: reputation.Dimensions{{"a", 2}},
					},
					RequestContext: &reputation.RequestContext{RequestID: "r", DelegationID: "d"},
				}
			},
			[]string{
				"quality_observation.dimensions.a: must be between 0 and 1, found 2",
				"quality_observation.latency_ms: must be a whole number between 0 and 9007199254740991, found -1",
				"quality_observation.score: must be between 0 and 1, found -1",
				`request_context.delegation_id: must be a UUID (8-4-4-4-12 hexadecimal digits), found "d"`,
				`request_context.request_id: must be a UUID (8-4-4-4-12 hexadecimal digits), found "r"`,
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := mustDecode(t, minQualitySignal)
			tt.change(&e)
			var got []string
			if err := e.Validate(); err != nil {
				var invalid *reputation.InvalidError
				if !errors.As(err, &invalid) {
					t.Fatalf("Validate: %T %v, want an *InvalidError", err, err)
				}
				for _, p := range invalid.Problems {
					got = append(got, p.String())
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		` { "b" : [ 1.0, 1e2, -0, 1E-7 ], "a" : "\u0041\/" } `: `{"a":"A/","b":[1,100,0,1e-7]}`,
		`{"a":1,"B":2,"aa":3,"":4}`:                            `{"":4,"B":2,"a":1,"aa":3}`,
		// By UTF-16 code unit, where a surrogate comes before U+FB33.
		`{"\ufb33":1,"\ud83d\ude00":2,"\u20ac":3,"\u0080":4}`: "{\"\u0080\":4,\"€\":3,\"😀\":2,\"\ufb33\":1}",
		`"\u2028<&>\u001F"`:  "\"\u2028<&>\\u001f\"",
		`333333333.33333329`: `333333333.3333333`,
		`1e21`:               `1e+21`,
		`[]`:                 `[]`,
		`null`:               `null`,
	}
	for text, want := range tests {
		if got := canonical(t, text); got != want {
			t.Errorf("Canonical(%s) = %s, want %s", text, got, want)
		}
	}
}

func TestCanonicalRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "{", "[1,]", "{} {}", "tru", `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `"\ud800"`, "\"\xff\"", "01", "NaN",
	} {
		if got, err := reputation.Canonical([]byte(text)); err == nil {
			t.Errorf("Canonical(%q) = %s, want an error", text, got)
		}
	}
}

func TestCanonicalLeavesItsInput(t *testing.T) {
	t.Parallel()
	const text = ` {"b":1.0,"a":2} `
	value := []byte(text)
	if _, err := reputation.Canonical(value); err != nil {
		t.Fatal(err)
	}
	if string(value) != text {
		t.Errorf("the input became %s", value)
	}
}

// richAgent has every member of a stored agent.
func richAgent(t testing.TB) (reputation.Agent, []reputation.TaskCohort) {
	t.Helper()
	w := newWorld(reputation.DefaultParams())
	for i, step := range workedHistory() {
		w.mustFold(t, step.nft, happened(t, "honey", i+1, step.body))
	}
	return *w.agents["bear-1"], w.cohorts["bear-1"].Sorted()
}

// TestEncodeAgent pins the stored form: rows of an earlier build must stay
// readable, and whatever changes them must change Params.Version.
func TestEncodeAgent(t *testing.T) {
	t.Parallel()
	agent, cohorts := richAgent(t)
	const want = `{"aggregate":{"blended_score":0.5771823802879998,"collection_id":"honey",` +
		`"collection_score":0.3999999999999999,"contract_version":"8.7.0","contributor_count":2,` +
		`"created_at":"2026-02-25T12:01:00Z","last_updated":"2026-02-25T12:08:00Z","min_sample_count":5,` +
		`"model_cohorts":[{"last_updated":"2026-02-25T12:05:00Z","model_id":"native",` +
		`"personal_score":0.6507999999999999,"sample_count":2}],"personal_score":0.6834918084607999,` +
		`"personality_id":"bear-1","pool_id":"beta","pseudo_count":3,"sample_count":5,"state":"established",` +
		`"transition_history":[{"at":"2026-02-25T12:01:00Z","from":"cold","to":"warming",` +
		`"trigger":"First QualityEvent recorded"},{"at":"2026-02-25T12:08:00Z","from":"warming",` +
		`"to":"established","trigger":"sample_count >= min_sample_count"}]},` +
		`"credentials":{"123e4567-e89b-12d3-a456-426614174000":{"action":"issued","at":"2026-02-25T12:06:00Z"}},` +
		`"dimensions":{"accuracy":{"count":2,"score":0.8492000000000001},"coherence":{"count":1,"score":0.6}},` +
		`"evaluators":["judge-1","judge-2"],"last_event_at":"2026-02-25T12:08:00Z",` +
		`"tasks":{"analysis":{"completed":1,"succeeded":1,"timed":1,"total_duration_ms":1200}}}`
	if diff := cmp.Diff(want, encode(t, &agent)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	const wantCohort = `{"last_updated":"2026-02-25T12:01:00Z","model_id":"default","personal_score":0.9,` +
		`"sample_count":1,"task_type":"analysis"}`
	if diff := cmp.Diff(wantCohort, encode(t, cohorts[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func encode(t testing.TB, v any) string {
	t.Helper()
	b, err := reputation.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestEncodeAggregateIsClosed: the protocol's aggregate is a closed object
// (protocol §3.5), so exactly its members may appear, and arrays are never null.
func TestEncodeAggregateIsClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(reputation.DefaultParams())
	w.mustFold(t, "bear-1", happened(t, "honey", 0, reputation.TaskCompleted{TaskType: "general"}))
	const want = `{"blended_score":0.5,"collection_id":"honey","collection_score":0.5,"contract_version":"8.7.0",` +
		`"contributor_count":0,"created_at":"2026-02-25T12:00:00Z","last_updated":"2026-02-25T12:00:00Z",` +
		`"min_sample_count":5,"model_cohorts":[],"personal_score":null,"personality_id":"bear-1",` +
		`"pool_id":"default","pseudo_count":3,"sample_count":0,"state":"cold","transition_history":[]}`
	if diff := cmp.Diff(want, encode(t, &w.agents["bear-1"].Aggregate)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDecodeInto(t *testing.T) {
	t.Parallel()
	agent, cohorts := richAgent(t)
	var back reputation.Agent
	if err := reputation.DecodeInto([]byte(encode(t, &agent)), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(agent, back, sameEvent); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var cohort reputation.TaskCohort
	if err := reputation.DecodeInto([]byte(encode(t, cohorts[1])), &cohort); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(cohorts[1], cohort, sameEvent); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDecodeIntoPassesOver: other programs may add members to a stored row.
func TestDecodeIntoPassesOver(t *testing.T) {
	t.Parallel()
	agent, _ := richAgent(t)
	good := encode(t, &agent)
	for _, path := range []string{"mood", "aggregate.mood", "Aggregate"} {
		var back reputation.Agent
		if err := reputation.DecodeInto([]byte(edit(t, good, path, `{"x":1}`)), &back); err != nil {
			t.Errorf("with %s: %v", path, err)
		} else if diff := cmp.Diff(good, encode(t, &back)); diff != "" {
			t.Errorf("with %s (-want +got):\n%s", path, diff)
		}
	}
}

func TestDecodeIntoRefuses(t *testing.T) {
	t.Parallel()
	agent, _ := richAgent(t)
	good := encode(t, &agent)
	tests := []struct{ name, text string }{
		{"duplicate member", strings.Replace(good, `{"aggregate"`, `{"last_event_at":"2026-02-25T12:08:00Z","aggregate"`, 1)},
		{"impossible time", edit(t, good, "last_event_at", `"2026-02-30T12:00:00Z"`)},
		{"text for a number", edit(t, good, "aggregate.sample_count", `"5"`)},
		{"fraction for a count", edit(t, good, "aggregate.sample_count", "5.5")},
		{"trailing text", good + "{}"},
		{"nothing", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var a reputation.Agent
			if err := reputation.DecodeInto([]byte(tt.text), &a); err == nil {
				t.Errorf("DecodeInto accepts %s", tt.text)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]any{
		"NaN":           &reputation.Aggregate{BlendedScore: math.NaN()},
		"infinity":      reputation.TaskCohort{PersonalScore: new(math.Inf(-1))},
		"invalid UTF-8": reputation.TaskCohort{ModelID: "\xff"},
	} {
		if b, err := reputation.Encode(v); err == nil {
			t.Errorf("Encode of %s = %s, want an error", name, b)
		}
	}
}

// TestProblemJSON pins what requests that were refused are told.
func TestProblemJSON(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal([]reputation.Problem{{Field: "score", Detail: "is required"}})
	if want := `[{"field":"score","detail":"is required"}]`; err != nil || string(b) != want {
		t.Errorf("Marshal = %s, %v, want %s", b, err, want)
	}
}
