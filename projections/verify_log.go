package projections

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"dixie/eventstore"
	"dixie/reputation"
)

// pgEpoch is the zero of PostgreSQL's timestamps, in microseconds since 1970.
const pgEpoch = 946_684_800_000_000

// examine reads the columns that repeat something of an event, and compares. It
// also hashes the event, while there are other processors to do so.
func (b *logBatch) examine(t *tuple, e *eventstore.PageEvent) {
	e.Type = string(t.field())
	if at := t.field(); len(at) == 8 {
		micros := int64(binary.BigEndian.Uint64(at))
		e.CreatedAt = time.UnixMicro(min(micros, math.MaxInt64-pgEpoch) + pgEpoch).UTC() // infinity is the largest
	}
	var id pgtype.UUID
	if bytes := t.field(); len(bytes) == len(id.Bytes) {
		id = pgtype.UUID{Bytes: [16]byte(bytes), Valid: true}
	}
	canonical, want, err := identity(t, e)
	if err != nil {
		b.differ(e, "event", "an event that has no canonical form", "one that has")
	} else if id != want {
		b.differ(e, "id", uuidText(id), uuidText(want))
	}
	if e.Err == nil && e.Type != string(e.Event.Type()) {
		b.differ(e, "event_type", e.Type, string(e.Event.Type()))
	}
	hash := sha256.New()
	fmt.Fprintf(hash, "%s\n%s\n%s", e.NFT, e.Type, canonical)
	b.hashes = append(b.hashes, [sha256.Size]byte(hash.Sum(nil)))
}

// identity is the canonical form of an event and the id that it gives itself.
func identity(t *tuple, e *eventstore.PageEvent) (canonical []byte, id pgtype.UUID, err error) {
	if e.Err == nil {
		return e.Event.AppendJSON(make([]byte, 0, 512)), pgtype.UUID{Bytes: e.Event.UUID(), Valid: true}, nil
	}
	entry, err := reputation.RawEntry(e.NFT, e.Type, []byte(t.text))
	return entry.JSON, pgtype.UUID{Bytes: entry.ID, Valid: entry.HasID}, err
}

func (b *logBatch) differ(e *eventstore.PageEvent, field, stored, computed string) {
	b.found = append(b.found, inLog(e.Position, field, stored, computed))
}

func inLog(position int64, field, stored, computed string) Difference {
	return Difference{
		Table: "reputation_events", Key: fmt.Sprint(position), Field: field, Stored: stored, Computed: computed, Position: position,
	}
}

func uuidText(id pgtype.UUID) string {
	if !id.Valid {
		return nothing
	}
	return id.String()
}

// logAudit checks what a row of the log promises together with the one before it.
type logAudit struct {
	position int64
	at       time.Time
	digest   hash.Hash
}

// follow calls differ for each promise that is broken between an event and the one
// before.
func (a *logAudit) follow(e *eventstore.PageEvent, differ func(Difference)) {
	if e.Position != a.position+1 {
		differ(inLog(e.Position, "position", fmt.Sprint(e.Position), fmt.Sprint(a.position+1)))
	}
	if !e.CreatedAt.After(a.at) {
		differ(inLog(e.Position, "created_at", e.CreatedAt.Format(time.RFC3339Nano), "later than "+a.at.Format(time.RFC3339Nano)))
	}
	a.position, a.at = e.Position, e.CreatedAt
}
