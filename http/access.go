package http

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"
	"strings"
)

const (
	adminKeyHeader = "X-Admin-Key"
	// adminName is the administrators' name in the log.
	adminName = "administrator"
)

var (
	errNoToken  = errors.New("no bearer token")
	errAdminKey = errors.New("wrong administrators' key")
)

// authenticate finds out who asks. It refuses nobody: what a route needs is for
// the gate to know.
func (s *Server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := infoFrom(r.Context())
		info.identity = errNoToken
		if info.route.access != probe {
			info.caller, info.identity = s.identify(r)
		}
		next.ServeHTTP(w, r)
	})
}

// identify is who holds what a request brings: a bearer token, and the
// administrators' key in a header of its own, which adds to what the token's
// holder may do.
func (s *Server) identify(r *http.Request) (Caller, error) {
	caller, err := s.holder(r.Context(), bearer(r))
	key := r.Header.Get(adminKeyHeader)
	switch {
	case key == "":
		return caller, err
	case !s.isAdminKey(key):
		return Caller{}, errAdminKey
	case errors.Is(err, errNoToken):
		return administrator(), nil
	}
	caller.Scopes = append(slices.Clip(caller.Scopes), scopeAdmin)
	return caller, err
}

// holder is who holds a token.
func (s *Server) holder(ctx context.Context, token string) (Caller, error) {
	switch {
	case token == "":
		return Caller{}, errNoToken
	case s.isAdminKey(token):
		return administrator(), nil
	}
	caller, err := s.Authenticator.Authenticate(ctx, token)
	if err != nil {
		return Caller{}, err
	}
	return caller, nil
}

func administrator() Caller { return Caller{Name: adminName, Scopes: []string{scopeAdmin}} }

// isAdminKey compares hashes, in a time that tells nothing of the key.
func (s *Server) isAdminKey(given string) bool {
	if s.AdminKey == "" {
		return false
	}
	sum := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(sum[:], s.adminKey[:]) == 1
}

// bearer is the bearer token (RFC 6750 §2.1), and empty without one.
func bearer(r *http.Request) string {
	kind, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(kind, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// gate lets those through who may use the route.
func (s *Server) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := infoFrom(r.Context())
		if !info.route.open() {
			if err := s.permit(info); err != nil {
				s.writeError(w, r, err)
				return
			}
			info.access = "allow"
		}
		next.ServeHTTP(w, r)
	})
}

// permit is nil when the caller may use the route. A token of a wallet that has
// left the allowlist is worth nothing, however long it is valid.
func (s *Server) permit(info *requestInfo) error {
	switch caller := info.caller; {
	case info.identity != nil:
		return info.identity
	case caller.Wallet != "" && !s.Allowlist.Admits(caller.Wallet):
		return ErrNotAdmitted
	case !caller.May(info.route.access):
		return scopeError(info.route.access)
	}
	return nil
}

// deny notes why a request was refused, for the access log.
func deny(r *http.Request, err error, code string) {
	info := infoFrom(r.Context())
	info.access, info.reason, info.detail = "deny", code, err.Error()
	switch {
	case errors.Is(err, errAdminKey):
		info.reason = "wrong_admin_key"
	case errors.Is(err, ErrNotAdmitted):
		info.reason = "not_on_allowlist"
	}
}
