package http

import (
	"net/http"
	"net/netip"
	"net/url"

	"github.com/gorilla/mux"

	"dixie/reputation"
)

const (
	MaxReported = maxReported
	StreamPage  = streamPage
	MaxBuckets  = maxBuckets
)

var (
	DecodeEvents    = decodeEvents
	ParseRoutingKey = parseRoutingKey
	NewCursor       = newCursor
	HeaderJSON      = func(value []byte) string { return headerJSON(value) }
	ErrorStatus     = func(err error) int { status, _ := describe(err); return status }
)

// ParseCursor reads the parameter cursor as routes do.
func ParseCursor(text string) (string, error) {
	q := &query{values: url.Values{"cursor": {text}}}
	id := q.cursor("cursor")
	return id, q.err
}

// ClientAddress is where a request comes from.
func (s *Server) ClientAddress(r *http.Request) netip.Addr { return s.clientAddress(r) }

// Probe adds a route that anyone may use, behind all that a request passes
// through before it reaches a handler.
func (s *Server) Probe(path string, h http.HandlerFunc) {
	s.ProbeAs(anyone, path, h)
}

// ProbeAs adds a route for callers with a scope.
func (s *Server) ProbeAs(access, path string, h http.HandlerFunc) {
	s.routes[s.router.Handle(path, h)] = &route{path: path, access: access, handle: func(w http.ResponseWriter, r *http.Request) error {
		h(w, r)
		return nil
	}}
}

// Remembered is how many callers the limit of requests remembers.
func (s *Server) Remembered() int { return s.limiters.clients.buckets.Len() }

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

// RouteOf is the path of the route that a request goes to, as it is declared; empty
// when there is none, or when a test has added it.
func (s *Server) RouteOf(method, path string) string {
	route := s.find(method, path)
	if route == nil || route.method == "" {
		return ""
	}
	return route.path
}

// Serves reports whether a request goes to a route, also to one of a test's.
func (s *Server) Serves(method, path string) bool { return s.find(method, path) != nil }

func (s *Server) find(method, path string) *route {
	found, _, _ := s.match(requestFor(method, path))
	return found
}

func requestFor(method, path string) *http.Request {
	r := &http.Request{Method: method, URL: &url.URL{Path: path}}
	if unescaped, err := url.PathUnescape(path); err == nil {
		r.URL.Path, r.URL.RawPath = unescaped, path
	}
	return r
}

// RouteOfAll is RouteOf by the router that has all routes.
func (s *Server) RouteOfAll(method, path string) string {
	match := mux.RouteMatch{}
	if !s.router.Match(requestFor(method, path), &match) {
		return ""
	}
	return s.routes[match.Route].path
}

// Routes are the method, path and access of each route.
func (s *Server) Routes() (routes [][3]string) {
	for _, route := range s.table() {
		routes = append(routes, [3]string{route.method, route.path, route.access})
	}
	return routes
}
