package eventstoretest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"dixie/eventstore"
	"dixie/reputation"
)

func testPositions(t *testing.T, log eventstore.Store) {
	Want(t, log, Entries("a", 1, 3), added(1), added(2), added(3))
	Want(t, log, list(Entry("b", 5), Entry("a", 4)), added(4), added(5))
	wantLog(t, log, Entry("a", 1), Entry("a", 2), Entry("a", 3), Entry("b", 5), Entry("a", 4))
}

func testAppendNothing(t *testing.T, log eventstore.Store) {
	Want(t, log, nil)
	wantLog(t, log)
	Want(t, log, Entries("a", 1, 1), added(1))
}

// testLongAppend is longer than a store may want to write at once.
func testLongAppend(t *testing.T, log eventstore.Store) {
	entries := Entries("a", 1, 5000)
	for i, result := range Append(t, log, entries...) {
		if want := added(int64(i + 1)); result != want {
			t.Fatalf("result %d is %v, want %v", i, result, want)
		}
	}
	wantLog(t, log, entries...)
}

func testRepeatInCall(t *testing.T, log eventstore.Store) {
	Want(t, log, list(Entry("a", 1), Entry("a", 2), Entry("a", 1), Entry("a", 1)),
		added(1), added(2), duplicate(1), duplicate(1))
	wantLog(t, log, Entries("a", 1, 2)...)
}

func testRepeatLater(t *testing.T, log eventstore.Store) {
	Append(t, log, Entries("a", 1, 3)...)
	Want(t, log, list(Entry("a", 4), Entry("a", 2), Entry("a", 1), Entry("a", 5)),
		added(4), duplicate(2), duplicate(1), added(5))
	Want(t, log, Entries("a", 1, 5), duplicate(1), duplicate(2), duplicate(3), duplicate(4), duplicate(5))
	wantLog(t, log, Entries("a", 1, 5)...)
}

// testRespelled appends texts of one value: the canonical form decides.
func testRespelled(t *testing.T, log eventstore.Store) {
	const id = `"event_id":"00000000-0000-4000-8000-00000000000a"`
	first := Raw(t, "a", `{`+id+`,"score":0.5,"tiny":1e-7,"none":0,"text":"é\n"}`)
	Want(t, log, list(first), added(1))
	for _, text := range []string{
		`{"text":"é\n","none":0,"tiny":1e-7,"score":0.5,` + id + `}`,
		`{ "score" : 0.50, "none": -0, ` + id + `, "tiny": 0.0000001, "text": "\u00e9\u000A" }`,
		`{` + id + `,"score":5E-1,"tiny":1.0e-07,"none":0.0e5,"text":"\u00E9\n"}`,
		// More digits than a float64 has: JSON numbers are float64s here.
		`{` + id + `,"score":0.50000000000000000000001,"tiny":1e-7,"none":0,"text":"é\n"}`,
	} {
		Want(t, log, list(Raw(t, "a", text)), duplicate(1))
	}
	// A decomposed é is another text.
	other := `{` + id + `,"score":0.5,"tiny":1e-7,"none":0,"text":"e\u0301\n"}`
	Want(t, log, list(Raw(t, "a", other)), conflict(1))
	wantLog(t, log, first)
}

// testLetterCase: ids that differ in letter case are one identity, but an event
// holds its id as its author spelled it, and with it its content differs.
func testLetterCase(t *testing.T, log eventstore.Store) {
	event := Event(0xabc)
	lower := reputation.NewEntry("a", event)
	event.ID = strings.ToUpper(event.ID)
	upper := reputation.NewEntry("a", event)
	Want(t, log, list(upper, lower, upper), added(1), conflict(1), duplicate(1))
	Want(t, log, list(lower, upper), conflict(1), duplicate(1))
	wantLog(t, log, upper)
}

// changed is event n with other content.
func changed(nft string, n int) reputation.Entry {
	event := Event(n)
	event.AgentID = "another agent"
	return reputation.NewEntry(nft, event)
}

func testOtherContent(t *testing.T, log eventstore.Store) {
	Append(t, log, Entry("a", 1))
	Want(t, log, list(Entry("a", 2), changed("a", 1), Entry("a", 3)), added(2), conflict(1), added(3))
	Want(t, log, list(changed("a", 3)), conflict(3))
	wantLog(t, log, Entries("a", 1, 3)...)
}

func testOtherNFT(t *testing.T, log eventstore.Store) {
	Append(t, log, Entry("a", 1))
	Want(t, log, list(Entry("b", 1), Entry("A", 1), Entry("b", 2)), conflict(1), conflict(1), added(2))
	wantLog(t, log, Entry("a", 1), Entry("b", 2))
}

func testMixedBatch(t *testing.T, log eventstore.Store) {
	Append(t, log, Entries("a", 1, 2)...)
	Want(t, log,
		list(
			Entry("a", 3), changed("a", 3), Entry("a", 3), // new, then both
			changed("a", 2), Entry("a", 2), Entry("b", 2), // stored before
			Raw(t, "a", `[]`), Entry("a", 4), Raw(t, "a", `[]`),
			Entry("b", 4), Entry("a", 5), Entry("a", 1),
		),
		added(3), conflict(3), duplicate(3),
		conflict(2), duplicate(2), conflict(2),
		added(4), added(5), added(6),
		conflict(5), added(7), duplicate(1))
	wantLog(t, log, Entry("a", 1), Entry("a", 2), Entry("a", 3), Raw(t, "a", `[]`), Entry("a", 4), Raw(t, "a", `[]`), Entry("a", 5))
}

// testFirstWins: of two contents under one id in a call, the first is stored.
func testFirstWins(t *testing.T, log eventstore.Store) {
	Want(t, log, list(changed("a", 1), Entry("a", 1), changed("a", 1)), added(1), conflict(1), duplicate(1))
	wantLog(t, log, changed("a", 1))
}

func testNoPositionLost(t *testing.T, log eventstore.Store) {
	for n := 1; n <= 20; n++ {
		Append(t, log, Entries("a", 1, n)...)
		Append(t, log, changed("a", n))
	}
	wantLog(t, log, Entries("a", 1, 20)...)
}

func testRawWithoutID(t *testing.T, log eventstore.Store) {
	var entries []reputation.Entry
	for _, text := range []string{
		`{}`, `{"score":1}`, `{"event_id":7}`, `{"event_id":null}`, `{"event_id":""}`,
		`{"event_id":["00000000-0000-4000-8000-000000000001"]}`,
		`{"event_id":"00000000-0000-4000-8000-00000000000"}`,
		`{"event_id":"{00000000-0000-4000-8000-000000000001}"}`,
		`{"event_id":"00000000000040008000000000000001"}`,
		`{"event_id":"00000000-0000-4000-8000-000000000001\n"}`,
		`{"EVENT_ID":"00000000-0000-4000-8000-000000000001"}`,
		`{"Event_Id":"00000000-0000-4000-8000-000000000001","event_id":"none"}`,
		`{"event":{"event_id":"00000000-0000-4000-8000-000000000001"}}`,
		`["event_id","00000000-0000-4000-8000-000000000001"]`,
		`"00000000-0000-4000-8000-000000000001"`, `"text"`, `42`, `true`, `null`, `[]`,
	} {
		entries = append(entries, Raw(t, "a", text))
	}
	twice := append(entries, entries...)
	for i, result := range Append(t, log, twice...) {
		if want := added(int64(i + 1)); result != want {
			t.Errorf("%s is %v, want %v", twice[i].JSON, result, want)
		}
	}
	for i, entry := range entries {
		Want(t, log, list(entry), added(int64(len(twice)+i+1)))
	}
	wantLog(t, log, append(twice, entries...)...)
}

// testRawWithID: an event need not be valid to have an identity.
func testRawWithID(t *testing.T, log eventstore.Store) {
	const id = `"00000000-0000-4000-8000-00000000000f"`
	bad := Raw(t, "a", `{"event_id":`+id+`,"score":"high"}`)
	Want(t, log, list(bad, bad, Raw(t, "a", `{"event_id":`+id+`}`)), added(1), duplicate(1), conflict(1))
	Want(t, log, list(bad, Raw(t, "b", `{"score":"high","event_id":`+id+`}`)), duplicate(1), conflict(1))
	Want(t, log, list(Entry("a", 0xf)), conflict(1))
	upper := Raw(t, "a", `{"EVENT_ID":`+id+`,"event_id":"00000000-0000-4000-8000-000000000001"}`)
	Want(t, log, list(upper, Entry("a", 1), upper), added(2), conflict(2), duplicate(2))
	// Zeros are an id, and not that of what has none.
	zero, none := Raw(t, "a", `{"event_id":"00000000-0000-0000-0000-000000000000"}`), Raw(t, "a", `{}`)
	Want(t, log, list(zero, none, zero, none), added(3), added(4), duplicate(3), added(5))
	wantLog(t, log, bad, upper, zero, none, none)
}

func testCancelledAppend(t *testing.T, log eventstore.Store) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for n := range 20 {
		if _, err := log.Append(cancelled, Entry("a", n)); !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v, want that of the context", err)
		}
		if _, err := log.Append(expired, Entry("a", n)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("error %v, want that of the context", err)
		}
	}
	if _, err := log.Append(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("appending nothing: error %v, want that of the context", err)
	}
	// Nobody waited for any of them.
	wantLog(t, log)
	Want(t, log, Entries("a", 1, 2), added(1), added(2))
}
