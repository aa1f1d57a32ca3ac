package http

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"dixie/reputation"
)

const (
	ndjson      = "application/x-ndjson"
	eventStream = "text/event-stream"

	// streamPage is how many events of a stream are in memory at once.
	streamPage = 500
	// streamPatience is how long a client may take to read a page.
	streamPatience = time.Minute
	// heartbeat keeps proxies from closing a stream that is silent, and is how
	// often a stream polls for events whose announcement was lost.
	heartbeat = 10 * time.Second
)

type historyView struct {
	Events    []jsontext.Value `json:"events"`
	NextAfter *int64           `json:"next_after"` // null on the last page
}

// getHistory serves GET /api/reputation/{nftId}/events: a page as JSON, or the
// whole history as NDJSON.
func (s *Server) getHistory(w http.ResponseWriter, r *http.Request) error {
	nft, err := pathNFT(r)
	if err != nil {
		return err
	}
	q := parseQuery(r, "after", "limit")
	after := q.integer("after", 0, reputation.MaxInteger, 0)
	limit := q.integer("limit", 1, maxListed, defaultListed)
	if q.err != nil {
		return q.err
	}
	if err := s.known(w, r, nft); err != nil {
		return err
	}
	read := func(ctx context.Context, after int64, limit int) ([]reputation.Recorded, error) {
		return s.Log.History(ctx, nft, after, limit)
	}
	if accepts(r, ndjson) {
		if !q.has("limit") {
			limit = reputation.MaxInteger
		}
		return s.writeLines(w, r, read, after, limit)
	}
	return s.writeHistory(w, r, read, after, limit)
}

// known fails when the log has no event of an NFT.
func (s *Server) known(w http.ResponseWriter, r *http.Request, nft string) error {
	head, err := s.Log.Head(r.Context())
	if err != nil {
		return err
	}
	setPosition(w, head)
	first, err := s.Log.History(r.Context(), nft, 0, 1)
	if err == nil && len(first) == 0 {
		err = reputation.ErrNotFound
	}
	return err
}

type readFunc func(ctx context.Context, after int64, limit int) ([]reputation.Recorded, error)

func (s *Server) writeHistory(w http.ResponseWriter, r *http.Request, read readFunc, after, limit int64) error {
	events, err := read(r.Context(), after, int(limit)+1)
	if err != nil {
		return err
	}
	view := historyView{Events: make([]jsontext.Value, 0, len(events))}
	for i := range events[:min(int(limit), len(events))] {
		view.Events = append(view.Events, reputation.AppendRecorded(nil, &events[i]))
	}
	// A page of long events can be short without being the last.
	if n := len(view.Events); n > 0 && (len(events) > n || !s.isLast(r, read, events[n-1].Position)) {
		view.NextAfter = &events[n-1].Position
	}
	writeJSON(w, http.StatusOK, view)
	return nil
}

// isLast reports whether nothing follows a position. An error counts as no: the
// next page will tell.
func (s *Server) isLast(r *http.Request, read readFunc, position int64) bool {
	more, err := read(r.Context(), position, 1)
	return err == nil && len(more) == 0
}

// streamLog serves GET /api/reputation/events: the log from a position as NDJSON
// up to its end, or as Server-Sent Events that go on with it.
func (s *Server) streamLog(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r, "after", "limit")
	after := q.integer("after", 0, reputation.MaxInteger, 0)
	limit := q.integer("limit", 1, reputation.MaxInteger, reputation.MaxInteger)
	if q.err != nil {
		return q.err
	}
	if accepts(r, eventStream) {
		return s.follow(w, r, q, after)
	}
	head, err := s.Log.Head(r.Context())
	if err != nil {
		return err
	}
	setPosition(w, head)
	return s.writeLines(w, r, s.Log.Read, after, limit)
}

// writeLines writes events as NDJSON until there are no more or limit are
// written.
func (s *Server) writeLines(w http.ResponseWriter, r *http.Request, read readFunc, after, limit int64) error {
	stream := newStream(w)
	events, err := read(r.Context(), after, int(min(limit, streamPage)))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", ndjson)
	if r.Method == http.MethodHead {
		return nil
	}
	for len(events) > 0 {
		for i := range events {
			stream.buf = reputation.AppendLine(stream.buf, &events[i])
		}
		limit -= int64(len(events))
		if err := stream.flush(); err != nil || limit == 0 {
			return nil
		}
		events, err = read(r.Context(), events[len(events)-1].Position, int(min(limit, streamPage)))
		if err != nil {
			s.abort(r, err)
		}
	}
	return nil
}

// abort breaks an answer off in the middle, so that it is not taken for whole.
func (s *Server) abort(r *http.Request, err error) {
	if r.Context().Err() == nil {
		s.Logger.WarnContext(r.Context(), "stream broken off", "error", err)
	}
	panic(http.ErrAbortHandler)
}

// follow writes Server-Sent Events until the client leaves or the server stops.
// The id of an event is its position, so that a client that comes back with
// Last-Event-ID misses nothing.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, q *query, after int64) error {
	if q.has("limit") {
		return badRequest("limit", "does not apply to an event stream, which has no end")
	}
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		position, err := strconv.ParseInt(id, 10, 64)
		if err != nil || position < 0 {
			return badRequest("Last-Event-ID", fmt.Sprintf("must be a position, found %q", clip(id)))
		}
		after = position
	}
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		return errStreams
	}
	w.Header().Set("Content-Type", eventStream)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // for proxies that collect answers
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil // a stream without a body would never end
	}
	stream := newStream(w)
	stream.buf = append(stream.buf, ": the log from position "+strconv.FormatInt(after, 10)+"\n\n"...)
	s.tail(r, stream, after)
	return nil
}

// tail sends what is there and then what comes.
func (s *Server) tail(r *http.Request, stream *stream, after int64) {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		changed := s.Log.Changed()
		events, err := s.Log.Read(r.Context(), after, streamPage)
		if err != nil {
			return // the client reconnects and goes on where it was
		}
		for i := range events {
			stream.event(&events[i])
			after = events[i].Position
		}
		if stream.flush() != nil {
			return
		}
		if len(events) > 0 && s.stopping.Err() == nil {
			continue
		}
		select {
		case <-changed:
		case <-ticker.C:
			stream.buf = append(stream.buf, ":\n\n"...)
		case <-r.Context().Done():
			return
		case <-s.stopping.Done():
			return
		}
	}
}

// stream writes an answer in pieces and gives the client time for each.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     []byte
}

func newStream(w http.ResponseWriter) *stream {
	return &stream{w: w, control: http.NewResponseController(w)}
}

// event queues a Server-Sent Event.
func (s *stream) event(e *reputation.Recorded) {
	s.buf = append(s.buf, "id: "...)
	s.buf = strconv.AppendInt(s.buf, e.Position, 10)
	s.buf = append(s.buf, "\nevent: reputation_event\ndata: "...)
	s.buf = reputation.AppendRecorded(s.buf, e) // JSON text has no line breaks
	s.buf = append(s.buf, "\n\n"...)
}

// flush sends what is queued.
func (s *stream) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(streamPatience))
	_, err := s.w.Write(s.buf)
	s.buf = s.buf[:0]
	if err != nil {
		return err
	}
	return s.control.Flush()
}
