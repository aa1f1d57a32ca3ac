package projections

import (
	"context"
	"fmt"

	"dixie/eventstore"
	"dixie/reputation"
)

// EventLog is the part of a log that reads single events and those of one NFT.
type EventLog interface {
	Read(ctx context.Context, after int64, limit int) ([]reputation.Recorded, error)
	History(ctx context.Context, nft string, after int64, limit int) ([]reputation.Recorded, error)
}

// EventAt is the event at a position of a log, or [reputation.ErrNotFound].
func EventAt(ctx context.Context, log EventLog, position int64) (reputation.Recorded, error) {
	events, err := log.Read(ctx, position-1, 1)
	if err != nil {
		return reputation.Recorded{}, err
	}
	if len(events) == 0 || events[0].Position != position {
		return reputation.Recorded{}, fmt.Errorf("position %d: %w", position, reputation.ErrNotFound)
	}
	return events[0], nil
}

// Retry says whether this version of the fold would accept an event where it stands
// in the log: refused is nil when it would, and else why not. It changes nothing. An
// event that would be accepted is not folded into rows that contain later ones,
// which would give other scores than the log's order: a rebuild folds it.
func Retry(ctx context.Context, log EventLog, params reputation.Params, recorded *reputation.Recorded) (refused, err error) {
	event, invalid := recorded.Event()
	if invalid != nil {
		return setAside(recorded, invalid), nil
	}
	cohorts, err := before(ctx, log, params, recorded)
	if err != nil {
		return nil, err
	}
	if err := params.FoldCohorts(cohorts, recorded.NFT, &event); err != nil {
		return setAside(recorded, err), nil
	}
	return nil, nil
}

func setAside(recorded *reputation.Recorded, err error) error {
	f := newFailure("", &eventstore.PageEvent{Recorded: *recorded}, err)
	return &reputation.SetAsideError{Reason: f.Reason, Detail: f.Detail}
}

// before is what decides about an event of an NFT: the collection that the first
// event before it that counts has given the NFT.
func before(ctx context.Context, log EventLog, params reputation.Params, recorded *reputation.Recorded) (*reputation.Cohorts, error) {
	cohorts := &reputation.Cohorts{}
	for after := int64(0); cohorts.CollectionID == ""; {
		page, err := log.History(ctx, recorded.NFT, after, hashPage)
		if err != nil {
			return nil, err
		}
		for i := range page {
			if page[i].Position >= recorded.Position {
				return cohorts, nil
			}
			if event, err := page[i].Event(); err == nil && params.FoldCohorts(cohorts, page[i].NFT, &event) == nil {
				return cohorts, nil
			}
			after = page[i].Position
		}
		if len(page) == 0 {
			return cohorts, nil
		}
	}
	return cohorts, nil
}
