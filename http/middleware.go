package http

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
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
// to the handler; it is never used by two goroutines at once, except for its memory.
type requestInfo struct {
	id       string
	started  time.Time
	route    *route
	vars     map[string]string // what the path has in place of the route's variables, as it is escaped there
	client   netip.Addr        // not valid when the address of the client is unknown
	caller   Caller
	identity error  // why nobody is known to ask
	access   string // allow or deny, and empty where there was nothing to decide
	reason   string // of a denial, for programs
	detail   string // of a denial, for people who may know more than the caller
	memory   memory
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

// pathVariable is what the path has in place of a variable of its route, escaped.
func pathVariable(r *http.Request, name string) string { return infoFrom(r.Context()).vars[name] }

const requestIDHeader = "X-Request-Id"

// requestID gives every request an id: the caller's, if it is a sound one. The context
// of a request is made here once for all that is found out later: each further one
// would copy the request.
func (s *Server) requestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := &requestInfo{id: r.Header.Get(requestIDHeader), started: time.Now(), client: s.clientAddress(r)}
		if !validRequestID(info.id) {
			info.id = newRequestID()
		}
		w.Header().Set(requestIDHeader, info.id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestInfoKey{}, info)))
	})
}

// newRequestID is a random UUID (RFC 9562 §5.4). It has to be unique, and may be guessed:
// so it does without random numbers of the operating system, which take longer.
func newRequestID() string {
	var id uuid.UUID
	binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}

// validRequestID reports whether id matches ^[A-Za-z0-9._-]{1,128}$.
func validRequestID(id string) bool {
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return len(id) >= 1 && len(id) <= 128
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
		rec := noted(w)
		defer func() { // also when the connection is broken off
			value := recover()
			s.logAccess(r, finalStatus(rec.status, value), rec.bytes)
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

func (s *Server) logAccess(r *http.Request, status int, bytes int64) {
	level := accessLevel(status, r.URL.Path)
	if !s.Logger.Enabled(r.Context(), level) {
		return
	}
	info := infoFrom(r.Context())
	s.Logger.LogAttrs(r.Context(), level, "request", accessAttrs(r, info, status, bytes, time.Since(info.started))...)
}

func accessAttrs(r *http.Request, info *requestInfo, status int, bytes int64, duration time.Duration) []slog.Attr {
	attrs := make([]slog.Attr, 0, 10) // as many as there can be
	attrs = append(attrs,
		slog.String("method", r.Method), slog.String("path", withoutKeys(r.URL.Path)),
		slog.Int("status", status), slog.Int64("bytes", bytes),
		slog.Duration("duration", duration), slog.String("caller", info.caller.Name),
		slog.String("client", clientText(info.client)),
	)
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

// securityHeaders suit an API that browsers have no business rendering. All answers
// share the values, which nobody changes: setting a header replaces them.
func securityHeaders(next http.Handler) http.Handler {
	constant := []struct {
		name   string // in canonical form
		values []string
	}{
		{"X-Content-Type-Options", []string{"nosniff"}},
		{"X-Frame-Options", []string{"DENY"}},
		{"Content-Security-Policy", []string{"default-src 'none'; frame-ancestors 'none'"}},
		{"Referrer-Policy", []string{"strict-origin-when-cross-origin"}},
		{"Strict-Transport-Security", []string{"max-age=31536000; includeSubDomains"}},
		{"Cache-Control", []string{"private, no-store"}},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for _, header := range constant {
			h[header.name] = header.values
		}
		next.ServeHTTP(w, r)
	})
}

// identityHeaders tell services behind this one who asks. From outside they are
// lies. The names are in canonical form.
var identityHeaders = []string{
	"X-Wallet-Address", "X-Conviction-Tier", "X-Conviction-Source", "X-Memory-Context",
	"X-Model-Pool", "X-Economic-Start-Ms", "X-Nft-Id",
}

func dropIdentityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range identityHeaders {
			delete(r.Header, name)
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
