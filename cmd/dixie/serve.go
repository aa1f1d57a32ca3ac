package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	nethttp "net/http"
	"strconv"
	"sync"
	"time"

	"dixie/auth"
	"dixie/http"
)

const (
	// headerTimeout, bodyTimeout and idleTimeout are for requests that end soon;
	// bulk imports and streams extend theirs as they go.
	headerTimeout = 10 * time.Second
	bodyTimeout   = time.Minute
	idleTimeout   = 2 * time.Minute
	maxHeader     = 32 << 10
)

type serveCmd struct {
	Host    string        `env:"DIXIE_HOST" help:"Address to listen on; all addresses when empty, and 127.0.0.1 with --dev."`
	Port    int           `env:"PORT,DIXIE_PORT" default:"3001" help:"Port to listen on, 0 for any that is free."`
	Grace   time.Duration `env:"DIXIE_SHUTDOWN_GRACE" default:"25s" help:"How long requests may go on after a signal to stop."`
	MaxLag  time.Duration `env:"DIXIE_MAX_LAG" default:"1m" help:"Age of an event that is not yet projected from which this replica is not ready."`
	Migrate bool          `env:"DIXIE_MIGRATE" help:"Bring the schema up to date before serving."`
	Dev     bool          `help:"Serve for development: migrates, prints a fresh API key, logs text."`
	DevKey  string        `name:"dev-api-key" env:"DIXIE_DEV_API_KEY" help:"API key of --dev, instead of a fresh one."`

	Tokens    tokenSettings    `embed:""`
	Allowlist allowlistServing `embed:""`
	Database  database         `embed:""`
	Scoring   scoring          `embed:""`
	Logging   logging          `embed:""`
}

// Run serves until ctx ends.
func (s *serveCmd) Run(ctx context.Context, c *console) error {
	if s.Dev {
		s.Migrate, s.Logging.Format = true, "text"
		if s.Host == "" {
			s.Host = "127.0.0.1"
		}
	}
	logger := s.Logging.logger()
	params, paramsErr := s.Scoring.params()
	_, tokensErr := s.Tokens.openForServer(ctx, s.Dev, logger)
	allowlist, secret, allowlistErr := s.allowlist(logger)
	if err := errors.Join(paramsErr, tokensErr, allowlistErr); err != nil {
		return err
	}
	backend, err := s.openBackend(ctx, params, logger)
	if err != nil {
		return err
	}
	defer backend.close()
	api := http.NewServer(http.Config{
		Log: backend.log, Importer: backend.importer(), Reputations: backend.reader,
		Authenticator: keyring{allowlist}, Monitor: backend.monitor(s.MaxLag), Rebuilder: backend.rebuilder,
		Params: params, Logger: logger, Version: version(),
	})
	listener, err := net.Listen("tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port)))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	url := "http://" + reachable(listener.Addr())
	logger.InfoContext(ctx, "serving", "url", url, "store", backend.store, "version", version(), "scoring", params.Version())
	if s.Dev {
		printWelcome(c.out, url, secret)
	}
	return s.serve(ctx, listener, api, backend, allowlist, logger)
}

// serve runs projectors and server until ctx ends: then it answers the requests
// that there are, refuses new ones, and stops projecting.
func (s *serveCmd) serve(ctx context.Context, listener net.Listener, api *http.Server, backend *backend, allowlist *auth.Allowlist, logger *slog.Logger) error {
	projecting, stopProjecting := context.WithCancel(context.WithoutCancel(ctx))
	var projectors sync.WaitGroup
	for _, p := range backend.projectors {
		projectors.Go(func() { p.Run(projecting) })
	}
	projectors.Go(func() { allowlist.Run(projecting) })
	defer projectors.Wait()
	defer stopProjecting()

	server := &nethttp.Server{
		Handler: api, ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, WriteTimeout: bodyTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	logger.InfoContext(ctx, "stopping", "grace", s.Grace)
	api.StopStreams()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Grace)
	defer cancel()
	if err := server.Shutdown(closing); err != nil {
		logger.WarnContext(ctx, "requests were cut off", "error", err)
		_ = server.Close()
	}
	<-failed
	return nil
}

// allowlist is that of the file, and with --dev knows one more key, whose secret is
// returned.
func (s *serveCmd) allowlist(logger *slog.Logger) (list *auth.Allowlist, secret string, err error) {
	list, err = s.Allowlist.open(logger)
	if err != nil || !s.Dev {
		return list, "", err
	}
	if s.DevKey == "" {
		secret, key := auth.NewKey("dev", auth.Scopes, time.Now())
		list.Also(key)
		return list, secret, nil
	}
	if err := auth.CheckSecret(s.DevKey); err != nil {
		return nil, "", fmt.Errorf("DIXIE_DEV_API_KEY: %w", err)
	}
	list.Also(auth.KeyOf("dev", s.DevKey, auth.Scopes, time.Now()))
	return list, s.DevKey, nil
}

// keyring lets the HTTP server ask for API keys.
type keyring struct {
	keys *auth.Allowlist
}

func (k keyring) Authenticate(_ context.Context, token string) (http.Caller, error) {
	key, err := k.keys.Find(token)
	if err != nil {
		return http.Caller{}, fmt.Errorf("%w: %w", http.ErrUnauthenticated, err)
	}
	caller := http.Caller{Name: key.Name}
	for _, scope := range key.Scopes {
		caller.Scopes = append(caller.Scopes, string(scope))
	}
	return caller, nil
}

// reachable is an address that a client on this machine can use.
func reachable(addr net.Addr) string {
	host, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() || ip.IsLoopback() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// printWelcome shows a line that works when it is pasted.
func printWelcome(out io.Writer, url, secret string) {
	fmt.Fprintf(out, `Dixie is ready at %[1]s

API key, of this run only unless DIXIE_DEV_API_KEY sets it: %[2]s
Try it:

  curl -s -H 'Authorization: Bearer %[2]s' -H 'Content-Type: application/json' \
    -d '{"type":"quality_signal","event_id":"11111111-1111-4111-8111-111111111111","agent_id":"bear-1","collection_id":"honey","timestamp":"2026-02-25T12:00:00Z","score":0.9}' \
    %[1]s/api/reputation/bear-1/events

  curl -s -H 'Authorization: Bearer %[2]s' %[1]s/api/reputation/bear-1

`, url, secret)
}
