// Package eventstoretest is the conformance suite of [eventstore.Store], and what
// other tests of logs need: events, and a reader that follows a log.
package eventstoretest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dixie/eventstore"
	"dixie/reputation"
)

// patience is how long a test waits for what must happen. It bounds only tests
// that fail, so it is far longer than a loaded machine needs.
const patience = time.Minute

// tests are what the comments on the interface promise, one by one.
var tests = map[string]func(*testing.T, eventstore.Store){
	"append/positions":                  testPositions,
	"append/nothing":                    testAppendNothing,
	"append/long":                       testLongAppend,
	"append/same event in one call":     testRepeatInCall,
	"append/same event in later call":   testRepeatLater,
	"append/same event spelled anew":    testRespelled,
	"append/id in other letter case":    testLetterCase,
	"append/other content":              testOtherContent,
	"append/other NFT":                  testOtherNFT,
	"append/conflicts beside repeats":   testMixedBatch,
	"append/first of two wins":          testFirstWins,
	"append/repeats take no position":   testNoPositionLost,
	"append/raw without an id":          testRawWithoutID,
	"append/raw with an id":             testRawWithID,
	"append/cancelled":                  testCancelledAppend,
	"read/fields":                       testFields,
	"read/pages":                        testPages,
	"read/bounds":                       testReadBounds,
	"read/empty log":                    testEmptyLog,
	"read/long events":                  testLongEvents,
	"read/canonical form":               testCanonicalForm,
	"read/created_at":                   testCreatedAt,
	"read/cancelled":                    testCancelledRead,
	"history/pages":                     testHistoryPages,
	"history/isolation":                 testHistoryIsolation,
	"history/bounds":                    testHistoryBounds,
	"changed/fires":                     testChanged,
	"changed/not needed by a poller":    testPoller,
	"concurrent/overlapping appends":    testOverlappingAppends,
	"concurrent/conflicting appends":    testConflictingAppends,
	"concurrent/reader follows":         testFollower,
	"concurrent/readers of one history": testHistoryFollower,
}

// Test checks what the comments on [eventstore.Store] promise. open returns an
// empty log, which is used by one test.
func Test(t *testing.T, open func(*testing.T) eventstore.Store) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// Event is the n-th of as many distinct valid events as one likes.
func Event(n int) *reputation.Event {
	return &reputation.Event{
		ID:           fmt.Sprintf("00000000-0000-4000-8000-%012x", n),
		AgentID:      "agent",
		CollectionID: "collection",
		Timestamp:    reputation.TimestampOf(time.Date(2026, 2, 25, 12, 0, n, 0, time.UTC)),
		Body:         reputation.QualitySignal{Score: float64(n%1001) / 1000},
	}
}

// Entry is [Event] n for an NFT.
func Entry(nft string, n int) reputation.Entry { return reputation.NewEntry(nft, Event(n)) }

// Entries are [Event] first to last for an NFT.
func Entries(nft string, first, last int) []reputation.Entry {
	entries := make([]reputation.Entry, 0, last-first+1)
	for n := first; n <= last; n++ {
		entries = append(entries, Entry(nft, n))
	}
	return entries
}

// Raw is an entry of any JSON value.
func Raw(t testing.TB, nft, value string) reputation.Entry {
	t.Helper()
	entry, err := reputation.RawEntry(nft, "quality_signal", []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

// Append appends entries, which must succeed.
func Append(t testing.TB, log reputation.Log, entries ...reputation.Entry) []reputation.Appended {
	t.Helper()
	results, err := log.Append(t.Context(), entries...)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(entries) {
		t.Fatalf("%d results for %d entries", len(results), len(entries))
	}
	return results
}

// Want appends entries and checks the results.
func Want(t testing.TB, log reputation.Log, entries []reputation.Entry, want ...reputation.Appended) {
	t.Helper()
	if diff := cmp.Diff(want, Append(t, log, entries...)); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

func added(position int64) reputation.Appended {
	return reputation.Appended{Status: reputation.Added, Position: position}
}

func duplicate(position int64) reputation.Appended {
	return reputation.Appended{Status: reputation.Duplicate, Position: position}
}

func conflict(position int64) reputation.Appended {
	return reputation.Appended{Status: reputation.Conflict, Position: position}
}

func list(entries ...reputation.Entry) []reputation.Entry { return entries }

// All reads a whole log, in pages, and checks that it has no gap and that Head
// agrees.
func All(t testing.TB, log reputation.Log) []reputation.Recorded {
	t.Helper()
	events := readPages(t, 700, func(after int64, limit int) ([]reputation.Recorded, error) {
		return log.Read(t.Context(), after, limit)
	})
	InOrder(t, events)
	head, err := log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if head != int64(len(events)) {
		t.Fatalf("head %d of a log with %d events", head, len(events))
	}
	return events
}

// readPages reads with pages of a size until there are no more.
func readPages(t testing.TB, size int, read func(after int64, limit int) ([]reputation.Recorded, error)) []reputation.Recorded {
	t.Helper()
	var events []reputation.Recorded
	after := int64(0)
	for {
		page, err := read(after, size)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) > size {
			t.Fatalf("%d events in a page of %d", len(page), size)
		}
		if len(page) == 0 {
			return events
		}
		events = append(events, page...)
		after = page[len(page)-1].Position
	}
}

// InOrder checks that events are those at 1, 2, 3 and so on, each created later
// than the one before.
func InOrder(t testing.TB, events []reputation.Recorded) {
	t.Helper()
	for i := range events {
		if want := int64(i + 1); events[i].Position != want {
			t.Fatalf("position %d where %d is due", events[i].Position, want)
		}
		if i > 0 && !events[i].CreatedAt.After(events[i-1].CreatedAt) {
			t.Fatalf("position %d was created at %v, the one before at %v", i+1, events[i].CreatedAt, events[i-1].CreatedAt)
		}
	}
}

// wantLog checks that the log holds just the entries, in their order.
func wantLog(t testing.TB, log reputation.Log, entries ...reputation.Entry) {
	t.Helper()
	if diff := cmp.Diff(texts(entries), recordedTexts(t, All(t, log))); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
}

// texts are the NFTs and canonical events of entries.
func texts(entries []reputation.Entry) []string {
	var all []string
	for _, e := range entries {
		all = append(all, e.NFT+" "+string(e.JSON))
	}
	return all
}

func recordedTexts(t testing.TB, events []reputation.Recorded) []string {
	t.Helper()
	var all []string
	for _, e := range events {
		all = append(all, e.NFT+" "+canonical(t, e.JSON))
	}
	return all
}

func canonical(t testing.TB, value []byte) string {
	t.Helper()
	text, err := reputation.Canonical(value)
	if err != nil {
		t.Fatalf("canonical form of %s: %v", value, err)
	}
	return string(text)
}
