package eventstoretest

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dixie/eventstore"
	"dixie/reputation"
)

// testCanonicalForm: a log may keep an event in a spelling of its own, but the
// canonical form that comes back is the one that was given, for all valid events.
func testCanonicalForm(t *testing.T, log eventstore.Store) {
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		var entries []reputation.Entry
		for range rapid.IntRange(1, 5).Draw(rt, "entries") {
			n++
			event := events.Draw(rt, "event")
			// Shrinking repeats events, so the id is not drawn.
			event.ID = Event(n).ID
			if err := event.Validate(); err != nil {
				rt.Fatalf("the generator made an invalid event: %v", err)
			}
			entries = append(entries, reputation.NewEntry("a", &event))
		}
		results, err := log.Append(t.Context(), entries...)
		if err != nil {
			rt.Fatal(err)
		}
		stored, err := log.Read(t.Context(), results[0].Position-1, len(entries))
		if err != nil || len(stored) != len(entries) {
			rt.Fatalf("read %d events, error %v", len(stored), err)
		}
		for i, entry := range entries {
			checkForm(rt, entry.JSON, &stored[i])
		}
		again, err := log.Append(t.Context(), entries...)
		if err != nil || slices.ContainsFunc(again, func(a reputation.Appended) bool { return a.Status != reputation.Duplicate }) {
			rt.Fatalf("the same again: %v, %v", again, err)
		}
	})
}

func checkForm(rt *rapid.T, want []byte, stored *reputation.Recorded) {
	text, err := reputation.Canonical(stored.JSON)
	if err != nil || string(text) != string(want) {
		rt.Fatalf("stored %s, error %v, want %s", text, err, want)
	}
	event, err := stored.Event()
	if err != nil {
		rt.Fatalf("decode what was stored: %v", err)
	}
	if got := event.AppendJSON(nil); string(got) != string(want) {
		rt.Fatalf("decoded %s, want %s", got, want)
	}
}

var (
	names  = text(255)
	uuids  = rapid.StringMatching(`[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}`)
	counts = rapid.Int64Range(0, reputation.MaxInteger)

	scores = rapid.OneOf(
		rapid.Float64Range(0, 1),
		// Where spellings differ: the smallest and largest of a kind, exponents.
		rapid.SampledFrom([]float64{0, 1, 0.1, 1e-6, 1e-7, 9.5e-7, 1e-300, 1 - 0x1p-53,
			math.SmallestNonzeroFloat64, 0x1p-1022, 1.0 / 3}),
	)

	taskTypes = rapid.OneOf(
		rapid.SampledFrom([]reputation.TaskType{"code_review", "creative_writing", "analysis", "summarization", "general", "unspecified"}),
		rapid.Map(rapid.StringMatching(`[a-z][a-z0-9_-]{1,9}:[a-z][a-z0-9_]{1,9}`), func(s string) reputation.TaskType {
			return reputation.TaskType(s)
		}),
	)

	dimensions = rapid.Map(
		rapid.MapOfN(rapid.StringMatching(`[a-z][a-z0-9_]{0,31}`), scores, 0, 20),
		func(scores map[string]float64) reputation.Dimensions {
			all := make(reputation.Dimensions, 0, len(scores))
			for name, score := range scores {
				all = append(all, reputation.Dimension{Name: name, Score: score})
			}
			slices.SortFunc(all, func(a, b reputation.Dimension) int { return strings.Compare(a.Name, b.Name) })
			return all
		})

	timestamps = rapid.Custom(func(rt *rapid.T) reputation.Timestamp {
		const layout = "2006-01-02T15:04:05"
		day := time.Unix(rapid.Int64Range(-6e10, 2e11).Draw(rt, "seconds"), 0).UTC()
		spelling := day.Format(layout) +
			rapid.SampledFrom([]string{"", ".0", ".5", ".120", ".000000001", ".999999999999"}).Draw(rt, "fraction") +
			rapid.SampledFrom([]string{"Z", "+00:00", "-00:00", "+05:45", "-11:30"}).Draw(rt, "zone")
		timestamp, err := reputation.ParseTimestamp(spelling)
		if err != nil {
			rt.Fatal(err)
		}
		return timestamp
	})

	bodies = rapid.OneOf(
		rapid.Map(rapid.Custom(qualitySignal), asBody),
		rapid.Map(rapid.Custom(taskCompleted), asBody),
		rapid.Map(rapid.Custom(credentialUpdate), asBody),
		rapid.Map(rapid.Custom(modelPerformance), asBody),
		rapid.Map(rapid.Custom(reputationReset), asBody),
	)

	events = rapid.Custom(func(rt *rapid.T) reputation.Event {
		return reputation.Event{
			AgentID: names.Draw(rt, "agent"), CollectionID: names.Draw(rt, "collection"),
			Timestamp: timestamps.Draw(rt, "timestamp"), Sequence: optional(rt, counts, "sequence"),
			Body: bodies.Draw(rt, "body"),
		}
	})
)

// text is any Unicode that an event can hold, with many of the characters that
// JSON escapes.
func text(most int) *rapid.Generator[string] {
	tricky := rapid.SampledFrom([]rune{
		'"', '\\', '/', '\n', '\b', '\x01', '\x1f', '\x7f',
		'\u0080', '\u2028', '\ufeff', '\ufffd', '\uffff', '𝄞', '\U0010ffff', 'é', '\u0301',
	})
	runes := rapid.OneOf(rapid.Rune(), tricky).Filter(func(r rune) bool { return r != 0 })
	return rapid.StringOfN(runes, 1, most, -1)
}

func asBody[B reputation.Body](b B) reputation.Body { return b }

func optional[V any](rt *rapid.T, of *rapid.Generator[V], label string) *V {
	if !rapid.Bool().Draw(rt, label+" given") {
		return nil
	}
	value := of.Draw(rt, label)
	return &value
}

func optionalDimensions(rt *rapid.T) reputation.Dimensions {
	if !rapid.Bool().Draw(rt, "dimensions given") {
		return nil
	}
	return dimensions.Draw(rt, "dimensions")
}

func qualitySignal(rt *rapid.T) reputation.QualitySignal {
	task := rapid.OneOf(rapid.Just(reputation.TaskType("")), taskTypes)
	return reputation.QualitySignal{
		Score: scores.Draw(rt, "score"), TaskType: task.Draw(rt, "task type"), Dimensions: optionalDimensions(rt),
	}
}

func taskCompleted(rt *rapid.T) reputation.TaskCompleted {
	return reputation.TaskCompleted{
		TaskType: taskTypes.Draw(rt, "task type"), Success: rapid.Bool().Draw(rt, "success"),
		DurationMS: optional(rt, rapid.Int64Range(0, 3_600_000), "duration"),
	}
}

func credentialUpdate(rt *rapid.T) reputation.CredentialUpdate {
	actions := rapid.SampledFrom([]reputation.CredentialAction{"issued", "revoked", "renewed", "suspended"})
	return reputation.CredentialUpdate{CredentialID: uuids.Draw(rt, "credential"), Action: actions.Draw(rt, "action")}
}

func modelPerformance(rt *rapid.T) reputation.ModelPerformance {
	body := reputation.ModelPerformance{
		ModelID: names.Draw(rt, "model"), Provider: names.Draw(rt, "provider"), PoolID: names.Draw(rt, "pool"),
		TaskType: taskTypes.Draw(rt, "task type"),
		Observation: reputation.QualityObservation{
			Score: scores.Draw(rt, "score"), Dimensions: optionalDimensions(rt), LatencyMS: optional(rt, counts, "latency"),
		},
	}
	if evaluator := optional(rt, text(2000), "evaluator"); evaluator != nil {
		body.Observation.EvaluatedBy = *evaluator
	}
	if rapid.Bool().Draw(rt, "context given") {
		ids := rapid.OneOf(rapid.Just(""), uuids)
		body.RequestContext = &reputation.RequestContext{
			RequestID: ids.Draw(rt, "request"), DelegationID: ids.Draw(rt, "delegation"),
		}
	}
	return body
}

func reputationReset(rt *rapid.T) reputation.ReputationReset {
	return reputation.ReputationReset{Reason: text(500).Draw(rt, "reason"), Actor: names.Draw(rt, "actor")}
}
