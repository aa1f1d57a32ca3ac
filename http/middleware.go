package http

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
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

// slot is the place of a middleware that there may be.
func slot(middleware func(http.Handler) http.Handler) func(http.Handler) http.Handler {
	if middleware == nil {
		return func(next http.Handler) http.Handler { return next }
	}
	return middleware
}

// requestInfo is what is known of a request. The middleware fills it in on the way
// to the handler; it is never used by two goroutines at once.
type requestInfo struct {
	id       string
	route    *route
	client   netip.Addr // not valid when the address of the client is unknown
	caller   Caller
	identity error  // why nobody is known to ask
	access   string // allow or deny, and empty where there was nothing to decide
	reason   string // of a denial, for programs
	detail   string // of a denial, for people who may know more than the caller
}

type requestInfoKey struct{}

func infoFrom(ctx context.Context) *requestInfo {
	if info, ok := ctx.Value(requestInfoKey{}).(*requestInfo); ok {
		return info
	}
	return &requestInfo{}
}

// RequestID is the id of the request that a context belongs to, and empty for any
// other context.
func RequestID(ctx context.Context) string { return infoFrom(ctx).id }

// callerFrom is who asks; the zero Caller when nobody is known to.
func callerFrom(ctx context.Context) Caller { return infoFrom(ctx).caller }

// Route is the path of the route that a context's request goes to, with its
// variables as they are declared, such as /api/reputation/{nftId}. It is empty when
// there is no such route.
func Route(ctx context.Context) string {
	if route := infoFrom(ctx).route; route != nil {
		return route.path
	}
	return ""
}

const requestIDHeader = "X-Request-Id"

// requestID gives every request an id: the caller's, if it is a sound one.
func (s *Server) requestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := &requestInfo{id: r.Header.Get(requestIDHeader), client: s.clientAddress(r)}
		if !validRequestID(info.id) {
			info.id = uuid.NewString()
		}
		w.Header().Set(requestIDHeader, info.id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestInfoKey{}, info)))
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

// noted is the response of a request, which the first middleware that needs it
// puts in between.
func noted(w http.ResponseWriter) *response {
	if rec, ok := w.(*response); ok {
		return rec
	}
	return &response{ResponseWriter: w}
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

// accessLog writes one line for each request: who asked for what, whether that was
// allowed, and how it ended, with the status 0 when there was no answer. Query
// strings are left out: they are the callers'.
func (s *Server) accessLog(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := noted(w)
		defer func() { // also when the connection is broken off
			value := recover()
			status := finalStatus(rec.status, value)
			s.Logger.LogAttrs(r.Context(), accessLevel(status, r.URL.Path), "request",
				accessAttrs(r, status, rec.bytes, time.Since(start))...)
			if value != nil {
				panic(value) // for the recovery, which finds the whole stack
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

// finalStatus is what a request that has come to its end is answered with. value
// is that of a panic, if there was one.
func finalStatus(written int, value any) int {
	switch {
	case written != 0 || isAbort(value):
		return written
	case value != nil:
		return http.StatusInternalServerError // what recovery answers then
	}
	return http.StatusOK // what net/http answers then
}

func accessAttrs(r *http.Request, status int, bytes int64, duration time.Duration) []slog.Attr {
	info := infoFrom(r.Context())
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("path", withoutKeys(r.URL.Path)),
		slog.Int("status", status), slog.Int64("bytes", bytes),
		slog.Duration("duration", duration), slog.String("caller", info.caller.Name),
		slog.String("client", clientText(info.client)),
	}
	if info.access != "" {
		attrs = append(attrs, slog.String("access", info.access))
	}
	if info.reason != "" {
		attrs = append(attrs, slog.String("reason", info.reason), slog.String("detail", clipTo(withoutKeys(info.detail), maxDetail)))
	}
	return attrs
}

// maxDetail bounds what the log says of a denial, in bytes.
const maxDetail = 300

// apiKey and webToken are what API keys and tokens of wallets look like.
var (
	apiKey   = regexp.MustCompile(`dxk_[A-Za-z0-9_-]+`)
	webToken = regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_.-]+`)
)

// withoutKeys is a path without API keys and tokens, which someone may put there by
// mistake.
func withoutKeys(path string) string {
	if strings.Contains(path, "dxk_") {
		path = apiKey.ReplaceAllString(path, "dxk_…")
	}
	if strings.Contains(path, "eyJ") {
		path = webToken.ReplaceAllString(path, "eyJ…")
	}
	return path
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
		rec := noted(w)
		defer func() {
			value := recover()
			if value == nil {
				return
			}
			if isAbort(value) {
				panic(value)
			}
			s.Logger.ErrorContext(r.Context(), "handler panicked", "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
			if rec.status != 0 {
				panic(http.ErrAbortHandler)
			}
			s.writeError(rec, r, errInternal)
		}()
		next.ServeHTTP(rec, r)
	})
}

// isAbort reports whether a panic means that the connection is to be broken off.
func isAbort(value any) bool {
	err, ok := value.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
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
