package projections_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dixie/eventstore"
	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

// copied is what a binary COPY of columns sends: position, nft_id and event, and in
// an audit event_type, created_at and id. A nil field is NULL.
func copied(rows ...[][]byte) []byte {
	stream := []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	for _, row := range rows {
		stream = binary.BigEndian.AppendUint16(stream, uint16(len(row)))
		for _, field := range row {
			if field == nil {
				stream = binary.BigEndian.AppendUint32(stream, 1<<32-1)
				continue
			}
			stream = binary.BigEndian.AppendUint32(stream, uint32(len(field)))
			stream = append(stream, field...)
		}
	}
	return append(stream, 0xff, 0xff)
}

func bigint(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

func jsonb(text []byte) []byte { return append([]byte{1}, text...) }

// cut cuts a stream into pieces whose lengths are drawn.
func cut(t *rapid.T, stream []byte) iter.Seq[[]byte] {
	lengths := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 9), rapid.IntRange(0, 20_000)), 0, 40).Draw(t, "pieces")
	return func(yield func([]byte) bool) {
		rest := stream
		for _, n := range lengths {
			n = min(n, len(rest))
			// What follows a piece is not there yet.
			if !yield(slices.Clone(rest[:n])) {
				return
			}
			rest = rest[n:]
		}
		yield(rest)
	}
}

// TestReadCopy: however the network cuts what COPY sends, all events come, in
// order.
func TestReadCopy(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var rows [][][]byte
		var want []string
		for i := range rapid.IntRange(0, 3000).Draw(t, "events") {
			entry := projectionstest.Signal(fmt.Sprint("bear-", i%5), 0.5).Entry(int64(i))
			if i%1000 == 999 {
				entry = projectionstest.Raw(t, "bear-x", `{"long":"`+strings.Repeat("x", 300_000)+`"}`)
			}
			rows = append(rows, [][]byte{bigint(int64(i + 1)), []byte(entry.NFT), jsonb(entry.JSON)})
			want = append(want, fmt.Sprint(i+1, entry.NFT, i%1000 == 999))
		}
		events, _, err := projections.ReadCopy(cut(t, copied(rows...)), false)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range events {
			got = append(got, fmt.Sprint(e.Position, e.NFT, e.Err != nil))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%d events, want %d in their order", len(got), len(want))
		}
	})
}

// one is a stream in one piece.
func one(stream []byte) iter.Seq[[]byte] { return func(yield func([]byte) bool) { yield(stream) } }

// TestReadCopyRefuses: what is not a whole COPY of what was asked for is no log.
func TestReadCopyRefuses(t *testing.T) {
	t.Parallel()
	text := projectionstest.Signal("bear-1", 0.5).Entry(1).JSON
	good := [][]byte{bigint(1), []byte("bear-1"), jsonb(text)}
	whole := copied(good)
	for name, stream := range map[string][]byte{
		"nothing":             nil,
		"no end":              whole[:len(whole)-2],
		"half of an end":      whole[:len(whole)-1],
		"within a tuple":      whole[:len(whole)-20],
		"another column":      copied(slices.Concat(good, [][]byte{{1}})),
		"a column less":       copied(good[:2]),
		"a position of text":  copied([][]byte{[]byte("1"), good[1], good[2]}),
		"no position":         copied([][]byte{nil, good[1], good[2]}),
		"no event":            copied([][]byte{good[0], good[1], nil}),
		"an event of nothing": copied([][]byte{good[0], good[1], {}}),
		"json, not jsonb":     copied([][]byte{good[0], good[1], text}),
		"more after the end":  append(slices.Clone(whole), 0, 3),
	} {
		if _, _, err := projections.ReadCopy(one(stream), false); !errors.Is(err, projections.ErrCopyFormat) {
			t.Errorf("%s: error %v, want %v", name, err, projections.ErrCopyFormat)
		}
	}
	if events, _, err := projections.ReadCopy(one(whole), false); err != nil || len(events) != 1 {
		t.Errorf("%d events, error %v", len(events), err)
	}
}

// TestReadAudited: the columns that repeat something of an event are compared with
// it.
func TestReadAudited(t *testing.T) {
	t.Parallel()
	valid, id := projectionstest.Signal("bear-1", 0.5).Entry(1).JSON, binary.BigEndian.AppendUint64([]byte{0, 0, 0, 0, 0, 0, 0x40, 0}, 0x8000_0000_0000_0001)
	for name, c := range map[string]struct {
		event, kind string
		id          []byte
		want        string
	}{
		"valid":             {string(valid), "quality_signal", id, ""},
		"another type":      {string(valid), "task_completed", id, "reputation_events 7: event_type: stored task_completed, computed quality_signal (position 7)"},
		"another id":        {string(valid), "quality_signal", make([]byte, 16), "reputation_events 7: id: stored 00000000-0000-0000-0000-000000000000, computed 00000000-0000-4000-8000-000000000001 (position 7)"},
		"no id":             {string(valid), "quality_signal", nil, "reputation_events 7: id: stored nothing, computed 00000000-0000-4000-8000-000000000001 (position 7)"},
		"garbage":           {`{"x": 1}`, "anything", nil, ""},
		"garbage with id":   {`{"event_id": "00000000-0000-4000-8000-000000000001"}`, "anything", id, ""},
		"garbage, other id": {`{"event_id": "00000000-0000-4000-8000-000000000002"}`, "anything", id, "reputation_events 7: id: stored 00000000-0000-4000-8000-000000000001, computed 00000000-0000-4000-8000-000000000002 (position 7)"},
		"not canonical":     {`{"x": 1, "x": 1}`, "anything", nil, "reputation_events 7: event: stored an event that has no canonical form, computed one that has (position 7)"},
	} {
		row := [][]byte{bigint(7), []byte("bear-1"), jsonb([]byte(c.event)), []byte(c.kind), bigint(0), c.id}
		events, found, err := projections.ReadCopy(one(copied(row)), true)
		if err != nil || len(events) != 1 || events[0].CreatedAt.Year() != 2000 {
			t.Errorf("%s: events %v, error %v", name, events, err)
		}
		var got string
		for _, d := range found {
			got += d.String()
		}
		if got != c.want {
			t.Errorf("%s: found %q, want %q", name, got, c.want)
		}
	}
}

// FuzzReadCopy: what a server sends is taken for a log or refused, whatever it is.
func FuzzReadCopy(f *testing.F) {
	text := projectionstest.Signal("bear-1", 0.5).Entry(1).JSON
	f.Add(copied([][]byte{bigint(1), []byte("bear-1"), jsonb(text)}), false)
	f.Add(copied([][]byte{bigint(1), []byte("bear-1"), jsonb(text), []byte("quality_signal"), bigint(7), nil}), true)
	f.Add(copied([][]byte{bigint(1), nil, nil}, [][]byte{nil, nil, jsonb(nil)}), false)
	f.Add(copied(), true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, stream []byte, audit bool) {
		events, _, err := projections.ReadCopy(one(stream), audit)
		if err != nil && !errors.Is(err, projections.ErrCopyFormat) {
			t.Fatalf("error %v", err)
		}
		if err == nil {
			checkRead(t, events)
		}
	})
}

func checkRead(t *testing.T, events []eventstore.PageEvent) {
	t.Helper()
	for _, e := range events {
		if e.Err == nil && e.Event.Body == nil || e.Err != nil && !errors.Is(e.Err, reputation.ErrInvalid) {
			t.Fatalf("event %+v, error %v", e.Event, e.Err)
		}
	}
}
