package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"dixie/projections"
	"dixie/reputation"
)

type replayCmd struct {
	File     string   `arg:"" optional:"" help:"NDJSON file, plain or gzip, or - for standard input. Without one the database is replayed."`
	NFT      string   `name:"nft" help:"Show one agent, event by event." placeholder:"ID"`
	Until    string   `help:"Stop after a position, or at a time." placeholder:"POINT"`
	At       []string `help:"Show the reputations as they were after a position, or at a time. Give it again for more points, all in one pass." placeholder:"POINT"`
	Steps    bool     `help:"Show each event, of one agent or of all, and how it moved the agent."`
	Snapshot bool     `help:"Write the snapshot of --nft with the hash of its events, as a server does at /api/reputation/ID/snapshot."`
	JSON     bool     `name:"json" help:"Write one JSON object for each agent, with its aggregate, dimension scores and task cohorts, or for each step."`

	Database database `embed:""`
	Scoring  scoring  `embed:""`
}

// Help is shown by replay --help.
func (*replayCmd) Help() string {
	return `Positions are those of the log: a file that was exported tells them, and any other is numbered as an import of it into
an empty log would number it. A time is RFC 3339, such as 2026-02-25T12:00:00Z, and means when the log stored an event,
not the event's own timestamp; it needs the database or an export. A position beyond the end of the history is an
error, which of a file is known only when it has been read, after its steps have been shown.`
}

// Run replays a history. It needs no server, and for a file no database.
func (r *replayCmd) Run(ctx context.Context, c *console) error {
	params, err := r.Scoring.params()
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(c.out, 64<<10)
	replay := &replayRun{replayCmd: r, folded: projections.NewReplay(params), out: out, err: c.err}
	if err := replay.prepare(); err != nil {
		return err
	}
	if r.File != "" {
		err = replay.file(ctx, c)
	} else {
		err = replay.database(ctx, c)
	}
	if err == nil {
		err = replay.finish()
	}
	return errors.Join(err, out.Flush())
}

// replayRun is one replay.
type replayRun struct {
	*replayCmd
	folded  *projections.Replay
	out     io.Writer
	err     io.Writer
	until   *reputation.Point      // nil: to the end
	pending []reputation.Point     // of At, those that have not been reached
	steps   bool                   // shown
	hash    *reputation.StreamHash // of the events of the agent that was asked for; nil unless needed

	position int64 // of the last event
	aside    int64 // events without effect
}

// replayed is an event at its place in the history.
type replayed struct {
	position  int64
	createdAt time.Time // zero when it is not known
	nft       string
	event     reputation.Event
	invalid   error  // why there is no event
	text      []byte // of the event, as the log has it; nil when no log has it
}

// prepare reads the flags.
func (r *replayRun) prepare() error {
	if r.Until != "" {
		until, err := reputation.ParsePoint(r.Until)
		if err != nil {
			return fmt.Errorf("--until %w", err)
		}
		r.until = &until
	}
	for _, text := range r.At {
		point, err := reputation.ParsePoint(text)
		if err != nil {
			return fmt.Errorf("--at %w", err)
		}
		r.pending = append(r.pending, point)
	}
	if r.Snapshot {
		if r.NFT == "" || r.Steps || len(r.At) > 0 {
			return errors.New("--snapshot needs --nft, and goes with neither --steps nor --at")
		}
		r.hash = &reputation.StreamHash{}
	}
	r.steps = r.Steps || r.NFT != "" && !r.JSON && !r.Snapshot && len(r.At) == 0
	return nil
}

// fold applies all events up to where it is to stop, showing what was asked for.
func (r *replayRun) fold(events iter.Seq2[replayed, error]) (count int64, err error) {
	for e, err := range events {
		if err != nil {
			return count, err
		}
		stop, err := r.reach(&e)
		if err != nil || stop {
			return count, err
		}
		count++
		if err := r.apply(&e); err != nil {
			return count, err
		}
	}
	return count, r.end()
}

// reach shows the agents at the points that lie before an event, and reports whether
// the replay is to stop before it.
func (r *replayRun) reach(e *replayed) (stop bool, err error) {
	if r.until != nil {
		included, err := includes(*r.until, e)
		if err != nil {
			return false, fmt.Errorf("--until: %w", err)
		}
		stop = !included
	}
	for i := 0; i < len(r.pending); {
		point := r.pending[i]
		included, err := includes(point, e)
		switch {
		case err != nil:
			return false, fmt.Errorf("--at: %w", err)
		case included && stop:
			return false, fmt.Errorf("--at %s lies beyond --until %s", point, r.Until)
		case included:
			i++
			continue
		}
		if err := r.showAt(point); err != nil {
			return false, err
		}
		r.pending = slices.Delete(r.pending, i, i+1)
	}
	return stop || len(r.At) > 0 && len(r.pending) == 0 && !r.steps, nil
}

// includes reports whether an event lies before a point.
func includes(point reputation.Point, e *replayed) (bool, error) {
	if point.IsTime() && e.createdAt.IsZero() {
		return false, fmt.Errorf("it is not known when the event after position %d was stored; give a position, or replay an export", e.position)
	}
	return point.Includes(e.position, e.createdAt), nil
}

// end is called when there are no more events: points that lie beyond are no
// points of this history.
func (r *replayRun) end() error {
	if err := r.refuseBeyond(r.position); err != nil {
		if r.steps {
			return fmt.Errorf("%w; the steps that were shown are all that there are", err)
		}
		return err
	}
	for _, point := range r.pending {
		if err := r.showAt(point); err != nil {
			return err
		}
	}
	return nil
}

// refuseBeyond refuses points beyond the end of a history.
func (r *replayRun) refuseBeyond(head int64) error {
	if r.until != nil && r.until.Position > head {
		return fmt.Errorf("--until %s lies beyond the end of the history, which is at position %d", r.Until, head)
	}
	for _, point := range r.pending {
		if point.Position > head {
			return fmt.Errorf("--at %s lies beyond the end of the history, which is at position %d", point, head)
		}
	}
	return nil
}

func (r *replayRun) apply(e *replayed) error {
	r.position = max(r.position, e.position)
	if r.hash != nil && e.nft == r.NFT && e.text != nil {
		r.hash.Add(e.text)
	}
	if e.invalid != nil {
		r.setAside(e, e.invalid)
		return nil
	}
	shown := r.steps && (r.NFT == "" || r.NFT == e.nft)
	var before shot
	if shown {
		before = r.shot(e.nft)
	}
	if err := r.folded.Apply(e.nft, &e.event); err != nil {
		r.setAside(e, err)
		return nil
	}
	if shown {
		return r.step(e, before)
	}
	return nil
}

// maxAside is how many events without effect are told one by one.
const maxAside = 20

func (r *replayRun) setAside(e *replayed, err error) {
	r.aside++
	if r.aside <= maxAside {
		fmt.Fprintf(r.err, "set aside after position %d: %v\n", e.position, err)
	}
}

func (r *replayRun) result(events int64) string {
	return fmt.Sprintf("%d events, %d agents, %d set aside", events, len(r.folded.NFTs()), r.aside)
}
