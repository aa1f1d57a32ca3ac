package http

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// SignIn lets wallets sign in with Ethereum (ERC-4361), and knows the tokens that
// they get. It is safe for concurrent use.
type SignIn interface {
	// Nonce is one that a message can sign in with, once.
	Nonce(ctx context.Context) (string, error)
	// SignIn verifies a message and its signature and issues a token. It fails with
	// a [*MessageError], one of the ErrSignIn errors, [ErrNotAdmitted] or
	// [reputation.ErrUnavailable].
	SignIn(ctx context.Context, message, signature string) (Session, error)
	// Session is what a token says. It fails with [ErrUnauthenticated] when the
	// token is not valid.
	Session(token string) (Session, error)
	// KeySet is the JSON of the public keys that verify tokens (RFC 7517 §5).
	KeySet() []byte
}

// Session is what a wallet gets by signing in.
type Session struct {
	Token     string
	Wallet    string // with its checksum (EIP-55)
	Role      string
	ExpiresAt time.Time
	Lifetime  time.Duration // of a token that was just issued
}

// How signing in fails. Callers are told which it was, and no more.
var (
	ErrSignInSignature = errors.New("the signature is not the wallet's")
	ErrSignInExpired   = errors.New("the message is not valid at this time")
	ErrSignInReplayed  = errors.New("the message has signed in before, or its nonce is not one of ours")
	ErrSignInRefused   = errors.New("the message is for another site or chain")

	// ErrNotAdmitted says that a wallet is not on the allowlist.
	ErrNotAdmitted = errors.New("the wallet is not on the allowlist")

	errNoSignIn = errors.New("signing in is not configured")
)

// MessageError says why a message or its signature cannot be read. Its text is for
// the caller, who wrote them.
type MessageError struct {
	Field, Detail string
}

func (e *MessageError) Error() string { return e.Field + ": " + e.Detail }

const (
	// maxSignIn bounds a sign-in in bytes: a message of 4 KiB with every character
	// escaped fits.
	maxSignIn = 32 << 10
	// keySetAge is for how long anyone may keep the public keys.
	keySetAge = 5 * time.Minute
)

type nonceAnswer struct {
	Nonce string `json:"nonce"`
}

// getNonce serves GET /api/auth/nonce.
func (s *Server) getNonce(w http.ResponseWriter, r *http.Request) error {
	if s.SignIn == nil {
		return errNoSignIn
	}
	if err := parseQuery(r).err; err != nil {
		return err
	}
	nonce, err := s.SignIn.Nonce(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, nonceAnswer{nonce})
	return nil
}

type signInRequest struct {
	Message   string `json:"message"`
	Signature string `json:"signature"`
}

type signInAnswer struct {
	Token     string `json:"token"`
	Wallet    string `json:"wallet"`
	ExpiresIn string `json:"expiresIn"` // such as 1h
}

// postSignIn serves POST /api/auth/siwe.
func (s *Server) postSignIn(w http.ResponseWriter, r *http.Request) error {
	if s.SignIn == nil {
		return errNoSignIn
	}
	if err := parseQuery(r).err; err != nil {
		return err
	}
	var request signInRequest
	if err := readJSON(r, &request); err != nil {
		return err
	}
	switch {
	case request.Message == "":
		return badRequest("message", "is required: an ERC-4361 message")
	case request.Signature == "":
		return badRequest("signature", "is required: 0x and 130 hexadecimal digits")
	}
	session, err := s.SignIn.SignIn(r.Context(), request.Message, request.Signature)
	if err != nil {
		return err
	}
	info := infoFrom(r.Context())
	info.access, info.caller.Name = "allow", session.Wallet
	writeJSON(w, http.StatusOK, signInAnswer{session.Token, session.Wallet, shortDuration(session.Lifetime)})
	return nil
}

// shortDuration is 1h instead of 1h0m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

type sessionAnswer struct {
	Wallet string `json:"wallet"`
	Role   string `json:"role"`
	Exp    int64  `json:"exp"` // seconds since 1970
}

// getVerify serves GET /api/auth/verify: what the bearer token says, if it would
// be let in.
func (s *Server) getVerify(w http.ResponseWriter, r *http.Request) error {
	if s.SignIn == nil {
		return errNoSignIn
	}
	if err := parseQuery(r).err; err != nil {
		return err
	}
	token := bearer(r)
	if token == "" {
		return &requestError{
			status: http.StatusUnauthorized, code: "unauthorized",
			message: "send the header Authorization: Bearer <token>, with a token from POST /api/auth/siwe",
		}
	}
	session, err := s.SignIn.Session(token)
	if err != nil {
		return err
	}
	if !s.Allowlist.Admits(session.Wallet) {
		return ErrNotAdmitted
	}
	infoFrom(r.Context()).access = "allow"
	writeJSON(w, http.StatusOK, sessionAnswer{session.Wallet, session.Role, session.ExpiresAt.Unix()})
	return nil
}

// getKeySet serves GET /api/auth/.well-known/jwks.json. Without keys the set is
// empty.
func (s *Server) getKeySet(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).err; err != nil {
		return err
	}
	set := []byte(`{"keys":[]}`)
	if s.SignIn != nil {
		set = s.SignIn.KeySet()
	}
	writePublic(w, r, set, keySetAge)
	return nil
}

// writePublic answers with JSON that anyone may see and keep for a while, or that
// the caller has it.
func writePublic(w http.ResponseWriter, r *http.Request, text []byte, age time.Duration) {
	sum := sha256.Sum256(text)
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	w.Header().Set("ETag", etag)
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", seconds(age)))
	if matches(r.Header.Get("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(text)
}
