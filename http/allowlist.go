package http

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// Allowlist is who may use the service: wallets that may sign in, and API keys.
// Changes are stored when they return. It is safe for concurrent use.
type Allowlist interface {
	// Admits reports whether a wallet may sign in and use its token.
	Admits(wallet string) bool
	// Entries are all wallets and keys.
	Entries() Entries
	// AddWallet adds a wallet and returns it with its checksum. It fails with an
	// [*EntryError] or [ErrListed].
	AddWallet(ctx context.Context, wallet string) (string, error)
	// AddKey adds an API key: the given secret, or a new one when that is empty,
	// which is returned. A key without a name gets one. It fails with an
	// [*EntryError] or [ErrListed].
	AddKey(ctx context.Context, key APIKey, secret string) (APIKey, string, error)
	// Remove takes a wallet, or the key of a name or secret, off the list. It fails
	// with [ErrNotListed].
	Remove(ctx context.Context, entry string) error
	// RotateKey replaces the secret of the key of a name, from now on. It fails
	// with [ErrNotListed].
	RotateKey(ctx context.Context, name string) (APIKey, string, error)
}

// Entries are the entries of an allowlist.
type Entries struct {
	Wallets []string
	Keys    []APIKey
}

// APIKey is what is known of an API key. The key itself is not.
type APIKey struct {
	Name      string
	Scopes    []string
	CreatedAt time.Time // zero when unknown
}

var (
	// ErrListed says that an entry is on the allowlist already.
	ErrListed = errors.New("the entry is on the allowlist")
	// ErrNotListed says that an entry is not on the allowlist.
	ErrNotListed = errors.New("the entry is not on the allowlist")
)

// EntryError says what is wrong with an entry. Its text is for the caller.
type EntryError struct {
	Field, Detail string
}

func (e *EntryError) Error() string { return e.Field + ": " + e.Detail }

type keyView struct {
	Name      string   `json:"name"`
	Scopes    []string `json:"scopes"`
	CreatedAt string   `json:"created_at,omitempty"`
}

func newKeyView(key APIKey) keyView {
	view := keyView{Name: key.Name, Scopes: key.Scopes}
	if !key.CreatedAt.IsZero() {
		view.CreatedAt = key.CreatedAt.UTC().Format(time.RFC3339)
	}
	return view
}

type entriesView struct {
	Wallets []string  `json:"wallets"`
	Keys    []keyView `json:"apiKeys"`
}

// getAllowlist serves GET /api/admin/allowlist.
func (s *Server) getAllowlist(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).err; err != nil {
		return err
	}
	entries := s.Allowlist.Entries()
	view := entriesView{Wallets: append([]string{}, entries.Wallets...), Keys: []keyView{}}
	for _, key := range entries.Keys {
		view.Keys = append(view.Keys, newKeyView(key))
	}
	writeJSON(w, http.StatusOK, view)
	return nil
}

// The types of entries.
const (
	entryWallet = "wallet"
	entryKey    = "apiKey"
)

type entryRequest struct {
	Type   string   `json:"type"`
	Value  string   `json:"value"`
	Name   string   `json:"name"`
	Scopes []string `json:"scopes"`
}

// changed is the answer to a change of the allowlist.
type changed struct {
	OK   bool      `json:"ok"`
	Data entryView `json:"data"`
}

type entryView struct {
	Type  string `json:"type"`
	Value string `json:"value,omitempty"` // the wallet; or the key, which is shown this once
	*keyView
}

// addToAllowlist serves POST /api/admin/allowlist.
func (s *Server) addToAllowlist(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).err; err != nil {
		return err
	}
	var request entryRequest
	if err := readJSON(r, &request, json.RejectUnknownMembers(true)); err != nil {
		return err
	}
	switch request.Type {
	case entryWallet:
		return s.addWallet(w, r, request)
	case entryKey:
		return s.addKey(w, r, request)
	}
	return badRequest("type", fmt.Sprintf("must be wallet or apiKey, found %q", clip(request.Type)))
}

func (s *Server) addWallet(w http.ResponseWriter, r *http.Request, request entryRequest) error {
	if request.Name != "" || request.Scopes != nil {
		return badRequest("type", "a wallet has neither a name nor scopes")
	}
	wallet, err := s.Allowlist.AddWallet(r.Context(), request.Value)
	if err != nil {
		return err
	}
	s.audit(r, "added", wallet)
	writeJSON(w, http.StatusCreated, changed{true, entryView{Type: entryWallet, Value: wallet}})
	return nil
}

func (s *Server) addKey(w http.ResponseWriter, r *http.Request, request entryRequest) error {
	if request.Scopes == nil {
		request.Scopes = []string{scopeRead}
	}
	if len(request.Scopes) == 0 {
		return badRequest("scopes", "must not be empty; leave it out for read")
	}
	for _, scope := range request.Scopes {
		if !slices.Contains([]string{scopeRead, scopeAppend, scopeAdmin}, scope) {
			return badRequest("scopes", fmt.Sprintf("must be read, append or admin, found %q", clip(scope)))
		}
	}
	key, secret, err := s.Allowlist.AddKey(r.Context(), APIKey{Name: request.Name, Scopes: request.Scopes}, request.Value)
	if err != nil {
		return err
	}
	s.audit(r, "added", key.Name)
	writeJSON(w, http.StatusCreated, newKeyAnswer(key, secret))
	return nil
}

func newKeyAnswer(key APIKey, secret string) changed {
	view := newKeyView(key)
	return changed{true, entryView{Type: entryKey, Value: secret, keyView: &view}}
}

// removeFromAllowlist serves DELETE /api/admin/allowlist/{entry}.
func (s *Server) removeFromAllowlist(w http.ResponseWriter, r *http.Request) error {
	entry, err := pathEntry(r)
	if err != nil {
		return err
	}
	if err := s.Allowlist.Remove(r.Context(), entry); err != nil {
		return err
	}
	s.audit(r, "removed", withoutKeys(entry))
	writeJSON(w, http.StatusOK, struct {
		OK bool `json:"ok"`
	}{true})
	return nil
}

// rotateKey serves POST /api/admin/allowlist/{entry}/rotate.
func (s *Server) rotateKey(w http.ResponseWriter, r *http.Request) error {
	name, err := pathEntry(r)
	if err != nil {
		return err
	}
	key, secret, err := s.Allowlist.RotateKey(r.Context(), name)
	if err != nil {
		return err
	}
	s.audit(r, "rotated", key.Name)
	writeJSON(w, http.StatusOK, newKeyAnswer(key, secret))
	return nil
}

// pathEntry is the wallet, or the name of a key, that the path names.
func pathEntry(r *http.Request) (string, error) {
	if err := parseQuery(r).err; err != nil {
		return "", err
	}
	entry, err := url.PathUnescape(pathVariable(r, "entry"))
	if err != nil || entry == "" || strings.ContainsFunc(entry, func(c rune) bool { return c < ' ' }) {
		return "", badRequest("entry", "must be a wallet or the name of an API key")
	}
	return entry, nil
}

// audit writes down who changed the allowlist.
func (s *Server) audit(r *http.Request, change, entry string) {
	info := infoFrom(r.Context())
	s.Logger.LogAttrs(r.Context(), slog.LevelInfo, "allowlist changed",
		slog.String("request_id", info.id), slog.String("change", change), slog.String("entry", entry),
		slog.String("caller", info.caller.Name), slog.String("client", clientText(info.client)))
}
