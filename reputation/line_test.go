package reputation_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"dixie/reputation"

	"github.com/google/go-cmp/cmp"
)

func TestReadLine(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       reputation.Line
		err        string
	}{
		{"event alone", `{"event":{"a":1}}`, reputation.Line{Event: []byte(`{"a":1}`)}, ""},
		{"nft", ` {"event" : { } , "nft_id" : "bear-1"} `, reputation.Line{NFT: "bear-1", Event: []byte(`{ }`)}, ""},
		{
			"line of an export",
			`{"position":7,"created_at":"2026-02-25T12:00:00Z","nft_id":"bear-1","event_type":"x","event":[1]}`,
			reputation.Line{
				NFT: "bear-1", Type: "x", Event: []byte(`[1]`), Position: 7, CreatedAt: time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC),
			}, "",
		},
		{
			"a position and a time that are none", `{"position":-1,"created_at":"yesterday","event":1}`,
			reputation.Line{Event: []byte(`1`)}, "",
		},
		{"of other kinds", `{"position":"7","created_at":{"a":7},"event":1}`, reputation.Line{Event: []byte(`1`)}, ""},
		{"not whole", `{"position":7.5,"created_at":null,"event":1}`, reputation.Line{Event: []byte(`1`)}, ""},
		{"the event is not read", `{"event":null}`, reputation.Line{Event: []byte(`null`)}, ""},
		{"no event", `{"nft_id":"bear-1"}`, reputation.Line{}, "event: is required"},
		{"impossible NFT", `{"nft_id":"bear 1","event":{}}`, reputation.Line{}, `nft_id: must match ^[A-Za-z0-9._:-]{1,255}$, found "bear 1"`},
		{"empty NFT", `{"nft_id":"","event":{}}`, reputation.Line{}, "nft_id: must have 1 to 255 characters, found 0"},
		{"NFT of another kind", `{"nft_id":1,"event":{}}`, reputation.Line{}, "nft_id: must be a string, found a number"},
		{"several problems", `{"nft_id":null,"mood":1}`, reputation.Line{}, "nft_id: must be a string, found null; mood: unknown field; event: is required"},
		{"event twice", `{"event":{},"event":{}}`, reputation.Line{}, "event: is given more than once"},
		{"duplicate in the event", `{"event":{"a":1,"a":1}}`, reputation.Line{}, "event.a: is given more than once"},
		{"array", `[]`, reputation.Line{}, "must be an object, found an array"},
		{"empty", ``, reputation.Line{}, "must be one JSON object, found the end of the text at byte 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			data := []byte(tt.text)
			got, err := reputation.ReadLine(data)
			if tt.err != "" {
				if !errors.Is(err, reputation.ErrInvalid) || err.Error() != tt.err {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			clear(data) // a line keeps nothing of what it was read from
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeLine(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text, nft, err string
	}{
		{"nft", `{"nft_id":"bear-1","event":` + minQualitySignal + `}`, "bear-1", ""},
		{"the agent stands for the nft", `{"event":` + minQualitySignal + `}`, "a", ""},
		{
			"the agent cannot stand for the nft", `{"event":` + edit(t, minQualitySignal, "agent_id", `"the bear"`) + `}`, "",
			`nft_id: is required when agent_id cannot stand for it: must match ^[A-Za-z0-9._:-]{1,255}$, found "the bear"`,
		},
		{"any agent beside an nft", `{"nft_id":"bear-1","event":` + edit(t, minQualitySignal, "agent_id", `"the bear"`) + `}`, "bear-1", ""},
		{
			"problems of the event", `{"event":` + edit(t, edit(t, minModelPerformance, "pool_id", ""), "quality_observation.score", "2") + `}`, "",
			"event.quality_observation.score: must be between 0 and 1, found 2; event.pool_id: is required",
		},
		{"an event that is none", `{"event":null}`, "", "event: must be an object, found null"},
		{"no event", `{}`, "", "event: is required"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			nft, e, err := reputation.DecodeLine([]byte(tt.text))
			if tt.err != "" {
				if !errors.Is(err, reputation.ErrInvalid) || err.Error() != tt.err {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || nft != tt.nft {
				t.Fatalf("nft %q, %v, want %q", nft, err, tt.nft)
			}
			if want := strings.Contains(tt.text, string(e.AppendJSON(nil))); !want {
				t.Errorf("event %s of the line %s", e.AppendJSON(nil), tt.text)
			}
		})
	}
}

func TestAppendLine(t *testing.T) {
	t.Parallel()
	created := time.Date(2026, 2, 25, 14, 0, 0, 120_000_000, time.FixedZone("", 2*3600))
	const head = `{"position":7,"created_at":"2026-02-25T12:00:00.12Z","nft_id":"bear-1",`
	tests := []struct {
		name, kind, event, want string
	}{
		{"canonical", "quality_signal", minQualitySignal, head + `"event":` + minQualitySignal + "}\n"},
		{"spelled otherwise", "x", "{ \"type\" : \"x\",\n\"a\" : 1.0 }", head + `"event":{"a":1,"type":"x"}}` + "\n"},
		{"row and event disagree", "y", `{"type":"x"}`, head + `"event_type":"y","event":{"type":"x"}}` + "\n"},
		{"no object", "x", `[]`, head + `"event_type":"x","event":[]}` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := reputation.Recorded{Position: 7, NFT: "bear-1", Type: tt.kind, CreatedAt: created, JSON: []byte(tt.event)}
			line := reputation.AppendLine(nil, &r)
			if diff := cmp.Diff(tt.want, string(line)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			back, err := reputation.ReadLine(line)
			if err != nil || back.NFT != "bear-1" || back.Position != 7 || !back.CreatedAt.Equal(created) || string(back.Event) != canonical(t, tt.event) {
				t.Errorf("read back as %+v, %v", back, err)
			}
		})
	}
}

func TestNewEntry(t *testing.T) {
	t.Parallel()
	e := mustDecode(t, minQualitySignal)
	want := reputation.Entry{NFT: "bear-1", Type: "quality_signal", JSON: []byte(minQualitySignal), ID: e.UUID(), HasID: true}
	if diff := cmp.Diff(want, reputation.NewEntry("bear-1", &e)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRawEntry(t *testing.T) {
	t.Parallel()
	id := [16]byte{0x55, 0x0e, 0x84, 0, 0xe2, 0x9b, 0x41, 0xd4, 0xa7, 0x16, 0x44, 0x66, 0x55, 0x44, 0, 0}
	tests := []struct {
		name, kind, value string
		want              reputation.Entry
	}{
		{
			"id in upper case", "x", `{"event_id":"550E8400-E29B-41D4-A716-446655440000","a":1.0}`,
			reputation.Entry{Type: "x", JSON: []byte(`{"a":1,"event_id":"550E8400-E29B-41D4-A716-446655440000"}`), ID: id, HasID: true},
		},
		{"id that is none", "x", `{"event_id":"7"}`, reputation.Entry{Type: "x", JSON: []byte(`{"event_id":"7"}`)}},
		{"id of another kind", "x", `{"event_id":7}`, reputation.Entry{Type: "x", JSON: []byte(`{"event_id":7}`)}},
		{
			"id under another name", "x", `{"EVENT_ID":"550e8400-e29b-41d4-a716-446655440000"}`,
			reputation.Entry{Type: "x", JSON: []byte(`{"EVENT_ID":"550e8400-e29b-41d4-a716-446655440000"}`)},
		},
		{"the value's own type", "", `{"type":"y"}`, reputation.Entry{Type: "y", JSON: []byte(`{"type":"y"}`)}},
		{"no object", "x", ` [ ] `, reputation.Entry{Type: "x", JSON: []byte(`[]`)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.want.NFT = "bear-1"
			got, err := reputation.RawEntry("bear-1", tt.kind, []byte(tt.value))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, value := range []string{"", "{", `{"a":1,"a":2}`, "\"\xff\""} {
		if got, err := reputation.RawEntry("bear-1", "x", []byte(value)); err == nil {
			t.Errorf("RawEntry(%q) = %s, want an error", value, got.JSON)
		}
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	err := reputation.Within("events.3", &reputation.InvalidError{Problems: []reputation.Problem{
		{Field: "score", Detail: "is required"}, {Detail: "must be an object"},
	}})
	if got, want := err.Error(), "events.3.score: is required; events.3: must be an object"; got != want || !errors.Is(err, reputation.ErrInvalid) {
		t.Errorf("Within = %q, want %q", got, want)
	}
	if err := reputation.Within("x", reputation.ErrConflict); err != reputation.ErrConflict {
		t.Errorf("Within changed another error to %v", err)
	}
	if err := reputation.Within("x", nil); err != nil {
		t.Errorf("Within(nil) = %v", err)
	}
}
