package http

import (
	"net/http"
	"slices"

	"github.com/rs/cors"
)

// corsMaxAge is for how many seconds a browser may remember a preflight.
const corsMaxAge = 3600

// cors lets pages of the configured origins use the API (Fetch standard, CORS
// protocol). It refuses nobody: a browser does that when the headers are missing.
func (s *Server) cors() func(http.Handler) http.Handler {
	if len(s.Origins) == 0 {
		return slot(nil)
	}
	return cors.New(cors.Options{
		AllowedOrigins: s.Origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete},
		AllowedHeaders: []string{
			"Accept", "Authorization", "Content-Encoding", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", adminKeyHeader, requestIDHeader,
		},
		ExposedHeaders: []string{
			"ETag", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Payment-Status", "X-Payment-Wallet", requestIDHeader, positionHeader, sessionHeader, messageHeader,
		},
		MaxAge: corsMaxAge,
		// This service has no cookies; the header is for clients that always ask for
		// it. With any origin, browsers would refuse it.
		AllowCredentials:   !slices.Contains(s.Origins, "*"),
		OptionsPassthrough: true,
	}).Handler
}

// preflight answers a browser that asks what a page may do. The answer is in the
// headers already.
func (s *Server) preflight(next http.Handler) http.Handler {
	if len(s.Origins) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}
