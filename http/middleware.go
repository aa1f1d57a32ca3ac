package http

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
)

// chain wraps a handler; the first middleware sees a request first.
func chain(h http.Handler, middleware ...func(http.Handler) http.Handler) http.Handler {
	for i := len(middleware) - 1; i >= 0; i-- {
		h = middleware[i](h)
	}
	return h
}

// exchange is what becomes known of a request on its way to its handler, for
// those who answer for it outside of the router.
type exchange struct {
	id    string
	route string // empty until one was found
}

type exchangeKey struct{}

// RequestID is the id of the request that a context belongs to, and empty for
// any other context.
func RequestID(ctx context.Context) string {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x.id
	}
	return ""
}

func requestIDFrom(ctx context.Context) string { return RequestID(ctx) }

const requestIDHeader = "X-Request-Id"

// requestID gives every request an id: the caller's, if it is a sound one.
func (s *Server) requestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(requestIDHeader)
		if !validRequestID(id) {
			id = uuid.NewString()
		}
		w.Header().Set(requestIDHeader, id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, &exchange{id: id})))
	})
}

// validRequestID reports whether id matches ^[A-Za-z0-9._-]{1,128}$.
func validRequestID(id string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	return len(id) >= 1 && len(id) <= 128 && strings.Trim(id, allowed) == "" && !strings.ContainsFunc(id, func(c rune) bool {
		return !strings.ContainsRune(allowed, c)
	})
}

// response notes what was answered. Unwrap lets a [http.ResponseController] reach
// the connection.
type response struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *response) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *response) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// noted is the response of a request, which the first middleware that needs it
// puts in between.
func noted(w http.ResponseWriter) *response {
	if rec, ok := w.(*response); ok {
		return rec
	}
	return &response{ResponseWriter: w}
}

// accessLog writes one line for each request, with the status 0 when there was no
// answer. Query strings are left out: they are the callers'.
func (s *Server) accessLog(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := noted(w)
		caller := &Caller{}
		r = r.WithContext(context.WithValue(r.Context(), callerKey{}, caller))
		defer func() { // also when the connection is broken off
			s.Logger.LogAttrs(r.Context(), accessLevel(rec.status, r.URL.Path), "request",
				slog.String("method", r.Method), slog.String("path", r.URL.Path),
				slog.Int("status", rec.status), slog.Int64("bytes", rec.bytes),
				slog.Duration("duration", time.Since(start)), slog.String("caller", caller.Name))
		}()
		next.ServeHTTP(rec, r)
		if rec.status == 0 {
			rec.status = http.StatusOK // what net/http answers then
		}
	})
}

// accessLevel keeps probes and successes out of a production log.
func accessLevel(status int, path string) slog.Level {
	switch {
	case status >= 500 && path != "/readyz":
		return slog.LevelWarn
	case path == "/livez" || path == "/readyz" || path == "/api/health" || path == "/metrics":
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// recovery turns a panic into a 500, or breaks the connection off when an answer
// has begun, so that nobody takes half of it for the whole.
func (s *Server) recovery(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			value := recover()
			if value == nil {
				return
			}
			if err, ok := value.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(value)
			}
			s.Logger.ErrorContext(r.Context(), "handler panicked", "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
			if rec, ok := w.(*response); ok && rec.status != 0 {
				panic(http.ErrAbortHandler)
			}
			s.writeError(w, r, errInternal)
		}()
		next.ServeHTTP(w, r)
	})
}

// securityHeaders suit an API that browsers have no business rendering.
func securityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "strict-origin-when-cross-origin")
		h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
		h.Set("Cache-Control", "private, no-store")
		next.ServeHTTP(w, r)
	})
}

// identityHeaders tell services behind this one who asks. From outside they are
// lies.
var identityHeaders = []string{
	"X-Wallet-Address", "X-Conviction-Tier", "X-Conviction-Source", "X-Memory-Context",
	"X-Model-Pool", "X-Economic-Start-Ms", "X-Nft-Id",
}

func dropIdentityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range identityHeaders {
			r.Header.Del(name)
		}
		next.ServeHTTP(w, r)
	})
}

type callerKey struct{}

// callerFrom is who asks; the zero Caller on routes that anyone may use.
func callerFrom(ctx context.Context) Caller {
	if caller, ok := ctx.Value(callerKey{}).(*Caller); ok {
		return *caller
	}
	return Caller{}
}

// handler answers a request, or says what is wrong before it has written
// anything.
type handler func(http.ResponseWriter, *http.Request) error

// answer turns a handler's error into a response.
func (s *Server) answer(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.writeError(w, r, err)
		}
	})
}

// route lets only callers with a scope through to a handler.
func (s *Server) route(scope string, h handler) http.Handler {
	return s.answer(func(w http.ResponseWriter, r *http.Request) error {
		if scope != anyone {
			if err := s.authorize(r, scope); err != nil {
				return err
			}
		}
		return h(w, r)
	})
}

// authorize checks the bearer token (RFC 6750 §2.1) and the caller's scopes.
func (s *Server) authorize(r *http.Request, scope string) error {
	kind, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(kind, "Bearer") || strings.TrimSpace(token) == "" {
		return errNoToken
	}
	caller, err := s.Authenticator.Authenticate(r.Context(), strings.TrimSpace(token))
	if err != nil {
		return err
	}
	if noted, ok := r.Context().Value(callerKey{}).(*Caller); ok {
		*noted = caller
	}
	if !caller.May(scope) {
		return scopeError(scope)
	}
	return nil
}
