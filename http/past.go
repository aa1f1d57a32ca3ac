package http

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"dixie/reputation"
)

// Past is what reputations were. Its methods are safe for concurrent use; those that
// take a position need projections that have reached it.
type Past interface {
	// PositionAt is the position of the last event that was stored at a time or
	// before it, and 0 when there is none.
	PositionAt(ctx context.Context, at time.Time) (int64, error)
	// ReputationAt is the reputation of an NFT after a position, or
	// [reputation.ErrNotFound] when nothing was known of it then.
	ReputationAt(ctx context.Context, nft string, position int64) (reputation.Standing, error)
	// Timeline calls visit with the agent after each of its events that lies after
	// one position and not after another. It ends with the first error of visit.
	Timeline(ctx context.Context, nft string, after, until int64, visit func(reputation.Step) error) error
	// Snapshot is the aggregate of an NFT after a position, with the hash of the
	// events up to there; a negative position is as far as projections have come.
	Snapshot(ctx context.Context, nft string, position int64) (reputation.Snapshot, error)
	// Collection is the collection that an NFT belongs to, or
	// [reputation.ErrNotFound] while it has had no event.
	Collection(ctx context.Context, nft string) (string, error)
}

// moment is a point of the past that a parameter names.
type moment struct {
	position int64
	at       time.Time // when it was so, and not later than now
}

// moment reads a parameter that is a position or a time.
func (s *Server) moment(ctx context.Context, q *query, name string) (moment, error) {
	point, err := reputation.ParsePoint(q.values.Get(name))
	if err != nil {
		q.fail(name, err.Error())
	}
	if q.err != nil {
		return moment{}, q.err
	}
	if point.IsTime() {
		position, err := s.Past.PositionAt(ctx, point.Time)
		return moment{position, earlier(point.Time, s.Now())}, err
	}
	if point.Position == 0 {
		return moment{}, nil
	}
	events, err := s.Log.Read(ctx, point.Position-1, 1)
	if err != nil {
		return moment{}, err
	}
	if len(events) == 0 {
		return moment{}, s.beyond(ctx, name, point.Position)
	}
	return moment{point.Position, earlier(events[0].CreatedAt, s.Now())}, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// beyond says that the log is not as long as a parameter has it.
func (s *Server) beyond(ctx context.Context, name string, position int64) error {
	head, err := s.Log.Head(ctx)
	if err != nil {
		return err
	}
	return badRequest(name, fmt.Sprintf("must not be beyond the end of the log, which is at position %d, found %d", head, position))
}

// inPast lets a request read the past. It takes a good part of a processor, and so
// few may do it at the same time, and none for long.
func (s *Server) inPast(r *http.Request, read func(ctx context.Context) error) error {
	select {
	case s.pasts <- struct{}{}:
		defer func() { <-s.pasts }()
	default:
		return errPasts
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.PastTimeout)
	defer cancel()
	err := read(ctx)
	if err != nil && ctx.Err() != nil && r.Context().Err() == nil {
		return fmt.Errorf("%w: %w", errSlowPast, err)
	}
	return err
}

// getReputationAt serves GET /api/reputation/{nftId}?as_of=. It waits for the
// position like any other read.
func (s *Server) getReputationAt(w http.ResponseWriter, r *http.Request, q *query) error {
	nft, moment, err := s.asOf(r, q)
	if err != nil {
		return err
	}
	setPosition(w, moment.position)
	var standing reputation.Standing
	err = s.inPast(r, func(ctx context.Context) (err error) {
		standing, err = s.Past.ReputationAt(ctx, nft, moment.position)
		return err
	})
	if err != nil {
		return err
	}
	view := newReputationView(nft, standing, s.Params, moment.at)
	writeReputation(w, r, view.encode(), standing.Position, moment.at)
	return nil
}

// asOf reads the NFT and the parameter as_of, and waits until the projections have
// come so far.
func (s *Server) asOf(r *http.Request, q *query) (string, moment, error) {
	nft, err := pathNFT(r)
	if err != nil {
		return "", moment{}, err
	}
	if q.has("at_least") {
		q.fail("at_least", "does not go with as_of, which waits for its own position")
	}
	at, err := s.moment(r.Context(), q, "as_of")
	if err != nil {
		return "", moment{}, err
	}
	return nft, at, s.waitUntil(r, q, at.position, reputation.ProjectionAggregates, reputation.ProjectionCohorts)
}

// snapshotView is the AggregateSnapshot of protocol §7: a closed object.
type snapshotView struct {
	Aggregate       reputation.Aggregate `json:"aggregate"`
	SnapshotAt      string               `json:"snapshot_at"`
	EventCount      int64                `json:"event_count"`
	EventStreamHash string               `json:"event_stream_hash"`
	ContractVersion string               `json:"contract_version"`
}

// getSnapshot serves GET /api/reputation/{nftId}/snapshot: an aggregate and what it
// takes to check it by the events.
func (s *Server) getSnapshot(w http.ResponseWriter, r *http.Request) error {
	nft, moment, err := s.snapshotMoment(r)
	if err != nil {
		return err
	}
	var snapshot reputation.Snapshot
	err = s.inPast(r, func(ctx context.Context) (err error) {
		snapshot, err = s.Past.Snapshot(ctx, nft, moment.position)
		return err
	})
	if err != nil {
		return err
	}
	setPosition(w, snapshot.Position)
	writeJSON(w, http.StatusOK, NewSnapshot(snapshot, moment.at))
	return nil
}

// NewSnapshot is the body of GET /api/reputation/{nftId}/snapshot, for whoever makes
// the same without a server.
func NewSnapshot(snapshot reputation.Snapshot, at time.Time) any {
	return snapshotView{
		Aggregate: snapshot.Aggregate, SnapshotAt: at.UTC().Format(timeLayout),
		EventCount: snapshot.EventCount, EventStreamHash: snapshot.StreamHash,
		ContractVersion: reputation.ContractVersion,
	}
}

// snapshotMoment is that of as_of, or now, with a negative position.
func (s *Server) snapshotMoment(r *http.Request) (string, moment, error) {
	q := parseQuery(r, append([]string{"as_of"}, freshness...)...)
	if q.has("as_of") {
		return s.asOf(r, q)
	}
	nft, err := pathNFT(r)
	if err == nil {
		err = s.waitFor(r, q, reputation.ProjectionAggregates)
	}
	return nft, moment{position: -1, at: s.Now()}, err
}
