package main

import (
	"fmt"
	"io"
	"time"

	"github.com/go-json-experiment/json"

	"dixie/http"
	"dixie/reputation"
)

// shot is what a step shows of an agent.
type shot struct {
	blended string
	state   reputation.State
}

func (r *replayRun) shot(nft string) shot {
	agent := r.folded.Agent(nft)
	if agent == nil {
		return shot{blended: "-"}
	}
	return shot{blended: fmt.Sprintf("%.6f", agent.Aggregate.BlendedScore), state: agent.Aggregate.State}
}

// step shows one event and what it did.
func (r *replayRun) step(e *replayed, before shot) error {
	if r.JSON {
		return writeLine(r.out, newReplayedStep(e, r.folded.Agent(e.nft)))
	}
	after := r.shot(e.nft)
	change := ""
	switch {
	case before.state == "":
		change = "  " + string(after.state)
	case before.state != after.state:
		change = fmt.Sprintf("  %s -> %s", before.state, after.state)
	}
	nft := ""
	if r.NFT == "" {
		nft = fmt.Sprintf("%-24s  ", e.nft)
	}
	_, err := fmt.Fprintf(r.out, "%8d  %s%-20s  %-18s  %8s -> %s%s\n",
		e.position, nft, e.event.Timestamp, e.event.Type(), before.blended, after.blended, change)
	return err
}

// replayedStep is the JSON of a step, with the members that a timeline has.
type replayedStep struct {
	Position        int64                `json:"position"`
	NFT             string               `json:"nft_id"`
	CreatedAt       time.Time            `json:"created_at,omitzero"`
	EventID         string               `json:"event_id"`
	Type            reputation.Type      `json:"type"`
	Timestamp       reputation.Timestamp `json:"timestamp"`
	State           reputation.State     `json:"state"`
	PersonalScore   *float64             `json:"personal_score"`
	CollectionScore float64              `json:"collection_score"`
	BlendedScore    float64              `json:"blended_score"`
	SampleCount     int64                `json:"sample_count"`
}

func newReplayedStep(e *replayed, agent *reputation.Agent) replayedStep {
	s := reputation.NewStep(e.position, e.createdAt, &e.event, agent)
	return replayedStep{
		Position: s.Position, NFT: e.nft, CreatedAt: s.CreatedAt.UTC(), EventID: s.EventID, Type: s.Type, Timestamp: s.Timestamp,
		State: s.State, PersonalScore: s.PersonalScore, CollectionScore: s.CollectionScore,
		BlendedScore: s.BlendedScore, SampleCount: s.SampleCount,
	}
}

// showAt shows the agents as they are when a point is reached.
func (r *replayRun) showAt(point reputation.Point) error {
	nfts := r.shown()
	if len(nfts) == 0 {
		fmt.Fprintf(r.err, "at %s nothing was known%s\n", point, of(r.NFT))
	}
	if r.JSON {
		return r.writeJSON(nfts, point.String())
	}
	fmt.Fprintf(r.out, "at %s, after position %d\n", point, r.position)
	r.writeTable(nfts)
	return nil
}

func of(nft string) string {
	if nft == "" {
		return ""
	}
	return " of " + nft
}

// shown are the agents that were asked for, as far as they are known.
func (r *replayRun) shown() []string {
	switch {
	case r.NFT == "":
		return r.folded.NFTs()
	case r.folded.Agent(r.NFT) == nil:
		return nil
	}
	return []string{r.NFT}
}

// finish shows the final reputations.
func (r *replayRun) finish() error {
	if len(r.At) > 0 {
		return nil
	}
	if r.NFT != "" && r.folded.Agent(r.NFT) == nil {
		return fmt.Errorf("no event of %s", r.NFT)
	}
	switch {
	case r.Snapshot:
		return r.writeSnapshot()
	case r.Steps:
		return nil
	case r.JSON:
		return r.writeJSON(r.shown(), "")
	case r.NFT == "":
		r.writeTable(r.shown())
	}
	return nil
}

// writeSnapshot writes what a server answers at /snapshot, and tells of which
// position it is.
func (r *replayRun) writeSnapshot() error {
	fmt.Fprintf(r.err, "snapshot of %s after position %d\n", r.NFT, r.position)
	return writeLine(r.out, http.NewSnapshot(reputation.Snapshot{
		Aggregate: r.folded.Agent(r.NFT).Aggregate, EventCount: r.hash.Count(), StreamHash: r.hash.Sum(), Position: r.position,
	}, time.Now()))
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
	At       string `json:"at,omitzero"`       // the point that was asked for
	Position int64  `json:"position,omitzero"` // of the last event then
	NFT      string `json:"nft_id"`
	reputation.Aggregate
	DimensionScores map[string]float64      `json:"dimension_scores"`
	TaskCohorts     []reputation.TaskCohort `json:"task_cohorts"`
}

// writeJSON writes agents, with the point at which they are shown if there is one.
func (r *replayRun) writeJSON(nfts []string, at string) error {
	for _, nft := range nfts {
		agent := r.folded.Agent(nft)
		shown := replayedAgent{
			NFT: nft, Aggregate: agent.Aggregate,
			DimensionScores: agent.DimensionScores(), TaskCohorts: r.folded.Cohorts(nft),
		}
		if at != "" {
			shown.At, shown.Position = at, r.position
		}
		if err := writeLine(r.out, shown); err != nil {
			return err
		}
	}
	return nil
}

// writeLine writes a value as a line of canonical JSON.
func writeLine(out io.Writer, v any) error {
	text, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	if text, err = reputation.Canonical(text); err != nil {
		return err
	}
	_, err = out.Write(append(text, '\n'))
	return err
}
