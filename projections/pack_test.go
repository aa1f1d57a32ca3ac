package projections_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dixie/eventstore"
	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

// fill gives every field of a value another value than the zero one.
func fill(t testing.TB, v reflect.Value, n *int) {
	t.Helper()
	*n++
	if v.Type() == reflect.TypeFor[reputation.Timestamp]() {
		v.Set(reflect.ValueOf(reputation.TimestampOf(time.Unix(1_770_000_000+int64(*n), 0))))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("text-%d", *n))
	case reflect.Int64:
		v.SetInt(int64(*n) << 33)
	case reflect.Float64:
		v.SetFloat(1 / float64(*n))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range 3 {
			fill(t, v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 3 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(t, key, n)
			fill(t, value, n)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	default:
		t.Fatalf("no value for a %s: packing has to learn of it too", v.Type())
	}
}

func stored(t projectionstest.TB, a *reputation.Agent) string {
	t.Helper()
	text, err := reputation.Encode(a) // by the struct's tags, so that no field is forgotten
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestPackKeepsAll: nothing of an agent is lost, whatever fields it gets.
func TestPackKeepsAll(t *testing.T) {
	t.Parallel()
	full, empty, odd := &reputation.Agent{}, &reputation.Agent{}, &reputation.Agent{}
	n := 0
	fill(t, reflect.ValueOf(full).Elem(), &n)
	fill(t, reflect.ValueOf(odd).Elem(), &n)
	odd.Aggregate.PersonalScore, odd.Aggregate.ModelCohorts[1].PersonalScore = nil, nil
	odd.Aggregate.BlendedScore, odd.Aggregate.CollectionScore = math.SmallestNonzeroFloat64, 0
	odd.Aggregate.CollectionID = strings.Repeat("é\u2028", 200)
	odd.Evaluators[0] = strings.Repeat("judge", 10_000)
	odd.LastEventAt, _ = reputation.ParseTimestamp("2026-02-25T12:00:00.123456789012+05:45")
	agents := []*reputation.Agent{full, empty, odd, full}
	for i, got := range projections.Repacked(agents...) {
		if want := stored(t, agents[i]); stored(t, got) != want {
			t.Errorf("agent %d\n got %s\nwant %s", i, stored(t, got), want)
		}
	}
}

// TestPackManyNames: more different strings than are numbered, of all lengths.
func TestPackManyNames(t *testing.T) {
	t.Parallel()
	a := &reputation.Agent{}
	for i := range 20_000 {
		a.Evaluators = append(a.Evaluators, fmt.Sprintf("judge-%d-%s", i, strings.Repeat("x", i%300)))
	}
	for _, got := range projections.Repacked(a, a) {
		if !slices.Equal(got.Evaluators, a.Evaluators) {
			t.Error("evaluators are others")
		}
	}
}

// decoded are entries as they are read from a log.
func decoded(entries []reputation.Entry) []eventstore.PageEvent {
	events := make([]eventstore.PageEvent, len(entries))
	for i, entry := range entries {
		events[i].Position, events[i].NFT = int64(i+1), entry.NFT
		events[i].Event, events[i].Err = reputation.DecodeText(string(entry.JSON))
	}
	return events
}

// computedRows are the rows that a log gives, from its events put one by one through
// the functions of the domain.
func computedRows(t projectionstest.TB, params reputation.Params, events []eventstore.PageEvent) (rows, failures []string) {
	t.Helper()
	replay, last := projections.NewReplay(params), map[string]int64{}
	collections := map[string]*reputation.Collection{}
	lastCohort, members := map[string]int64{}, map[string]string{}
	agents := map[string]*reputation.Agent{}
	for i := range events {
		e := &events[i]
		err := e.Err
		if err == nil {
			err = replay.Apply(e.NFT, &e.Event)
		}
		var aside *reputation.SetAsideError
		if errors.As(err, &aside) || err != nil {
			failures = append(failures, fmt.Sprint(e.Position))
			continue
		}
		if agents[e.NFT] == nil {
			agents[e.NFT] = &reputation.Agent{}
		}
		if collections[e.Event.CollectionID] == nil {
			collections[e.Event.CollectionID] = &reputation.Collection{}
		}
		if err := params.FoldAggregate(agents[e.NFT], collections[e.Event.CollectionID], e.NFT, &e.Event); err != nil {
			t.Fatal(err)
		}
		last[e.NFT], members[e.NFT] = e.Position, e.Event.CollectionID
		if key, _, ok := reputation.CohortOf(&e.Event); ok {
			lastCohort[fmt.Sprint(e.NFT, key)] = e.Position
		}
	}
	add := func(table, key string, columns string) {
		canonical, err := reputation.Canonical([]byte(columns))
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, fmt.Sprintf("%s %s %s", table, key, canonical))
	}
	for nft, a := range agents {
		folded := stored(t, a)
		aggregate, err := reputation.Encode(&a.Aggregate)
		if err != nil {
			t.Fatal(err)
		}
		add("reputation_aggregates", nft, fmt.Sprintf(`{"state":%q,"position":%d,"aggregate":%s,"folded":%s}`, a.Aggregate.State, last[nft], aggregate, folded))
		add("reputation_cohort_members", nft, fmt.Sprintf(`{"collection_id":%s}`, quoted(t, members[nft])))
		for _, c := range replay.Cohorts(nft) {
			text, err := reputation.Encode(&c)
			if err != nil {
				t.Fatal(err)
			}
			add("reputation_task_cohorts", fmt.Sprintf("%s %s %s", nft, c.ModelID, c.TaskType),
				fmt.Sprintf(`{"cohort":%s,"score":%v,"samples":%d,"observed_at":%q,"position":%d}`,
					text, *c.PersonalScore, c.SampleCount, c.LastUpdated, lastCohort[fmt.Sprint(nft, c.Key())]))
		}
	}
	for id, c := range collections {
		add("reputation_collections", id, fmt.Sprintf(`{"sum":%v,"squares":%v,"scores":%d,"members":%d}`, c.Sum, c.Squares, c.Scores, c.Members))
	}
	slices.Sort(rows)
	return rows, failures
}

func quoted(t projectionstest.TB, s string) string {
	t.Helper()
	text, err := reputation.Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func checkFoldInMemory(t projectionstest.TB, entries []reputation.Entry) {
	t.Helper()
	events := decoded(entries)
	want, wantFailures := computedRows(t, reputation.DefaultParams(), events)
	got, failures := projections.FoldInMemory(reputation.DefaultParams(), events)
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("row %d\n got %s\nwant %s", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
	var positions []string
	for _, f := range failures {
		positions = append(positions, fmt.Sprint(f.Position))
	}
	if !slices.Equal(positions, slices.Concat(wantFailures, wantFailures)) { // of both projections
		t.Fatalf("set aside %v, want %v", positions, wantFailures)
	}
}

// TestFoldInMemory: the fold of a rebuild, on packed agents and compact cohorts,
// gives the rows of the domain's functions, for all histories.
func TestFoldInMemory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var entries []reputation.Entry
		for _, c := range histories.Draw(t, "history") {
			entries = append(entries, c.entries...)
		}
		checkFoldInMemory(t, entries)
	})
}

// TestFoldLargeInMemory: agents so large that they are kept unpacked, and more of
// them than are kept at once.
func TestFoldLargeInMemory(t *testing.T) {
	t.Parallel()
	var entries []reputation.Entry
	for i := range 8_000 {
		event := projectionstest.Task(fmt.Sprintf("bear-%d", i%700), "native", "analysis", float64(i%97)/97)
		event.Body = reputation.ModelPerformance{
			ModelID: fmt.Sprintf("model-%d-%s", i%3, strings.Repeat("m", 200)), Provider: "p", PoolID: "alpha", TaskType: "general",
			Observation: reputation.QualityObservation{Score: float64(i%89) / 89, EvaluatedBy: fmt.Sprintf("judge-%d-%s", i, strings.Repeat("j", 600))},
		}
		if i%1000 == 999 {
			event = projectionstest.Reset(event.NFT)
		}
		entries = append(entries, event.Entry(int64(i+1)))
	}
	if e := decoded(entries[:1])[0]; e.Err != nil {
		t.Fatal(e.Err)
	}
	checkFoldInMemory(t, entries)
}
