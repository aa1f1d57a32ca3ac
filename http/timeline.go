package http

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"dixie/reputation"
)

const (
	maxPoints     = 2000
	defaultPoints = 200
	// streamPiece is how much of a timeline is collected before it is sent.
	streamPiece = 32 << 10
)

// pointView is an agent right after one of its events.
type pointView struct {
	Position        int64                `json:"position"`
	CreatedAt       string               `json:"created_at"` // when the event was stored
	EventID         string               `json:"event_id"`
	Type            reputation.Type      `json:"type"`
	Timestamp       reputation.Timestamp `json:"timestamp"` // the author's
	State           reputation.State     `json:"state"`
	PersonalScore   *float64             `json:"personal_score"`
	CollectionScore float64              `json:"collection_score"`
	BlendedScore    float64              `json:"blended_score"`
	SampleCount     int64                `json:"sample_count"`
}

func newPointView(s reputation.Step) pointView {
	return pointView{
		Position: s.Position, CreatedAt: s.CreatedAt.UTC().Format(time.RFC3339Nano), EventID: s.EventID,
		Type: s.Type, Timestamp: s.Timestamp, State: s.State, PersonalScore: s.PersonalScore,
		CollectionScore: s.CollectionScore, BlendedScore: s.BlendedScore, SampleCount: s.SampleCount,
	}
}

type timelineView struct {
	NFT      string      `json:"nft_id"`
	Points   []pointView `json:"points"`
	Events   int64       `json:"events"`   // of the NFT, from and to where it was asked for
	Omitted  int64       `json:"omitted"`  // of them, to keep to the number of points
	Position int64       `json:"position"` // up to where the log is in the answer
}

// timelineRange is what of a timeline was asked for.
type timelineRange struct {
	nft          string
	after, until int64
	points       int
	all          bool // every point
}

// getTimeline serves GET /api/reputation/{nftId}/timeline: an agent after each of its
// events, or after so many of them as points were asked for.
func (s *Server) getTimeline(w http.ResponseWriter, r *http.Request) error {
	asked, err := s.timelineRange(w, r)
	if err != nil {
		return err
	}
	if asked.all {
		return s.streamTimeline(w, r, asked)
	}
	sketch := newSketch(asked.points)
	err = s.inPast(r, func(ctx context.Context) error {
		return s.Past.Timeline(ctx, asked.nft, asked.after, asked.until, func(step reputation.Step) error {
			sketch.add(step)
			return nil
		})
	})
	if err != nil {
		return err
	}
	s.writeTimeline(w, r, asked, sketch)
	return nil
}

// timelineRange reads the parameters, and waits until the projections have come so
// far.
func (s *Server) timelineRange(w http.ResponseWriter, r *http.Request) (asked timelineRange, err error) {
	if asked.nft, err = pathNFT(r); err != nil {
		return asked, err
	}
	q := parseQuery(r, append([]string{"points", "from", "to"}, freshness...)...)
	asked.points = int(q.integer("points", 2, maxPoints, defaultPoints))
	asked.all = accepts(r, ndjson) && !q.has("points")
	first, to, err := s.between(r.Context(), q)
	if err != nil {
		return asked, err
	}
	asked.after = max(0, first-1)
	least := max(to, q.integer("at_least", 0, reputation.MaxInteger, 0))
	if err := s.waitUntil(r, q, least, reputation.ProjectionAggregates, reputation.ProjectionCohorts); err != nil {
		return asked, err
	}
	standing, err := s.present(w, r, q, asked.nft)
	asked.until = standing.Position
	if q.has("to") {
		asked.until = to
	}
	setPosition(w, asked.until)
	return asked, err
}

// between reads the parameters from and to, as the first position that was asked for
// and the last; both are 0 when absent.
func (s *Server) between(ctx context.Context, q *query) (first, last int64, err error) {
	if first, err = s.from(ctx, q); err != nil {
		return 0, 0, err
	}
	if last, err = s.to(ctx, q); err != nil {
		return 0, 0, err
	}
	if q.has("from") && q.has("to") && backwards(q, first, last) {
		return 0, 0, badRequest("from", fmt.Sprintf("must not lie after to, which is %s, found %s", q.values.Get("to"), q.values.Get("from")))
	}
	return first, last, nil
}

// backwards reports whether from lies after to. Two times may have no event between
// them.
func backwards(q *query, first, last int64) bool {
	from, _ := reputation.ParsePoint(q.values.Get("from"))
	to, _ := reputation.ParsePoint(q.values.Get("to"))
	if from.IsTime() && to.IsTime() {
		return from.Time.After(to.Time)
	}
	return first > last
}

// to reads the parameter to: the last position that was asked for, and 0 when
// absent.
func (s *Server) to(ctx context.Context, q *query) (int64, error) {
	if q.has("to") {
		to, err := s.moment(ctx, q, "to")
		return to.position, err
	}
	if q.has("wait") && !q.has("at_least") {
		q.fail("wait", "needs at_least or to, the position to wait for")
	}
	return 0, q.err
}

// from reads the parameter from: the first position that was asked for, and 0 when
// absent. That of a time is beyond the end of the log when nothing was stored since.
func (s *Server) from(ctx context.Context, q *query) (int64, error) {
	if !q.has("from") {
		return 0, q.err
	}
	point, err := reputation.ParsePoint(q.values.Get("from"))
	if err != nil || !point.IsTime() || q.err != nil {
		at, err := s.moment(ctx, q, "from")
		return at.position, err
	}
	before, err := s.Past.PositionAt(ctx, point.Time.Add(-time.Nanosecond))
	return before + 1, err
}

func (s *Server) writeTimeline(w http.ResponseWriter, r *http.Request, asked timelineRange, sketch *sketch) {
	steps := sketch.steps()
	view := timelineView{
		NFT: asked.nft, Points: make([]pointView, len(steps)),
		Events: sketch.events, Omitted: sketch.events - int64(len(steps)), Position: asked.until,
	}
	for i, step := range steps {
		view.Points[i] = newPointView(step)
	}
	if !accepts(r, ndjson) {
		writeJSON(w, http.StatusOK, view)
		return
	}
	var lines []byte
	for _, step := range steps {
		lines = appendPoint(lines, step)
	}
	w.Header().Set("Content-Type", ndjson)
	_, _ = w.Write(lines)
}

// appendPoint appends a step as a line of NDJSON.
func appendPoint(dst []byte, step reputation.Step) []byte {
	text, err := json.Marshal(newPointView(step), json.Deterministic(true))
	if err != nil {
		panic(err) // scores are never NaN
	}
	return append(append(dst, text...), '\n')
}

// streamTimeline writes every point as NDJSON, as it is folded.
func (s *Server) streamTimeline(w http.ResponseWriter, r *http.Request, asked timelineRange) error {
	stream, begun := newStream(w), false
	flush := func() error {
		begun = true
		w.Header().Set("Content-Type", ndjson)
		if r.Method == http.MethodHead {
			stream.buf = stream.buf[:0]
		}
		return stream.flush()
	}
	err := s.inPast(r, func(ctx context.Context) error {
		return s.Past.Timeline(ctx, asked.nft, asked.after, asked.until, func(step reputation.Step) error {
			stream.buf = appendPoint(stream.buf, step)
			if len(stream.buf) < streamPiece {
				return nil
			}
			return flush()
		})
	})
	if err == nil {
		err = flush()
	}
	if err != nil && begun {
		s.abort(r, err)
	}
	return err
}

// sketch is a run of steps of which at most so many are kept: the first, the last,
// changes of state, and an even selection of the others. Memory grows with what is
// kept, not with the run.
type sketch struct {
	most    int
	events  int64
	first   reputation.Step
	last    reputation.Step
	changed bool // the last is a change of state
	changes thinned
	others  thinned
}

func newSketch(most int) *sketch {
	return &sketch{most: most, changes: newThinned(most), others: newThinned(most)}
}

func (k *sketch) add(step reputation.Step) {
	k.events++
	switch {
	case k.events == 1:
		k.first = step
	case k.events == 2:
	case k.changed:
		k.changes.add(k.last)
	default:
		k.others.add(k.last)
	}
	k.changed = k.events > 1 && step.State != k.last.State
	k.last = step
}

// steps are those that are kept, in order.
func (k *sketch) steps() []reputation.Step {
	switch k.events {
	case 0:
		return nil
	case 1:
		return []reputation.Step{k.first}
	}
	kept := []reputation.Step{k.first, k.last}
	kept = append(kept, k.changes.pick(k.most-len(kept))...)
	kept = append(kept, k.others.pick(k.most-len(kept))...)
	slices.SortFunc(kept, func(a, b reputation.Step) int { return cmp.Compare(a.Position, b.Position) })
	return kept
}

// thinned is an even selection of a run: each so-many-th step, fewer as it gets
// longer. It holds from most to 2·most steps of a run that has as many.
type thinned struct {
	most   int
	stride int64
	seen   int64
	kept   []reputation.Step
}

func newThinned(most int) thinned { return thinned{most: most, stride: 1} }

func (t *thinned) add(step reputation.Step) {
	if t.seen%t.stride == 0 {
		t.kept = append(t.kept, step)
	}
	t.seen++
	if len(t.kept) < 2*t.most {
		return
	}
	for i := range t.most {
		t.kept[i] = t.kept[2*i]
	}
	t.kept = t.kept[:t.most]
	t.stride *= 2
}

// pick is an even selection of n of those that are held, or all when there are
// fewer.
func (t *thinned) pick(n int) []reputation.Step {
	if len(t.kept) <= n {
		return t.kept
	}
	picked := make([]reputation.Step, n)
	for i := range picked {
		picked[i] = t.kept[i*len(t.kept)/n]
	}
	return picked
}
