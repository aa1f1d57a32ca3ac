package http

import (
	"net/http"
	"time"
)

// Metrics is told of every request. It returns at once, and is safe for concurrent
// use.
type Metrics interface {
	// RequestStarted is called when a request arrives.
	RequestStarted()
	// RequestDone is called when the request was answered. route is the template of
	// its route, and empty for a path that has none; status is 0 when the connection
	// was broken off before there was one.
	RequestDone(method, route string, status int, took time.Duration)
}

// noMetrics is told of requests when nobody else is.
type noMetrics struct{}

func (noMetrics) RequestStarted()                                {}
func (noMetrics) RequestDone(string, string, int, time.Duration) {}

// Streams is the number of open streams of the log.
func (s *Server) Streams() int { return len(s.streams) }

// measure tells the metrics of each request, with the status 0 when it was broken
// off.
func (s *Server) measure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := noted(w)
		s.Metrics.RequestStarted()
		defer func() { // also when the connection is broken off
			s.Metrics.RequestDone(r.Method, Route(r.Context()), rec.status, time.Since(infoFrom(r.Context()).started))
		}()
		next.ServeHTTP(rec, r)
		if rec.status == 0 {
			rec.status = http.StatusOK // what net/http answers then
		}
	})
}

// getMetrics serves GET /metrics.
func (s *Server) getMetrics(w http.ResponseWriter, r *http.Request) error {
	s.MetricsHandler.ServeHTTP(w, r)
	return nil
}
