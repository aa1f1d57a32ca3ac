package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// TestSignIn: a wallet signs in, its token verifies against the published keys, and
// opens what is closed without it, on every replica.
func TestSignIn(t *testing.T) {
	t.Parallel()
	w := member(t)
	c := anyone(t, deployed(t))
	token := w.signIn(t, c)

	claims := verify(t, c, token)
	if claims.Subject != w.address || claims.Role != "team" || claims.Issuer != "dixie-bff" || claims.ID == "" {
		t.Errorf("the token says %+v", claims)
	}
	if lasts := claims.ExpiresAt.Sub(claims.IssuedAt.Time); lasts != time.Hour {
		t.Errorf("the token lasts %s", lasts)
	}
	var said struct {
		Wallet, Role string
		Exp          int64
	}
	for _, url := range doors(t) {
		c := c.at(url)
		c.get("/api/reputation").refused(http.StatusUnauthorized, "unauthorized")
		c.bearer(token+"x").get("/api/reputation").refused(http.StatusUnauthorized, "invalid_token")
		c.bearer(token).get("/api/reputation?limit=1").want(http.StatusOK)
		c.bearer(token).get("/api/admin/allowlist").refused(http.StatusForbidden, "insufficient_scope")
		c.bearer(token).get("/api/auth/verify").want(http.StatusOK).into(&said)
		if said.Wallet != w.address || said.Role != "team" || said.Exp != claims.ExpiresAt.Unix() {
			t.Errorf("%s: the token is said to say %+v", url, said)
		}
	}
}

// TestSignInIsRefused: a message signs in once, on whichever replica, and only the
// wallet that signed it; nobody signs in who is not on the list.
func TestSignInIsRefused(t *testing.T) {
	t.Parallel()
	w, stranger := member(t), newWallet(t)
	c := anyone(t, deployed(t))
	var nonce struct{ Nonce string }
	c.get("/api/auth/nonce").want(http.StatusOK).into(&nonce)
	signed := w.sign(w.message(site(t), nonce.Nonce))

	forged := signed
	forged.Signature = stranger.sign(signed.Message).Signature
	c.post("/api/auth/siwe", forged).refused(http.StatusUnauthorized, "invalid_signature")
	c.post("/api/auth/siwe", w.sign(w.message("https://elsewhere.example", nonce.Nonce))).refused(http.StatusUnauthorized, "message_refused")
	c.post("/api/auth/siwe", stranger.sign(stranger.message(site(t), nonce.Nonce))).refused(http.StatusForbidden, "forbidden")

	c.post("/api/auth/siwe", signed).want(http.StatusOK)
	for _, url := range doors(t) {
		c.at(url).post("/api/auth/siwe", signed).refused(http.StatusUnauthorized, "message_replayed")
	}
}

// claims are those of a token of ours.
type claims struct {
	jwt.RegisteredClaims
	Role string `json:"role"`
}

// keySet is a JWK set (RFC 7517).
type keySet struct {
	Keys []struct{ Kty, Crv, Kid, Alg, Use, X, Y string }
}

// verify verifies a token as any other service can: with the key set, and with
// nothing else that is known of the service but its name.
func verify(t *testing.T, c *client, token string) claims {
	t.Helper()
	var set keySet
	c.get("/api/auth/.well-known/jwks.json").want(http.StatusOK).into(&set)
	if len(set.Keys) == 0 {
		t.Skip("the deployment signs tokens with a secret: there is no key to verify them with")
	}
	var got claims
	parsed, err := jwt.ParseWithClaims(token, &got, set.find, jwt.WithValidMethods([]string{"ES256"}),
		jwt.WithIssuer("dixie-bff"), jwt.WithAudience("dixie-bff"), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	if err != nil || !parsed.Valid {
		t.Fatalf("the token does not verify: %v", err)
	}
	return got
}

// find is the key that a token names.
func (s keySet) find(token *jwt.Token) (any, error) {
	for _, key := range s.Keys {
		if key.Kid != token.Header["kid"] || key.Alg != token.Method.Alg() {
			continue
		}
		x, errX := base64.RawURLEncoding.DecodeString(key.X)
		y, errY := base64.RawURLEncoding.DecodeString(key.Y)
		if errX != nil || errY != nil || key.Kty != "EC" || key.Crv != "P-256" || key.Use != "sig" {
			return nil, fmt.Errorf("the key %q is none for ES256", key.Kid)
		}
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	}
	return nil, fmt.Errorf("no key is called %v", token.Header["kid"])
}
