package reputation

import (
	"fmt"
	"time"
)

// The projections, and the publisher, which sends the log to a broker and has no rows
// that could be read.
const (
	ProjectionAggregates = "aggregates"
	ProjectionCohorts    = "cohorts"
	ProjectionPublisher  = "publisher"
)

// Standing is all that is known of an NFT, read at one moment.
type Standing struct {
	// Agent is nil when nothing is known of the NFT.
	Agent *Agent
	// Cohorts are sorted by model and task.
	Cohorts []TaskCohort
	// Collection is the present state of the agent's collection.
	Collection Collection
	// Mark is up to where the log is contained in all of the above.
	Mark
}

// Mark is the moment of a reading, from which one can ask whether what was read has
// changed.
type Mark struct {
	// Position is up to where the log is contained in what was read.
	Position int64
	// Epoch counts what changes rows beside the log, such as a rebuild. It means
	// something only to the reader that it is from.
	Epoch int64
}

// Score is the blended score of an NFT, read at one moment.
type Score struct {
	Value *float64 // in [0, 1]; nil when nothing is known of the NFT
	Mark
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

// RebuildState is what became of a rebuild.
type RebuildState string

// The states of a rebuild.
const (
	RebuildRunning     RebuildState = "running"
	RebuildDone        RebuildState = "done"
	RebuildFailed      RebuildState = "failed"
	RebuildInterrupted RebuildState = "interrupted" // its process was killed or cut off
)

// RebuildStage is how far a running rebuild is.
type RebuildStage string

// The stages of a rebuild in their order.
const (
	StageFolding  RebuildStage = "folding"  // the log into memory
	StageLoading  RebuildStage = "loading"  // the rows into tables beside the live ones
	StageSwapping RebuildStage = "swapping" // catching up, and waiting to exchange the tables
)

// Rebuild is the rebuild of a projection that is running, or the last one.
type Rebuild struct {
	Projection string
	State      RebuildState
	Stage      RebuildStage // the last that it reached
	Version    string       // that it gives the rows
	Holder     string       // host and process that run it
	WaitsFor   string       // the session that keeps the tables from being exchanged; empty when none does
	StartedAt  time.Time
	UpdatedAt  time.Time // when Position was written: a second ago or so, or at the end
	Position   int64     // folded
	Head       int64     // of the log
	Failure    string    // why it failed, for operators
	NFTs       int64     // that have rows, when it is done
	SetAside   int64     // events, when it is done
}

// Rate is how many events were folded per second, on average.
func (r Rebuild) Rate() float64 {
	return float64(r.Position) / max(r.UpdatedAt.Sub(r.StartedAt).Seconds(), 1e-3)
}

// Remaining is the time that folding will take still. It is false when nothing can
// be said: before the first events, and in the stages after folding.
func (r Rebuild) Remaining() (time.Duration, bool) {
	if r.State != RebuildRunning || r.Stage != StageFolding || r.Position == 0 {
		return 0, false
	}
	return time.Duration(float64(r.Head-r.Position) / r.Rate() * float64(time.Second)), true
}

// RebuildingError says that a rebuild of a projection is running already. Fields
// other than Projection are empty when nobody knows more.
type RebuildingError struct {
	Rebuild
}

func (e *RebuildingError) Error() string {
	if e.Holder == "" {
		return fmt.Sprintf("projection %s is being rebuilt by another process", e.Projection)
	}
	return fmt.Sprintf("projection %s is being rebuilt by %s since %s, which is at %d of %d events",
		e.Projection, e.Holder, e.StartedAt.UTC().Format(time.RFC3339), e.Position, e.Head)
}
