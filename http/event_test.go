package http_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// history is the worked history of the protocol and two agents more: cub-1, who
// has never been judged, and one of another collection.
func history(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/history.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// eventID is the id of event n of a test.
func eventID(n int) string { return fmt.Sprintf("11111111-1111-4111-8111-%012x", n) }

// signal is event n of a test, about bear-1. More members can be added, each
// with a comma before it.
func signal(n int, score float64, more ...string) string {
	return fmt.Sprintf(`{"type":"quality_signal","event_id":"%s","agent_id":"bear-1","collection_id":"honey",`+
		`"timestamp":"2026-02-25T12:00:00Z","score":%v%s}`, eventID(n), score, strings.Join(more, ""))
}

// reset is event n of a test, which only administrators may append.
func reset(n int) string {
	return fmt.Sprintf(`{"type":"reputation_reset","event_id":"%s","agent_id":"bear-1","collection_id":"honey",`+
		`"timestamp":"2026-02-25T12:00:00Z","reason":"a test","actor":"boss"}`, eventID(n))
}

// signals are events 1 to n.
func signals(n int) []string {
	events := make([]string, n)
	for i := range events {
		events[i] = signal(i+1, 0.5)
	}
	return events
}

func array(events ...string) string { return "[" + strings.Join(events, ",") + "]" }

// lines are events as NDJSON, each for an NFT.
func lines(nft string, events ...string) string {
	var text strings.Builder
	for _, event := range events {
		fmt.Fprintf(&text, `{"nft_id":%q,"event":%s}`+"\n", nft, event)
	}
	return text.String()
}

// longEvent is event n of nearly 60 KB.
func longEvent(n int) string {
	return fmt.Sprintf(`{"type":"model_performance","event_id":"%s","agent_id":"a","collection_id":"c","timestamp":"2026-02-25T12:00:00Z",`+
		`"model_id":"m","provider":"p","pool_id":"q","task_type":"general","quality_observation":{"score":0.5,"evaluated_by":"%s"}}`,
		eventID(n), strings.Repeat("judge ", 10_000))
}
