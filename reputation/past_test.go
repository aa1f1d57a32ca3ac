package reputation_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"dixie/reputation"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestPropertyMembers: what is kept of a member is what the agent has, the same
// events are set aside, and the collection is the same to the last bit.
func TestPropertyMembers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := anyParams().Draw(t, "params")
		agents, members := map[string]*reputation.Agent{}, map[string]*reputation.Member{}
		byAgents, byMembers := map[string]*reputation.Collection{}, map[string]*reputation.Collection{}
		for _, l := range history(100).Draw(t, "history") {
			id := l.event.CollectionID
			want := p.FoldAggregate(entry(agents, l.nft), entry(byAgents, id), l.nft, l.event)
			got := p.FoldMember(entry(members, l.nft), entry(byMembers, id), l.nft, l.event)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("FoldMember says %v, FoldAggregate %v", got, want)
			}
			if diff := cmp.Diff(byAgents, byMembers); diff != "" {
				t.Fatalf("collections (-agents +members):\n%s", diff)
			}
			g := &agents[l.nft].Aggregate
			if diff := cmp.Diff(reputation.Member{CollectionID: g.CollectionID, PersonalScore: g.PersonalScore, SampleCount: g.SampleCount},
				*members[l.nft]); diff != "" {
				t.Fatalf("member (-agent +member):\n%s", diff)
			}
		}
	})
}

// streamEvents are the events of protocol §12.17 in their order.
var streamEvents = []string{
	`{"agent_id":"bear-001","collection_id":"honeycomb","event_id":"550e8400-e29b-41d4-a716-446655440010","model_id":"gpt-4o","pool_id":"pool-alpha","provider":"openai","quality_observation":{"score":0.82},"task_type":"analysis","timestamp":"2026-02-25T12:00:00Z","type":"model_performance"}`,
	`{ "type": "quality_signal", "score": 8.5e-1, "timestamp": "2026-02-24T12:00:00Z", "event_id": "550e8400-e29b-41d4-a716-446655440000", "collection_id": "honey\u0063omb", "agent_id": "bear-001" }`,
}

// The numbers are of the protocol's own implementation.
func TestStreamHash(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		events []string
		want   string
	}{
		{"no event", nil, "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"},
		{"the worked events", streamEvents, "a7a19c02765fc112e436c469e3544eed458b77a5f2e328938be5277ea3995207"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var hash reputation.StreamHash
			for _, event := range tt.events {
				hash.Add([]byte(event))
			}
			if hash.Count() != int64(len(tt.events)) {
				t.Errorf("%d events", hash.Count())
			}
			if got := hash.Sum(); got != tt.want {
				t.Errorf("hash %s, want %s", got, tt.want)
			}
		})
	}
}

// TestPropertyStreamHash: the hash that grows with the events is that of the whole
// text, and depends on their order.
func TestPropertyStreamHash(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var forwards, backwards reputation.StreamHash
		var texts []string
		for _, e := range rapid.SliceOfN(anyEvent(), 0, 6).Draw(t, "events") {
			texts = append(texts, string(e.AppendJSON(nil)))
		}
		for i := range texts {
			forwards.Add([]byte(" " + texts[i]))
			backwards.Add([]byte(texts[len(texts)-1-i]))
		}
		sum := sha256.Sum256([]byte("[" + strings.Join(texts, ",") + "]"))
		got := forwards.Sum()
		if got != hex.EncodeToString(sum[:]) {
			t.Fatalf("hash %s, want %x", got, sum)
		}
		if len(texts) == 2 && (texts[0] != texts[1]) != (backwards.Sum() != got) {
			t.Fatal("the order of the events does not matter")
		}
	})
}

func TestParsePoint(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		text string
		want reputation.Point
		err  string
	}{
		{"0", reputation.Point{}, ""},
		{"42", reputation.Point{Position: 42}, ""},
		{"2026", reputation.Point{Position: 2026}, ""},
		{"9007199254740991", reputation.Point{Position: 1<<53 - 1}, ""},
		{"2026-02-25T12:00:00Z", reputation.Point{Time: noon}, ""},
		{"2026-02-25T14:00:00.000001+02:00", reputation.Point{Time: noon.Add(time.Microsecond)}, ""},
		{"0001-01-01T00:00:00Z", reputation.Point{}, ""}, // before the first event
		{"9007199254740992", reputation.Point{}, `must be a position of at most 9007199254740991, found "9007199254740992"`},
		{"99999999999999999999", reputation.Point{}, `must be a position of at most 9007199254740991, found "99999999999999999999"`},
		{"", reputation.Point{}, pointRule + `, found ""`},
		{"-1", reputation.Point{}, pointRule + `, found "-1"`},
		{"+1", reputation.Point{}, pointRule + `, found "+1"`},
		{"1.0", reputation.Point{}, pointRule + `, found "1.0"`},
		{"2026-02-25", reputation.Point{}, pointRule + `, found "2026-02-25"`},
		{"2026-02-30T12:00:00Z", reputation.Point{}, pointRule + `, found "2026-02-30T12:00:00Z"`},
		{"yesterday", reputation.Point{}, pointRule + `, found "yesterday"`},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			t.Parallel()
			got, err := reputation.ParsePoint(tt.text)
			if fmt.Sprint(err) != tt.err && (err != nil || tt.err != "") {
				t.Fatalf("error %v, want %s", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

const pointRule = "must be a position, or an RFC 3339 date and time with a zone, such as 2026-02-25T12:00:00Z"

func TestPointIncludes(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC)
	position, at := reputation.Point{Position: 7}, reputation.Point{Time: noon}
	for n, want := range map[int64]bool{1: true, 7: true, 8: false} {
		if position.Includes(n, time.Time{}) != want {
			t.Errorf("up to position 7: %d is %v", n, !want)
		}
	}
	for moved, want := range map[time.Duration]bool{-time.Microsecond: true, 0: true, time.Microsecond: false} {
		if at.Includes(1<<40, noon.Add(moved)) != want {
			t.Errorf("up to noon: %v from it is %v", moved, !want)
		}
	}
	if position.IsTime() || !at.IsTime() {
		t.Error("a position is a time, or a time a position")
	}
}

// FuzzParsePoint: what is accepted is a position or a time, and its text means the
// same point.
func FuzzParsePoint(f *testing.F) {
	for _, text := range []string{"0", "007", "9007199254740991", "9007199254740992", "2026-02-25T12:00:00Z", "2026-02-25T14:00:00.5+02:00", "", "-1", "1e3", "٣"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := reputation.ParsePoint(text)
		if err != nil {
			if got != (reputation.Point{}) || len(err.Error()) > 1000 {
				t.Fatalf("ParsePoint(%q) = %+v, %v", text, got, err)
			}
			return
		}
		if got.Position < 0 || got.Position > reputation.MaxInteger || got.Position > 0 && got.IsTime() {
			t.Fatalf("ParsePoint(%q) = %+v", text, got)
		}
		if year := got.Time.Year(); year < 0 || year > 9999 {
			return // RFC 3339 has no such years, of which a zone can make one
		}
		if back, err := reputation.ParsePoint(got.String()); err != nil || !back.Time.Equal(got.Time) || back.Position != got.Position {
			t.Fatalf("ParsePoint(%q) = %v, which reads back as %v, %v", text, got, back, err)
		}
	})
}
