package eventstoretest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dixie/eventstore"
	"dixie/reputation"
)

func testFields(t *testing.T, log eventstore.Store) {
	before := time.Now().Add(-time.Hour) // clocks of two machines
	task := Event(2)
	task.Body = reputation.TaskCompleted{TaskType: "code_review", Success: true}
	Append(t, log, Entry("a", 1), reputation.NewEntry("B:b-1", task))
	events := All(t, log)
	for i, want := range []struct{ nft, kind string }{{"a", "quality_signal"}, {"B:b-1", "task_completed"}} {
		got := events[i]
		if got.NFT != want.nft || got.Type != want.kind {
			t.Errorf("event %d is a %q of %q, want %v", i, got.Type, got.NFT, want)
		}
		if got.CreatedAt.Location() != time.UTC || got.CreatedAt.Before(before) {
			t.Errorf("created at %v, want now, in UTC", got.CreatedAt)
		}
	}
	decoded, err := events[1].Event()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(decoded.AppendJSON(nil)), string(task.AppendJSON(nil)); got != want {
		t.Errorf("event %s, want %s", got, want)
	}
}

func testPages(t *testing.T, log eventstore.Store) {
	Append(t, log, Entries("a", 1, 23)...)
	for _, size := range []int{1, 2, 7, 22, 23, 24, 1000} {
		InOrder(t, readPages(t, size, func(after int64, limit int) ([]reputation.Recorded, error) {
			return log.Read(t.Context(), after, limit)
		}))
	}
}

// bounds are ways to ask for part of a log of ten events, and where the answer
// begins and ends.
var bounds = []struct {
	after       int64
	limit       int
	first, last int64
}{
	{0, 3, 1, 3},
	{3, 3, 4, 6},
	{8, 3, 9, 10},
	{9, 1, 10, 10},
	{10, 3, 0, -1},
	{11, 3, 0, -1},
	{math.MaxInt64, 3, 0, -1},
	{-1, 3, 1, 3},
	{math.MinInt64, 3, 1, 3},
	{0, math.MaxInt32, 1, 10},
	{4, math.MaxInt, 5, 10},
	{0, 0, 0, -1},
}

func positions(events []reputation.Recorded) []int64 {
	var all []int64
	for i := range events {
		all = append(all, events[i].Position)
	}
	return all
}

// sequence is first, first+step and so on to last.
func sequence(first, last, step int64) []int64 {
	var all []int64
	for p := first; p <= last; p += step {
		all = append(all, p)
	}
	return all
}

func testReadBounds(t *testing.T, log eventstore.Store) {
	Append(t, log, Entries("a", 1, 10)...)
	for _, b := range bounds {
		events, err := log.Read(t.Context(), b.after, b.limit)
		if err != nil {
			t.Errorf("Read(%d, %d): %v", b.after, b.limit, err)
		}
		var want []int64
		if b.last >= b.first {
			want = sequence(b.first, b.last, 1)
		}
		if diff := cmp.Diff(want, positions(events)); diff != "" {
			t.Errorf("Read(%d, %d) (-want +got):\n%s", b.after, b.limit, diff)
		}
	}
}

func testEmptyLog(t *testing.T, log eventstore.Store) {
	wantLog(t, log)
	for _, after := range []int64{0, 5} {
		events, err := log.Read(t.Context(), after, 10)
		if err != nil || len(events) != 0 {
			t.Errorf("Read: %v, %v", events, err)
		}
		events, err = log.History(t.Context(), "a", after, 10)
		if err != nil || len(events) != 0 {
			t.Errorf("History: %v, %v", events, err)
		}
	}
}

// longEvent is almost as long as an event can be.
func longEvent(n int) *reputation.Event {
	event := Event(n)
	event.Body = reputation.ModelPerformance{
		ModelID: "m", Provider: "p", PoolID: "pool", TaskType: "analysis",
		Observation: reputation.QualityObservation{Score: 1, EvaluatedBy: strings.Repeat("é", 30<<10)},
	}
	return event
}

// testLongEvents: pages may be shorter than asked for, but not empty.
func testLongEvents(t *testing.T, log eventstore.Store) {
	const count = 150
	var entries []reputation.Entry
	for n := range count {
		entries = append(entries, reputation.NewEntry("a", longEvent(n)))
	}
	Append(t, log, entries...)
	all := readPages(t, count, func(after int64, limit int) ([]reputation.Recorded, error) {
		return log.Read(t.Context(), after, limit)
	})
	history := readPages(t, count, func(after int64, limit int) ([]reputation.Recorded, error) {
		return log.History(t.Context(), "a", after, limit)
	})
	for _, events := range [][]reputation.Recorded{all, history} {
		InOrder(t, events)
		if len(events) != count {
			t.Errorf("%d events, want %d", len(events), count)
		}
	}
}

// testCreatedAt also with several events in a call, which a clock cannot tell
// apart.
func testCreatedAt(t *testing.T, log eventstore.Store) {
	for n := range 20 {
		Append(t, log, Entries("a", 100*n, 100*n+n)...)
		Append(t, log, Raw(t, "b", `{}`))
	}
	InOrder(t, All(t, log))
}

func testCancelledRead(t *testing.T, log eventstore.Store) {
	Append(t, log, Entries("a", 1, 3)...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, readErr := log.Read(ctx, 0, 10)
	_, historyErr := log.History(ctx, "a", 0, 10)
	_, headErr := log.Head(ctx)
	for name, err := range map[string]error{"Read": readErr, "History": historyErr, "Head": headErr} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v, want that of the context", name, err)
		}
	}
	wantLog(t, log, Entries("a", 1, 3)...)
}

func testHistoryPages(t *testing.T, log eventstore.Store) {
	for n := range 25 { // positions 1, 4, 7 … are those of a
		Append(t, log, Entry("a", 3*n), Entry("b", 3*n+1), Entry("c", 3*n+2))
	}
	for _, size := range []int{1, 4, 24, 25, 26} {
		events := readPages(t, size, func(after int64, limit int) ([]reputation.Recorded, error) {
			return log.History(t.Context(), "a", after, limit)
		})
		if diff := cmp.Diff(sequence(1, 75, 3), positions(events)); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", size, diff)
		}
	}
}

// testHistoryIsolation uses names that a careless comparison takes for one.
func testHistoryIsolation(t *testing.T, log eventstore.Store) {
	nfts := []string{"a", "A", "a:1", "a:10", "a.1", "%", "a_1", "a%", "é", "e\u0301", " a", "a ", ""}
	for i, nft := range nfts {
		Append(t, log, Entry(nft, 2*i), Entry(nft, 2*i+1))
	}
	for i, nft := range nfts {
		events, err := log.History(t.Context(), nft, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(texts(Entries(nft, 2*i, 2*i+1)), recordedTexts(t, events)); diff != "" {
			t.Errorf("history of %q (-want +got):\n%s", nft, diff)
		}
	}
	if events, err := log.History(t.Context(), "unknown", 0, 100); err != nil || len(events) != 0 {
		t.Errorf("history of an unknown NFT: %v, %v", events, err)
	}
}

// testHistoryBounds asks for a's events, which have the odd positions, after the
// bounds in the whole log.
func testHistoryBounds(t *testing.T, log eventstore.Store) {
	for n := range 10 {
		Append(t, log, Entry([]string{"a", "b"}[n%2], n))
	}
	for _, b := range bounds {
		events, err := log.History(t.Context(), "a", b.after, b.limit)
		if err != nil {
			t.Errorf("History(a, %d, %d): %v", b.after, b.limit, err)
		}
		var want []int64
		for p := int64(1); p <= 9 && len(want) < b.limit; p += 2 {
			if p > b.after {
				want = append(want, p)
			}
		}
		if diff := cmp.Diff(want, positions(events)); diff != "" {
			t.Errorf("History(a, %d, %d) (-want +got):\n%s", b.after, b.limit, diff)
		}
	}
}

func testChanged(t *testing.T, log eventstore.Store) {
	for n := range 5 {
		waiting := []<-chan struct{}{log.Changed(), log.Changed()}
		Append(t, log, Entry("a", n))
		for _, changed := range waiting {
			select {
			case <-changed:
			case <-time.After(patience):
				t.Fatal("an append was not announced")
			}
		}
	}
}

// testPoller never asks for Changed: what was appended can be read when Append
// returns.
func testPoller(t *testing.T, log eventstore.Store) {
	for n := range 20 {
		nft := fmt.Sprintf("nft-%d", n)
		Append(t, log, Entry(nft, n))
		last := int64(n + 1)
		events, err := log.Read(t.Context(), last-1, 10)
		if diff := cmp.Diff([]int64{last}, positions(events)); err != nil || diff != "" {
			t.Errorf("Read: %v (-want +got)\n%s", err, diff)
		}
		events, err = log.History(t.Context(), nft, 0, 10)
		if diff := cmp.Diff([]int64{last}, positions(events)); err != nil || diff != "" {
			t.Errorf("History: %v (-want +got)\n%s", err, diff)
		}
		if head, err := log.Head(t.Context()); err != nil || head != last {
			t.Errorf("Head: %d, %v, want %d", head, err, last)
		}
	}
}
