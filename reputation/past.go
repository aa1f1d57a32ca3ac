package reputation

import (
	"fmt"
	"time"
)

// Step is an agent right after one of its events.
type Step struct {
	Position  int64
	CreatedAt time.Time // when the event was stored
	EventID   string
	Type      Type
	Timestamp Timestamp // the author's

	State           State
	PersonalScore   *float64 // nil while there is none
	CollectionScore float64
	BlendedScore    float64
	SampleCount     int64
}

// NewStep is the agent as an event has left it that is stored at a position. It
// shares nothing with the agent that the fold changes.
func NewStep(position int64, createdAt time.Time, e *Event, agent *Agent) Step {
	g := &agent.Aggregate
	return Step{
		Position: position, CreatedAt: createdAt, EventID: e.ID, Type: e.Type(), Timestamp: e.Timestamp,
		State: g.State, PersonalScore: g.PersonalScore, CollectionScore: g.CollectionScore,
		BlendedScore: g.BlendedScore, SampleCount: g.SampleCount,
	}
}

// Snapshot is an aggregate and the events that it was folded from (protocol §7).
type Snapshot struct {
	Aggregate Aggregate
	// EventCount and StreamHash are of all events of the NFT in the log up to
	// Position, in the order of the log. Those that the fold has set aside are
	// among them: whoever holds the events need not know which.
	EventCount int64
	StreamHash string
	Position   int64
}

// HistoryTooLongError says that an answer would take more events than one request
// may read.
type HistoryTooLongError struct {
	Most int64 // events that a request may read
}

func (e *HistoryTooLongError) Error() string {
	return fmt.Sprintf("the history has more than the %d events that one request may read", e.Most)
}
