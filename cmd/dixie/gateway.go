package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"dixie/auth"
	"dixie/http"
)

// callers knows who asks, by what they send: an API key, or a token that a wallet
// got by signing in.
type callers struct {
	keys   *auth.Allowlist
	tokens *auth.Tokens // nil: there are no tokens
}

// Authenticate implements [http.Authenticator].
func (c callers) Authenticate(_ context.Context, token string) (http.Caller, error) {
	if strings.HasPrefix(token, auth.KeyPrefix) || c.tokens == nil {
		key, err := c.keys.Find(token)
		if err != nil {
			return http.Caller{}, fmt.Errorf("%w: %w", http.ErrUnauthenticated, err)
		}
		return http.Caller{Name: key.Name, Scopes: names(key.Scopes)}, nil
	}
	claims, err := c.tokens.Verify(token, time.Now())
	if err != nil {
		return http.Caller{}, fmt.Errorf("%w: %w", http.ErrUnauthenticated, err)
	}
	wallet := claims.Wallet.String()
	return http.Caller{Name: wallet, Scopes: names(auth.ScopesOf(claims.Role)), Wallet: wallet}, nil
}

func names(scopes []auth.Scope) []string {
	texts := make([]string, len(scopes))
	for i, scope := range scopes {
		texts[i] = string(scope)
	}
	return texts
}

// signIn lets wallets sign in.
type signIn struct {
	verifier *auth.SignIn
	tokens   *auth.Tokens
}

// Nonce implements [http.SignIn].
func (s signIn) Nonce(ctx context.Context) (string, error) { return s.verifier.NewNonce(ctx) }

// SignIn implements [http.SignIn].
func (s signIn) SignIn(ctx context.Context, message, signature string) (http.Session, error) {
	wallet, err := s.verifier.Verify(ctx, message, signature)
	if err != nil {
		return http.Session{}, signInError(err)
	}
	token, expires, err := s.tokens.Issue(wallet, time.Now())
	if err != nil {
		return http.Session{}, err
	}
	return http.Session{
		Token: token, Wallet: wallet.String(), Role: auth.RoleTeam,
		ExpiresAt: expires, Lifetime: auth.TokenLifetime,
	}, nil
}

// signInErrors are what the HTTP server calls the ways in which signing in fails.
var signInErrors = map[error]error{
	auth.ErrSignInRefused:   http.ErrSignInRefused,
	auth.ErrSignInExpired:   http.ErrSignInExpired,
	auth.ErrSignInSignature: http.ErrSignInSignature,
	auth.ErrSignInReplayed:  http.ErrSignInReplayed,
	auth.ErrSignInForbidden: http.ErrNotAdmitted,
}

func signInError(err error) error {
	if message := (*auth.MessageError)(nil); errors.As(err, &message) {
		return (*http.MessageError)(message)
	}
	for ours, theirs := range signInErrors {
		if errors.Is(err, ours) {
			return fmt.Errorf("%w: %w", theirs, err)
		}
	}
	return err
}

// Session implements [http.SignIn].
func (s signIn) Session(token string) (http.Session, error) {
	claims, err := s.tokens.Verify(token, time.Now())
	if err != nil {
		return http.Session{}, fmt.Errorf("%w: %w", http.ErrUnauthenticated, err)
	}
	return http.Session{Token: token, Wallet: claims.Wallet.String(), Role: claims.Role, ExpiresAt: claims.ExpiresAt}, nil
}

// KeySet implements [http.SignIn].
func (s signIn) KeySet() []byte { return s.tokens.JWKS() }

// allowlist lets administrators change who may use the service.
type allowlist struct {
	*auth.Allowlist
	everyone bool // every wallet is admitted as long as none is listed, for development
}

// Admits implements [http.Allowlist].
func (a allowlist) Admits(wallet string) bool {
	address, err := auth.ParseAddress(wallet)
	return err == nil && a.admits(address)
}

func (a allowlist) admits(wallet auth.Address) bool {
	return a.HasWallet(wallet) || a.everyone && len(a.Allowlist.Entries().Wallets) == 0
}

// Entries implements [http.Allowlist].
func (a allowlist) Entries() http.Entries {
	entries := a.Allowlist.Entries()
	var listed http.Entries
	for _, wallet := range entries.Wallets {
		listed.Wallets = append(listed.Wallets, wallet.String())
	}
	for _, key := range entries.Keys {
		listed.Keys = append(listed.Keys, newAPIKey(key))
	}
	return listed
}

func newAPIKey(key auth.Key) http.APIKey {
	return http.APIKey{Name: key.Name, Scopes: names(key.Scopes), CreatedAt: key.CreatedAt}
}

// AddWallet implements [http.Allowlist].
func (a allowlist) AddWallet(ctx context.Context, wallet string) (string, error) {
	address, err := auth.ParseAddress(wallet)
	if err != nil {
		return "", &http.EntryError{Field: "value", Detail: err.Error()}
	}
	return address.String(), entryError(a.Allowlist.AddWallet(ctx, address, time.Now()))
}

// AddKey implements [http.Allowlist].
func (a allowlist) AddKey(ctx context.Context, wanted http.APIKey, secret string) (http.APIKey, string, error) {
	scopes, err := auth.ParseScopes(strings.Join(wanted.Scopes, ","))
	if err != nil {
		return http.APIKey{}, "", &http.EntryError{Field: "scopes", Detail: err.Error()}
	}
	now := time.Now()
	key := auth.KeyOf(wanted.Name, secret, scopes, now)
	if secret == "" {
		secret, key = auth.NewKey(wanted.Name, scopes, now)
	} else if err := auth.CheckSecret(secret); err != nil {
		return http.APIKey{}, "", &http.EntryError{Field: "value", Detail: err.Error()}
	}
	if key.Name == "" {
		key.Name = "key-" + strings.TrimPrefix(key.Hash, "sha256:")[:8]
	}
	if err := auth.CheckKeyName(key.Name); err != nil {
		return http.APIKey{}, "", &http.EntryError{Field: "name", Detail: err.Error()}
	}
	return newAPIKey(key), secret, entryError(a.Allowlist.AddKey(ctx, key, now))
}

// Remove implements [http.Allowlist].
func (a allowlist) Remove(ctx context.Context, entry string) error {
	if wallet, err := auth.ParseAddress(entry); err == nil {
		return entryError(a.RemoveWallet(ctx, wallet, time.Now()))
	}
	if key, err := a.Find(entry); err == nil { // as clients of the service before this one say it
		entry = key.Name
	}
	return entryError(a.RemoveKey(ctx, entry, time.Now()))
}

// RotateKey implements [http.Allowlist].
func (a allowlist) RotateKey(ctx context.Context, name string) (http.APIKey, string, error) {
	secret, key, err := a.Allowlist.RotateKey(ctx, name, time.Now())
	return newAPIKey(key), secret, entryError(err)
}

// entryError is what the HTTP server calls the ways in which changes fail.
func entryError(err error) error {
	switch {
	case errors.Is(err, auth.ErrEntryExists):
		return fmt.Errorf("%w: %w", http.ErrListed, err)
	case errors.Is(err, auth.ErrNoEntry):
		return fmt.Errorf("%w: %w", http.ErrNotListed, err)
	}
	return err
}
