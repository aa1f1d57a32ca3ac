package auth

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// ErrInvalidToken says that a token is not one of this service's, or no longer. The
// reason that is wrapped with it is for the log: it would help whoever forges.
var ErrInvalidToken = errors.New("invalid token")

const (
	// Issuer is who issues the tokens, and Audience whom they are for.
	Issuer   = "dixie-bff"
	Audience = "dixie-bff"

	// DefaultKeyID is the kid of tokens when none is configured.
	DefaultKeyID = "dixie-es256-v1"

	// TokenLifetime is how long a token that is issued lasts.
	TokenLifetime = time.Hour

	// maxLifetime is the longest that a token may last, and leeway how far the clock
	// of another machine may be off.
	maxLifetime = 24 * time.Hour
	leeway      = 30 * time.Second

	// maxToken is the greatest size of a token, in bytes. Those that are issued have
	// about 450.
	maxToken = 4096

	tokenType = "at+jwt" // RFC 9068 §2.1
)

// TokenConfig is what tokens are issued and verified with.
type TokenConfig struct {
	// PrivateKey decides the algorithm. Text that begins with -----BEGIN is an EC
	// P-256 key, PEM-encoded in the form of SEC 1 or PKCS #8, where \n may stand for a
	// line feed: ES256. Any other is a secret of at least 32 characters: HS256.
	PrivateKey string

	// KeyID is the kid of ES256 tokens; empty means DefaultKeyID. HS256 tokens carry
	// none.
	KeyID string

	// LegacySecret verifies HS256 tokens from before the switch to ES256. Empty means
	// that none are accepted.
	LegacySecret string

	// PreviousKeys are public keys, PEM-encoded, that verify tokens and are published
	// besides that of PrivateKey. A line "kid: name" before a key is what tokens call
	// it; else that is its RFC 7638 thumbprint, and for the first also DefaultKeyID
	// when PrivateKey has another KeyID.
	PreviousKeys string

	// AllowShortSecret allows secrets that are too short. Only for tests.
	AllowShortSecret bool
}

// Tokens issues and verifies the tokens that signing in gives. It is safe for
// concurrent use.
//
// A token does not choose how it is verified. If it names a key (kid), that key
// verifies it, by ES256, or nothing does; if it names none, the HS256 secret
// verifies it, if there is one. A key has one algorithm, and another one in the
// token's header is refused.
type Tokens struct {
	method jwt.SigningMethod
	key    any    // *ecdsa.PrivateKey or []byte
	kid    string // empty with HS256

	public map[string]*ecdsa.PublicKey // by kid
	secret []byte                      // of tokens without kid; nil when there is none
	keySet []byte
}

// NewTokens reads the keys. The error joins all that is wrong with them, naming the
// variables of the service; it quotes none of their values.
func NewTokens(config TokenConfig) (*Tokens, error) {
	t := &Tokens{public: map[string]*ecdsa.PublicKey{}}
	err := errors.Join(t.readKey(config), t.readLegacySecret(config), t.readPublicKeys(config))
	if err != nil {
		return nil, err
	}
	return t, nil
}

// readKey reads the key that tokens are signed with.
func (t *Tokens) readKey(config TokenConfig) error {
	if !isPEM(config.PrivateKey) {
		secret := []byte(config.PrivateKey)
		t.method, t.key, t.secret = jwt.SigningMethodHS256, secret, secret
		return named("DIXIE_JWT_PRIVATE_KEY", checkHMACSecret(config.PrivateKey, config.AllowShortSecret))
	}
	key, err := parsePrivateKey(config.PrivateKey)
	t.method, t.key, t.kid = jwt.SigningMethodES256, key, cmp.Or(config.KeyID, DefaultKeyID)
	return errors.Join(named("DIXIE_JWT_PRIVATE_KEY", err), named("DIXIE_JWT_KID", checkKeyID(t.kid)))
}

// readLegacySecret reads the secret of tokens from before the switch. Beside an HS256
// secret it may only be the same: such tokens carry no kid that would choose one.
func (t *Tokens) readLegacySecret(config TokenConfig) error {
	const name = "DIXIE_JWT_LEGACY_HS256_SECRET"
	if config.LegacySecret == "" {
		return nil
	}
	if t.method == jwt.SigningMethodHS256 && config.PrivateKey != "" && !SameSecret(config.LegacySecret, config.PrivateKey) {
		return named(name, errors.New("differs from the HS256 secret in DIXIE_JWT_PRIVATE_KEY, and only one can verify: it is for services that sign with a PEM key"))
	}
	t.secret = []byte(config.LegacySecret)
	return named(name, checkHMACSecret(config.LegacySecret, config.AllowShortSecret))
}

// readPublicKeys collects all keys that verify tokens with a kid.
func (t *Tokens) readPublicKeys(config TokenConfig) error {
	previous, err := parsePublicKeys(config.PreviousKeys)
	var keys []publicKey
	if key, ok := t.key.(*ecdsa.PrivateKey); ok && key != nil {
		keys = append(keys, publicKey{kid: t.kid, key: &key.PublicKey})
	}
	keys = append(keys, previous...)
	if len(previous) > 0 && !previous[0].named && !slices.ContainsFunc(keys, hasKeyID(DefaultKeyID)) {
		// What it signed before anyone thought of rotation calls it so.
		keys = append(keys, publicKey{kid: DefaultKeyID, key: previous[0].key})
	}
	for i, k := range keys {
		if slices.ContainsFunc(keys[:i], hasKeyID(k.kid)) {
			err = errors.Join(err, fmt.Errorf("two keys have the kid %q, which can name only one", k.kid))
		}
		t.public[k.kid] = k.key
	}
	t.keySet = keySet(keys)
	return named("DIXIE_JWT_PREVIOUS_PUBLIC_KEYS", err)
}

func hasKeyID(kid string) func(publicKey) bool {
	return func(k publicKey) bool { return k.kid == kid }
}

// named puts the name of a setting before what is wrong with it.
func named(setting string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", setting, err)
	}
	return nil
}

// JWKS is the JSON document of all public keys that verify tokens (RFC 7517 §5),
// empty when there is only an HS256 secret.
func (t *Tokens) JWKS() []byte { return bytes.Clone(t.keySet) }

// Algorithm is how tokens are signed: ES256 or HS256.
func (t *Tokens) Algorithm() string { return t.method.Alg() }

// Issue signs a token for a wallet, which expires [TokenLifetime] after now, in whole
// seconds.
func (t *Tokens) Issue(wallet Address, now time.Time) (token string, expires time.Time, err error) {
	issued := now.Unix()
	expires = time.Unix(issued, 0).Add(TokenLifetime).UTC()
	unsigned := jwt.NewWithClaims(t.method, jwt.MapClaims{
		"sub": wallet.String(), "role": RoleTeam, "iss": Issuer, "aud": Audience,
		"iat": issued, "exp": expires.Unix(), "jti": newTokenID(),
	})
	unsigned.Header["typ"] = tokenType
	if t.kid != "" {
		unsigned.Header["kid"] = t.kid
	}
	token, err = unsigned.SignedString(t.key)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign a token: %w", err)
	}
	return token, expires, nil
}

// newTokenID is 128 random bits.
func newTokenID() string {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	return base64.RawURLEncoding.EncodeToString(random)
}

// Claims are what a token says.
type Claims struct {
	Wallet    Address
	Role      string // see ScopesOf
	ExpiresAt time.Time
	ID        string // empty in tokens of the service before this one
}

// Verify returns what a token says if it is one of this service's and valid now: its
// signature, who issued it and for whom, its times with a leeway of 30 s, a lifetime
// of at most 24 h, and a wallet as its subject. HS256 tokens may lack audience and
// type, as those of the service before this one do. Any error matches
// [ErrInvalidToken].
func (t *Tokens) Verify(token string, now time.Time) (Claims, error) {
	claims, err := t.verify(token, now)
	if err != nil {
		return Claims{}, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	return claims, nil
}

func (t *Tokens) verify(token string, now time.Time) (Claims, error) {
	header, err := parseTokenHeader(token)
	if err != nil {
		return Claims{}, err
	}
	method, key, err := t.keyOf(header)
	if err != nil {
		return Claims{}, err
	}
	var claims tokenClaims
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{method.Alg()}), jwt.WithStrictDecoding(), jwt.WithIssuer(Issuer),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(leeway),
		jwt.WithTimeFunc(func() time.Time { return now }),
	}
	_, err = jwt.NewParser(options...).ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return key, nil })
	if err != nil {
		return Claims{}, err
	}
	return claims.check(method == jwt.SigningMethodES256)
}

// keyOf is the key that verifies a token, and the only algorithm that it is for.
func (t *Tokens) keyOf(h tokenHeader) (jwt.SigningMethod, any, error) {
	if h.KeyID == nil {
		if h.Algorithm != jwt.SigningMethodHS256.Alg() || t.secret == nil {
			return nil, nil, fmt.Errorf("algorithm %q without a kid", h.Algorithm)
		}
		return jwt.SigningMethodHS256, t.secret, h.checkType(false)
	}
	key, ok := t.public[*h.KeyID]
	if !ok {
		return nil, nil, fmt.Errorf("unknown kid %q", *h.KeyID)
	}
	if h.Algorithm != jwt.SigningMethodES256.Alg() {
		return nil, nil, fmt.Errorf("algorithm %q with a key for ES256", h.Algorithm)
	}
	return jwt.SigningMethodES256, key, h.checkType(true)
}
