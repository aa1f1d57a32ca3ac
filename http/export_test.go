package http

import (
	"net/http"
	"net/url"

	"dixie/reputation"
)

const (
	MaxReported = maxReported
	StreamPage  = streamPage
)

var (
	DecodeEvents    = decodeEvents
	ParseRoutingKey = parseRoutingKey
	NewCursor       = newCursor
	ErrorStatus     = func(err error) int { status, _ := describe(err); return status }
)

// ParseCursor reads the parameter cursor as routes do.
func ParseCursor(text string) (string, error) {
	q := &query{values: url.Values{"cursor": {text}}}
	id := q.cursor("cursor")
	return id, q.err
}

// Probe adds a route that anyone may use, behind all that a request passes
// through before it reaches a handler.
func (s *Server) Probe(path string, h http.HandlerFunc) { s.router.HandleFunc(path, h) }

// Sketch is what a timeline of at most so many points keeps of steps.
func Sketch(most int, steps []reputation.Step) (kept []reputation.Step, events int64) {
	s := newSketch(most)
	for _, step := range steps {
		s.add(step)
		if held := len(s.changes.kept) + len(s.others.kept); held > 4*most {
			panic("a sketch holds too much")
		}
	}
	return s.steps(), s.events
}
