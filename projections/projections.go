// Package projections folds the log into the rows that are read: aggregates and
// the priors of their collections, and task cohorts. A [Projector] follows the
// log on a watermill router and writes pages of rows through a backend,
// PostgreSQL ([Postgres]) or memory ([Memory]). All folding is done by package
// reputation; this package only loads, saves and keeps the books.
package projections

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"dixie/reputation"
)

// The projections.
const (
	Aggregates = reputation.ProjectionAggregates
	Cohorts    = reputation.ProjectionCohorts
)

// Publisher is the projector that sends the log to a [Broker]. It is none of
// [Names]: it has no rows that could be read, verified or rebuilt.
const Publisher = reputation.ProjectionPublisher

// Names are all projections.
var Names = []string{Aggregates, Cohorts}

var (
	// ErrLost says that this process is no longer the projector: its lease ended,
	// or another process has moved the checkpoint. Nothing was written.
	ErrLost = errors.New("no longer the projector")
)

// The types of what is read are the domain's.
type (
	Reputation      = reputation.Standing
	StoredAggregate = reputation.StoredAggregate
	Population      = reputation.Population
	Status          = reputation.ProjectionStatus
	Failure         = reputation.Failure
	Rebuilding      = reputation.Rebuild
	RebuildingError = reputation.RebuildingError
)

var (
	ErrUnavailable = reputation.ErrUnavailable
	ErrBehind      = reputation.ErrBehind
)

// VersionError says that stored rows were folded by another version of the fold
// or with other scoring parameters. They are served as they are; nothing is
// folded into them.
type VersionError struct {
	Projection      string
	Stored, Running string
}

func (e *VersionError) Error() string {
	if e.Projection == Publisher {
		return fmt.Sprintf("the log was published by version %s of the publisher and this is version %s: "+
			"run the former release, or delete the publisher's row of projection_checkpoints to publish the log from its beginning",
			e.Stored, e.Running)
	}
	return fmt.Sprintf("projection %s was folded by version %s and this is version %s: its rows are served but no longer updated; "+
		"run this version with the former scoring parameters, or empty the projection with `dixie rebuild %s`",
		e.Projection, e.Stored, e.Running, e.Projection)
}

// AheadError says that a projection contains events that the log does not have:
// the log was restored from an older backup. Folding on would mix two histories.
type AheadError struct {
	Projection     string
	Position, Head int64 // of the checkpoint and of the log
}

func (e *AheadError) Error() string {
	if e.Projection == Publisher {
		return fmt.Sprintf("the log was published up to position %d, and the log that there is, whose head is %d, does not have that event: "+
			"another backup was restored; delete the publisher's row of projection_checkpoints to publish this log from its beginning",
			e.Position, e.Head)
	}
	return fmt.Sprintf("projection %s stands at position %d, and the log, whose head is %d, does not have the event that was folded there: "+
		"the log was restored from another backup than the projection; run `dixie rebuild %s` to fold the log that there is",
		e.Projection, e.Position, e.Head, e.Projection)
}

// Store is what other programs may do with the rows, and the operations of the
// service that this one succeeds. Rows that are put here are not truth: the next
// event of the NFT, or a rebuild, replaces them. Methods are safe for concurrent
// use.
type Store interface {
	// Aggregate returns the aggregate of an NFT, or [reputation.ErrNotFound].
	Aggregate(ctx context.Context, nft string) (reputation.Aggregate, error)
	// PutAggregate inserts or replaces the aggregate of an NFT.
	PutAggregate(ctx context.Context, nft string, aggregate reputation.Aggregate) error
	// ColdAggregates yields the aggregates whose state is cold, by NFT id. It ends
	// after the first error that it yields.
	ColdAggregates(ctx context.Context) iter.Seq2[StoredAggregate, error]
	// AllAggregates yields all aggregates, by NFT id. It ends after the first error
	// that it yields.
	AllAggregates(ctx context.Context) iter.Seq2[StoredAggregate, error]
	// Count is the number of aggregates.
	Count(ctx context.Context) (int64, error)
	// TaskCohort returns a cohort, or [reputation.ErrNotFound].
	TaskCohort(ctx context.Context, nft string, key reputation.CohortKey) (reputation.TaskCohort, error)
	// PutTaskCohort inserts or replaces a cohort.
	PutTaskCohort(ctx context.Context, nft string, cohort reputation.TaskCohort) error
}

// Reader is what is read to answer requests. Each answer comes with the position
// that it contains the log up to. Methods are safe for concurrent use; their
// errors match [ErrUnavailable] when trying again can help.
type Reader interface {
	// Reputation reads an NFT.
	Reputation(ctx context.Context, nft string) (Reputation, error)
	// Score reads the blended score of an NFT.
	Score(ctx context.Context, nft string) (reputation.Score, error)
	// Unchanged tells how far some projections are, and whether a reading of an NFT
	// from them would now give what one gave that has the mark, beside the position.
	// It is true only when that is certain. What other programs have written into
	// rows does not count.
	Unchanged(ctx context.Context, nft string, mark reputation.Mark, projections ...string) (position int64, unchanged bool, err error)
	// List returns up to limit agents with ids after one, by id; those in one
	// state, or all when state is empty.
	List(ctx context.Context, state reputation.State, after string, limit int) ([]StoredAggregate, int64, error)
	// Populations returns up to limit collections with ids after one, by id.
	Populations(ctx context.Context, after string, limit int) ([]Population, int64, error)
	// WaitFor returns when the projections have reached a position. It fails with
	// [ErrBehind] when ctx ends first.
	WaitFor(ctx context.Context, position int64, projections ...string) error
	// Status tells how far each projection has come, and the publisher when it
	// is switched on in this process or has ever been in PostgreSQL.
	Status(ctx context.Context) ([]Status, error)
	// Overview tells what becomes of each projection, in this or any other process;
	// params are those that whoever asks would fold with. It is for people: it asks
	// more than Status, and not at one moment.
	Overview(ctx context.Context, params reputation.Params) ([]Overview, error)
	// Failures returns events that were set aside, after a position and in order.
	Failures(ctx context.Context, projection string, after int64, limit int) ([]Failure, error)
}
