package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/go-json-experiment/json"

	"dixie/eventstore"
	"dixie/projections"
	"dixie/reputation"
)

type replayCmd struct {
	File string `arg:"" optional:"" help:"NDJSON file, plain or gzip, or - for standard input. Without one the database is replayed."`
	NFT  string `name:"nft" help:"Show one agent, event by event." placeholder:"ID"`
	JSON bool   `name:"json" help:"Write one JSON object for each agent: its aggregate, dimension scores and task cohorts."`

	Database database `embed:""`
	Scoring  scoring  `embed:""`
}

// Run replays a history. It needs no server, and for a file no database.
func (r *replayCmd) Run(ctx context.Context, c *console) error {
	params, err := r.Scoring.params()
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(c.out, 64<<10)
	replay := &replayRun{replayCmd: r, folded: projections.NewReplay(params), out: out, err: c.err}
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
	folded *projections.Replay
	out    io.Writer
	err    io.Writer
	aside  int64 // events without effect
	shown  int64 // lines of the agent that was asked for
}

// replayed is an event at its place in the history.
type replayed struct {
	position int64
	nft      string
	event    reputation.Event
	invalid  error // why there is no event
}

func (r *replayRun) file(ctx context.Context, c *console) error {
	in, size, err := openInput(c, r.File)
	if err != nil {
		return err
	}
	defer in.Close()
	bar := startProgress(c.err, "replay", "bytes", size)
	plain, err := decompress(bar.reader(in))
	if err != nil {
		return err
	}
	events, err := r.fold(fileEvents(ctx, plain))
	if err == nil {
		bar.finish(r.result(events))
	}
	return err
}

func (r *replayRun) database(ctx context.Context, c *console) error {
	pool, err := r.Database.open(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	log := eventstore.ReadPostgres(pool)
	head, err := log.Head(ctx)
	if err != nil {
		return err
	}
	bar := startProgress(c.err, "replay", "events", head)
	events, err := r.fold(func(yield func(replayed, error) bool) {
		for recorded, err := range eventstore.All(ctx, log, 0, head) {
			event, invalid := recorded.Event()
			if !yield(replayed{recorded.Position, recorded.NFT, event, invalid}, err) {
				return
			}
			bar.add(1)
		}
	})
	if err == nil {
		bar.finish(r.result(events))
	}
	return err
}

func (r *replayRun) result(events int64) string {
	return fmt.Sprintf("%d events, %d agents, %d set aside", events, len(r.folded.NFTs()), r.aside)
}

// fileEvents are the events of a file, numbered as an import of it into an empty
// log would number them: what import rejects is passed over, and so is an event
// that came before.
func fileEvents(ctx context.Context, in io.Reader) iter.Seq2[replayed, error] {
	return func(yield func(replayed, error) bool) {
		seen := map[[16]byte][sha256.Size]byte{}
		position := int64(0)
		for line, err := range eventstore.Lines(ctx, in) {
			if err != nil {
				yield(replayed{}, err)
				return
			}
			nft, event, err := line.Decode()
			if err != nil {
				err = fmt.Errorf("line %d: %w", line.Number, err)
			} else {
				entry := reputation.NewEntry(nft, &event)
				content := sha256.Sum256(append(entry.JSON, nft...))
				stored, again := seen[entry.ID]
				if again && stored == content {
					continue
				}
				if again {
					err = fmt.Errorf("line %d: event.event_id: came before with other content", line.Number)
				}
				seen[entry.ID] = content
			}
			if err == nil {
				position++
			}
			if !yield(replayed{position, nft, event, err}, nil) {
				return
			}
		}
	}
}

// fold applies all events, showing those of the agent that was asked for.
func (r *replayRun) fold(events iter.Seq2[replayed, error]) (count int64, err error) {
	for e, err := range events {
		if err != nil {
			return count, err
		}
		count++
		if e.invalid != nil {
			r.setAside(e, e.invalid)
			continue
		}
		before := r.shot(e.nft)
		if err := r.folded.Apply(e.nft, &e.event); err != nil {
			r.setAside(e, err)
			continue
		}
		if r.NFT != "" && r.NFT == e.nft && !r.JSON {
			r.step(e, before)
		}
	}
	return count, nil
}

// maxAside is how many events without effect are told one by one.
const maxAside = 20

func (r *replayRun) setAside(e replayed, err error) {
	r.aside++
	if r.aside <= maxAside {
		fmt.Fprintf(r.err, "set aside after position %d: %v\n", e.position, err)
	}
}

// shot is what a step shows of an agent.
type shot struct {
	blended string
	state   reputation.State
}

func (r *replayRun) shot(nft string) shot {
	if r.NFT != nft {
		return shot{}
	}
	agent := r.folded.Agent(nft)
	if agent == nil {
		return shot{blended: "-"}
	}
	return shot{blended: fmt.Sprintf("%.6f", agent.Aggregate.BlendedScore), state: agent.Aggregate.State}
}

// step shows one event of the agent that was asked for.
func (r *replayRun) step(e replayed, before shot) {
	after := r.shot(e.nft)
	change := ""
	switch {
	case before.state == "":
		change = "  " + string(after.state)
	case before.state != after.state:
		change = fmt.Sprintf("  %s -> %s", before.state, after.state)
	}
	fmt.Fprintf(r.out, "%8d  %-20s  %-18s  %8s -> %s%s\n",
		e.position, e.event.Timestamp, e.event.Type(), before.blended, after.blended, change)
	r.shown++
}

// finish shows the final reputations.
func (r *replayRun) finish() error {
	if r.NFT != "" && r.folded.Agent(r.NFT) == nil {
		return fmt.Errorf("no event of %s", r.NFT)
	}
	nfts := r.folded.NFTs()
	if r.NFT != "" {
		nfts = []string{r.NFT}
	}
	if r.JSON {
		return r.writeJSON(nfts)
	}
	if r.NFT == "" {
		r.writeTable(nfts)
	}
	return nil
}

func (r *replayRun) writeTable(nfts []string) {
	width := len("NFT")
	for _, nft := range nfts {
		width = max(width, len(nft))
	}
	fmt.Fprintf(r.out, "%-*s  %-13s  %8s  %8s  %7s\n", width, "NFT", "STATE", "BLENDED", "PERSONAL", "SAMPLES")
	for _, nft := range nfts {
		g := r.folded.Agent(nft).Aggregate
		personal := "-"
		if g.PersonalScore != nil {
			personal = fmt.Sprintf("%.6f", *g.PersonalScore)
		}
		fmt.Fprintf(r.out, "%-*s  %-13s  %8.6f  %8s  %7d\n", width, nft, g.State, g.BlendedScore, personal, g.SampleCount)
	}
}

// replayedAgent is the JSON of an agent.
type replayedAgent struct {
	NFT string `json:"nft_id"`
	reputation.Aggregate
	DimensionScores map[string]float64      `json:"dimension_scores"`
	TaskCohorts     []reputation.TaskCohort `json:"task_cohorts"`
}

func (r *replayRun) writeJSON(nfts []string) error {
	for _, nft := range nfts {
		agent := r.folded.Agent(nft)
		text, err := json.Marshal(replayedAgent{
			NFT: nft, Aggregate: agent.Aggregate,
			DimensionScores: agent.DimensionScores(), TaskCohorts: r.folded.Cohorts(nft),
		}, json.Deterministic(true))
		if err != nil {
			return fmt.Errorf("encode %s: %w", nft, err)
		}
		if text, err = reputation.Canonical(text); err != nil {
			return err
		}
		if _, err := r.out.Write(append(text, '\n')); err != nil {
			return err
		}
	}
	return nil
}
