package reputation_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dixie/reputation"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
)

// The texts are in canonical form, so that the encoding tests share them.
const (
	minQualitySignal = `{"agent_id":"a","collection_id":"c","event_id":"550e8400-e29b-41d4-a716-446655440000",` +
		`"score":0.5,"timestamp":"2026-02-25T12:00:00Z","type":"quality_signal"}`
	maxQualitySignal = `{"agent_id":"a","collection_id":"c","dimensions":{"accuracy":0.8,"b_2":1,"coherence":0},` +
		`"event_id":"550e8400-e29b-41d4-a716-446655440000","score":0.5,"sequence":9007199254740991,` +
		`"task_type":"code_review","timestamp":"2026-02-25T12:00:00Z","type":"quality_signal"}`

	minTaskCompleted = `{"agent_id":"a","collection_id":"c","event_id":"550e8400-e29b-41d4-a716-446655440000",` +
		`"success":true,"task_type":"unspecified","timestamp":"2026-02-25T12:00:00Z","type":"task_completed"}`
	maxTaskCompleted = `{"agent_id":"a","collection_id":"c","duration_ms":3600000,` +
		`"event_id":"550e8400-e29b-41d4-a716-446655440000","sequence":0,"success":false,` +
		`"task_type":"legal-guild:contract_review","timestamp":"2026-02-25T12:00:00Z","type":"task_completed"}`

	minCredentialUpdate = `{"action":"issued","agent_id":"a","collection_id":"c",` +
		`"credential_id":"123e4567-e89b-12d3-a456-426614174000","event_id":"550e8400-e29b-41d4-a716-446655440000",` +
		`"timestamp":"2026-02-25T12:00:00Z","type":"credential_update"}`
	maxCredentialUpdate = `{"action":"suspended","agent_id":"a","collection_id":"c",` +
		`"credential_id":"123e4567-e89b-12d3-a456-426614174000","event_id":"550e8400-e29b-41d4-a716-446655440000",` +
		`"sequence":1,"timestamp":"2026-02-25T12:00:00Z","type":"credential_update"}`

	minModelPerformance = `{"agent_id":"a","collection_id":"c","event_id":"550e8400-e29b-41d4-a716-446655440000",` +
		`"model_id":"gpt-4o","pool_id":"alpha","provider":"openai","quality_observation":{"score":1},` +
		`"task_type":"analysis","timestamp":"2026-02-25T12:00:00Z","type":"model_performance"}`
	maxModelPerformance = `{"agent_id":"a","collection_id":"c","event_id":"550e8400-e29b-41d4-a716-446655440000",` +
		`"model_id":"gpt-4o","pool_id":"alpha","provider":"openai",` +
		`"quality_observation":{"dimensions":{"accuracy":0.8},"evaluated_by":"judge-1","latency_ms":12,"score":1},` +
		`"request_context":{"delegation_id":"00000000-0000-0000-0000-000000000000",` +
		`"request_id":"123e4567-e89b-12d3-a456-426614174000"},"sequence":2,` +
		`"task_type":"analysis","timestamp":"2026-02-25T12:00:00Z","type":"model_performance"}`

	minReputationReset = `{"actor":"admin","agent_id":"a","collection_id":"c",` +
		`"event_id":"550e8400-e29b-41d4-a716-446655440000","reason":"appeal","timestamp":"2026-02-25T12:00:00Z",` +
		`"type":"reputation_reset"}`
	maxReputationReset = `{"actor":"admin","agent_id":"a","collection_id":"c",` +
		`"event_id":"550e8400-e29b-41d4-a716-446655440000","reason":"appeal","sequence":3,` +
		`"timestamp":"2026-02-25T12:00:00Z","type":"reputation_reset"}`
)

// fixture is one valid event and what it means.
type fixture struct {
	name string
	text string
	body reputation.Body
	// sequence is nil when the event has none.
	sequence *int64
}

func fixtures() []fixture {
	return []fixture{
		{"minimal quality_signal", minQualitySignal, reputation.QualitySignal{Score: 0.5}, nil},
		{"maximal quality_signal", maxQualitySignal, reputation.QualitySignal{
			Score: 0.5, TaskType: "code_review",
			Dimensions: reputation.Dimensions{{"accuracy", 0.8}, {"b_2", 1}, {"coherence", 0}},
		}, new(int64(reputation.MaxInteger))},
		{"minimal task_completed", minTaskCompleted, reputation.TaskCompleted{
			TaskType: "unspecified", Success: true,
		}, nil},
		{"maximal task_completed", maxTaskCompleted, reputation.TaskCompleted{
			TaskType: "legal-guild:contract_review", DurationMS: new(int64(3_600_000)),
		}, new(int64(0))},
		{"minimal credential_update", minCredentialUpdate, reputation.CredentialUpdate{
			CredentialID: "123e4567-e89b-12d3-a456-426614174000", Action: "issued",
		}, nil},
		{"maximal credential_update", maxCredentialUpdate, reputation.CredentialUpdate{
			CredentialID: "123e4567-e89b-12d3-a456-426614174000", Action: "suspended",
		}, new(int64(1))},
		{"minimal model_performance", minModelPerformance, reputation.ModelPerformance{
			ModelID: "gpt-4o", Provider: "openai", PoolID: "alpha", TaskType: "analysis",
			Observation: reputation.QualityObservation{Score: 1},
		}, nil},
		{"maximal model_performance", maxModelPerformance, reputation.ModelPerformance{
			ModelID: "gpt-4o", Provider: "openai", PoolID: "alpha", TaskType: "analysis",
			Observation: reputation.QualityObservation{
				Score: 1, Dimensions: reputation.Dimensions{{"accuracy", 0.8}},
				LatencyMS: new(int64(12)), EvaluatedBy: "judge-1",
			},
			RequestContext: &reputation.RequestContext{
				RequestID:    "123e4567-e89b-12d3-a456-426614174000",
				DelegationID: "00000000-0000-0000-0000-000000000000",
			},
		}, new(int64(2))},
		{"minimal reputation_reset", minReputationReset, reputation.ReputationReset{
			Reason: "appeal", Actor: "admin",
		}, nil},
		{"maximal reputation_reset", maxReputationReset, reputation.ReputationReset{
			Reason: "appeal", Actor: "admin",
		}, new(int64(3))},
	}
}

// sameEvent compares timestamps by text and instant, which is all they hold.
var sameEvent = cmp.Comparer(func(a, b reputation.Timestamp) bool {
	return a.String() == b.String() && a.Time().Equal(b.Time())
})

func mustDecode(t testing.TB, text string) reputation.Event {
	t.Helper()
	e, err := reputation.Decode([]byte(text))
	if err != nil {
		t.Fatalf("Decode(%s): %v", text, err)
	}
	return e
}

// problems decodes an event and gives its problems as texts; nil when it is valid.
func problems(t testing.TB, text string) []string {
	t.Helper()
	_, err := reputation.Decode([]byte(text))
	if err == nil {
		return nil
	}
	var invalid *reputation.InvalidError
	if !errors.As(err, &invalid) || !errors.Is(err, reputation.ErrInvalid) {
		t.Fatalf("Decode(%s): %T %v, want an *InvalidError", text, err, err)
	}
	texts := make([]string, 0, len(invalid.Problems))
	for _, p := range invalid.Problems {
		texts = append(texts, p.String())
	}
	return texts
}

func wantProblems(t *testing.T, text string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, problems(t, text)); diff != "" {
		t.Errorf("problems of %.300s (-want +got):\n%s", text, diff)
	}
}

// edit changes the member at a dotted path of a JSON object; an empty value
// removes it.
func edit(t *testing.T, object, path, value string) string {
	t.Helper()
	var members map[string]jsontext.Value
	if err := json.Unmarshal([]byte(object), &members); err != nil {
		t.Fatalf("edit %s: %v", object, err)
	}
	name, rest, nested := strings.Cut(path, ".")
	switch {
	case nested:
		members[name] = jsontext.Value(edit(t, string(members[name]), rest, value))
	case value == "":
		delete(members, name)
	default:
		members[name] = jsontext.Value(value)
	}
	text, err := json.Marshal(members, json.Deterministic(true))
	if err != nil {
		t.Fatalf("edit %s: %v", object, err)
	}
	return string(text)
}

func TestDecodeValid(t *testing.T) {
	t.Parallel()
	at, err := reputation.ParseTimestamp("2026-02-25T12:00:00Z")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fixtures() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			want := reputation.Event{
				ID: "550e8400-e29b-41d4-a716-446655440000", AgentID: "a", CollectionID: "c",
				Timestamp: at, Sequence: f.sequence, Body: f.body,
			}
			got := mustDecode(t, f.text)
			if diff := cmp.Diff(want, got, sameEvent); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if _, kind, _ := strings.Cut(f.name, " "); string(got.Type()) != kind {
				t.Errorf("Type() = %q, want %q", got.Type(), kind)
			}
		})
	}
}

// member is a member of an event and the kind of value that it must have.
type member struct {
	path     string
	kind     string
	required bool
}

const (
	aString  = "a string"
	aNumber  = "a number"
	aBoolean = "true or false"
	anObject = "an object"
)

// vocabulary describes every member of every type; the maximal events have them
// all.
var vocabulary = map[string][]member{
	maxQualitySignal: {
		{"score", aNumber, true},
		{"task_type", aString, false},
		{"dimensions", anObject, false},
		{"dimensions.accuracy", aNumber, false},
	},
	maxTaskCompleted: {
		{"task_type", aString, true},
		{"success", aBoolean, true},
		{"duration_ms", aNumber, false},
	},
	maxCredentialUpdate: {
		{"credential_id", aString, true},
		{"action", aString, true},
	},
	maxModelPerformance: {
		{"model_id", aString, true},
		{"provider", aString, true},
		{"pool_id", aString, true},
		{"task_type", aString, true},
		{"quality_observation", anObject, true},
		{"quality_observation.score", aNumber, true},
		{"quality_observation.dimensions", anObject, false},
		{"quality_observation.dimensions.accuracy", aNumber, false},
		{"quality_observation.latency_ms", aNumber, false},
		{"quality_observation.evaluated_by", aString, false},
		{"request_context", anObject, false},
		{"request_context.request_id", aString, false},
		{"request_context.delegation_id", aString, false},
	},
	maxReputationReset: {
		{"reason", aString, true},
		{"actor", aString, true},
	},
}

var envelope = []member{
	{"event_id", aString, true},
	{"agent_id", aString, true},
	{"collection_id", aString, true},
	{"timestamp", aString, true},
	{"sequence", aNumber, false},
	{"type", aString, true},
}

// forEachMember runs test for every member of every type.
func forEachMember(t *testing.T, test func(t *testing.T, event string, m member)) {
	t.Helper()
	for event, own := range vocabulary {
		kind := mustDecode(t, event)
		for _, m := range slices.Concat(envelope, own) {
			t.Run(string(kind.Type())+"/"+m.path, func(t *testing.T) {
				t.Parallel()
				test(t, event, m)
			})
		}
	}
}

func TestDecodeMissingMember(t *testing.T) {
	t.Parallel()
	forEachMember(t, func(t *testing.T, event string, m member) {
		text := edit(t, event, m.path, "")
		if m.required {
			wantProblems(t, text, m.path+": is required")
		} else {
			wantProblems(t, text)
		}
	})
}

func TestDecodeWrongKind(t *testing.T) {
	t.Parallel()
	values := []struct{ value, kind string }{
		{"null", "null"},
		{"true", "a boolean"},
		{"false", "a boolean"},
		{`"text"`, aString},
		{"7", aNumber},
		{"[]", "an array"},
		{"[0.5]", "an array"},
		{"{}", anObject},
	}
	forEachMember(t, func(t *testing.T, event string, m member) {
		for _, v := range values {
			if v.kind == m.kind || v.kind == "a boolean" && m.kind == aBoolean {
				continue
			}
			wantProblems(t, edit(t, event, m.path, v.value), m.path+": must be "+m.kind+", found "+v.kind)
		}
	})
}

// TestDecodeForeignMember gives each type the members that only others have.
func TestDecodeForeignMember(t *testing.T) {
	t.Parallel()
	values := map[string]string{}
	for event, members := range vocabulary {
		var all map[string]jsontext.Value
		if err := json.Unmarshal([]byte(event), &all); err != nil {
			t.Fatal(err)
		}
		for _, m := range members {
			if !strings.Contains(m.path, ".") {
				values[m.path] = string(all[m.path])
			}
		}
	}
	for event, members := range vocabulary {
		kind := mustDecode(t, event)
		for name, value := range values {
			if slices.ContainsFunc(members, func(m member) bool { return m.path == name }) {
				continue
			}
			t.Run(string(kind.Type())+"/"+name, func(t *testing.T) {
				t.Parallel()
				wantProblems(t, edit(t, event, name, value), name+": unknown field of a "+string(kind.Type()))
			})
		}
	}
}

func TestDecodeUnknownMember(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		event, path string
		value       string
		want        string
	}{
		{"top level", minQualitySignal, "extra", "1", "extra: unknown field"},
		{"top level, null", minQualitySignal, "extra", "null", "extra: unknown field"},
		{"top level, nested value", minQualitySignal, "extra", `{"a":[{"b":[]}]}`, "extra: unknown field"},
		{"other letter case", minQualitySignal, "Score", "1", "Score: unknown field"},
		{"contract_version", minTaskCompleted, "contract_version", `"8.7.0"`, "contract_version: unknown field"},
		{"nft_id", minCredentialUpdate, "nft_id", `"1"`, "nft_id: unknown field"},
		{
			"in the observation", minModelPerformance, "quality_observation.extra", "1",
			"quality_observation.extra: unknown field",
		},
		{
			"of the event in the observation", minModelPerformance, "quality_observation.task_type", `"analysis"`,
			"quality_observation.task_type: unknown field",
		},
		{
			"in the request context", maxModelPerformance, "request_context.extra", "{}",
			"request_context.extra: unknown field",
		},
		{
			"long name is shortened", minQualitySignal, strings.Repeat("x", 65), "1",
			strings.Repeat("x", 64) + "…: unknown field",
		},
		{
			"long name is cut between characters", minQualitySignal, strings.Repeat("x", 63) + "é", "1",
			strings.Repeat("x", 63) + "…: unknown field",
		},
		{
			"long name in the observation", minModelPerformance, "quality_observation." + strings.Repeat("x", 64), "1",
			"quality_observation." + strings.Repeat("x", 64) + ": unknown field",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wantProblems(t, edit(t, tt.event, tt.path, tt.value), tt.want)
		})
	}
}

func quoted(s string) string { return `"` + s + `"` }

// manyDimensions is an object with n valid dimensions.
func manyDimensions(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"d%d":0.5`, i)
	}
	return "{" + strings.TrimPrefix(b.String(), ",") + "}"
}

// limit is a value at or beyond one of the limits of a member.
type limit struct {
	name, event, path, value string
	want                     string // empty when the value is good
}

func TestDecodeLimits(t *testing.T) {
	t.Parallel()
	const (
		scoreRule    = "must be between 0 and 1, found "
		sequenceRule = "must be a whole number between 0 and 9007199254740991, found "
		durationRule = "must be a whole number between 0 and 3600000, found "
		nameRule     = "must have 1 to 255 characters, found "
		reasonRule   = "must have 1 to 500 characters, found "
		dimRule      = "name must match ^[a-z][a-z0-9_]{0,31}$"
		uuidRule     = "must be a UUID (8-4-4-4-12 hexadecimal digits), found "
		actionRule   = "must be issued, revoked, renewed or suspended, found "
		typeRule     = "must be quality_signal, task_completed, credential_update, model_performance or reputation_reset, found "
		nul          = "must not contain U+0000"
	)
	tests := []limit{
		{"score 0", minQualitySignal, "score", "0", ""},
		{"score -0", minQualitySignal, "score", "-0", ""},
		{"score 1", minQualitySignal, "score", "1", ""},
		{"score 1.0", minQualitySignal, "score", "1.0", ""},
		{"score 1e-400 is too small to be told from 0", minQualitySignal, "score", "1e-400", ""},
		{"score 100e-2", minQualitySignal, "score", "100e-2", ""},
		{"score smallest", minQualitySignal, "score", "5e-324", ""},
		{"score 1.0000000001", minQualitySignal, "score", "1.0000000001", scoreRule + "1.0000000001"},
		{"score next after 1", minQualitySignal, "score", "1.0000000000000002", scoreRule + "1.0000000000000002"},
		{"score -0.1", minQualitySignal, "score", "-0.1", scoreRule + "-0.1"},
		{"score smallest negative", minQualitySignal, "score", "-5e-324", scoreRule + "-5e-324"},
		{"score 1e400", minQualitySignal, "score", "1e400", scoreRule + "+Inf"},
		{"score -1e400", minQualitySignal, "score", "-1e400", scoreRule + "-Inf"},
		{"observed score 1.1", minModelPerformance, "quality_observation.score", "1.1", scoreRule + "1.1"},
		{"observed score -0", minModelPerformance, "quality_observation.score", "-0", ""},
		{"dimension -1", maxQualitySignal, "dimensions.accuracy", "-1", scoreRule + "-1"},
		{"dimension -0", maxQualitySignal, "dimensions.accuracy", "-0", ""},
		{"observed dimension 2", maxModelPerformance, "quality_observation.dimensions.accuracy", "2", scoreRule + "2"},

		{"sequence 0", minQualitySignal, "sequence", "0", ""},
		{"sequence -0", minQualitySignal, "sequence", "-0", ""},
		{"sequence 2.0", minQualitySignal, "sequence", "2.0", ""},
		{"sequence 2e3", minQualitySignal, "sequence", "2e3", ""},
		{"sequence 20e-1", minQualitySignal, "sequence", "20e-1", ""},
		{"sequence 1.5", minQualitySignal, "sequence", "1.5", sequenceRule + "1.5"},
		{"sequence 0.1", minQualitySignal, "sequence", "0.1", sequenceRule + "0.1"},
		{"sequence -1", minQualitySignal, "sequence", "-1", sequenceRule + "-1"},
		{"sequence 2⁵³−1", minQualitySignal, "sequence", "9007199254740991", ""},
		{"sequence 2⁵³", minQualitySignal, "sequence", "9007199254740992", sequenceRule + "9.007199254740992e+15"},
		{"sequence 1e400", minQualitySignal, "sequence", "1e400", sequenceRule + "+Inf"},

		{"duration 0", minTaskCompleted, "duration_ms", "0", ""},
		{"duration of an hour", minTaskCompleted, "duration_ms", "3600000", ""},
		{"duration of an hour as 3.6e6", minTaskCompleted, "duration_ms", "3.6e6", ""},
		{"duration beyond an hour", minTaskCompleted, "duration_ms", "3600001", durationRule + "3.600001e+06"},
		{"duration -1", minTaskCompleted, "duration_ms", "-1", durationRule + "-1"},
		{"duration 1.5", minTaskCompleted, "duration_ms", "1.5", durationRule + "1.5"},

		{"latency has no bound of its own", minModelPerformance, "quality_observation.latency_ms", "9007199254740991", ""},
		{"latency 2⁵³", minModelPerformance, "quality_observation.latency_ms", "9007199254740992", sequenceRule + "9.007199254740992e+15"},
		{"latency -1", minModelPerformance, "quality_observation.latency_ms", "-1", sequenceRule + "-1"},
		{"latency 0.5", minModelPerformance, "quality_observation.latency_ms", "0.5", sequenceRule + "0.5"},

		{"evaluated_by empty", minModelPerformance, "quality_observation.evaluated_by", `""`, "must have 1 to 65536 characters, found 0"},
		{"evaluated_by has no bound of its own", minModelPerformance, "quality_observation.evaluated_by", quoted(strings.Repeat("e", 60_000)), ""},

		{"reason of 500", minReputationReset, "reason", quoted(strings.Repeat("é", 500)), ""},
		{"reason of 501", minReputationReset, "reason", quoted(strings.Repeat("é", 501)), reasonRule + "501"},
		{"reason empty", minReputationReset, "reason", `""`, reasonRule + "0"},

		{"no dimensions", minQualitySignal, "dimensions", "{}", ""},
		{"20 dimensions", minQualitySignal, "dimensions", manyDimensions(20), ""},
		{"21 dimensions", minQualitySignal, "dimensions", manyDimensions(21), "must have at most 20 entries"},
		{"1000 dimensions", minQualitySignal, "dimensions", manyDimensions(1000), "must have at most 20 entries"},
		{"20 observed dimensions", minModelPerformance, "quality_observation.dimensions", manyDimensions(20), ""},
		{"21 observed dimensions", minModelPerformance, "quality_observation.dimensions", manyDimensions(21), "must have at most 20 entries"},

		{"event_id in upper case", minQualitySignal, "event_id", `"550E8400-E29B-41D4-A716-446655440000"`, ""},
		{"event_id nil", minQualitySignal, "event_id", `"00000000-0000-0000-0000-000000000000"`, ""},
		{"event_id of no version", minQualitySignal, "event_id", `"ffffffff-ffff-ffff-ffff-ffffffffffff"`, ""},
		{"event_id without hyphens", minQualitySignal, "event_id", `"550e8400e29b41d4a716446655440000"`, uuidRule + `"550e8400e29b41d4a716446655440000"`},
		{"event_id in braces", minQualitySignal, "event_id", `"{550e8400-e29b-41d4-a716-446655440000}"`, uuidRule + `"{550e8400-e29b-41d4-a716-446655440000}"`},
		{"event_id with a misplaced hyphen", minQualitySignal, "event_id", `"550e840-0e29b-41d4-a716-4466554400000"`, uuidRule + `"550e840-0e29b-41d4-a716-4466554400000"`},
		{"event_id of the right length", minQualitySignal, "event_id", `"550e8400ae29b-41d4-a716-446655440000"`, uuidRule + `"550e8400ae29b-41d4-a716-446655440000"`},
		{"event_id with a g", minQualitySignal, "event_id", `"g50e8400-e29b-41d4-a716-446655440000"`, uuidRule + `"g50e8400-e29b-41d4-a716-446655440000"`},
		{"event_id with a hyphen too many", minQualitySignal, "event_id", `"-50e8400-e29b-41d4-a716-446655440000"`, uuidRule + `"-50e8400-e29b-41d4-a716-446655440000"`},
		{"event_id empty", minQualitySignal, "event_id", `""`, uuidRule + `""`},
		{"credential_id no UUID", minCredentialUpdate, "credential_id", `"cred-1"`, uuidRule + `"cred-1"`},
		{"request_id no UUID", maxModelPerformance, "request_context.request_id", `"r"`, uuidRule + `"r"`},
		{"delegation_id no UUID", maxModelPerformance, "request_context.delegation_id", `"d"`, uuidRule + `"d"`},
		{"no request context members", maxModelPerformance, "request_context", "{}", ""},

		{"action issued", minCredentialUpdate, "action", `"issued"`, ""},
		{"action revoked", minCredentialUpdate, "action", `"revoked"`, ""},
		{"action renewed", minCredentialUpdate, "action", `"renewed"`, ""},
		{"action suspended", minCredentialUpdate, "action", `"suspended"`, ""},
		{"action in another case", minCredentialUpdate, "action", `"Issued"`, actionRule + `"Issued"`},
		{"action empty", minCredentialUpdate, "action", `""`, actionRule + `""`},

		{"U+0000 in a name", minQualitySignal, "agent_id", `"a\u0000"`, nul},
		{"U+0000 in a UUID", minQualitySignal, "event_id", `"\u0000"`, nul},
		{"U+0000 in a time", minQualitySignal, "timestamp", `"2026-02-25T12:00:00Z\u0000"`, nul},
		{"U+0000 in a task type", minQualitySignal, "task_type", `"analysis\u0000"`, nul},
		{"U+0000 in an action", minCredentialUpdate, "action", `"issued\u0000"`, nul},
		{"U+0000 in an evaluator", minModelPerformance, "quality_observation.evaluated_by", `"\u0000"`, nul},
		{"other control characters are text", minQualitySignal, "agent_id", `"\u0001\u001f\t"`, ""},
		{"a character outside the basic plane", minQualitySignal, "agent_id", `"\ud83d\udc3b"`, ""},

		// The variant of a type that is not known cannot be judged.
		{"type unknown", minQualitySignal, "type", `"quality"`, typeRule + `"quality"`},
		{"type in another case", minQualitySignal, "type", `"Quality_Signal"`, typeRule + `"Quality_Signal"`},
		{"type empty", minQualitySignal, "type", `""`, typeRule + `""`},
	}
	for _, path := range []string{"agent_id", "collection_id"} {
		tests = append(tests, nameLimits(minQualitySignal, path, nameRule)...)
	}
	for _, path := range []string{"model_id", "provider", "pool_id"} {
		tests = append(tests, nameLimits(minModelPerformance, path, nameRule)...)
	}
	tests = append(tests, nameLimits(minReputationReset, "actor", nameRule)...)
	dimensions := []struct{ name, want string }{
		{"a", ""},
		{"a_1", ""},
		{"a" + strings.Repeat("9", 31), ""},
		{"a" + strings.Repeat("9", 32), dimRule},
		{"", dimRule},
		{"A", dimRule},
		{"aB", dimRule},
		{"1a", dimRule},
		{"_a", dimRule},
		{"a-b", dimRule},
		{"a b", dimRule},
		{"é", dimRule},
		{"a.b", dimRule},
		{"a\n", dimRule},
	}
	for _, d := range dimensions {
		name := fmt.Sprintf("dimension %q", d.name)
		key, err := jsontext.AppendQuote(nil, d.name)
		if err != nil {
			t.Fatal(err)
		}
		value, want := "{"+string(key)+":1}", d.want
		if want != "" {
			want = "." + d.name + ": " + want
		}
		tests = append(tests,
			limit{name, minQualitySignal, "dimensions", value, want},
			limit{name + " observed", minModelPerformance, "quality_observation.dimensions", value, want})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text := edit(t, tt.event, tt.path, tt.value)
			switch {
			case tt.want == "":
				wantProblems(t, text)
			case tt.want[0] == '.':
				wantProblems(t, text, tt.path+tt.want)
			default:
				wantProblems(t, text, tt.path+": "+tt.want)
			}
		})
	}
}

// nameLimits are the limits of an identifier of 1 to 255 code points.
func nameLimits(event, path, rule string) []limit {
	return []limit{
		{path + " empty", event, path, `""`, rule + "0"},
		{path + " of 1", event, path, `"x"`, ""},
		{path + " of 255", event, path, quoted(strings.Repeat("x", 255)), ""},
		{path + " of 256", event, path, quoted(strings.Repeat("x", 256)), rule + "256"},
		{path + " of 255 code points in 510 bytes", event, path, quoted(strings.Repeat("é", 255)), ""},
		{path + " of 255 code points in 510 UTF-16 units", event, path, quoted(strings.Repeat("🐻", 255)), ""},
		{path + " of 256 code points", event, path, quoted(strings.Repeat("🐻", 256)), rule + "256"},
		{path + " of 255 escapes", event, path, quoted(strings.Repeat(`\u00e9`, 255)), ""},
	}
}

// TestDecodeNumbers reads the same number in several spellings.
func TestDecodeNumbers(t *testing.T) {
	t.Parallel()
	scores := map[string]float64{
		"-0": 0, "-0.0e5": 0, "1e-400": 0, "-1e-400": 0, "0.10": 0.1, "1E-1": 0.1, "5e-324": 5e-324, "1.0": 1,
		"0.30000000000000004": 0.30000000000000004, "0.7999999999999999889": 0.8,
	}
	for text, want := range scores {
		e := mustDecode(t, edit(t, minQualitySignal, "score", text))
		got := e.Body.(reputation.QualitySignal).Score
		if got != want || 1/got < 0 {
			t.Errorf("score %s = %v, want %v", text, got, want)
		}
	}
	integers := map[string]int64{
		"-0": 0, "2.0": 2, "2e0": 2, "20e-1": 2, "0.2E+1": 2, "9007199254740991": 1<<53 - 1, "9007199254740991.0": 1<<53 - 1,
	}
	for text, want := range integers {
		e := mustDecode(t, edit(t, minQualitySignal, "sequence", text))
		if e.Sequence == nil || *e.Sequence != want {
			t.Errorf("sequence %s = %v, want %d", text, e.Sequence, want)
		}
	}
}

// TestDecodeReportsAll holds that one answer names everything that is wrong.
func TestDecodeReportsAll(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       []string
	}{
		{
			"empty object", `{}`,
			[]string{
				"agent_id: is required",
				"collection_id: is required",
				"event_id: is required",
				"timestamp: is required",
				"type: is required",
			},
		},
		{
			"only a type", `{"type":"model_performance"}`,
			[]string{
				"agent_id: is required",
				"collection_id: is required",
				"event_id: is required",
				"model_id: is required",
				"pool_id: is required",
				"provider: is required",
				"quality_observation: is required",
				"task_type: is required",
				"timestamp: is required",
			},
		},
		{
			"everything wrong, type last",
			`{"event_id":"x","agent_id":"","collection_id":null,"timestamp":"yesterday","sequence":-1,"mood":"sour",` +
				`"model_id":7,"provider":[],"score":0.5,"task_type":"Analysis","quality_observation":` +
				`{"dimensions":{"Coherence":0.5,"accuracy":1.5,"B":2},"latency_ms":1.5,"evaluated_by":"","mood":1},` +
				`"request_context":{"request_id":"x","delegation_id":0,"mood":{}},"type":"model_performance"}`,
			[]string{
				`event_id: must be a UUID (8-4-4-4-12 hexadecimal digits), found "x"`,
				`agent_id: must have 1 to 255 characters, found 0`,
				`collection_id: must be a string, found null`,
				`timestamp: must be an existing RFC 3339 date and time with a zone, such as 2026-02-25T12:00:00Z, found "yesterday"`,
				`sequence: must be a whole number between 0 and 9007199254740991, found -1`,
				`mood: unknown field`,
				`model_id: must be a string, found a number`,
				`provider: must be a string, found an array`,
				`task_type: must be code_review, creative_writing, analysis, summarization, general, unspecified, ` +
					`or "namespace:type" matching ^[a-z][a-z0-9_-]+:[a-z][a-z0-9_]+$ with at most 255 characters, found "Analysis"`,
				`quality_observation.dimensions.Coherence: name must match ^[a-z][a-z0-9_]{0,31}$`,
				`quality_observation.dimensions.accuracy: must be between 0 and 1, found 1.5`,
				`quality_observation.dimensions.B: name must match ^[a-z][a-z0-9_]{0,31}$`,
				`quality_observation.dimensions.B: must be between 0 and 1, found 2`,
				`quality_observation.latency_ms: must be a whole number between 0 and 9007199254740991, found 1.5`,
				`quality_observation.evaluated_by: must have 1 to 65536 characters, found 0`,
				`quality_observation.mood: unknown field`,
				`quality_observation.score: is required`,
				`request_context.request_id: must be a UUID (8-4-4-4-12 hexadecimal digits), found "x"`,
				`request_context.delegation_id: must be a string, found a number`,
				`request_context.mood: unknown field`,
				`pool_id: is required`,
				`score: unknown field of a model_performance`,
			},
		},
		{
			"fields of two types", edit(t, minTaskCompleted, "score", "2"),
			[]string{"score: must be between 0 and 1, found 2", "score: unknown field of a task_completed"},
		},
		{
			"long values are shortened", edit(t, minQualitySignal, "event_id", quoted(strings.Repeat("é", 40))),
			[]string{`event_id: must be a UUID (8-4-4-4-12 hexadecimal digits), found "` + strings.Repeat("é", 32) + `…"`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wantProblems(t, tt.text, tt.want...)
		})
	}
}

func TestDecodeBoundsTheReport(t *testing.T) {
	t.Parallel()
	text := minQualitySignal
	for i := range 60 {
		text = edit(t, text, fmt.Sprintf("extra%02d", i), "0")
	}
	if got := len(problems(t, text)); got != 50 {
		t.Errorf("%d problems of 60 are reported, want 50", got)
	}
}

// TestDecodeSyntax: what cannot be read ends the reading, with one problem. The
// rest of the detail is the JSON library's and not pinned.
func TestDecodeSyntax(t *testing.T) {
	t.Parallel()
	const open = `{"type":"quality_signal",`
	tests := []struct {
		name, text string
		want       string // a prefix
	}{
		{"empty", "", "must be one JSON object, found the end of the text at byte 0"},
		{"only space", " \n\t\r", "must be one JSON object, found the end of the text at byte 0"},
		{"trailing comma", minQualitySignal + ",", "must be one JSON object, found more at byte "},
		{"trailing event", minQualitySignal + minQualitySignal, "must be one JSON object, found more at byte "},
		{"trailing line with another event", minQualitySignal + "\n" + minQualitySignal, "must be one JSON object, found more at byte "},
		{"trailing text behind problems", "{} x", "must be one JSON object, found more at byte 2"},
		{"trailing U+0000", minQualitySignal + "\x00", "must be one JSON object, found more at byte "},
		{"array", "[" + minQualitySignal + "]", "must be an object, found an array"},
		{"empty array", "[]", "must be an object, found an array"},
		{"null", "null", "must be an object, found null"},
		{"string", `"quality_signal"`, "must be an object, found a string"},
		{"number", "-0.5e3", "must be an object, found a number"},
		{"boolean", "true", "must be an object, found a boolean"},
		{"byte order mark", "\ufeff" + minQualitySignal, "is not valid JSON at byte 0: "},
		{"UTF-16", "{\x00\"\x00}\x00", "is not valid JSON at byte 1: "},
		{"bare word", "quality_signal", "is not valid JSON at byte 0: "},
		{"open object", "{", "is not valid JSON at byte 1: "},
		{"name without value", `{"type"`, "is not valid JSON at byte 7: "},
		{"cut in a value", open[:len(open)-2], "is not valid JSON at byte "},
		{"comma without member", open + "}", "is not valid JSON at byte "},
		{"missing comma", `{"score":1 "type":"x"}`, "is not valid JSON at byte "},
		{"comment", open + `/* */"score":1}`, "is not valid JSON at byte "},
		{"single quotes", `{'score':1}`, "is not valid JSON at byte 1: "},
		{"name without quotes", `{score:1}`, "is not valid JSON at byte 1: "},
		{"number with a plus", `{"score":+1}`, "is not valid JSON at byte "},
		{"number with a leading zero", `{"score":01}`, "is not valid JSON at byte "},
		{"number without digits before the point", `{"score":.5}`, "is not valid JSON at byte "},
		{"number without digits after the point", `{"score":1.}`, "is not valid JSON at byte "},
		{"NaN", `{"score":NaN}`, "is not valid JSON at byte "},
		{"Infinity", `{"score":Infinity}`, "is not valid JSON at byte "},
		{"hexadecimal", `{"sequence":0x1}`, "is not valid JSON at byte "},
		{"control character in a string", "{\"agent_id\":\"a\nb\"}", "is not valid JSON at byte "},
		{"U+0000 byte in a string", "{\"agent_id\":\"a\x00\"}", "is not valid JSON at byte "},
		{"unknown escape", `{"agent_id":"\x41"}`, "is not valid JSON at byte "},
		{"invalid UTF-8 in a value", "{\"agent_id\":\"\xff\"}", "is not valid JSON at byte "},
		{"invalid UTF-8 in a name", "{\"\xff\":1}", "is not valid JSON at byte "},
		{"invalid UTF-8 in an unknown field", "{\"x\":[\"\xc3\"]}", "is not valid JSON at byte "},
		{"surrogate as UTF-8", "{\"agent_id\":\"\xed\xa0\x80\"}", "is not valid JSON at byte "},
		{"lone high surrogate", `{"agent_id":"\ud83d"}`, "is not valid JSON at byte "},
		{"lone low surrogate", `{"agent_id":"\udc3b"}`, "is not valid JSON at byte "},
		{"surrogates in the wrong order", `{"agent_id":"\udc3b\ud83d"}`, "is not valid JSON at byte "},
		{"high surrogate before text", `{"agent_id":"\ud83dx"}`, "is not valid JSON at byte "},
		{"lone surrogate in a name", `{"\ud83d":1}`, "is not valid JSON at byte "},
		{"lone surrogate in a dimension", `{"dimensions":{"\ud83d":1}}`, "is not valid JSON at byte "},
		{"too deep", `{"x":` + strings.Repeat("[", 20_000), "is not valid JSON at byte "},

		{"duplicate", `{"type":"quality_signal","type":"quality_signal"}`, "type: is given more than once"},
		{"duplicate spelled with an escape", `{"type":"quality_signal","\u0074ype":"quality_signal"}`, "type: is given more than once"},
		{"duplicate unknown", `{"x":1,"x":1}`, "x: is given more than once"},
		{"duplicate of the wrong kind", `{"score":null,"score":null}`, "score: is given more than once"},
		{"duplicate in the observation", `{"quality_observation":{"score":1,"score":1}}`, "quality_observation.score: is given more than once"},
		{"duplicate in the observation with an escape", `{"quality_observation":{"score":1,"scor\u0065":1}}`, "quality_observation.score: is given more than once"},
		{"duplicate in the context", `{"request_context":{"request_id":"a","request_id":"a"}}`, "request_context.request_id: is given more than once"},
		{"duplicate dimension", `{"dimensions":{"accuracy":1,"accuracy":1}}`, "dimensions.accuracy: is given more than once"},
		{"duplicate dimension with an escape", `{"dimensions":{"a":1,"\u0061":1}}`, "dimensions.a: is given more than once"},
		{
			"duplicate observed dimension", `{"quality_observation":{"dimensions":{"a":1,"a":1}}}`,
			"quality_observation.dimensions.a: is given more than once",
		},
		{"duplicate in an unknown field", `{"x":{"y":[{"z":1,"z":2}]}}`, "x.y.0.z: is given more than once"},
		{"duplicate in a value of the wrong kind", `{"score":{"z":1,"z":2}}`, "score.z: is given more than once"},
		{"long duplicate is shortened", `{"` + strings.Repeat("x", 70) + `":1,"` + strings.Repeat("x", 70) + `":1}`, strings.Repeat("x", 64) + "…: is given more than once"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := problems(t, tt.text)
			if len(got) != 1 || !strings.HasPrefix(got[0], tt.want) {
				t.Errorf("problems %q, want one that starts with %q", got, tt.want)
			}
		})
	}
}

// TestDecodePrefix cuts valid events at every byte: whatever was being read, the
// answer is one problem of syntax.
func TestDecodePrefix(t *testing.T) {
	t.Parallel()
	for _, f := range fixtures() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for n := range f.text {
				for _, rest := range []string{"", "\x00", "}}}}"} {
					if cut := f.text[:n] + rest; len(problems(t, cut)) != 1 {
						t.Errorf("problems of %q: %q, want one", cut, problems(t, cut))
					}
				}
			}
		})
	}
}

// eventOf is a valid event whose canonical form has the given length.
func eventOf(t *testing.T, length int) string {
	t.Helper()
	event := func(evaluator string) string {
		return edit(t, minModelPerformance, "quality_observation.evaluated_by", quoted(evaluator))
	}
	return event(strings.Repeat("e", length-len(event(""))))
}

// asPostgreSQL is a valid event as jsonb prints it, with a space behind each colon
// and comma and without exponents; its canonical form has the given length.
func asPostgreSQL(t *testing.T, length int) string {
	t.Helper()
	const tiny = 2.2250738585072014e-308
	short, long := strconv.FormatFloat(tiny, 'g', -1, 64), strconv.FormatFloat(tiny, 'f', -1, 64)
	dimensions := strings.ReplaceAll(manyDimensions(20), "0.5", short)
	event := eventOf(t, length-len(`"dimensions":,`)-len(dimensions)+len("1")-len(short))
	event = edit(t, event, "quality_observation.dimensions", dimensions)
	event = edit(t, event, "quality_observation.score", short)
	e := mustDecode(t, event)
	if n := len(e.AppendJSON(nil)); n != length {
		t.Fatalf("the canonical form has %d bytes, want %d", n, length)
	}
	return strings.NewReplacer(`":`, `": `, `,"`, `, "`, short, long).Replace(event)
}

// TestDecodeLength: the limit is on the canonical form, so that neither the
// spelling of an event nor its way through a database decides about it.
func TestDecodeLength(t *testing.T) {
	t.Parallel()
	const most = reputation.MaxEventBytes
	longest := eventOf(t, most)
	grows := edit(t, eventOf(t, most-len(`"latency_ms":9e15,`)), "quality_observation.latency_ms", "9e15")
	tests := []struct {
		name, text string
		want       []string
	}{
		{"longest", longest, nil},
		{"longest with space around it", " " + longest + strings.Repeat("\n", 1000), nil},
		{"one more", eventOf(t, most+1), []string{"must have at most 65536 bytes, found 65537"}},
		{"short in much space", minQualitySignal + strings.Repeat(" ", most), nil},
		{"short in far too much space", minQualitySignal + strings.Repeat(" ", 2*most), []string{
			fmt.Sprintf("must have at most 65536 bytes, found %d", len(minQualitySignal)+2*most),
		}},
		{"longest as PostgreSQL spells it", asPostgreSQL(t, most), nil},
		{"longer in canonical form", grows, []string{"must have at most 65536 bytes, found 65548"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wantProblems(t, tt.text, tt.want...)
		})
	}
}

// TestDecodeLargest holds the promise that an event that uses every limit of the
// protocol, spelled as wastefully as JSON allows, fits into MaxEventBytes.
func TestDecodeLargest(t *testing.T) {
	t.Parallel()
	name := quoted(strings.Repeat(`\ud83d\udc3b`, 255))
	dimensions := map[string]float64{}
	for i := range 20 {
		dimensions[fmt.Sprintf("d%031d", i)] = 2.2250738585072014e-308
	}
	dims, err := json.Marshal(dimensions)
	if err != nil {
		t.Fatal(err)
	}
	text := maxModelPerformance
	for _, path := range []string{"agent_id", "collection_id", "model_id", "provider", "pool_id", "quality_observation.evaluated_by"} {
		text = edit(t, text, path, name)
	}
	text = edit(t, text, "quality_observation.dimensions", string(dims))
	text = edit(t, text, "quality_observation.latency_ms", "9007199254740991")
	text = edit(t, text, "task_type", quoted(strings.Repeat("n", 127)+":"+strings.Repeat("t", 127)))
	wantProblems(t, text)
	if len(text) > reputation.MaxEventBytes/2 {
		t.Errorf("the largest event has %d bytes, want well below %d", len(text), reputation.MaxEventBytes)
	}
}

// TestDecodeKeepsNothing overwrites the text behind a decoded event.
func TestDecodeKeepsNothing(t *testing.T) {
	t.Parallel()
	data := []byte(maxModelPerformance)
	e, err := reputation.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		data[i] = '!'
	}
	if diff := cmp.Diff(mustDecode(t, maxModelPerformance), e, sameEvent); diff != "" {
		t.Errorf("the event changed with its text (-want +got):\n%s", diff)
	}
}

func TestDecodeSortsDimensions(t *testing.T) {
	t.Parallel()
	e := mustDecode(t, edit(t, minQualitySignal, "dimensions", `{"c":0.3,"a":0.1,"b_":0.2,"b":0.15}`))
	want := reputation.Dimensions{{"a", 0.1}, {"b", 0.15}, {"b_", 0.2}, {"c", 0.3}}
	if diff := cmp.Diff(want, e.Body.(reputation.QualitySignal).Dimensions); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDecodeAbsentIsNotEmpty: {} was given and says so when it is encoded again.
func TestDecodeAbsentIsNotEmpty(t *testing.T) {
	t.Parallel()
	e := mustDecode(t, edit(t, minQualitySignal, "dimensions", "{}"))
	if d := e.Body.(reputation.QualitySignal).Dimensions; d == nil || len(d) != 0 {
		t.Errorf("dimensions %#v, want empty and not nil", d)
	}
	e = mustDecode(t, edit(t, minModelPerformance, "request_context", "{}"))
	if c := e.Body.(reputation.ModelPerformance).RequestContext; c == nil || *c != (reputation.RequestContext{}) {
		t.Errorf("request context %#v, want empty and not nil", c)
	}
}

func TestEventUUID(t *testing.T) {
	t.Parallel()
	want := [16]byte{0x55, 0x0e, 0x84, 0, 0xe2, 0x9b, 0x41, 0xd4, 0xa7, 0x16, 0x44, 0x66, 0x55, 0x44, 0, 0xff}
	for _, id := range []string{
		"550e8400-e29b-41d4-a716-4466554400ff", "550E8400-E29B-41D4-A716-4466554400FF", "550e8400-E29B-41d4-A716-4466554400Ff",
	} {
		e := reputation.Event{ID: id}
		if got := e.UUID(); got != want {
			t.Errorf("UUID of %s = %x, want %x", id, got, want)
		}
	}
	for _, id := range []string{"", "550e8400", "550e8400-e29b-41d4-a716-4466554400fg"} {
		e := reputation.Event{ID: id}
		if got := e.UUID(); got != [16]byte{} {
			t.Errorf("UUID of %q = %x, want zero", id, got)
		}
	}
}

func TestParseTimestamp(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC)
	accepted := map[string]time.Time{
		"2026-02-25T12:00:00Z":           noon,
		"2026-02-25T12:00:00+00:00":      noon,
		"2026-02-25T12:00:00-00:00":      noon,
		"2026-02-25T14:00:00+02:00":      noon,
		"2026-02-25T06:30:00-05:30":      noon,
		"2026-02-26T11:59:00+23:59":      noon,
		"2026-02-25T12:00:00.5Z":         noon.Add(500 * time.Millisecond),
		"2026-02-25T12:00:00.000Z":       noon,
		"2026-02-25T12:00:00.000000001Z": noon.Add(1),
		// Digits beyond the nanosecond are read over.
		"2026-02-25T12:00:00.0000000019Z":                        noon.Add(1),
		"2026-02-25T12:00:00." + strings.Repeat("0", 300) + "1Z": noon,
		"2026-02-25T14:00:00.25+02:00":                           noon.Add(250 * time.Millisecond),
		"2024-02-29T00:00:00Z":                                   time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC),
		"2000-02-29T00:00:00Z":                                   time.Date(2000, 2, 29, 0, 0, 0, 0, time.UTC),
		"0001-01-01T00:00:00Z":                                   {},
		"9999-12-31T23:59:59Z":                                   time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	for text, want := range accepted {
		got, err := reputation.ParseTimestamp(text)
		if err != nil {
			t.Errorf("ParseTimestamp(%q): %v", text, err)
			continue
		}
		if !got.Time().Equal(want) || got.Time().Location() != time.UTC || got.String() != text || got.IsZero() {
			t.Errorf("ParseTimestamp(%q) = %q at %v, want the text at %v", text, got, got.Time(), want)
		}
	}
}

func TestParseTimestampRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"",
		"2026-02-25",
		"2026-02-25T12:00Z",
		"2026-02-25T12:00:00",       // no zone
		"2026-02-25 12:00:00Z",      // space
		"2026-02-25t12:00:00Z",      // lower case
		"2026-02-25T12:00:00z",      //
		"2026-02-25T1:00:00Z",       // one-digit hour
		"2026-02-25T12:0:00Z",       //
		"2026-2-25T12:00:00Z",       //
		"2026-02-25T12:00:00,5Z",    // comma
		"2026-02-25T12:00:00.Z",     // no digits
		"2026-02-25T12:00:00+0100",  // zones of other shapes
		"2026-02-25T12:00:00+01",    //
		"2026-02-25T12:00:00+1:00",  //
		"2026-02-25T12:00:00 01:00", // a plus that a form decoder made a space
		"2026-02-25T12:00:00+24:00", // zones that do not exist
		"2026-02-25T12:00:00-24:00", //
		"2026-02-25T12:00:00+23:60", //
		"2026-02-25T12:00:00Z+01:00",
		"2026-02-25T12:00:00+01:00Z",
		"2026-02-25T12:00:00UTC",
		"2026-02-25T12:00:00Z ",
		" 2026-02-25T12:00:00Z",
		"2026-02-25T12:00:00Z\n",
		"2026-02-30T12:00:00Z", // days that do not exist
		"2026-02-29T12:00:00Z", //
		"1900-02-29T12:00:00Z", //
		"2026-04-31T12:00:00Z", //
		"2026-13-01T12:00:00Z", //
		"2026-00-01T12:00:00Z", //
		"2026-01-00T12:00:00Z", //
		"2026-02-25T24:00:00Z", // times that do not exist
		"2026-02-25T25:61:61Z", //
		"2026-02-25T12:60:00Z", //
		"2016-12-31T23:59:60Z", // a leap second that did
		"12026-02-25T12:00:00Z",
		"-026-02-25T12:00:00Z",
		"２026-02-25T12:00:00Z",
	} {
		if got, err := reputation.ParseTimestamp(text); err == nil {
			t.Errorf("ParseTimestamp(%q) = %v, want an error", text, got.Time())
		} else if !got.IsZero() {
			t.Errorf("ParseTimestamp(%q) = %q beside an error", text, got)
		}
	}
}

func TestTimestampOf(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("", 2*3600)
	tests := []struct {
		at   time.Time
		want string
	}{
		{time.Date(2026, 2, 25, 14, 0, 0, 0, zone), "2026-02-25T12:00:00Z"},
		{time.Date(2026, 2, 25, 12, 0, 0, 120_000_000, time.UTC), "2026-02-25T12:00:00.12Z"},
		{time.Date(2026, 2, 25, 12, 0, 0, 1, time.UTC), "2026-02-25T12:00:00.000000001Z"},
	}
	for _, tt := range tests {
		got := reputation.TimestampOf(tt.at)
		if got.String() != tt.want || !got.Time().Equal(tt.at) {
			t.Errorf("TimestampOf(%v) = %q at %v, want %q", tt.at, got, got.Time(), tt.want)
		}
		if parsed, err := reputation.ParseTimestamp(got.String()); err != nil || !cmp.Equal(parsed, got, sameEvent) {
			t.Errorf("ParseTimestamp(%q) = %q, %v, want it back", got, parsed, err)
		}
	}
}

func TestTimestampLater(t *testing.T) {
	t.Parallel()
	early := timestamp(t, "2026-02-25T12:00:00Z")
	same := timestamp(t, "2026-02-25T13:00:00+01:00")
	late := timestamp(t, "2026-02-25T11:30:00-01:00")
	var none reputation.Timestamp
	tests := []struct {
		name       string
		a, b, want reputation.Timestamp
	}{
		{"later second", early, late, late},
		{"later first", late, early, late},
		{"the first of equal instants", early, same, early},
		{"the first of equal instants, swapped", same, early, same},
		{"none before one", none, early, early},
		{"one before none", early, none, early},
		{"none before the zero time", none, timestamp(t, "0001-01-01T00:00:00Z"), timestamp(t, "0001-01-01T00:00:00Z")},
		{"none before the year 1", none, timestamp(t, "0000-12-31T00:00:00Z"), timestamp(t, "0000-12-31T00:00:00Z")},
		{"none at all", none, none, none},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.a.Later(tt.b); got.String() != tt.want.String() {
				t.Errorf("%q.Later(%q) = %q, want %q", tt.a, tt.b, got, tt.want)
			}
		})
	}
}

func timestamp(t testing.TB, text string) reputation.Timestamp {
	t.Helper()
	at, err := reputation.ParseTimestamp(text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestTaskTypeValid starts with the examples of protocol §3.3.
func TestTaskTypeValid(t *testing.T) {
	t.Parallel()
	tests := map[reputation.TaskType]bool{
		"legal-guild:contract_review": true,
		"ab:cd":                       true,
		"ab_1:cd2":                    true,
		"a:bb":                        false,
		"ab:c":                        false,
		"ab:c-d":                      false,
		"Ab:cd":                       false,
		"ab:cd:ef":                    false,
		"":                            false,
		"translation":                 false,

		"code_review":      true,
		"creative_writing": true,
		"analysis":         true,
		"summarization":    true,
		"general":          true,
		"unspecified":      true,
		"Analysis":         false,
		" analysis":        false,
		"analysis\n":       false,
		"ab:cd\n":          false,
		"a-:cd":            true,
		"a_:c_":            true,
		"-a:cd":            false,
		"_a:cd":            false,
		"1a:cd":            false,
		"ab:1c":            false,
		"ab:_c":            false,
		"ab:cD":            false,
		"aB:cd":            false,
		"ab: cd":           false,
		"ab:":              false,
		":cd":              false,
		":":                false,
		"äb:cd":            false,
		"ab:cé":            false,
		"ab：cd":            false,

		reputation.TaskType("ab:" + strings.Repeat("c", 252)): true,
		reputation.TaskType("ab:" + strings.Repeat("c", 253)): false,
	}
	for task, want := range tests {
		if got := task.Valid(); got != want {
			t.Errorf("TaskType(%q).Valid() = %v, want %v", task, got, want)
		}
		text, err := json.Marshal(string(task))
		if err != nil {
			t.Fatal(err)
		}
		if got := problems(t, edit(t, minTaskCompleted, "task_type", string(text))) == nil; got != want {
			t.Errorf("a task_completed with the task type %q is valid: %v, want %v", task, got, want)
		}
	}
}

func TestTaskTypeKnown(t *testing.T) {
	t.Parallel()
	tests := map[reputation.TaskType]bool{
		"": false, reputation.TaskUnspecified: false, "analysis": true, "ab:cd": true,
	}
	for task, want := range tests {
		if got := task.Known(); got != want {
			t.Errorf("TaskType(%q).Known() = %v, want %v", task, got, want)
		}
	}
}

func TestValidNFT(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		"1":                      true,
		"bear-1":                 true,
		"eip155:1:0xAbC_d.9":     true,
		strings.Repeat("x", 255): true,
		strings.Repeat("x", 256): false,
		"":                       false,
		"a/b":                    false,
		"a b":                    false,
		"a\n":                    false,
		"é":                      false,
		"@":                      false, // the byte before A
		"[":                      false, // the byte after Z
		"`":                      false, // the byte before a
		"{":                      false, // the byte after z
		"\x00":                   false,
		"a\xff":                  false,
	}
	for id, want := range tests {
		if got := reputation.ValidNFT(id); got != want {
			t.Errorf("ValidNFT(%q) = %v, want %v", id, got, want)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	t.Parallel()
	err := error(&reputation.InvalidError{Problems: []reputation.Problem{
		{Field: "score", Detail: "is required"}, {Detail: "must be an object, found null"},
	}})
	if got, want := err.Error(), "score: is required; must be an object, found null"; got != want {
		t.Errorf("InvalidError: %q, want %q", got, want)
	}
	for _, other := range []error{reputation.ErrNotFound, reputation.ErrConflict} {
		if errors.Is(err, other) {
			t.Errorf("an InvalidError matches %v", other)
		}
	}
	err = &reputation.SetAsideError{Reason: reputation.ReasonCollectionMismatch, Detail: "x"}
	if got, want := err.Error(), "collection_mismatch: x"; got != want {
		t.Errorf("SetAsideError: %q, want %q", got, want)
	}
}

// TestVocabularyIsComplete: the tables above name every member of the maximal
// events, so that a new one cannot go untested.
func TestVocabularyIsComplete(t *testing.T) {
	t.Parallel()
	for event, own := range vocabulary {
		var members map[string]jsontext.Value
		if err := json.Unmarshal([]byte(event), &members); err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, m := range slices.Concat(envelope, own) {
			if !strings.Contains(m.path, ".") {
				want = append(want, m.path)
			}
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(members))); diff != "" {
			t.Errorf("%s (-table +event):\n%s", event, diff)
		}
	}
}
