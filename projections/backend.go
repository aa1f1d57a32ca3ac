package projections

import (
	"context"
	"time"

	"dixie/reputation"
)

// backend is where projectors write.
type backend interface {
	// acquire waits until this process is the projector of a projection, calling
	// standby when it has to wait. The error is a [*VersionError], an
	// [*AheadError], or worth a retry.
	acquire(ctx context.Context, projection, version string, standby func()) (lease, error)
	// noteError keeps the last error of a projection's projectors, for whoever asks in
	// another process.
	noteError(ctx context.Context, projection, message string) error
}

// lease is the right to be a projection's projector. It is not safe for
// concurrent use, except for release.
type lease interface {
	// position is the checkpoint.
	position() int64
	// page moves the checkpoint from one position to another and runs work, all in
	// one transaction: either everything is written or nothing. An error that
	// matches [ErrLost] is final for the lease.
	page(ctx context.Context, step step, work func(context.Context, tx) error) error
	// head is the position of the log's last event.
	head(ctx context.Context) (int64, error)
	// catchUp brings a projection that is far events behind, or more, nearer to the
	// head, where following the log page by page would write too much. empty makes
	// the memory that it folds in.
	catchUp(ctx context.Context, far int64, empty func() shadow) error
	// read runs work, which only loads, outside of any page.
	read(ctx context.Context, work func(context.Context, tx) error) error
	// keep renews the lease while there is nothing to project.
	keep(ctx context.Context) error
	// release gives the lease up.
	release()
}

// step is a move of a checkpoint.
type step struct {
	from, to int64
	at       time.Time // when the event at to was stored
}

// tx is the rows of one transaction. What is loaded may be changed.
type tx interface {
	loadAgents(ctx context.Context, nfts, collections []string) (agentRows, error)
	saveAgents(ctx context.Context, changes agentChanges) error
	loadCohorts(ctx context.Context, nfts []string, keys []cohortID) (map[string]*reputation.Cohorts, error)
	saveCohorts(ctx context.Context, changes cohortChanges) error
	loadRanks(ctx context.Context, nfts []string) (map[string]reputation.Rank, error)
	saveRanks(ctx context.Context, changes rankChanges) error
}

// agentRows are rows of the aggregates projection. NFTs and collections without
// a row are missing.
type agentRows struct {
	agents      map[string]*reputation.Agent
	collections map[string]*reputation.Collection
}

// agentChanges are what one page changes in the aggregates projection.
type agentChanges struct {
	agents      []changedAgent
	collections map[string]*reputation.Collection
	failures    []Failure
}

type changedAgent struct {
	nft      string
	agent    *reputation.Agent
	position int64 // of the last event in it
}

type cohortID struct {
	nft string
	key reputation.CohortKey
}

// cohortChanges are what one page changes in the cohorts projection.
type cohortChanges struct {
	members  map[string]string // collections of NFTs that had none
	cleared  []string          // NFTs whose stored cohorts go before the new ones come
	cohorts  []changedCohort
	failures []Failure
}

type changedCohort struct {
	nft      string
	cohort   reputation.TaskCohort
	position int64 // of the last event in it
}
