package projectionstest

import (
	"fmt"
	"time"

	"dixie/reputation"
)

// Event is an event before it has an id and a time.
type Event struct {
	NFT, Collection string
	Body            reputation.Body
}

// Signal is a judgement of an NFT of the collection honey.
func Signal(nft string, score float64) Event {
	return Event{NFT: nft, Collection: "honey", Body: reputation.QualitySignal{Score: score}}
}

// Task is a judgement of an NFT of the collection honey at a task of a model.
func Task(nft, model string, task reputation.TaskType, score float64) Event {
	return Event{NFT: nft, Collection: "honey", Body: reputation.ModelPerformance{
		ModelID: model, Provider: "hive", PoolID: "alpha", TaskType: task,
		Observation: reputation.QualityObservation{Score: score},
	}}
}

// Reset is an administrator's reset of an NFT of the collection honey.
func Reset(nft string) Event {
	return Event{NFT: nft, Collection: "honey", Body: reputation.ReputationReset{Reason: "appeal", Actor: "admin"}}
}

// Entry is the event as the n-th of a log: its id and time are made from n.
func (e Event) Entry(n int64) reputation.Entry {
	return reputation.NewEntry(e.NFT, &reputation.Event{
		ID: ID(n), AgentID: "agent", CollectionID: e.Collection, Timestamp: At(n), Body: e.Body,
	})
}

// ID is the id of the n-th event of a log.
func ID(n int64) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n) }

// At is the time of the n-th event of a log.
func At(n int64) reputation.Timestamp {
	return reputation.TimestampOf(time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Minute))
}

// Append appends events to a log that nobody else appends to, and returns the
// position of the last.
func (b Backend) Append(t TB, events ...Event) int64 {
	t.Helper()
	n := b.Head(t)
	entries := make([]reputation.Entry, len(events))
	for i, e := range events {
		entries[i] = e.Entry(n + int64(i) + 1)
	}
	return b.AppendEntries(t, entries...)
}

// AppendEntries appends entries, which must succeed, and returns the position of
// the last.
func (b Backend) AppendEntries(t TB, entries ...reputation.Entry) int64 {
	t.Helper()
	results, err := b.Log.Append(t.Context(), entries...)
	if err != nil {
		t.Fatal(err)
	}
	return results[len(results)-1].Position
}

// Raw is an entry of any JSON value.
func Raw(t TB, nft, value string) reputation.Entry {
	t.Helper()
	entry, err := reputation.RawEntry(nft, "quality_signal", []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return entry
}
