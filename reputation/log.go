package reputation

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// ErrUnavailable says that the log or the projections could not be reached in
// time. A read can be tried again. After a failed append the events may or may
// not be stored, and appending them again is safe.
var ErrUnavailable = errors.New("unavailable")

// ErrBehind says that a projection did not reach a position in time.
var ErrBehind = errors.New("projection is behind")

// Log is an append-only sequence of events, which alone is true. Its methods are
// safe for concurrent use.
//
// Events have positions 1, 2, 3 … without gaps. They become visible in the order
// of their positions: whoever has read position n will never see another event
// appear at or below n.
type Log interface {
	// Append stores entries in the order given and returns one result for each, in
	// the same order. Entries whose event is stored already with the same content
	// are [Duplicate]; those whose id is stored with other content are [Conflict]
	// and fail alone. When Append returns results, what they call appended is
	// durable. After an error (of which [ErrUnavailable] is worth a retry) entries
	// may or may not be stored, and appending them again is safe.
	Append(ctx context.Context, entries ...Entry) ([]Appended, error)

	// Read returns events after a position in order, at most limit of them. It may
	// return fewer than there are, but none only at the end of the log.
	Read(ctx context.Context, after int64, limit int) ([]Recorded, error)

	// History is like Read for the events of one NFT.
	History(ctx context.Context, nft string, after int64, limit int) ([]Recorded, error)

	// Head is the position of the last event, and 0 for an empty log.
	Head(ctx context.Context) (int64, error)

	// Changed returns a channel that is closed when events may have been added
	// since the call. It is a hint that can be lost: whoever waits for it also
	// polls.
	Changed() <-chan struct{}
}

// Outcome is what became of an entry.
type Outcome string

// The outcomes of an append.
const (
	Added     Outcome = "appended"
	Duplicate Outcome = "duplicate"
	Conflict  Outcome = "conflict"
)

// Appended is the result of appending one entry.
type Appended struct {
	Status Outcome
	// Position is where the event is: for a duplicate where it has been, for a
	// conflict where the event is whose id was used again.
	Position int64
}

// Entry is an event to be appended. Make one with [NewEntry] or [RawEntry].
type Entry struct {
	NFT  string   // that the event counts for
	Type string   // of the event
	JSON []byte   // the event in canonical form
	ID   [16]byte // the event's id, when HasID
	// HasID is false for a value without a valid event_id, which only [RawEntry]
	// makes. It has no identity, and each append of it stores it again.
	HasID bool
}

// NewEntry is a valid event that counts for an NFT.
func NewEntry(nft string, event *Event) Entry {
	return Entry{
		NFT: nft, Type: string(event.Type()), JSON: event.AppendJSON(make([]byte, 0, 384)),
		ID: event.UUID(), HasID: true,
	}
}

// RawEntry is a JSON value that no rule of the protocol was asked about, as any
// program can insert it by SQL. Projections set it aside if it is not a valid
// event. An empty kind is the value's own type.
func RawEntry(nft, kind string, value []byte) (Entry, error) {
	canonical, err := Canonical(value)
	if err != nil {
		return Entry{}, err
	}
	entry := Entry{NFT: nft, Type: kind, JSON: canonical}
	// A map, as a struct's member would also be found under EVENT_ID, which the
	// database does not take for an id. A value that is not an object has none.
	var members map[string]json.RawMessage
	_ = json.Unmarshal(canonical, &members)
	var id string
	if json.Unmarshal(members["event_id"], &id) == nil {
		entry.ID, entry.HasID = ParseUUID(id)
	}
	if kind == "" {
		entry.Type = ownType(canonical)
	}
	return entry, nil
}

// Recorded is an event in the log.
type Recorded struct {
	Position  int64
	NFT       string
	Type      string    // as the row names it; the event itself decides
	CreatedAt time.Time // when it was stored; strictly increasing with the position
	JSON      []byte    // the event, in whatever spelling the log keeps
}

// Event decodes the event. It fails with an [*InvalidError] for rows that another
// program wrote without regard to the protocol.
func (r *Recorded) Event() (Event, error) { return Decode(r.JSON) }
