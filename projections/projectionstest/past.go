package projectionstest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dixie/projections"
	"dixie/reputation"
)

// past is the backend's with the default parameters.
func (b Backend) past() *projections.Past {
	return b.Past(projections.PastConfig{Params: reputation.DefaultParams()})
}

// CheckPast checks, for each NFT and each position of a log that all projections
// have reached, that the past is what a replay of the log up to there gives.
func (b Backend) CheckPast(t TB, params reputation.Params) {
	t.Helper()
	past := b.Past(projections.PastConfig{Params: params})
	events := b.events(t)
	replay := projections.NewReplay(params)
	nfts := map[string]bool{"nobody": true}
	for i := range events {
		nfts[events[i].NFT] = true
	}
	steps := map[string][]reputation.Step{}
	for i := range events {
		if event, err := events[i].Event(); err == nil && replay.Apply(events[i].NFT, &event) == nil {
			step := reputation.NewStep(events[i].Position, events[i].CreatedAt, &event, replay.Agent(events[i].NFT))
			steps[events[i].NFT] = append(steps[events[i].NFT], step)
		}
		for nft := range nfts {
			checkPastOf(t, past, replay, nft, events[i].Position)
			b.checkSnapshot(t, past, replay, nft, events[:i+1])
		}
	}
	for nft := range nfts {
		b.checkTimelines(t, past, nft, steps[nft], b.Head(t))
	}
}

// events are those of the whole log.
func (b Backend) events(t TB) []reputation.Recorded {
	t.Helper()
	events, err := b.Log.Read(t.Context(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func checkPastOf(t TB, past *projections.Past, replay *projections.Replay, nft string, position int64) {
	t.Helper()
	got, err := past.ReputationAt(t.Context(), nft, position)
	want := replay.Agent(nft)
	if want == nil {
		wantError(t, err, reputation.ErrNotFound)
		return
	}
	if err != nil {
		t.Fatalf("%s at %d: %v", nft, position, err)
	}
	if got.Position != position {
		t.Errorf("%s at %d: as of %d", nft, position, got.Position)
	}
	if diff := cmp.Diff(encode(t, want), encode(t, got.Agent)); diff != "" {
		t.Errorf("%s at %d (-want +got):\n%s", nft, position, diff)
	}
	if diff := cmp.Diff(encodeAll(t, replay.Cohorts(nft)), encodeAll(t, got.Cohorts)); diff != "" {
		t.Errorf("cohorts of %s at %d (-want +got):\n%s", nft, position, diff)
	}
}

func encodeAll(t TB, cohorts []reputation.TaskCohort) []string {
	t.Helper()
	texts := []string{}
	for _, c := range cohorts {
		texts = append(texts, encode(t, c))
	}
	return texts
}

// checkSnapshot checks the aggregate and the hash against the text of protocol §7,
// written down as a whole.
func (b Backend) checkSnapshot(t TB, past *projections.Past, replay *projections.Replay, nft string, events []reputation.Recorded) {
	t.Helper()
	if replay.Agent(nft) == nil {
		return
	}
	got, err := past.Snapshot(t.Context(), nft, events[len(events)-1].Position)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for i := range events {
		if events[i].NFT == nft {
			text, err := reputation.Canonical(events[i].JSON)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(text))
		}
	}
	sum := sha256.Sum256([]byte("[" + strings.Join(texts, ",") + "]"))
	if got.EventCount != int64(len(texts)) || got.StreamHash != hex.EncodeToString(sum[:]) {
		t.Errorf("snapshot of %s at %d: %d events with the hash %s, want %d with %x", nft, len(events), got.EventCount, got.StreamHash, len(texts), sum)
	}
	if diff := cmp.Diff(encode(t, &replay.Agent(nft).Aggregate), encode(t, &got.Aggregate)); diff != "" {
		t.Errorf("snapshot of %s at %d (-want +got):\n%s", nft, len(events), diff)
	}
}

func (b Backend) checkTimelines(t TB, past *projections.Past, nft string, steps []reputation.Step, head int64) {
	t.Helper()
	for _, bounds := range [][2]int64{{0, head}, {0, head / 2}, {head / 3, head}, {head / 2, head / 2}, {head, head}} {
		var want []reputation.Step
		for _, s := range steps {
			if s.Position > bounds[0] && s.Position <= bounds[1] {
				want = append(want, s)
			}
		}
		got, err := timeline(t, past, nft, bounds[0], bounds[1])
		if len(steps) == 0 {
			wantError(t, err, reputation.ErrNotFound)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(reputation.Timestamp{})); diff != "" {
			t.Errorf("timeline of %s after %d until %d (-want +got):\n%s", nft, bounds[0], bounds[1], diff)
		}
	}
}

func timeline(t TB, past *projections.Past, nft string, after, until int64) (steps []reputation.Step, err error) {
	t.Helper()
	err = past.Timeline(t.Context(), nft, after, until, func(s reputation.Step) error {
		steps = append(steps, s)
		return nil
	})
	return steps, err
}

func testPastPositions(t *testing.T, b Backend) {
	b.Append(t, worked...)
	b.Project(t)
	b.Settle(t)
	b.CheckPast(t, reputation.DefaultParams())
	// And with other parameters than the rows have been folded with.
	b.CheckPast(t, reputation.DixieParams())
}

func testPastBefore(t *testing.T, b Backend) {
	b.Append(t, Signal("bear-1", 0.5), Signal("bear-2", 0.5))
	b.Project(t)
	b.Settle(t)
	for position := range int64(2) {
		_, err := b.past().ReputationAt(t.Context(), "bear-2", position)
		wantError(t, err, reputation.ErrNotFound)
	}
	steps, err := timeline(t, b.past(), "bear-2", 0, 1)
	if err != nil || len(steps) > 0 {
		t.Errorf("timeline before the first event: %v, %v", steps, err)
	}
	_, err = b.past().Snapshot(t.Context(), "bear-2", 1)
	wantError(t, err, reputation.ErrNotFound)
	_, err = b.past().Snapshot(t.Context(), "nobody", -1)
	wantError(t, err, reputation.ErrNotFound)
}

// testPastGarbage: what no projection could fold has no effect on the past either,
// and counts in the hash.
func testPastGarbage(t *testing.T, b Backend) {
	b.AppendEntries(t,
		Raw(t, "bear-1", `{}`), Signal("bear-1", 0.5).Entry(2), Raw(t, "x y", `[]`), Raw(t, "bear-1", `{"score":1e-7}`),
		Signal("bear-2", 1).Entry(5), Raw(t, "bear-3", `null`))
	b.Project(t)
	b.Settle(t)
	b.CheckPast(t, reputation.DefaultParams())
}

// testPastCollections: an NFT stays in the collection of its first event that
// counts, and events that name another one move nothing.
func testPastCollections(t *testing.T, b Backend) {
	in := func(collection, nft string, score float64) Event {
		return Event{NFT: nft, Collection: collection, Body: reputation.QualitySignal{Score: score}}
	}
	b.AppendEntries(t, Raw(t, "a", `{"collection_id":"mead"}`))
	b.Append(t, in("honey", "a", 0.1), in("mead", "b", 0.2), in("honey", "b", 0.3), in("mead", "a", 0.4),
		in("honey", "c", 0.5), in("honey", "a", 0.6), in("mead", "c", 0.7), Reset("c"), in("honey", "a", 0.8), in("mead", "d", 0.9))
	b.Project(t)
	b.Settle(t)
	b.CheckPast(t, reputation.DefaultParams())
	for nft, want := range map[string]string{"a": "honey", "b": "mead", "c": "honey"} {
		if got, err := b.past().Collection(t.Context(), nft); err != nil || got != want {
			t.Errorf("collection of %s: %q, %v", nft, got, err)
		}
	}
	_, err := b.past().Collection(t.Context(), "nobody")
	wantError(t, err, reputation.ErrNotFound)
}

// testPastPutOver: rows that another program put are no history.
func testPastPutOver(t *testing.T, b Backend) {
	b.Append(t, Signal("bear-1", 0.25), Task("bear-1", "native", "analysis", 0.5))
	b.Project(t)
	b.Settle(t)
	put(t, b, "bear-1", aggregate("bear-1", reputation.StateCold, 1))
	put(t, b, "wasp", aggregate("wasp", reputation.StateCold, 1))
	putCohort(t, b, "bear-1", cohort(1, 9))
	b.CheckPast(t, reputation.DefaultParams())
	_, err := b.past().ReputationAt(t.Context(), "wasp", 2)
	wantError(t, err, reputation.ErrNotFound)
}

// testPastBehind: who belongs to a collection is not known beyond the checkpoint.
func testPastBehind(t *testing.T, b Backend) {
	b.Append(t, Signal("bear-1", 0.5))
	_, err := b.past().ReputationAt(t.Context(), "bear-1", 1)
	wantError(t, err, projections.ErrBehind)
	stop := b.Project(t)
	b.Settle(t)
	stop()
	b.Append(t, Signal("bear-2", 0.5))
	_, err = b.past().ReputationAt(t.Context(), "bear-1", 2)
	wantError(t, err, projections.ErrBehind)
	if _, err := b.past().ReputationAt(t.Context(), "bear-1", 1); err != nil {
		t.Error(err)
	}
}

// testPastTooLong: the limit counts the events that are needed, and nothing is
// visited when they are too many.
func testPastTooLong(t *testing.T, b Backend) {
	b.Append(t, Signal("bear-1", 0.5), Signal("bear-2", 0.5), Signal("bear-1", 0.5), Signal("bear-2", 0.5),
		Event{NFT: "wasp", Collection: "mead", Body: reputation.QualitySignal{Score: 1}})
	b.Project(t)
	b.Settle(t)
	past := b.Past(projections.PastConfig{Params: reputation.DefaultParams(), MaxEvents: 3})
	if _, err := past.ReputationAt(t.Context(), "bear-1", 5); err != nil {
		t.Errorf("three events up to the last of bear-1: %v", err)
	}
	_, err := past.ReputationAt(t.Context(), "bear-2", 5)
	wantTooLong(t, err, 3)
	if _, err := past.ReputationAt(t.Context(), "bear-2", 3); err != nil {
		t.Errorf("two events up to the first of bear-2: %v", err)
	}
	steps, err := timeline(t, past, "bear-2", 0, 5)
	wantTooLong(t, err, 3)
	if len(steps) > 0 {
		t.Errorf("visited %v", steps)
	}
	_, err = b.Past(projections.PastConfig{Params: reputation.DefaultParams(), MaxEvents: 1}).Snapshot(t.Context(), "bear-1", -1)
	wantTooLong(t, err, 1)
}

func wantTooLong(t TB, err error, most int64) {
	t.Helper()
	var tooLong *reputation.HistoryTooLongError
	if !errors.As(err, &tooLong) || tooLong.Most != most {
		t.Errorf("error %v, want one of more than %d events", err, most)
	}
}

func testPastCancelled(t *testing.T, b Backend) {
	b.Append(t, Signal("bear-1", 0.5))
	b.Project(t)
	b.Settle(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.past().ReputationAt(ctx, "bear-1", 1)
	wantError(t, err, context.Canceled)
	wantError(t, b.past().Timeline(ctx, "bear-1", 0, 1, func(reputation.Step) error { return nil }), context.Canceled)
	_, err = b.past().Snapshot(ctx, "bear-1", -1)
	wantError(t, err, context.Canceled)
	_, err = b.past().Collection(ctx, "bear-1")
	wantError(t, err, context.Canceled)
}

func testTimeline(t *testing.T, b Backend) {
	b.Append(t, Signal("bear-1", 0.9), Signal("bear-2", 0.4),
		Event{NFT: "bear-1", Collection: "honey", Body: reputation.TaskCompleted{TaskType: "analysis"}},
		Event{NFT: "bear-1", Collection: "mead", Body: reputation.QualitySignal{Score: 1}}, // set aside
		Reset("bear-1"))
	b.Project(t)
	b.Settle(t)
	steps, err := timeline(t, b.past(), "bear-1", 0, 5)
	if err != nil {
		t.Fatal(err)
	}
	events := b.events(t)
	var got []string
	for _, s := range steps {
		personal := "-"
		if s.PersonalScore != nil {
			personal = fmt.Sprint(*s.PersonalScore)
		}
		got = append(got, fmt.Sprintf("%d %s %s %s: %s %s %v %v %d", s.Position, s.EventID, s.Type, s.Timestamp,
			s.State, personal, s.CollectionScore, s.BlendedScore, s.SampleCount))
		if !s.CreatedAt.Equal(events[s.Position-1].CreatedAt) {
			t.Errorf("position %d was stored at %v", s.Position, s.CreatedAt)
		}
	}
	want := []string{
		"1 " + ID(1) + " quality_signal 2026-02-25T12:01:00Z: warming 0.9 0.5 0.6 1",
		"3 " + ID(3) + " task_completed 2026-02-25T12:03:00Z: warming 0.9 0.4 0.525 1",
		"5 " + ID(5) + " reputation_reset 2026-02-25T12:05:00Z: cold - 0.4 0.4 0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("timeline (-want +got):\n%s", diff)
	}
}

// testTimelineStopped: whoever has seen enough need not see the rest, and what was
// open is closed.
func testTimelineStopped(t *testing.T, b Backend) {
	for range 20 {
		b.Append(t, Signal("bear-1", 0.5))
	}
	b.Project(t)
	b.Settle(t)
	enough := errors.New("enough")
	for range 20 {
		visited := 0
		err := b.past().Timeline(t.Context(), "bear-1", 0, 20, func(reputation.Step) error {
			visited++
			return enough
		})
		if !errors.Is(err, enough) || visited != 1 {
			t.Fatalf("%d visits, error %v", visited, err)
		}
	}
}

func testSnapshot(t *testing.T, b Backend) {
	b.Append(t, worked...)
	b.Project(t)
	b.Settle(t)
	for _, nft := range []string{"bear-1", "bear-2"} {
		got, err := b.past().Snapshot(t.Context(), nft, -1)
		if err != nil {
			t.Fatal(err)
		}
		want, err := b.past().Snapshot(t.Context(), nft, b.Head(t))
		if err != nil {
			t.Fatal(err)
		}
		if got.Position != b.Head(t) || got.StreamHash != want.StreamHash || got.EventCount != want.EventCount {
			t.Errorf("snapshot %+v, want %+v", got, want)
		}
		if diff := cmp.Diff(encode(t, &want.Aggregate), encode(t, &got.Aggregate)); diff != "" {
			t.Errorf("aggregate of %s (-want +got):\n%s", nft, diff)
		}
	}
}

// testSnapshotPut: a snapshot can be checked by whoever holds the events, and so it
// shows what they give, not what another program has put.
func testSnapshotPut(t *testing.T, b Backend) {
	b.Append(t, Signal("bear-1", 0.25))
	b.Project(t)
	b.Settle(t)
	put(t, b, "bear-1", aggregate("bear-1", reputation.StateCold, 1))
	put(t, b, "wasp", aggregate("wasp", reputation.StateCold, 1))
	got, err := b.past().Snapshot(t.Context(), "bear-1", -1)
	if err != nil || got.Aggregate.PersonalScore == nil || *got.Aggregate.PersonalScore != 0.25 || got.EventCount != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = b.past().Snapshot(t.Context(), "wasp", -1)
	wantError(t, err, reputation.ErrNotFound)
}
