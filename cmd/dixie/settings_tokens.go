package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"dixie/auth"
)

// tokenSettings are the keys of the tokens that signing in gives.
type tokenSettings struct {
	PrivateKey   string `name:"jwt-private-key" env:"DIXIE_JWT_PRIVATE_KEY" secret:"" placeholder:"KEY" help:"Key that signs tokens: an EC P-256 key in PEM form (ES256), in which \\n may stand for a line feed, or a secret of at least 32 characters (HS256)."`
	KeyID        string `name:"jwt-kid" env:"DIXIE_JWT_KID" default:"dixie-es256-v1" help:"Name of the key in ES256 tokens (kid). Give each key its own."`
	LegacySecret string `name:"jwt-legacy-hs256-secret" env:"DIXIE_JWT_LEGACY_HS256_SECRET" secret:"" placeholder:"SECRET" help:"Secret of HS256 tokens from before the switch to ES256, which verify as long as it is set."`
	PreviousKeys string `name:"jwt-previous-public-keys" env:"DIXIE_JWT_PREVIOUS_PUBLIC_KEYS" placeholder:"KEYS" help:"Public keys in PEM form that also verify tokens and are published. A line 'kid: NAME' before a key names it; else its RFC 7638 thumbprint does."`
}

// errNoSigningKey says that no tokens can be issued or verified.
var errNoSigningKey = errors.New("no key signs tokens: set DIXIE_JWT_PRIVATE_KEY to a key that dixie keygen makes")

// open reads the keys. Without any it fails with errNoSigningKey: nobody can sign in
// then. Any other error lists all that is wrong with them.
func (s tokenSettings) open() (*auth.Tokens, error) {
	return s.openWith(false)
}

func (s tokenSettings) openWith(shortSecrets bool) (*auth.Tokens, error) {
	if s.PrivateKey == "" && s.LegacySecret == "" && s.PreviousKeys == "" {
		return nil, errNoSigningKey
	}
	return auth.NewTokens(auth.TokenConfig{
		PrivateKey: s.PrivateKey, KeyID: s.KeyID, LegacySecret: s.LegacySecret, PreviousKeys: s.PreviousKeys,
		AllowShortSecret: shortSecrets,
	})
}

// openForServer is open, except that without any key it makes one for development, and
// else returns nil. For development secrets may be short.
func (s tokenSettings) openForServer(ctx context.Context, dev bool, logger *slog.Logger) (*auth.Tokens, error) {
	if s.PreviousKeys != "" && s.KeyID == auth.DefaultKeyID {
		logger.WarnContext(ctx, "tokens that previous keys signed under the default kid do not verify, because DIXIE_JWT_KID is still the default; give each key a kid of its own")
	}
	tokens, err := s.openWith(dev)
	if !errors.Is(err, errNoSigningKey) {
		return tokens, err
	}
	if !dev {
		logger.WarnContext(ctx, "nobody can sign in", "error", err)
		return nil, nil
	}
	key, err := auth.NewSigningKey()
	if err != nil {
		return nil, err
	}
	return auth.NewTokens(auth.TokenConfig{PrivateKey: key.Private, KeyID: s.KeyID})
}

// allowlistSettings are where the allowlist is.
type allowlistSettings struct {
	Path string `name:"allowlist-path" env:"DIXIE_ALLOWLIST_PATH" default:"/data/allowlist.json" type:"path" help:"File of the wallets that may sign in and of the API keys."`
}

// open reads the allowlist.
func (s allowlistSettings) open(logger *slog.Logger) (*auth.Allowlist, error) {
	return auth.OpenAllowlist(s.Path, logger)
}

// allowlistServing are the settings of a server that follows the allowlist.
type allowlistServing struct {
	File allowlistSettings `embed:""`
	Poll pollInterval      `name:"allowlist-poll" env:"DIXIE_ALLOWLIST_POLL" default:"1s" help:"How often to look whether the allowlist has changed; 1 means every 30s."`
}

// open reads the allowlist; whoever gets it runs it.
func (s allowlistServing) open(logger *slog.Logger) (*auth.Allowlist, error) {
	list, err := s.File.open(logger)
	if err != nil {
		return nil, err
	}
	list.Poll = time.Duration(s.Poll)
	return list, nil
}

const (
	defaultPoll = time.Second
	leastPoll   = 10 * time.Millisecond
)

// pollInterval is a duration. The service before this one knew only 1, which meant
// every 30 s, and anything else, which meant at once.
type pollInterval time.Duration

// UnmarshalText reads a duration.
func (p *pollInterval) UnmarshalText(text []byte) error {
	switch string(text) {
	case "1":
		*p = pollInterval(30 * time.Second)
		return nil
	case "", "0":
		*p = pollInterval(defaultPoll)
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil || d < leastPoll {
		return fmt.Errorf("must be a duration of at least %s, such as 1s, found %q", leastPoll, text)
	}
	*p = pollInterval(d)
	return nil
}
