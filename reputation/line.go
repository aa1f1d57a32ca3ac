package reputation

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
)

// MaxLineBytes is the longest line of an NDJSON file of events.
const MaxLineBytes = MaxEventBytes + slack + 4<<10

// Line is one line of an NDJSON file of events: {"nft_id","event"}, and in an
// export also where and when the event was stored, which reading passes over.
type Line struct {
	NFT   string
	Type  string // of the row; empty unless it differs from the event's
	Event []byte // the event's JSON, not checked
}

// ReadLine splits a line without reading the event in it. Without an nft_id the
// event counts for its own agent_id. The error is an [*InvalidError].
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
		case "position", "created_at":
			_, ok := d.value()
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

// DecodeLine reads a line and the event in it, strictly. Problems of the event
// are reported under "event". The error is an [*InvalidError].
func DecodeLine(data []byte) (nft string, event Event, err error) {
	line, err := ReadLine(data)
	if err != nil {
		return "", Event{}, err
	}
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
