// Package eventstore is the log: the append-only sequence of events that is this
// service's only truth. A log is kept by PostgreSQL ([Postgres]) or in memory
// ([Memory]); both keep the promises of [Store]. [Feed] offers a log to watermill
// as pages of consecutive events.
package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"dixie/reputation"
)

var (
	// ErrUnavailable says that the log could not be reached in time. After a failed
	// append the events may or may not be stored; appending them again is safe.
	ErrUnavailable = errors.New("event log unavailable")

	// ErrClosed says that the log has been closed.
	ErrClosed = errors.New("event log closed")

	// ErrGap says that positions of the log are missing: events were removed by
	// force, or a database was restored only in part.
	ErrGap = errors.New("event log has a gap")
)

// Store is an append-only log of events. Its methods are safe for concurrent use.
//
// Events have positions 1, 2, 3 … without gaps. They become visible in the order
// of their positions: whoever has read position n will never see another event
// appear at or below n.
type Store interface {
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

// Status is what became of an entry.
type Status string

// The outcomes of an append.
const (
	Added     Status = "appended"
	Duplicate Status = "duplicate"
	Conflict  Status = "conflict"
)

// Appended is the result of appending one entry.
type Appended struct {
	Status Status
	// Position is where the event is: for a duplicate where it has been, for a
	// conflict where the event is whose id was used again.
	Position int64
}

// Entry is an event to be appended. Make one with [NewEntry] or [RawEntry].
type Entry struct {
	nft   string
	kind  string
	json  []byte
	id    [16]byte
	hasID bool
}

// NewEntry is a valid event that counts for an NFT. It is stored in canonical
// form.
func NewEntry(nft string, event *reputation.Event) Entry {
	return Entry{
		nft: nft, kind: string(event.Type()), json: event.AppendJSON(make([]byte, 0, 384)),
		id: event.UUID(), hasID: true,
	}
}

// RawEntry is a JSON value that no rule of the protocol was asked about, as any
// program can insert it by SQL. Projections set it aside if it is not a valid
// event. Without a valid event_id it has no identity, and each append of it
// stores it again.
func RawEntry(nft, kind string, value []byte) (Entry, error) {
	canonical, err := reputation.Canonical(value)
	if err != nil {
		return Entry{}, err
	}
	entry := Entry{nft: nft, kind: kind, json: canonical}
	var named struct {
		ID any `json:"event_id"`
	}
	// A value that is not an object has no event_id either.
	_ = json.Unmarshal(canonical, &named)
	if id, ok := named.ID.(string); ok {
		entry.id, entry.hasID = reputation.ParseUUID(id)
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

// Event decodes the event. It fails with a [*reputation.InvalidError] for rows
// that another program wrote without regard to the protocol.
func (r *Recorded) Event() (reputation.Event, error) { return reputation.Decode(r.JSON) }

const (
	// maxPageBytes is the amount of event text after which Read and History stop,
	// so that long events make short pages and memory stays flat.
	maxPageBytes = 4 << 20

	// pollInterval is how long a lost notification can delay a reader.
	pollInterval = time.Second
)
