package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/auth"
	"dixie/http"
	"dixie/reputation"
)

// parts are what a server is made of besides its log and its projections.
type parts struct {
	params    reputation.Params
	tokens    *auth.Tokens // nil: nobody can sign in
	allowlist allowlist
	finn      *finn  // nil: there is none, or it is not opened yet
	devKey    string // the API key of --dev
}

// open opens all parts, and reports all that is wrong with the settings.
func (s *serveCmd) open(ctx context.Context, logger *slog.Logger) (*parts, error) {
	p := &parts{}
	var paramsErr, tokensErr, signInErr, databaseErr, finnErr error
	p.params, paramsErr = s.Scoring.params()
	p.tokens, tokensErr = s.Tokens.openForServer(ctx, s.Dev, logger)
	if p.tokens != nil || tokensErr != nil {
		_, signInErr = s.verifier(p, strconv.Itoa(s.Port), nil)
	}
	if s.Database.URL != "" {
		_, databaseErr = s.Database.config()
	}
	finnErr = s.Finn.check()
	listErr := s.openAllowlist(p, logger)
	err := errors.Join(databaseErr, s.Gateway.check(), tokensErr, signInErr, listErr, finnErr, paramsErr, s.Observe.check(), s.Reads.check())
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *parts) close() { p.finn.close() }

// defaultAllowlist is where the allowlist is when nobody says so.
const defaultAllowlist = "/data/allowlist.json"

// openAllowlist opens the allowlist. With --dev there is one more API key, which is
// in no file; and where nobody named a file and the default one is not there, the
// list is in memory.
func (s *serveCmd) openAllowlist(p *parts, logger *slog.Logger) error {
	list, err := auth.NewAllowlist(logger), error(nil)
	if !s.Dev || s.Allowlist.File.Path != defaultAllowlist || !missing(defaultAllowlist) {
		list, err = s.Allowlist.open(logger)
	}
	if !s.Dev {
		p.allowlist = allowlist{Allowlist: list}
		return err
	}
	secret, key, keyErr := s.developmentKey()
	if err := errors.Join(err, keyErr); err != nil {
		return err
	}
	list.Also(key)
	p.allowlist, p.devKey = allowlist{Allowlist: list, everyone: true}, secret
	return nil
}

// developmentKey is the API key of --dev.
func (s *serveCmd) developmentKey() (secret string, key auth.Key, err error) {
	if s.DevKey == "" {
		secret, key = auth.NewKey("dev", auth.Scopes, time.Now())
		return secret, key, nil
	}
	if err := auth.CheckSecret(s.DevKey); err != nil {
		return "", key, fmt.Errorf("DIXIE_DEV_API_KEY: %w", err)
	}
	return s.DevKey, auth.KeyOf("dev", s.DevKey, auth.Scopes, time.Now()), nil
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// config is the configuration of a server on a port.
func (s *serveCmd) config(ctx context.Context, p *parts, backend *backend, seen *observation, port string, logger *slog.Logger) (http.Config, error) {
	config := http.Config{
		Log: backend.log, Importer: backend.importer(seen), Reputations: backend.reader, Monitor: backend.monitor(s.MaxLag, p.finn),
		Rebuilder:   backend.rebuilder,
		AnswerBytes: s.Reads.bytes(), Past: backend.past, MaxPasts: s.Past.Concurrency, PastTimeout: s.Past.Timeout,
		Operations: &operations{reader: backend.reader, projectors: backend.projectors, params: p.params},
		Params:     p.params, Logger: logger, Version: version(),
		Authenticator: callers{p.allowlist.Allowlist, p.tokens}, Allowlist: p.allowlist, AdminKey: s.Gateway.AdminKey,
		Origins: s.Gateway.origins(port), TrustedProxies: s.Gateway.TrustedProxies,
		Tracing: seen.requests(), Metrics: seen.Metrics, MetricsHandler: seen.metricsHandler(s.Observe),
		RateLimits: s.Gateway.limits(ctx, s.Dev, logger), PaymentHeaders: s.Gateway.Payment == "true",
	}
	s.Finn.apply(&config, p.finn)
	if p.tokens == nil {
		return config, nil
	}
	verifier, err := s.verifier(p, port, backend.pool)
	if err != nil {
		return config, err
	}
	config.SignIn = signIn{verifier, p.tokens}
	return config, nil
}

// verifier verifies sign-ins of the wallets that are admitted.
func (s *serveCmd) verifier(p *parts, port string, pool *pgxpool.Pool) (*auth.SignIn, error) {
	verifier, err := s.SignIn.open(signInParts{
		Origins: named(s.Gateway.origins(port)), TokenKey: s.Tokens.PrivateKey, Pool: pool, Admits: p.allowlist.admits,
	})
	if err != nil {
		return nil, fmt.Errorf("DIXIE_SIWE_DOMAINS, DIXIE_SIWE_CHAINS, DIXIE_SIWE_RPC_URLS: %w", err)
	}
	return verifier, nil
}

// sites are those that wallets sign in from.
func (s *serveCmd) sites(port string) []string {
	if len(s.SignIn.Domains) > 0 {
		return s.SignIn.Domains
	}
	return named(s.Gateway.origins(port))
}
