package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	nethttp "net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"dixie/auth"
	"dixie/http"
	"dixie/internal/connlimit"
	"dixie/internal/telemetry"
)

const (
	// These are for requests that end soon; bulk imports and streams extend theirs as
	// they go. Whoever is too slow with a body is still told so.
	headerTimeout = 10 * time.Second
	bodyTimeout   = time.Minute
	answerTimeout = bodyTimeout + 10*time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 32 << 10

	// asideConnections is how many connections there may be for metrics, and for profiles.
	asideConnections = 32
	// refusalsEvery is how often the log tells that connections are refused.
	refusalsEvery = time.Minute

	// lastMoment is what is left for writing what is queued when requests have taken all
	// the time that there was for stopping.
	lastMoment = time.Second
)

type serveCmd struct {
	Host    string        `env:"DIXIE_HOST" help:"Address to listen on; all addresses when empty, and 127.0.0.1 with --dev."`
	Port    int           `env:"PORT,DIXIE_PORT" default:"3001" help:"Port to listen on, 0 for any that is free."`
	Grace   time.Duration `env:"DIXIE_SHUTDOWN_GRACE" default:"25s" help:"How long requests may go on after a signal to stop."`
	MaxLag  time.Duration `env:"DIXIE_MAX_LAG" default:"1m" help:"Age of an event that is not yet projected from which this replica is not ready."`
	Migrate bool          `env:"DIXIE_MIGRATE" help:"Bring the schema up to date before serving."`
	Dev     bool          `help:"Serve for development, on this machine only: migrates, prints a fresh API key, lets any wallet sign in, limits nobody, logs text."`
	DevKey  string        `name:"dev-api-key" env:"DIXIE_DEV_API_KEY" secret:"" placeholder:"KEY" help:"API key of --dev, instead of a fresh one."`

	Gateway   gatewaySettings  `embed:"" group:"Callers"`
	SignIn    signInSettings   `embed:"" group:"Signing in"`
	Tokens    tokenSettings    `embed:"" group:"Signing in"`
	Allowlist allowlistServing `embed:"" group:"Callers"`
	Database  database         `embed:"" group:"Database"`
	Reads     readSettings     `embed:"" group:"Reading"`
	Past      past             `embed:"" group:"Past"`
	NATS      natsSettings     `embed:"" group:"Publishing"`
	Finn      finnSettings     `embed:"" group:"Finn"`
	Scoring   scoring          `embed:"" group:"Scoring"`
	Logging   logging          `embed:"" group:"Logging"`
	Observe   observeSettings  `embed:"" group:"Observing"`
}

// Run serves until ctx ends.
func (s *serveCmd) Run(ctx context.Context, c *console, known variables) error {
	if s.Dev {
		s.forDevelopment()
	}
	defer runtime.KeepAlive(heapFloor(servingFloor))
	logger := s.Logging.logger()
	known.warnUnknown(ctx, os.Environ(), logger)
	parts, err := s.open(ctx, logger)
	if err != nil {
		return err
	}
	defer parts.close()
	left := timeLeft(ctx, s.Grace)
	seen, err := s.Observe.observe(ctx, telemetry.Build{Version: version(), Scoring: parts.params.Version()}, logger)
	if err != nil {
		return err
	}
	defer func() { seen.stop(left()) }()
	if parts.finn, err = s.Finn.open(seen, logger); err != nil {
		return err
	}
	backend, err := s.openBackend(ctx, parts.params, seen, logger)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(left(), lastMoment))
		defer cancel()
		backend.close(ctx)
	}()
	listener, err := net.Listen("tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port)))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	config, err := s.config(ctx, parts, backend, seen, port(listener.Addr()), logger)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	url := "http://" + reachable(listener.Addr())
	logger.InfoContext(ctx, "serving", "url", url, "store", backend.store, "version", version(), "scoring", parts.params.Version())
	if s.Dev {
		printWelcome(c.out, url, parts.devKey, s.sites(port(listener.Addr())))
	}
	api := http.NewServer(config)
	seen.watch(backend, api)
	return s.serve(ctx, s.limit(ctx, listener, seen, logger), api, backend, parts.allowlist.Allowlist, logger)
}

// limit bounds the connections of a listener, and lets operators see how many there
// are.
func (s *serveCmd) limit(ctx context.Context, listener net.Listener, seen *observation, logger *slog.Logger) net.Listener {
	limited := limitConnections(ctx, listener, cmp.Or(s.Gateway.Connections, math.MaxInt), logger)
	seen.Gauge("http_connections", "Open connections to the API.", func() float64 { return float64(limited.Open()) })
	seen.Counter("http_connections_refused_total", "Connections to the API that were too many.", func() float64 { return float64(limited.Refused()) })
	return limited
}

// limitConnections bounds the connections of a listener. The log tells of those that
// are refused, but not of each: they come when there is too much already.
func limitConnections(ctx context.Context, listener net.Listener, most int, logger *slog.Logger) *connlimit.Listener {
	logs := rate.Sometimes{Interval: refusalsEvery}
	return connlimit.New(listener, most, http.TooManyConnections, func() {
		logs.Do(func() {
			logger.WarnContext(ctx, "connections are refused", "address", listener.Addr().String(), "most", most)
		})
	})
}

// check reports all that is wrong with the settings.
func (s *serveCmd) check(ctx context.Context) error {
	parts, err := s.open(ctx, slog.New(slog.DiscardHandler))
	if err == nil {
		parts.close()
	}
	return err
}

// forDevelopment sets what --dev implies.
func (s *serveCmd) forDevelopment() {
	s.Migrate, s.Logging.Format = true, "text"
	if s.Host == "" {
		s.Host = "127.0.0.1"
	}
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

	server := newWebServer(api, usual, logger)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		storeOutcomes(ctx, api, logger)
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
	storeOutcomes(closing, api, logger)
	return nil
}

// timeouts are how long a client may take: for the header of a request, for all of it,
// for that and the answer, and for the next request.
type timeouts struct{ header, body, answer, idle time.Duration }

var usual = timeouts{headerTimeout, bodyTimeout, answerTimeout, idleTimeout}

// newWebServer is a server whose clients can neither take its time nor its memory.
func newWebServer(handler nethttp.Handler, t timeouts, logger *slog.Logger) *nethttp.Server {
	return &nethttp.Server{
		Handler: handler, ReadHeaderTimeout: t.header, ReadTimeout: t.body, WriteTimeout: t.answer,
		IdleTimeout: t.idle, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

// reachable is an address that a client on this machine can use.
func reachable(addr net.Addr) string {
	host, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() || ip.IsLoopback() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// port is the port of an address.
func port(addr net.Addr) string {
	_, port, _ := net.SplitHostPort(addr.String())
	return port
}

// printWelcome shows a line that works when it is pasted.
func printWelcome(out io.Writer, url, secret string, sites []string) {
	fmt.Fprintf(out, `Dixie is ready at %[1]s

API key, of this run only unless DIXIE_DEV_API_KEY sets it: %[2]s
Try it:

  curl -s -H 'Authorization: Bearer %[2]s' -H 'Content-Type: application/json' \
    -d '{"type":"quality_signal","event_id":"11111111-1111-4111-8111-111111111111","agent_id":"bear-1","collection_id":"honey","timestamp":"2026-02-25T12:00:00Z","score":0.9}' \
    %[1]s/api/reputation/bear-1/events

  curl -s -H 'Authorization: Bearer %[2]s' %[1]s/api/reputation/bear-1

Wallets sign in at %[1]s/api/auth/siwe, from %[3]s:
any wallet, as long as the allowlist has none.

`, url, secret, strings.Join(sites, ", "))
}
