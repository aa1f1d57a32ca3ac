package reputation

import (
	"fmt"
	"time"
)

// The projections.
const (
	ProjectionAggregates = "aggregates"
	ProjectionCohorts    = "cohorts"
)

// Standing is all that is known of an NFT, read at one moment.
type Standing struct {
	// Agent is nil when nothing is known of the NFT.
	Agent *Agent
	// Cohorts are sorted by model and task.
	Cohorts []TaskCohort
	// Collection is the present state of the agent's collection.
	Collection Collection
	// Position is up to where the log is contained in all of the above.
	Position int64
}

// StoredAggregate is the row of an aggregate.
type StoredAggregate struct {
	NFT       string
	Aggregate Aggregate
	UpdatedAt time.Time // when the row was last written
}

// Population is a collection as a whole.
type Population struct {
	CollectionID string
	Collection   Collection
}

// ProjectionStatus is how far a projection has come.
type ProjectionStatus struct {
	Projection string
	Version    string // of the stored rows; empty before the first projector
	Position   int64
	Head       int64         // of the log
	Lag        time.Duration // age of the oldest event that is not yet projected
	SetAside   int64         // events
	UpdatedAt  time.Time     // when the checkpoint last moved; zero before
}

// Behind is the number of events that are not yet projected.
func (s ProjectionStatus) Behind() int64 { return max(0, s.Head-s.Position) }

// Failure is an event that a projection set aside.
type Failure struct {
	Projection string
	Position   int64
	NFT        string
	Reason     Reason
	Detail     string
	FailedAt   time.Time
}

// ImportReport counts what became of the lines of a bulk import.
type ImportReport struct {
	Lines      int64 // read, without empty ones
	Appended   int64
	Duplicates int64
	Rejected   int64
	// RejectedLines are the first 100 of the rejected.
	RejectedLines []RejectedLine
}

// RejectedLine is a line that was not stored.
type RejectedLine struct {
	Line   int64  `json:"line"` // from 1
	Reason string `json:"reason"`
}

// ReadError says that a stream of lines could not be read beyond a line.
type ReadError struct {
	Line int64
	Err  error
}

func (e *ReadError) Error() string { return fmt.Sprintf("read beyond line %d: %v", e.Line, e.Err) }

func (e *ReadError) Unwrap() error { return e.Err }
