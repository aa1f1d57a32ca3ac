// Package eventstore keeps the log: the append-only sequence of events that is
// this service's only truth. PostgreSQL ([Postgres]) or memory ([Memory]) keep the
// promises of [reputation.Log]. [Feed] offers a log to watermill as pages of
// consecutive events.
package eventstore

import (
	"errors"
	"time"

	"dixie/reputation"
)

var (
	// ErrClosed says that the log has been closed.
	ErrClosed = errors.New("event log closed")

	// ErrGap says that positions of the log are missing: events were removed by
	// force, or a database was restored only in part.
	ErrGap = errors.New("event log has a gap")
)

// The types of a log are the domain's.
type (
	Store    = reputation.Log
	Entry    = reputation.Entry
	Appended = reputation.Appended
	Recorded = reputation.Recorded
	Status   = reputation.Outcome
)

const (
	Added     = reputation.Added
	Duplicate = reputation.Duplicate
	Conflict  = reputation.Conflict
)

var (
	NewEntry       = reputation.NewEntry
	RawEntry       = reputation.RawEntry
	ErrUnavailable = reputation.ErrUnavailable
)

const (
	// maxPageBytes is the amount of event text after which Read and History stop,
	// so that long events make short pages and memory stays flat.
	maxPageBytes = 4 << 20

	// pollInterval is how long a lost notification can delay a reader.
	pollInterval = time.Second
)
