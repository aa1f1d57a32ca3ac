package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// tokenHeader is a token's JOSE header (RFC 7515 §4).
type tokenHeader struct {
	Algorithm string  `json:"alg"`
	KeyID     *string `json:"kid"`
	Type      *string `json:"typ"`

	// These bring a key along, or a rule that has to be understood. None is ours.
	Critical jsontext.Value `json:"crit"`
	Key      jsontext.Value `json:"jwk"`
	KeyURL   jsontext.Value `json:"jku"`
	Chain    jsontext.Value `json:"x5c"`
	ChainURL jsontext.Value `json:"x5u"`
}

var errMalformedToken = errors.New("must be three base64url segments")

// parseTokenHeader reads the header of a token, and refuses what cannot be a token
// before anything is computed for it. Members that appear twice are refused, so that
// no two readers see different headers.
func parseTokenHeader(token string) (tokenHeader, error) {
	var h tokenHeader
	if len(token) > maxToken {
		return h, fmt.Errorf("token of %d bytes, more than %d", len(token), maxToken)
	}
	// The decoder passes over line feeds, by which one token had many spellings.
	if strings.ContainsAny(token, "\r\n") {
		return h, errMalformedToken
	}
	segment, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil {
		return h, errMalformedToken
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return h, fmt.Errorf("header: %w", err)
	}
	if h.Critical != nil || h.Key != nil || h.KeyURL != nil || h.Chain != nil || h.ChainURL != nil {
		return h, errors.New("header: crit, jwk, jku, x5c and x5u are not accepted")
	}
	return h, nil
}

// checkType refuses what other services sign for other ends (RFC 8725 §3.11). A type
// is a media type, whose application/ may be left out (RFC 7515 §4.1.9).
func (h tokenHeader) checkType(required bool) error {
	if h.Type == nil && !required {
		return nil
	}
	if h.Type == nil {
		return errors.New("header: typ is required")
	}
	name := strings.TrimPrefix(strings.ToLower(*h.Type), "application/")
	if name == tokenType || name == "jwt" && !required {
		return nil
	}
	return fmt.Errorf("header: typ must be %s, found %q", tokenType, *h.Type)
}

// tokenClaims are a token's claims (RFC 7519 §4.1), as they are written.
type tokenClaims struct {
	Issuer    string           `json:"iss"`
	Subject   string           `json:"sub"`
	Audience  jwt.ClaimStrings `json:"aud"`
	Role      string           `json:"role"`
	ID        string           `json:"jti"`
	IssuedAt  *float64         `json:"iat"`
	ExpiresAt *float64         `json:"exp"`
	NotBefore *float64         `json:"nbf"`
}

// UnmarshalJSON refuses members that appear twice, and takes names by the letter,
// neither of which encoding/json does.
func (c *tokenClaims) UnmarshalJSON(text []byte) error {
	type plain tokenClaims
	return json.Unmarshal(text, (*plain)(c))
}

// check is what is left to check of the claims of a token whose signature, issuer and
// times are right.
func (c *tokenClaims) check(strict bool) (Claims, error) {
	if c.IssuedAt == nil {
		return Claims{}, errors.New("iat is required, because a lifetime begins with it")
	}
	if lifetime := *c.ExpiresAt - *c.IssuedAt; lifetime > maxLifetime.Seconds() {
		return Claims{}, fmt.Errorf("lifetime of %.0f s, more than %s", lifetime, maxLifetime)
	}
	if (strict || c.Audience != nil) && !slices.Contains(c.Audience, Audience) {
		return Claims{}, fmt.Errorf("aud must contain %s, found %q", Audience, c.Audience)
	}
	wallet, err := ParseAddress(c.Subject)
	if err != nil {
		return Claims{}, fmt.Errorf("sub: %w", err)
	}
	return Claims{Wallet: wallet, Role: c.Role, ExpiresAt: time.Unix(int64(math.Floor(*c.ExpiresAt)), 0).UTC(), ID: c.ID}, nil
}

// The getters of [jwt.Claims], by which the library checks issuer and times.

func (c *tokenClaims) GetExpirationTime() (*jwt.NumericDate, error) {
	return numericDate("exp", c.ExpiresAt)
}
func (c *tokenClaims) GetIssuedAt() (*jwt.NumericDate, error) { return numericDate("iat", c.IssuedAt) }
func (c *tokenClaims) GetNotBefore() (*jwt.NumericDate, error) {
	return numericDate("nbf", c.NotBefore)
}
func (c *tokenClaims) GetIssuer() (string, error)             { return c.Issuer, nil }
func (c *tokenClaims) GetSubject() (string, error)            { return c.Subject, nil }
func (c *tokenClaims) GetAudience() (jwt.ClaimStrings, error) { return c.Audience, nil }

// maxSeconds is the end of the year 9999. Times beyond it overflow somewhere.
const maxSeconds = 253402300799

// numericDate is a time in seconds since 1970 (RFC 7519 §2); nil when it is absent.
func numericDate(name string, seconds *float64) (*jwt.NumericDate, error) {
	if seconds == nil {
		return nil, nil
	}
	if math.Abs(*seconds) > maxSeconds {
		return nil, fmt.Errorf("%s is beyond the year 9999", name)
	}
	return &jwt.NumericDate{Time: time.Unix(int64(math.Floor(*seconds)), 0)}, nil
}
