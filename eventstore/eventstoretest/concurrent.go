package eventstoretest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dixie/eventstore"
	"dixie/reputation"
)

const appenders = 32

// A tally collects the results of concurrent appends, by the number of the event.
type tally struct {
	mu      sync.Mutex
	results map[int][]reputation.Appended
}

func (y *tally) add(ns []int, results []reputation.Appended) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.results == nil {
		y.results = map[int][]reputation.Appended{}
	}
	for i, n := range ns {
		y.results[n] = append(y.results[n], results[i])
	}
}

// check checks that each event was new once and a duplicate at the same position
// all other times, and returns the positions by number.
func (y *tally) check(t testing.TB) map[int]int64 {
	t.Helper()
	at := map[int]int64{}
	for n, results := range y.results {
		news := 0
		for _, r := range results {
			if r.Status == reputation.Added {
				news++
			} else if r.Status != reputation.Duplicate {
				t.Errorf("event %d: %v", n, results)
			}
			if r.Position != results[0].Position {
				t.Errorf("event %d has several positions: %v", n, results)
			}
		}
		if news != 1 {
			t.Errorf("event %d was appended %d times: %v", n, news, results)
		}
		at[n] = results[0].Position
	}
	return at
}

// appendShuffled appends the events ns in a random order, a few at a time.
func appendShuffled(t testing.TB, log reputation.Log, y *tally, ns []int) {
	ns = slices.Clone(ns)
	rand.Shuffle(len(ns), func(i, j int) { ns[i], ns[j] = ns[j], ns[i] })
	for chunk := range slices.Chunk(ns, 1+rand.IntN(7)) {
		var entries []reputation.Entry
		for _, n := range chunk {
			entries = append(entries, Entry("a", n))
		}
		results, err := log.Append(t.Context(), entries...)
		if err != nil {
			t.Error(err)
			return
		}
		y.add(chunk, results)
	}
}

// overlapping runs the appenders: each event is appended by several of them, and
// each of them appends events of its own. It returns the number of events.
func overlapping(t testing.TB, log reputation.Log, y *tally) int {
	const own, shared = 12, 40
	var all sync.WaitGroup
	for w := range appenders {
		all.Go(func() {
			var ns []int
			for n := range own {
				ns = append(ns, shared+w*own+n)
			}
			for range 20 {
				ns = append(ns, rand.IntN(shared))
			}
			appendShuffled(t, log, y, ns)
		})
	}
	all.Wait()
	ns := make([]int, shared)
	for n := range ns {
		ns[n] = n
	}
	appendShuffled(t, log, y, ns) // those that chance left out
	return shared + appenders*own
}

func testOverlappingAppends(t *testing.T, log eventstore.Store) {
	var y tally
	count := overlapping(t, log, &y)
	at := y.check(t)
	events := All(t, log)
	if len(events) != count || len(at) != count {
		t.Fatalf("%d events stored, %d told of, want %d", len(events), len(at), count)
	}
	for n, position := range at {
		if got, want := canonical(t, events[position-1].JSON), string(Event(n).AppendJSON(nil)); got != want {
			t.Errorf("position %d holds %s, want %s", position, got, want)
		}
	}
}

// testConflictingAppends: of several contents under one id just one wins, and all
// callers are told of the same.
func testConflictingAppends(t *testing.T, log eventstore.Store) {
	const ids = 20
	results := make([][]reputation.Appended, appenders)
	var all sync.WaitGroup
	for w := range appenders {
		all.Go(func() {
			var entries []reputation.Entry
			for n := range ids {
				entries = append(entries, Entry(fmt.Sprintf("nft-%d", w%4), n))
			}
			var err error
			if results[w], err = log.Append(t.Context(), entries...); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	events := All(t, log)
	if len(events) != ids {
		t.Fatalf("%d events, want %d", len(events), ids)
	}
	added := 0
	for w, results := range results {
		for n, r := range results {
			winner := events[r.Position-1].NFT == fmt.Sprintf("nft-%d", w%4)
			if r.Status == reputation.Added {
				added++
			}
			if winner != (r.Status != reputation.Conflict) {
				t.Errorf("appender %d, event %d: %v, but %s won", w, n, r, events[r.Position-1].NFT)
			}
		}
	}
	if added != ids {
		t.Errorf("%d were told that they appended, want %d", added, ids)
	}
}

func testFollower(t *testing.T, log eventstore.Store) {
	follower := Follow(t, log)
	var y tally
	count := overlapping(t, log, &y)
	seen := follower.Until(int64(count))
	InOrder(t, seen)
	if diff := cmp.Diff(All(t, log), seen); diff != "" {
		t.Errorf("the follower saw another log (-log +follower):\n%s", diff)
	}
}

// testHistoryFollower reads the history of one NFT while others are written.
func testHistoryFollower(t *testing.T, log eventstore.Store) {
	const each = 15
	follower := follow(t, log.Changed, func(after int64) ([]reputation.Recorded, error) {
		return log.History(t.Context(), "nft-0", after, 10)
	})
	var all sync.WaitGroup
	for w := range appenders {
		all.Go(func() {
			for n := range each {
				if _, err := log.Append(t.Context(), Entry(fmt.Sprintf("nft-%d", w%4), w*each+n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	last := Append(t, log, Entry("nft-0", appenders*each))[0].Position
	var want []reputation.Recorded
	for _, e := range All(t, log) {
		if e.NFT == "nft-0" {
			want = append(want, e)
		}
	}
	if diff := cmp.Diff(want, follower.Until(last)); diff != "" {
		t.Errorf("the follower saw another history (-log +follower):\n%s", diff)
	}
}
