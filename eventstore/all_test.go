package eventstore_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dixie/eventstore"
	"dixie/eventstore/eventstoretest"
	"dixie/internal/pgtest"
	"dixie/reputation"
)

// collect is what All yields: positions, and the error that ended it.
func collect(t testing.TB, log eventstore.Reader, after, until int64) (positions []int64, err error) {
	t.Helper()
	for r, err := range eventstore.All(t.Context(), log, after, until) {
		if err != nil {
			return positions, err
		}
		positions = append(positions, r.Position)
	}
	return positions, nil
}

func TestAll(t *testing.T) {
	t.Parallel()
	log := memory(t, 2500)
	for _, bounds := range [][2]int64{{0, 2500}, {0, 1000}, {0, 1001}, {1, 2}, {999, 2001}, {2499, 2500}, {2500, 2500}, {2, 1}} {
		positions, err := collect(t, log, bounds[0], bounds[1])
		var want []int64
		for p := bounds[0] + 1; p <= bounds[1]; p++ {
			want = append(want, p)
		}
		if diff := cmp.Diff(want, positions); err != nil || diff != "" {
			t.Errorf("after %d until %d: error %v (-want +got)\n%s", bounds[0], bounds[1], err, diff)
		}
	}
	for r, err := range eventstore.All(t.Context(), log, 0, 2500) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Position == 1500 {
			break // as a reader may
		}
	}
}

func TestAllErrors(t *testing.T) {
	t.Parallel()
	events := eventstoretest.All(t, memory(t, 10))
	serve := func(events []reputation.Recorded, err error) *reader {
		return &reader{read: func(after int64, _ int) ([]reputation.Recorded, error) {
			from := slices.IndexFunc(events, func(e reputation.Recorded) bool { return e.Position > after })
			if from < 0 {
				return nil, err
			}
			return events[from:min(from+4, len(events))], nil
		}}
	}
	for name, test := range map[string]struct {
		log  *reader
		want []int64
		err  error
	}{
		"missing in a page":     {serve(slices.Concat(events[:6], events[7:]), nil), []int64{1, 2, 3, 4, 5, 6}, eventstore.ErrGap},
		"missing between pages": {serve(slices.Concat(events[:4], events[5:]), nil), []int64{1, 2, 3, 4}, eventstore.ErrGap},
		"missing first":         {serve(events[1:], nil), nil, eventstore.ErrGap},
		"ends too early":        {serve(events[:5], nil), []int64{1, 2, 3, 4, 5}, eventstore.ErrGap},
		"failing":               {serve(events[:5], reputation.ErrUnavailable), []int64{1, 2, 3, 4, 5}, reputation.ErrUnavailable},
	} {
		positions, err := collect(t, test.log, 0, 10)
		if diff := cmp.Diff(test.want, positions); !errors.Is(err, test.err) || diff != "" {
			t.Errorf("%s: error %v, want %v (-want +got)\n%s", name, err, test.err, diff)
		}
	}
}

func TestReadPostgres(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	writer := openPostgres(t, pool)
	eventstoretest.Append(t, writer, eventstoretest.Entries("a", 1, 5)...)
	var log *eventstore.Postgres
	labelled(t, func() { log = eventstore.ReadPostgres(pool) })
	if running := stacks(t); running != "" {
		t.Errorf("goroutines of a log that is only read:\n%s", running)
	}
	if events := eventstoretest.All(t, log); len(events) != 5 {
		t.Errorf("%d events", len(events))
	}
	refusesAppends(t, log)
	changed := log.Changed()
	log.Close()
	select {
	case <-changed:
		t.Error("Changed fired")
	default:
	}
	if history, err := log.History(t.Context(), "a", 0, 10); err != nil || len(history) != 5 {
		t.Errorf("%d events, error %v", len(history), err)
	}
}
