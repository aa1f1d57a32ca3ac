package reputation_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"dixie/reputation"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// score leans towards the values where rounding and spelling are special.
func score() *rapid.Generator[float64] {
	return rapid.OneOf(
		rapid.SampledFrom([]float64{0, 1, 0.5, 0.1, 0.30000000000000004, 0.9999999999999999, 1e-6, 9.5e-7, 1e-7, 5e-324}),
		rapid.Float64Range(0, 1),
		rapid.Map(rapid.IntRange(0, 100), func(percent int) float64 { return float64(percent) / 100 }),
	)
}

// text is a valid name of at most that many characters.
func text(most int) *rapid.Generator[string] {
	character := rapid.Rune().Filter(func(r rune) bool { return r != 0 && utf8.ValidRune(r) })
	return rapid.StringOfN(character, 1, most, -1)
}

func uuid() *rapid.Generator[string] {
	return rapid.StringMatching(`[0-9a-f]{8}-[0-9a-fA-F]{4}-[0-9A-F]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
}

func taskType() *rapid.Generator[reputation.TaskType] {
	return rapid.OneOf(
		rapid.SampledFrom([]reputation.TaskType{"code_review", "analysis", "general", "unspecified"}),
		rapid.Map(rapid.StringMatching(`[a-z][a-z0-9_-]{1,9}:[a-z][a-z0-9_]{1,9}`), func(s string) reputation.TaskType {
			return reputation.TaskType(s)
		}),
	)
}

// dimensions are nil, empty or full.
func dimensions(most int) *rapid.Generator[reputation.Dimensions] {
	return rapid.Custom(func(t *rapid.T) reputation.Dimensions {
		if rapid.Bool().Draw(t, "no dimensions") {
			return nil
		}
		scores := rapid.MapOfN(rapid.StringMatching(`[a-c][a-z0-9_]{0,31}`), score(), 0, most).Draw(t, "dimensions")
		found := make(reputation.Dimensions, 0, len(scores))
		for _, name := range slices.Sorted(maps.Keys(scores)) {
			found = append(found, reputation.Dimension{Name: name, Score: scores[name]})
		}
		return found
	})
}

// when is a time in any zone and with any fraction.
func when() *rapid.Generator[reputation.Timestamp] {
	return rapid.Custom(func(t *rapid.T) reputation.Timestamp {
		at := time.Unix(rapid.Int64Range(-1<<34, 1<<37).Draw(t, "seconds"), 0).UTC()
		fraction := rapid.StringMatching(`|\.[0-9]{1,12}`).Draw(t, "fraction")
		zone := rapid.StringMatching(`Z|[+-](0[0-9]|1[0-9]|2[0-3]):[0-5][0-9]`).Draw(t, "zone")
		parsed, err := reputation.ParseTimestamp(at.Format("2006-01-02T15:04:05") + fraction + zone)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	})
}

func integer(most int64) *rapid.Generator[*int64] {
	return rapid.Ptr(rapid.OneOf(rapid.Int64Range(0, most), rapid.SampledFrom([]int64{0, most})), true)
}

// anyBody is a valid body of any type that uses all its freedom.
func anyBody() *rapid.Generator[reputation.Body] {
	return rapid.Custom(func(t *rapid.T) reputation.Body {
		switch rapid.IntRange(0, 4).Draw(t, "type") {
		case 0:
			return reputation.QualitySignal{
				Score:      score().Draw(t, "score"),
				TaskType:   rapid.OneOf(rapid.Just(reputation.TaskType("")), taskType()).Draw(t, "task_type"),
				Dimensions: dimensions(20).Draw(t, "dimensions"),
			}
		case 1:
			return reputation.TaskCompleted{
				TaskType:   taskType().Draw(t, "task_type"),
				Success:    rapid.Bool().Draw(t, "success"),
				DurationMS: integer(3_600_000).Draw(t, "duration_ms"),
			}
		case 2:
			return reputation.CredentialUpdate{
				CredentialID: uuid().Draw(t, "credential_id"),
				Action:       rapid.SampledFrom([]reputation.CredentialAction{"issued", "revoked", "renewed", "suspended"}).Draw(t, "action"),
			}
		case 3:
			name := text(12)
			body := reputation.ModelPerformance{
				ModelID: name.Draw(t, "model_id"), Provider: name.Draw(t, "provider"), PoolID: name.Draw(t, "pool_id"),
				TaskType: taskType().Draw(t, "task_type"),
				Observation: reputation.QualityObservation{
					Score:       score().Draw(t, "score"),
					Dimensions:  dimensions(20).Draw(t, "dimensions"),
					LatencyMS:   integer(reputation.MaxInteger).Draw(t, "latency_ms"),
					EvaluatedBy: rapid.OneOf(rapid.Just(""), name).Draw(t, "evaluated_by"),
				},
			}
			if rapid.Bool().Draw(t, "context") {
				id := rapid.OneOf(rapid.Just(""), uuid())
				body.RequestContext = &reputation.RequestContext{
					RequestID: id.Draw(t, "request_id"), DelegationID: id.Draw(t, "delegation_id"),
				}
			}
			return body
		default:
			return reputation.ReputationReset{Reason: text(20).Draw(t, "reason"), Actor: text(12).Draw(t, "actor")}
		}
	})
}

func anyEvent() *rapid.Generator[*reputation.Event] {
	return rapid.Custom(func(t *rapid.T) *reputation.Event {
		return &reputation.Event{
			ID: uuid().Draw(t, "event_id"), AgentID: text(12).Draw(t, "agent_id"),
			CollectionID: text(12).Draw(t, "collection_id"), Timestamp: when().Draw(t, "timestamp"),
			Sequence: integer(reputation.MaxInteger).Draw(t, "sequence"), Body: anyBody().Draw(t, "body"),
		}
	})
}

// logged is an event of a history and the NFT that it counts for.
type logged struct {
	nft   string
	event *reputation.Event
}

// history is what happens to few agents of two collections, so that they meet: some
// events name the other collection or an impossible NFT, some reset, and clocks
// disagree.
func history(most int) *rapid.Generator[[]logged] {
	one := rapid.Custom(func(t *rapid.T) logged {
		nft := rapid.SampledFrom([]string{"a-1", "a-1", "a-1", "a-2", "a-3", "b-1", "b-2"}).Draw(t, "nft")
		collection := nft[:1]
		switch rapid.IntRange(0, 24).Draw(t, "flaw") {
		case 23:
			collection = map[string]string{"a": "b", "b": "a"}[collection]
		case 24:
			nft = "not an nft"
		}
		return logged{nft, &reputation.Event{
			ID: "550e8400-e29b-41d4-a716-446655440000", AgentID: "agent", CollectionID: collection,
			Timestamp: minute(rapid.IntRange(0, 99).Draw(t, "minute")), Body: commonBody().Draw(t, "body"),
		}}
	})
	return rapid.Custom(func(t *rapid.T) []logged {
		// A slice of no fixed length would mostly be short.
		n := rapid.IntRange(0, most).Draw(t, "events")
		return rapid.SliceOfN(one, n, n).Draw(t, "history")
	})
}

// commonBody has few names, so that cohorts, dimensions and evaluators meet again.
func commonBody() *rapid.Generator[reputation.Body] {
	named := rapid.Custom(func(t *rapid.T) reputation.Dimensions {
		scores := rapid.MapOfN(rapid.SampledFrom([]string{"accuracy", "tone"}), score(), 0, 2).Draw(t, "dimensions")
		var found reputation.Dimensions
		for _, name := range slices.Sorted(maps.Keys(scores)) {
			found = append(found, reputation.Dimension{Name: name, Score: scores[name]})
		}
		return found
	})
	task := rapid.SampledFrom([]reputation.TaskType{"unspecified", "analysis", "ab:cd"})
	return rapid.Custom(func(t *rapid.T) reputation.Body {
		switch n := rapid.IntRange(0, 19).Draw(t, "type"); {
		case n < 7:
			return reputation.QualitySignal{
				Score: score().Draw(t, "score"), Dimensions: named.Draw(t, "dimensions"),
				TaskType: rapid.OneOf(rapid.Just(reputation.TaskType("")), task).Draw(t, "task_type"),
			}
		case n < 15:
			return reputation.ModelPerformance{
				ModelID:  rapid.SampledFrom([]string{"native", "default", "gpt-4o"}).Draw(t, "model_id"),
				Provider: "provider", PoolID: rapid.SampledFrom([]string{"alpha", "beta"}).Draw(t, "pool_id"),
				TaskType: task.Draw(t, "task_type"),
				Observation: reputation.QualityObservation{
					Score: score().Draw(t, "score"), Dimensions: named.Draw(t, "dimensions"),
					EvaluatedBy: rapid.SampledFrom([]string{"", "judge-1", "judge-2"}).Draw(t, "evaluated_by"),
				},
			}
		case n < 17:
			return reputation.TaskCompleted{
				TaskType: task.Draw(t, "task_type"), Success: rapid.Bool().Draw(t, "success"),
				DurationMS: integer(3_600_000).Draw(t, "duration_ms"),
			}
		case n < 19:
			return reputation.CredentialUpdate{
				CredentialID: rapid.SampledFrom([]string{
					"550e8400-e29b-41d4-a716-44665544000a", "550E8400-E29B-41D4-A716-44665544000A",
				}).Draw(t, "credential_id"),
				Action: rapid.SampledFrom([]reputation.CredentialAction{"issued", "revoked"}).Draw(t, "action"),
			}
		default:
			return reputation.ReputationReset{Reason: "reset", Actor: "admin"}
		}
	})
}

// anyDamping is any valid damping.
func anyDamping() *rapid.Generator[reputation.Damping] {
	return rapid.Custom(func(t *rapid.T) reputation.Damping {
		low, high := score().Draw(t, "alpha"), score().Draw(t, "alpha")
		return reputation.Damping{
			AlphaMin: min(low, high), AlphaMax: max(low, high),
			RampSamples:    rapid.Int64Range(1, 60).Draw(t, "ramp_samples"),
			Ramp:           rapid.SampledFrom([]reputation.Ramp{"ascending", "descending"}).Draw(t, "ramp"),
			ColdStart:      rapid.SampledFrom([]reputation.ColdStart{"direct", "bayesian"}).Draw(t, "cold_start"),
			ColdStartCount: rapid.Int64Range(1, 20).Draw(t, "cold_start_count"),
		}
	})
}

// anyParams are the presets and others; the authoritative weight is the protocol's,
// which its constraint on aggregates rests on.
func anyParams() *rapid.Generator[reputation.Params] {
	return rapid.OneOf(
		rapid.Just(reputation.DefaultParams()),
		rapid.Just(reputation.DixieParams()),
		rapid.Custom(func(t *rapid.T) reputation.Params {
			p := reputation.DefaultParams()
			p.PseudoCount = rapid.Int64Range(1, 3).Draw(t, "pseudo_count")
			p.MinSampleCount = rapid.Int64Range(1, 4).Draw(t, "min_sample_count")
			p.Damping = anyDamping().Draw(t, "damping")
			p.NeutralPrior = score().Draw(t, "neutral_prior")
			if err := p.Validate(); err != nil {
				t.Fatal(err)
			}
			return p
		}),
	)
}

func TestPropertyEventsSurviveEncoding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent().Draw(t, "event")
		if err := e.Validate(); err != nil {
			t.Fatalf("Validate: %v", err)
		}
		encoded := e.AppendJSON(nil)
		back, err := reputation.Decode(encoded)
		if err != nil {
			t.Fatalf("Decode(%s): %v", encoded, err)
		}
		if diff := cmp.Diff(e, &back, sameEvent); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// TestPropertySpelling: however an event is spelled, it decodes to the same and is
// encoded as its RFC 8785 form.
func TestPropertySpelling(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent().Draw(t, "event")
		var value any
		if err := json.Unmarshal(e.AppendJSON(nil), &value); err != nil {
			t.Fatal(err)
		}
		odd := spell(t, value)
		want, err := reputation.Canonical([]byte(odd))
		if err != nil {
			t.Fatalf("Canonical(%s): %v", odd, err)
		}
		back, err := reputation.Decode([]byte(odd))
		if err != nil {
			t.Fatalf("Decode(%s): %v", odd, err)
		}
		if diff := cmp.Diff(e, &back, sameEvent); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", odd, diff)
		}
		if got := back.AppendJSON(nil); string(got) != string(want) {
			t.Fatalf("AppendJSON = %s, Canonical = %s", got, want)
		}
	})
}

// spell writes a JSON value with members in any order and numbers, strings and
// space in any spelling.
func spell(t *rapid.T, value any) string {
	space := func() string { return rapid.SampledFrom([]string{"", "", " ", "\n\t", "\r "}).Draw(t, "space") }
	switch value := value.(type) {
	case map[string]any:
		var members []string
		for _, name := range rapid.Permutation(slices.Sorted(maps.Keys(value))).Draw(t, "members") {
			members = append(members, space()+spellString(t, name)+space()+":"+space()+spell(t, value[name])+space())
		}
		return space() + "{" + strings.Join(members, ",") + "}" + space()
	case string:
		return spellString(t, value)
	case float64:
		return spellNumber(t, value)
	case bool:
		return strconv.FormatBool(value)
	}
	t.Fatalf("an event holds a %T", value)
	return ""
}

func spellNumber(t *rapid.T, f float64) string {
	if f == 0 {
		return rapid.SampledFrom([]string{"0", "-0", "0.0", "-0.00", "0e9", "-0E-9", "1e-400"}).Draw(t, "zero")
	}
	plain := strconv.FormatFloat(f, 'f', -1, 64)
	padded := plain + "000"
	if f == math.Trunc(f) {
		padded = plain + ".000"
	}
	return rapid.SampledFrom([]string{
		plain, padded, strconv.FormatFloat(f, 'e', -1, 64), strconv.FormatFloat(f, 'E', 25, 64),
	}).Draw(t, "number")
}

func spellString(t *rapid.T, s string) string {
	short := map[rune]string{'"': `\"`, '\\': `\\`, '/': `\/`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		escape, named := short[r]
		switch how := rapid.IntRange(0, 5).Draw(t, "escape"); {
		case how == 0 && r > 0xffff:
			high, low := 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff
			fmt.Fprintf(&b, `\u%04x\u%04X`, high, low)
		case how == 0, r < 0x20 && !named:
			fmt.Fprintf(&b, `\u%04x`, r)
		case named && (r != '/' || how == 1):
			b.WriteString(escape)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// store keeps rows as texts, as a database does.
type store struct {
	Agents      map[string]string
	Collections map[string]reputation.Collection
	// Owners are the collections of the NFTs, as the cohorts projection knows them.
	Owners   map[string]string
	Cohorts  map[string]map[reputation.CohortKey]string
	SetAside []string
}

func newStore() *store {
	return &store{
		Agents: map[string]string{}, Collections: map[string]reputation.Collection{},
		Owners: map[string]string{}, Cohorts: map[string]map[reputation.CohortKey]string{},
	}
}

// fold loads what a page of events can touch, folds the page and stores the
// outcome. With partial it loads no cohort that the page does not name.
func (s *store) fold(t *rapid.T, p reputation.Params, page []logged, partial bool) {
	w := newWorld(p)
	for id, c := range s.Collections {
		w.collections[id] = new(c)
	}
	for _, l := range page {
		if row, ok := s.Agents[l.nft]; ok && w.agents[l.nft] == nil {
			if err := reputation.DecodeInto([]byte(row), entry(w.agents, l.nft)); err != nil {
				t.Fatal(err)
			}
		}
		c := entry(w.cohorts, l.nft)
		c.CollectionID = s.Owners[l.nft]
		named, _, _ := reputation.CohortOf(l.event)
		for key, row := range s.Cohorts[l.nft] {
			if partial && key != named {
				continue
			}
			if c.ByKey == nil {
				c.ByKey = map[reputation.CohortKey]reputation.TaskCohort{}
			}
			var stored reputation.TaskCohort
			if err := reputation.DecodeInto([]byte(row), &stored); err != nil {
				t.Fatal(err)
			}
			c.ByKey[key] = stored
		}
	}
	for _, l := range page {
		aggregate, cohorts := w.fold(l.nft, l.event)
		if fmt.Sprint(aggregate) != fmt.Sprint(cohorts) {
			t.Fatalf("FoldAggregate says %v, FoldCohorts %v", aggregate, cohorts)
		}
		if aggregate != nil {
			s.SetAside = append(s.SetAside, aggregate.Error())
		}
	}
	s.save(t, w)
}

func (s *store) save(t *rapid.T, w *world) {
	for id, c := range w.collections {
		s.Collections[id] = *c
	}
	for nft, a := range w.agents {
		if a.Known() {
			s.Agents[nft] = drawEncode(t, a)
			if byHand := a.AppendJSON(nil, a.Aggregate.AppendJSON(nil)); string(byHand) != s.Agents[nft] {
				t.Fatalf("AppendJSON = %s, Encode = %s", byHand, s.Agents[nft])
			}
		}
	}
	for nft, c := range w.cohorts {
		if c.CollectionID != "" {
			s.Owners[nft] = c.CollectionID
		}
		if c.Cleared {
			delete(s.Cohorts, nft)
		}
		for key, cohort := range c.ByKey {
			if s.Cohorts[nft] == nil {
				s.Cohorts[nft] = map[reputation.CohortKey]string{}
			}
			if cohort.Key() != key {
				t.Fatalf("a cohort with the key %v is kept under %v", cohort.Key(), key)
			}
			s.Cohorts[nft][key] = drawEncode(t, cohort)
			if byHand := cohort.AppendJSON(nil); string(byHand) != s.Cohorts[nft][key] {
				t.Fatalf("AppendJSON = %s, Encode = %s", byHand, s.Cohorts[nft][key])
			}
		}
	}
}

// drawEncode also holds that what is stored is canonical as it is.
func drawEncode(t *rapid.T, v any) string {
	encoded, err := reputation.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	canonical, err := reputation.Canonical(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if string(canonical) != string(encoded) {
		t.Fatalf("Encode = %s, Canonical = %s", encoded, canonical)
	}
	return string(encoded)
}

// TestPropertyPages: a history that is folded in pages, with all state stored and
// loaded between them, gives the same bytes as in one pass. Loading only the cohorts
// that a page names gives the same too.
func TestPropertyPages(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := anyParams().Draw(t, "params")
		events := history(100).Draw(t, "history")
		want := newStore()
		want.fold(t, p, events, false)
		for _, partial := range []bool{false, true} {
			got := newStore()
			for rest := events; len(rest) > 0; {
				n := rapid.IntRange(1, min(len(rest), 12)).Draw(t, "page")
				got.fold(t, p, rest[:n], partial)
				rest = rest[n:]
			}
			if len(events) == 0 {
				got.fold(t, p, nil, partial)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("partial %v (-one pass +pages):\n%s", partial, diff)
			}
		}
	})
}

// TestPropertyInterleaving: only the order within a collection, and of one NFT's
// events, decides. The latter matters when they name different collections: the
// first one wins.
func TestPropertyInterleaving(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := anyParams().Draw(t, "params")
		events := history(40).Draw(t, "history")
		want, got := newStore(), newStore()
		want.fold(t, p, events, false)
		got.fold(t, p, interleave(t, events), false)
		slices.Sort(want.SetAside)
		slices.Sort(got.SetAside)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-as drawn +interleaved):\n%s", diff)
		}
	})
}

// interleave draws an order that keeps that of each collection and of each NFT.
func interleave(t *rapid.T, events []logged) []logged {
	rest, order := slices.Clone(events), make([]logged, 0, len(events))
	for len(rest) > 0 {
		var free []int
		nfts, collections := map[string]bool{}, map[string]bool{}
		for i, l := range rest {
			if !nfts[l.nft] && !collections[l.event.CollectionID] {
				free = append(free, i)
			}
			nfts[l.nft], collections[l.event.CollectionID] = true, true
		}
		i := rapid.SampledFrom(free).Draw(t, "next")
		order = append(order, rest[i])
		rest = slices.Delete(rest, i, i+1)
	}
	return order
}

// eachRow folds a history and calls check with the row of each event that counted,
// and how it was before.
func eachRow(t *rapid.T, check func(w *world, l logged, before, after *reputation.Agent)) {
	p := anyParams().Draw(t, "params")
	w := newWorld(p)
	for _, l := range history(100).Draw(t, "history") {
		before := entry(w.agents, l.nft).Clone()
		if aggregate, _ := w.fold(l.nft, l.event); aggregate == nil {
			check(w, l, before, w.agents[l.nft])
		}
	}
}

func TestPropertyScoresAreBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		bounded := func(what string, score float64) {
			if !(score >= 0 && score <= 1) || math.Signbit(score) {
				t.Fatalf("%s is %v", what, score)
			}
		}
		eachRow(t, func(w *world, l logged, _, a *reputation.Agent) {
			g := &a.Aggregate
			bounded("collection_score", g.CollectionScore)
			bounded("blended_score", g.BlendedScore)
			if g.PersonalScore != nil {
				bounded("personal_score", *g.PersonalScore)
			}
			for name, score := range a.DimensionScores() {
				bounded("blended "+name, score)
				bounded(name, a.Dimensions[name].Score)
			}
			for _, c := range g.ModelCohorts {
				bounded("model cohort "+c.ModelID, *c.PersonalScore)
			}
			for key, c := range w.cohorts[l.nft].ByKey {
				bounded("task cohort "+key.Model, *c.PersonalScore)
			}
			c := w.collections[l.event.CollectionID]
			bounded("collection mean", c.Mean(w.params.NeutralPrior))
			if v := c.Variance(); !(v >= 0 && v <= 0.25+1e-9) {
				t.Fatalf("collection variance is %v", v)
			}
		})
	})
}

// TestPropertyPrior compares the prior with the mean over the other members, taken
// afresh: it holds that the agent itself is left out, and that the sums, which are
// only ever moved, stay right.
func TestPropertyPrior(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		eachRow(t, func(w *world, l logged, _, a *reputation.Agent) {
			var sum, members, scores float64
			for nft, other := range w.agents {
				if other.Aggregate.CollectionID != l.event.CollectionID {
					continue
				}
				members++
				if other.Aggregate.PersonalScore == nil {
					continue
				}
				scores++
				if nft != l.nft {
					sum += *other.Aggregate.PersonalScore
				}
			}
			others := scores
			if a.Aggregate.PersonalScore != nil {
				others--
			}
			want := w.params.NeutralPrior
			if others > 0 {
				want = sum / others
			}
			if got := a.Aggregate.CollectionScore; math.Abs(got-want) > 1e-12 || others == 0 && got != want {
				t.Fatalf("prior of %s is %v, want %v of %v others", l.nft, got, want, others)
			}
			if c := w.collections[l.event.CollectionID]; float64(c.Members) != members || float64(c.Scores) != scores {
				t.Fatalf("the collection counts %+v, want %v members and %v scores", c, members, scores)
			}
		})
	})
}

// TestPropertyTransitions: at most one legal step for each event, and the history is
// only added to (protocol §4).
func TestPropertyTransitions(t *testing.T) {
	t.Parallel()
	legal := map[[2]reputation.State]bool{
		{"cold", "warming"}: true, {"warming", "established"}: true, {"established", "authoritative"}: true,
	}
	rapid.Check(t, func(t *rapid.T) {
		eachRow(t, func(_ *world, l logged, before, after *reputation.Agent) {
			old, now := before.Aggregate.Transitions, after.Aggregate.Transitions
			if len(now) > len(old)+1 || len(now) < len(old) || !slices.Equal(old, now[:len(old)]) {
				t.Fatalf("transitions went from %v to %v", old, now)
			}
			from := before.Aggregate.State
			if !before.Known() {
				from = reputation.StateCold
			}
			_, reset := l.event.Body.(reputation.ReputationReset)
			if len(now) == len(old) {
				if reset || from != after.Aggregate.State {
					t.Fatalf("%s went from %s to %s without a transition", l.event.Type(), from, after.Aggregate.State)
				}
				return
			}
			last := now[len(now)-1]
			if last.From != from || last.To != after.Aggregate.State || last.At.String() != l.event.Timestamp.String() || last.Trigger == "" {
				t.Fatalf("from %s to %s is recorded as %+v", from, after.Aggregate.State, last)
			}
			if reset && last.To != reputation.StateCold || !reset && !legal[[2]reputation.State{last.From, last.To}] {
				t.Fatalf("%s took the step %+v", l.event.Type(), last)
			}
		})
	})
}

// TestPropertyConstraints holds the cross-field constraints of protocol §11 that a
// consumer of aggregates checks.
func TestPropertyConstraints(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		eachRow(t, func(w *world, _ logged, _, a *reputation.Agent) {
			g := &a.Aggregate
			fail := func(constraint string) { t.Fatalf("%s: %s", constraint, drawEncode(t, g)) }
			switch g.State {
			case reputation.StateCold:
				if g.PersonalScore != nil || g.SampleCount != 0 {
					fail("reputation-cold-null-score")
				}
				if g.BlendedScore != g.CollectionScore {
					fail("blended equals collection while cold")
				}
			default:
				if g.PersonalScore == nil || g.SampleCount < 1 {
					fail("reputation-warming-has-score")
				}
			}
			if g.State == reputation.StateAuthoritative && !(reputation.PersonalWeight(g.SampleCount, g.PseudoCount) > 0.9) {
				fail("reputation-authoritative-weight")
			}
			if g.State == reputation.StateEstablished && g.SampleCount < g.MinSampleCount {
				fail("established before min_sample_count")
			}
			if g.ContributorCount != int64(len(a.Evaluators)) || g.ContributorCount > 100 {
				fail("contributor_count")
			}
			models := map[string]bool{}
			var samples int64
			for _, c := range g.ModelCohorts {
				if models[c.ModelID] || c.SampleCount < 1 {
					fail("model cohorts")
				}
				models[c.ModelID] = true
				samples += c.SampleCount
			}
			if samples > g.SampleCount {
				fail("model cohorts have more samples than the agent")
			}
			if n := len(reputation.Recent(w.cohorts[g.PersonalityID].Sorted())); n > 50 {
				fail("reputation-task-cohort-max-items")
			}
		})
	})
}

// TestPropertyCounts compares the counts with those that a reader of the history
// would arrive at.
func TestPropertyCounts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type counts struct {
			Samples, Completed   int64
			Evaluators           map[string]bool
			Dimensions           map[string]int64
			Cohorts              map[reputation.CohortKey]int64
			Updated, Last, First time.Time
		}
		all := map[string]*counts{}
		eachRow(t, func(w *world, l logged, before, a *reputation.Agent) {
			want := entry(all, l.nft)
			at := l.event.Timestamp.Time()
			if !before.Known() {
				*want = counts{
					Evaluators: map[string]bool{}, Dimensions: map[string]int64{}, Cohorts: map[reputation.CohortKey]int64{},
					Updated: at, Last: at, First: at,
				}
			}
			if at.After(want.Last) {
				want.Last = at
			}
			observe := func(named reputation.Dimensions) {
				want.Samples++
				for _, d := range named {
					want.Dimensions[d.Name]++
				}
				if at.After(want.Updated) {
					want.Updated = at
				}
			}
			switch body := l.event.Body.(type) {
			case reputation.QualitySignal:
				observe(body.Dimensions)
			case reputation.ModelPerformance:
				observe(body.Observation.Dimensions)
				if body.Observation.EvaluatedBy != "" {
					want.Evaluators[body.Observation.EvaluatedBy] = true
				}
			case reputation.TaskCompleted:
				want.Completed++
			case reputation.ReputationReset:
				want.Samples = 0
				clear(want.Evaluators)
				clear(want.Dimensions)
				clear(want.Cohorts)
			}
			if key, _, ok := reputation.CohortOf(l.event); ok {
				want.Cohorts[key]++
			}

			got := counts{
				Samples: a.Aggregate.SampleCount, Evaluators: map[string]bool{}, Dimensions: map[string]int64{},
				Cohorts: map[reputation.CohortKey]int64{}, Updated: a.Aggregate.LastUpdated.Time(),
				Last: a.LastEventAt.Time(), First: a.Aggregate.CreatedAt.Time(),
			}
			for _, s := range a.Tasks {
				got.Completed += s.Completed
			}
			for _, e := range a.Evaluators {
				got.Evaluators[e] = true
			}
			for name, d := range a.Dimensions {
				got.Dimensions[name] = d.Count
			}
			for key, c := range w.cohorts[l.nft].ByKey {
				got.Cohorts[key] = c.SampleCount
			}
			if diff := cmp.Diff(*want, got); diff != "" {
				t.Fatalf("%s after %s (-want +got):\n%s", l.nft, l.event.Type(), diff)
			}
		})
	})
}

// TestPropertyDampen holds the bounded step of protocol §5.6. The allowance is half
// an ulp of 1, by which the sum may be rounded; that a score is in [0, 1] needs none.
func TestPropertyDampen(t *testing.T) {
	t.Parallel()
	const rounding = 1.2e-16
	rapid.Check(t, func(t *rapid.T) {
		d := anyDamping().Draw(t, "damping")
		old, next := score().Draw(t, "old"), score().Draw(t, "score")
		n := rapid.Int64Range(0, 200).Draw(t, "n")
		got := d.Dampen(&old, next, n)
		if !(got >= 0 && got <= 1) {
			t.Fatalf("Dampen = %v", got)
		}
		if math.Abs(got-old) > d.AlphaMax*math.Abs(next-old)+rounding {
			t.Fatalf("Dampen = %v, a step of more than %v of that to %v", got, d.AlphaMax, next)
		}
		if math.Abs(got-old) < d.AlphaMin*math.Abs(next-old)-rounding {
			t.Fatalf("Dampen = %v, a step of less than %v of that to %v", got, d.AlphaMin, next)
		}
		if got < min(old, next)-rounding || got > max(old, next)+rounding {
			t.Fatalf("Dampen = %v, not between %v and %v", got, old, next)
		}
		first := d.Dampen(nil, next, n)
		if first < min(0.5, next)-rounding || first > max(0.5, next)+rounding || !(first >= 0 && first <= 1) {
			t.Fatalf("the first value %v is not between one half and %v", first, next)
		}
	})
}

// TestPropertyRamp: an ascending rate never falls from one sample to the next, and a
// descending one never rises.
func TestPropertyRamp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := anyDamping().Draw(t, "damping")
		n := rapid.Int64Range(0, 100).Draw(t, "n")
		// From 0 to 1 the running score is the rate itself.
		rate, next := d.Dampen(new(0.0), 1, n), d.Dampen(new(0.0), 1, n+1)
		if d.Ramp == reputation.RampAscending && next < rate || d.Ramp == reputation.RampDescending && next > rate {
			t.Fatalf("%s rate is %v after %d samples and %v after one more", d.Ramp, rate, n, next)
		}
	})
}

// TestPropertyDecide: the weights of a decision add up to 1 and, applied to its
// inputs, give its score.
func TestPropertyDecide(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		eachRow(t, func(w *world, l logged, _, a *reputation.Agent) {
			prior := score().Draw(t, "prior")
			cohorts := w.cohorts[l.nft].Sorted()
			q := reputation.Question{
				Model: rapid.SampledFrom([]string{"", "native", "gpt-4o", "other"}).Draw(t, "model"),
				Task:  rapid.SampledFrom([]reputation.TaskType{"", "analysis", "unspecified", "general"}).Draw(t, "task"),
				At:    minute(rapid.IntRange(-100, 1_000_000).Draw(t, "at")).Time(),
			}
			d := w.params.Decide(a, cohorts, prior, q)
			score := d.Weights.Prior * prior
			if d.Weights.Personal != 0 {
				score += d.Weights.Personal * *d.Inputs.PersonalScore
			}
			if d.Weights.Cohort != 0 {
				score += d.Weights.Cohort * *d.Inputs.CohortScore
			}
			if !(d.Score >= 0 && d.Score <= 1) || math.Abs(d.Score-score) > 1e-12 {
				t.Fatalf("score %v, want %v from %+v and %+v", d.Score, score, d.Inputs, d.Weights)
			}
			if sum := d.Weights.Cohort + d.Weights.Personal + d.Weights.Prior; math.Abs(sum-1) > 1e-12 {
				t.Fatalf("weights %+v add up to %v", d.Weights, sum)
			}
			// Protocol §11, ScoringPathLog.
			s := d.Entry
			if s.Path != d.Path || s.EntryHash != s.Hash() || s.Reason == "" ||
				s.Path == reputation.PathTaskCohort && (s.ModelID == "" || s.TaskType == "") ||
				s.Path == reputation.PathAggregate && s.ModelID == "" {
				t.Fatalf("scoring path %+v", s)
			}
			drawEncode(t, s)
		})
	})
}
