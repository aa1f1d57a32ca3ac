package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/eventstore"
	"dixie/projections"
	"dixie/reputation"
)

type failuresCmd struct {
	List  listFailuresCmd  `cmd:"" help:"List the events that a projection of a database has set aside."`
	Show  showFailureCmd   `cmd:"" help:"Show an event that was set aside, and why."`
	Retry retryFailuresCmd `cmd:"" help:"Tell which of the events that were set aside would be folded now."`
}

// failuresPage is how many events that were set aside are in memory at once.
const failuresPage = 1000

type listFailuresCmd struct {
	Projection string `arg:"" optional:"" enum:"aggregates,cohorts,publisher" default:"aggregates" help:"Projection: aggregates, cohorts or publisher. The first two set the same events aside; the publisher those that it does not publish."`
	After      int64  `help:"Begin after this position."`
	Limit      int    `default:"100" help:"Most events to list; 0 lists all."`
	JSON       bool   `name:"json" help:"Write a JSON object on each line."`

	Database database `embed:""`
}

// failureLine is the JSON of an event that was set aside.
type failureLine struct {
	Position int64             `json:"position"`
	NFT      string            `json:"nft_id"`
	Reason   reputation.Reason `json:"reason"`
	Detail   string            `json:"detail"`
	FailedAt time.Time         `json:"failed_at"`
}

// Run lists what a projection has set aside.
func (l *listFailuresCmd) Run(ctx context.Context, c *console) error {
	pool, err := l.Database.open(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	limit := l.Limit
	if limit <= 0 {
		limit = math.MaxInt
	}
	listed := 0
	err = eachFailure(ctx, projections.NewPostgres(pool), l.Projection, l.After, limit, func(f projections.Failure) error {
		listed++
		if l.JSON {
			return writeLine(c.out, failureLine{f.Position, f.NFT, f.Reason, f.Detail, f.FailedAt.UTC()})
		}
		if listed == 1 {
			fmt.Fprintf(c.out, "%10s  %-24s  %-20s  %s\n", "POSITION", "NFT", "REASON", "DETAIL")
		}
		_, err := fmt.Fprintf(c.out, "%10d  %-24s  %-20s  %s\n", f.Position, f.NFT, f.Reason, f.Detail)
		return err
	})
	if err == nil && listed == 0 && !l.JSON {
		l.writeNone(c.out)
	}
	return err
}

func (l *listFailuresCmd) writeNone(out io.Writer) {
	beyond := ""
	if l.After > 0 {
		beyond = fmt.Sprintf(" after position %d", l.After)
	}
	fmt.Fprintf(out, "%s: no event is set aside%s\n", l.Projection, beyond)
}

// eachFailure calls do with what a projection has set aside after a position, at
// most limit times.
func eachFailure(
	ctx context.Context, rows *projections.Postgres, projection string, after int64, limit int, do func(projections.Failure) error,
) error {
	for limit > 0 {
		page, err := rows.Failures(ctx, projection, after, min(limit, failuresPage))
		if err != nil || len(page) == 0 {
			return err
		}
		for _, f := range page {
			if err := do(f); err != nil {
				return err
			}
		}
		after, limit = page[len(page)-1].Position, limit-len(page)
	}
	return nil
}

type showFailureCmd struct {
	Position int64 `arg:"" help:"Position of the event in the log."`

	Database database `embed:""`
}

// shownFailure is an event that was set aside, and why.
type shownFailure struct {
	Position  int64          `json:"position"`
	NFT       string         `json:"nft_id"`
	CreatedAt time.Time      `json:"created_at"`
	EventType string         `json:"event_type"` // as the row has it
	SetAside  []shownReason  `json:"set_aside"`
	Event     jsontext.Value `json:"event"`
}

// shownReason is why a projection set an event aside.
type shownReason struct {
	Projection string            `json:"projection"`
	Reason     reputation.Reason `json:"reason"`
	Detail     string            `json:"detail"`
	At         time.Time         `json:"at"`
}

// Run shows one event.
func (s *showFailureCmd) Run(ctx context.Context, c *console) error {
	pool, err := s.Database.open(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	recorded, err := eventAt(ctx, eventstore.ReadPostgres(pool), s.Position)
	if err != nil {
		return err
	}
	reasons, err := reasonsOf(ctx, projections.NewPostgres(pool), s.Position)
	if err != nil {
		return err
	}
	return writeIndented(c.out, shownFailure{
		Position: recorded.Position, NFT: recorded.NFT, CreatedAt: recorded.CreatedAt, EventType: recorded.Type,
		SetAside: reasons, Event: jsontext.Value(recorded.JSON),
	})
}

// eventAt is the event at a position. The error says where the log ends when it has
// none there.
func eventAt(ctx context.Context, log reputation.Log, position int64) (reputation.Recorded, error) {
	recorded, err := projections.EventAt(ctx, log, position)
	if !errors.Is(err, reputation.ErrNotFound) {
		return recorded, err
	}
	head, err := log.Head(ctx)
	if err != nil {
		return recorded, err
	}
	return recorded, fmt.Errorf("the log, whose head is %d, has no event at position %d: dixie failures list tells which are set aside", head, position)
}

// reasonsOf are why an event was set aside. It fails when it was not.
func reasonsOf(ctx context.Context, rows *projections.Postgres, position int64) ([]shownReason, error) {
	var reasons []shownReason
	for _, name := range append(slices.Clone(projections.Names), projections.Publisher) {
		failures, err := rows.Failures(ctx, name, position-1, 1)
		if err != nil {
			return nil, err
		}
		if len(failures) == 1 && failures[0].Position == position {
			f := failures[0]
			reasons = append(reasons, shownReason{name, f.Reason, f.Detail, f.FailedAt.UTC()})
		}
	}
	if len(reasons) == 0 {
		return nil, fmt.Errorf("no projection has set the event at position %d aside: dixie failures list tells which are", position)
	}
	return reasons, nil
}

type retryFailuresCmd struct {
	Position int64 `arg:"" optional:"" help:"Position of the event in the log. Without one, all that were set aside are asked about."`
	Rebuild  bool  `help:"Rebuild all projections if any event would be folded."`

	Database database `embed:""`
	Scoring  scoring  `embed:""`
	Logging  logging  `embed:""`
}

// Help is shown by failures retry --help.
func (*retryFailuresCmd) Help() string {
	return `An event that was set aside can be accepted later, by a newer version of this program. It is never folded into the
stored rows as they are: they contain later events, and scores depend on the order of the log. A rebuild folds the log
anew, in its order. Fails when no event would be folded.`
}

// Run asks which events would be folded, and rebuilds if it was told to.
func (r *retryFailuresCmd) Run(ctx context.Context, c *console) error {
	params, err := r.Scoring.params()
	if err != nil {
		return err
	}
	pool, err := r.Database.open(ctx)
	if err != nil {
		return err
	}
	accepted, asked, err := r.ask(ctx, c.out, pool, params)
	pool.Close()
	if err != nil {
		return err
	}
	switch {
	case asked == 0:
		fmt.Fprintln(c.out, "no event was set aside")
		return nil
	case accepted == 0:
		return errors.New("no event would be folded now")
	case !r.Rebuild:
		fmt.Fprintf(c.out, "%d of %d events would be folded now; dixie rebuild all folds them, in the order of the log\n", accepted, asked)
		return nil
	}
	rebuild := rebuildCmd{Projection: "all", Database: r.Database, Scoring: r.Scoring, Logging: r.Logging}
	return rebuild.Run(ctx, c)
}

// maxRetried is how many events are told one by one.
const maxRetried = 100

// ask tells of each event whether it would be folded.
func (r *retryFailuresCmd) ask(
	ctx context.Context, out io.Writer, pool *pgxpool.Pool, params reputation.Params,
) (accepted, asked int64, err error) {
	log, rows := eventstore.ReadPostgres(pool), projections.NewPostgres(pool)
	one := func(position int64) error {
		recorded, err := eventAt(ctx, log, position)
		if err != nil {
			return err
		}
		refused, err := projections.Retry(ctx, log, params, &recorded)
		if err != nil {
			return err
		}
		if asked++; refused == nil {
			accepted++
		}
		if asked <= maxRetried {
			_, err = fmt.Fprintf(out, "position %d of %s: %s\n", position, recorded.NFT, verdict(refused))
		}
		return err
	}
	if r.Position != 0 {
		if _, err := reasonsOf(ctx, rows, r.Position); err != nil {
			return 0, 0, err
		}
		err := one(r.Position)
		return accepted, asked, err
	}
	err = eachFailure(ctx, rows, projections.Aggregates, 0, math.MaxInt, func(f projections.Failure) error { return one(f.Position) })
	return accepted, asked, err
}

func verdict(refused error) string {
	if refused == nil {
		return "would be folded"
	}
	return "would be set aside again, " + refused.Error()
}
