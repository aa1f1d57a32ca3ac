package projections

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"dixie/eventstore"
	"dixie/reputation"
)

const (
	KeepInterval = keepInterval
	ListPage     = listPage
)

// Lease is a lease on a projection that a test holds by hand.
type Lease struct {
	lease      lease
	projection projection
	params     reputation.Params
}

// Acquire waits until nobody else is the projector of a projection.
func (p *Postgres) Acquire(ctx context.Context, name string, params reputation.Params) (*Lease, error) {
	for _, projection := range all() {
		if projection.name == name {
			l, err := p.acquire(ctx, name, params.Version(), func() {})
			return &Lease{lease: l, projection: projection, params: params}, err
		}
	}
	panic("no projection " + name)
}

// Fold folds a page as a projector does.
func (l *Lease) Fold(ctx context.Context, page *eventstore.Page) error {
	step := step{from: page.From, to: page.To, at: page.Events[len(page.Events)-1].CreatedAt}
	return l.lease.page(ctx, step, func(ctx context.Context, tx tx) error {
		return l.projection.fold(ctx, l.params, tx, page)
	})
}

func (l *Lease) Position() int64 { return l.lease.position() }
func (l *Lease) Release()        { l.lease.release() }

// Sabotage runs hook in each transaction of the projector before its page is
// folded.
func (p *Projector) Sabotage(hook func(page *eventstore.Page) error) {
	fold := p.projection.fold
	p.projection.fold = func(ctx context.Context, params reputation.Params, tx tx, page *eventstore.Page) error {
		if err := hook(page); err != nil {
			return err
		}
		return fold(ctx, params, tx, page)
	}
}

// WithHook is the configuration with a function that is called at each stage of a
// rebuild and can make it fail there.
func (c RebuildConfig) WithHook(hook func(stage string) error) RebuildConfig {
	c.hook = hook
	return c
}

// RebuildHooks are the stages at which the hook is called, in their order. A swap
// that is tried again comes to the last two again.
var RebuildHooks = []string{"prepared", "loading", "swapping", "checkpoints", "swapped"}

// TellInterval is how often a rebuild writes how far it is.
const TellInterval = tellInterval

// Repacked are agents that were packed and unpacked, with the same memory.
func Repacked(agents ...*reputation.Agent) []*reputation.Agent {
	p := packer{names: newNames()}
	var packed [][]byte
	for _, a := range agents {
		packed = append(packed, p.pack(a))
	}
	var all []*reputation.Agent
	scratch := &reputation.Agent{}
	for i, a := range agents {
		unpack(p.names, packed[i], a.Aggregate.PersonalityID, scratch)
		all = append(all, scratch.Clone())
	}
	return all
}

// FoldInMemory folds a log as a rebuild does, and yields the rows that it would
// write: the table, the key, and the columns in JSON.
func FoldInMemory(params reputation.Params, events []eventstore.PageEvent) (rows []string, failures []Failure) {
	agents, cohorts := newAgentShadow(params), newCohortShadow(params)
	agents.fold(events)
	cohorts.fold(events)
	all := func(string) bool { return true }
	for table, computed := range map[string]iter.Seq[row]{
		aggregatesTable: agents.computedAggregates(all), collectionsTable: agents.computedCollections(),
		cohortsTable: cohorts.computedCohorts(all), membersTable: cohorts.computedMembers(all),
	} {
		for r := range computed {
			rows = append(rows, fmt.Sprintf("%s %s %s", table, r.key, r.text))
		}
	}
	slices.Sort(rows)
	return rows, slices.Concat(agents.pending, cohorts.pending)
}

// ErrDrifted says that a live table was altered while it was rebuilt.
var ErrDrifted = errDrifted

// ReadCopy decodes what a binary COPY of the log sends, in pieces of any size.
func ReadCopy(pieces iter.Seq[[]byte], audit bool) (events []eventstore.PageEvent, found []Difference, err error) {
	fields := (&logReader{audit: audit}).fields()
	err = runPipeline(context.Background(), fields, effort{processors: 1},
		func(b *logBatch) error {
			events, found = append(events, b.events...), append(found, b.found...)
			return nil
		},
		func() error { return nil },
		func(ctx context.Context, p *logPipeline) error {
			w := newTupleWriter(ctx, p, fields)
			for piece := range pieces {
				if n, err := w.Write(piece); err != nil || n != len(piece) {
					return fmt.Errorf("wrote %d of %d bytes: %w", n, len(piece), err)
				}
			}
			return w.finish()
		})
	return events, found, err
}

// ErrCopyFormat says that what a COPY sent is not what was asked for.
var ErrCopyFormat = errCopyFormat
