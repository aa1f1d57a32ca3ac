package reputation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxLineBytes is the longest line of an NDJSON file of events.
const MaxLineBytes = MaxEventBytes + slack + 4<<10

// Line is one line of an NDJSON file of events: {"nft_id","event"}, and in an
// export also where and when the event was stored.
type Line struct {
	NFT       string
	Type      string    // of the row; empty unless it differs from the event's
	Event     []byte    // the event's JSON, not checked
	Position  int64     // in the log that was exported; 0 when the line tells none
	CreatedAt time.Time // when that log stored it; zero when the line tells none
}

// ReadLine splits a line without reading the event in it. Without an nft_id the
// event counts for its own agent_id. A position or a time of storing that is none
// is passed over: nothing but another log made it. The error is an
// [*InvalidError].
func ReadLine(data []byte) (Line, error) {
	var line Line
	d := newDecoder(data)
	defer d.close()
	ok := d.object("", func(name []byte) bool {
		switch string(name) {
		case "nft_id":
			return d.text("", "nft_id", maxName, &line.NFT)
		case "event_type":
			return d.text("", "event_type", maxName, &line.Type)
		case "event":
			value, ok := d.value()
			line.Event = bytes.Clone(value)
			return ok
		case "position":
			value, ok := d.value()
			line.Position = exportedPosition(value)
			return ok
		case "created_at":
			value, ok := d.value()
			line.CreatedAt = exportedTime(value)
			return ok
		}
		return d.unknown("", name)
	})
	if ok && d.atEnd() {
		if line.Event == nil {
			d.problem("event", requiredDetail)
		}
		if line.NFT != "" && !ValidNFT(line.NFT) {
			d.problem("nft_id", nftRule+found(line.NFT))
		}
	}
	return line, d.err()
}

// exportedPosition is 0 for a value that is no position.
func exportedPosition(value []byte) int64 {
	position, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || position < 0 {
		return 0
	}
	return position
}

// exportedTime is zero for a value that is no time.
func exportedTime(value []byte) time.Time {
	text, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return time.Time{}
	}
	at, _ := ParseTimestamp(string(text))
	return at.Time()
}

// DecodeLine reads a line and the event in it, strictly. Problems of the event
// are reported under "event". The error is an [*InvalidError].
func DecodeLine(data []byte) (nft string, event Event, err error) {
	line, err := ReadLine(data)
	if err != nil {
		return "", Event{}, err
	}
	return line.Decode()
}

// Decode reads the event of the line and finds the NFT that it counts for, as
// [DecodeLine] does.
func (line *Line) Decode() (nft string, event Event, err error) {
	event, err = Decode(line.Event)
	if err != nil {
		return "", Event{}, Within("event", err)
	}
	if line.NFT != "" {
		return line.NFT, event, nil
	}
	if !ValidNFT(event.AgentID) {
		return "", Event{}, &InvalidError{Problems: []Problem{{
			Field: "nft_id", Detail: "is required when agent_id cannot stand for it: " + nftRule + found(event.AgentID),
		}}}
	}
	return event.AgentID, event, nil
}

// RawLine makes an entry of a line of an export whatever it holds, so that rows which
// only SQL can have written come back as they were: of any length, for an NFT that can
// be none, with a type that is none. The error says why it is no line at all.
func RawLine(data []byte) (Entry, error) {
	var line struct {
		NFT   string         `json:"nft_id"`
		Type  *string        `json:"event_type"`
		Event jsontext.Value `json:"event"`
	}
	if err := jsonv2.Unmarshal(data, &line); err != nil {
		return Entry{}, fmt.Errorf("read a line of an export: %w", err)
	}
	if line.Event == nil {
		return Entry{}, errors.New("read a line of an export: it has no event")
	}
	entry, err := RawEntry(line.NFT, "", line.Event)
	if line.Type != nil {
		entry.Type = *line.Type
	}
	return entry, err
}

// AppendLine appends a recorded event as a line of an export, with the newline.
// The event is written in canonical form; one that has none is written as it is.
func AppendLine(dst []byte, r *Recorded) []byte {
	dst = AppendRecorded(dst, r)
	return append(dst, '\n')
}

// AppendRecorded appends a recorded event as a JSON object.
func AppendRecorded(dst []byte, r *Recorded) []byte {
	o := beginObject(dst)
	o.name("position")
	o.buf = strconv.AppendInt(o.buf, r.Position, 10)
	o.name("created_at")
	o.buf = appendString(o.buf, r.CreatedAt.UTC().Format(time.RFC3339Nano))
	o.name("nft_id")
	o.buf = appendString(o.buf, r.NFT)
	event, err := Canonical(r.JSON)
	if err != nil {
		event = r.JSON
	}
	if ownType(event) != r.Type {
		o.name("event_type")
		o.buf = appendString(o.buf, r.Type)
	}
	o.name("event")
	o.buf = append(o.buf, event...)
	return o.end()
}

// ownType is the type that an event says it has; empty when it says none.
func ownType(event []byte) string {
	var members map[string]json.RawMessage
	_ = json.Unmarshal(event, &members) // what is no object has no members
	var own string
	_ = json.Unmarshal(members["type"], &own)
	return own
}
