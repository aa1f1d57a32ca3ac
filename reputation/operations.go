package reputation

import "time"

// ProjectionState is what becomes of a projection.
type ProjectionState string

// The states of a projection. Of several that apply the first is told.
const (
	// ProjectionRebuilding: a rebuild is folding the log anew.
	ProjectionRebuilding ProjectionState = "rebuilding"
	// ProjectionNeedsRebuild: the rows are of another version or of another log,
	// and nothing is folded into them.
	ProjectionNeedsRebuild ProjectionState = "needs rebuild"
	// ProjectionRunning: a process is its projector.
	ProjectionRunning ProjectionState = "running"
	// ProjectionStopped: no process is its projector.
	ProjectionStopped ProjectionState = "stopped"
)

// ProjectionOverview is all that is known of a projection's operation, in whatever
// process its projector runs.
type ProjectionOverview struct {
	ProjectionStatus
	State ProjectionState
	// Wanted is the version that whoever asks would fold with.
	Wanted string
	// Remedy is why the projection needs a rebuild and what to do, with the command;
	// empty when it does not.
	Remedy string
	// Holder is the host and process of the projector, or of the last one when
	// there is none; empty before the first.
	Holder string
	// HeldSince is when the holder became the projector; zero before the first.
	HeldSince time.Time
	// LastError is the last error of any projector, at LastErrorAt; empty and zero
	// when there was none. The projector may have got over it since.
	LastError   string
	LastErrorAt time.Time
	// Rebuild is the rebuild that is running; nil when none is.
	Rebuild *ProjectionRebuild
}

// ProjectionRebuild is a rebuild that is running.
type ProjectionRebuild struct {
	Version   string // that it gives the rows
	Holder    string // host and process
	StartedAt time.Time
	Position  int64 // folded, a second ago or so
	Head      int64 // of the log, then
}
