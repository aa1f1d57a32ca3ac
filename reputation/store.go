package reputation

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"
)

// Stored values are written by hand, like events: each projected event writes a
// row, and a generic encoder took a quarter of a projector's time. Members are
// written in the order of their names, which makes the text canonical; tests hold
// it to what the struct tags say.

// AppendJSON appends the aggregate's canonical JSON (RFC 8785) to dst.
func (g *Aggregate) AppendJSON(dst []byte) []byte {
	o := beginObject(dst)
	o.number("blended_score", g.BlendedScore)
	o.text("collection_id", g.CollectionID)
	o.number("collection_score", g.CollectionScore)
	o.text("contract_version", g.ContractVersion)
	o.integer("contributor_count", g.ContributorCount)
	o.time("created_at", g.CreatedAt)
	o.time("last_updated", g.LastUpdated)
	o.integer("min_sample_count", g.MinSampleCount)
	o.name("model_cohorts")
	o.buf = appendArray(o.buf, g.ModelCohorts, func(o *object, c *ModelCohort) {
		o.time("last_updated", c.LastUpdated)
		o.text("model_id", c.ModelID)
		o.score("personal_score", c.PersonalScore)
		o.integer("sample_count", c.SampleCount)
	})
	o.score("personal_score", g.PersonalScore)
	o.text("personality_id", g.PersonalityID)
	o.text("pool_id", g.PoolID)
	o.integer("pseudo_count", g.PseudoCount)
	o.integer("sample_count", g.SampleCount)
	o.text("state", string(g.State))
	o.name("transition_history")
	o.buf = appendArray(o.buf, g.Transitions, func(o *object, t *Transition) {
		o.time("at", t.At)
		o.text("from", string(t.From))
		o.text("to", string(t.To))
		o.text("trigger", t.Trigger)
	})
	return o.end()
}

// AppendJSON appends the cohort's canonical JSON to dst.
func (c *TaskCohort) AppendJSON(dst []byte) []byte {
	o := beginObject(dst)
	o.time("last_updated", c.LastUpdated)
	o.text("model_id", c.ModelID)
	o.score("personal_score", c.PersonalScore)
	o.integer("sample_count", c.SampleCount)
	o.text("task_type", string(c.TaskType))
	return o.end()
}

// AppendJSON appends the agent's whole state as canonical JSON to dst. aggregate
// is what [Aggregate.AppendJSON] gives for its aggregate.
func (a *Agent) AppendJSON(dst, aggregate []byte) []byte {
	o := beginObject(dst)
	o.name("aggregate")
	o.buf = append(o.buf, aggregate...)
	appendMap(&o, "credentials", a.Credentials, func(o *object, c Credential) {
		o.text("action", string(c.Action))
		o.time("at", c.At)
	})
	appendMap(&o, "dimensions", a.Dimensions, func(o *object, r Running) {
		o.integer("count", r.Count)
		o.number("score", r.Score)
	})
	if len(a.Evaluators) > 0 {
		o.name("evaluators")
		o.buf = append(o.buf, '[')
		for i, evaluator := range a.Evaluators {
			if i > 0 {
				o.buf = append(o.buf, ',')
			}
			o.buf = appendString(o.buf, evaluator)
		}
		o.buf = append(o.buf, ']')
	}
	o.time("last_event_at", a.LastEventAt)
	appendMap(&o, "tasks", a.Tasks, func(o *object, s TaskStats) {
		o.integer("completed", s.Completed)
		o.integer("succeeded", s.Succeeded)
		o.integer("timed", s.Timed)
		o.integer("total_duration_ms", s.TotalDurationMS)
	})
	return o.end()
}

func appendArray[T any](dst []byte, values []T, write func(*object, *T)) []byte {
	dst = append(dst, '[')
	for i := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		o := beginObject(dst)
		write(&o, &values[i])
		dst = o.end()
	}
	return append(dst, ']')
}

// appendMap writes a member whose own members are sorted by name, and nothing for
// an empty map. Names are ASCII, of which RFC 8785 and bytes give one order.
func appendMap[K ~string, V any](o *object, name string, m map[K]V, write func(*object, V)) {
	if len(m) == 0 {
		return
	}
	o.name(name)
	inner := beginObject(o.buf)
	for _, key := range slices.Sorted(maps.Keys(m)) {
		inner.name(string(key))
		value := beginObject(inner.buf)
		write(&value, m[key])
		inner.buf = value.end()
	}
	o.buf = inner.end()
}

func (o *object) text(name, value string) {
	o.name(name)
	o.buf = appendString(o.buf, value)
}

func (o *object) time(name string, value Timestamp) {
	o.name(name)
	o.buf = append(value.appendText(append(o.buf, '"')), '"') // a timestamp has nothing to escape
}

func (o *object) integer(name string, value int64) {
	o.name(name)
	o.buf = strconv.AppendInt(o.buf, value, 10)
}

func (o *object) number(name string, value float64) {
	o.name(name)
	o.buf = AppendNumber(o.buf, value)
}

// score writes null for nil.
func (o *object) score(name string, value *float64) {
	o.name(name)
	if value == nil {
		o.buf = append(o.buf, "null"...)
		return
	}
	o.buf = AppendNumber(o.buf, *value)
}

// DecodeInto reads the JSON of a stored value: an [Aggregate], [Agent] or
// [TaskCohort]. Members that the type does not have are passed over, as other
// programs may add some to an aggregate.
func DecodeInto(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	return nil
}
