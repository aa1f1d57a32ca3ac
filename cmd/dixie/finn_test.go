package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dixie/auth"
	"dixie/http"
	"dixie/internal/fakefinn"
	"dixie/internal/telemetry"
	"dixie/reputation"
)

const (
	owner    = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
	delegate = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
	stranger = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
)

// newFinn is a finn, and the way to it.
func newFinn(t *testing.T) (*fakefinn.Server, *finn) {
	t.Helper()
	upstream := fakefinn.New()
	shared := fakefinn.NFT{Collection: "mibera", Token: "42", Owner: owner, Delegates: []string{delegate}}
	upstream.Give(owner, shared)
	upstream.Give(delegate, shared)
	web := httptest.NewUnstartedServer(upstream)
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	web.Start()
	t.Cleanup(web.Close)
	f, err := finnSettings{URL: web.URL, Timeout: time.Minute}.open(nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	return upstream, f
}

// TestOwnership: what the resolver says, in the words of the HTTP server.
func TestOwnership(t *testing.T) {
	t.Parallel()
	upstream, f := newFinn(t)
	owned, err := f.Owned(t.Context(), owner)
	if err != nil || len(owned) != 1 || owned[0] != (http.NFT{ID: "mibera:42", Collection: "mibera"}) {
		t.Errorf("owned %+v, %v", owned, err)
	}
	if owned, err := f.Owned(t.Context(), stranger); err != nil || len(owned) != 0 {
		t.Errorf("owned %+v, %v", owned, err)
	}
	for wallet, want := range map[string]http.Access{owner: http.Owner, delegate: http.Delegated, stranger: http.NoAccess} {
		if got, err := f.Access(t.Context(), wallet, "mibera:42", http.Current); err != nil || got != want {
			t.Errorf("%s: access %d, %v", wallet, got, err)
		}
	}
	upstream.Change(func(b *fakefinn.Behaviour) { b.Trouble = fakefinn.Rubbish })
	for freshness, want := range map[http.Freshness]error{http.Stale: nil, http.Fresh: nil, http.Current: http.ErrOwnershipUnknown} {
		if _, err := f.Access(t.Context(), owner, "mibera:42", freshness); !errors.Is(err, want) {
			t.Errorf("freshness %d: %v, want %v", freshness, err, want)
		}
	}
	if _, err := f.Owned(t.Context(), "0x0000000000000000000000000000000000000001"); !errors.Is(err, http.ErrOwnershipUnknown) {
		t.Errorf("error %v", err)
	}
}

// TestUpstream: what the client says, in the words of the HTTP server.
func TestUpstream(t *testing.T) {
	t.Parallel()
	upstream, f := newFinn(t)
	ask := func() error {
		response, err := f.Send(t.Context(), http.UpstreamRequest{Method: nethttp.MethodGet, Path: []string{"api", "memory", "mibera:42", "projection"}})
		if err == nil {
			err = response.Body.Close()
		}
		return err
	}
	var status *http.UpstreamError
	if err := ask(); !errors.As(err, &status) || status.Status != 404 || status.Code != "NOT_FOUND" {
		t.Errorf("error %v", err)
	}
	upstream.Remember("mibera:42", map[string]any{})
	if err := ask(); err != nil {
		t.Errorf("error %v", err)
	}
	if health := f.health(t.Context()); !health.Healthy || health.Circuit != "closed" {
		t.Errorf("health %+v", health)
	}
	upstream.Change(func(b *fakefinn.Behaviour) { b.Trouble = fakefinn.Down })
	for range 5 {
		if err := ask(); !errors.Is(err, http.ErrUpstreamAway) {
			t.Errorf("error %v", err)
		}
	}
	if err := ask(); !errors.Is(err, http.ErrCircuitOpen) {
		t.Errorf("error %v", err)
	}
}

// TestNoFinn: without a URL there is none, and nobody minds.
func TestNoFinn(t *testing.T) {
	t.Parallel()
	f, err := finnSettings{}.open(nil, slog.New(slog.DiscardHandler))
	var config http.Config
	finnSettings{}.apply(&config, f)
	if err != nil || config.Upstream != nil || config.Ownership != nil || f.health(t.Context()) != nil {
		t.Errorf("%v, %+v", err, config)
	}
	f.close()
	if _, err := (finnSettings{URL: "ftp://me:hunter2@finn"}).open(nil, nil); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "finn-url") {
		t.Errorf("error %v", err)
	}
}

// sleepy is a log that is away until it is woken.
type sleepy struct {
	reputation.Log
	awake atomic.Bool
}

func (s *sleepy) Append(ctx context.Context, entries ...reputation.Entry) ([]reputation.Appended, error) {
	if !s.awake.Load() {
		return nil, reputation.ErrUnavailable
	}
	return s.Log.Append(ctx, entries...)
}

// wallet is everybody's.
type wallet string

func (w wallet) Authenticate(context.Context, string) (http.Caller, error) {
	return http.Caller{Name: string(w), Wallet: string(w), Scopes: []string{"read", "append"}}, nil
}

// TestStopAfterChat: a server that is told to stop right after a chat, whose
// outcome the log has not taken yet, stores it before it ends.
func TestStopAfterChat(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	_, f := newFinn(t)
	seen, err := observeSettings{}.observe(ctx, telemetry.Build{}, logger)
	if err != nil {
		t.Fatal(err)
	}
	defer seen.stop(0)
	backend := (&serveCmd{}).openMemory(ctx, reputation.DefaultParams(), nil, seen, logger)
	log := &sleepy{Log: backend.log}
	list, err := auth.OpenAllowlist(filepath.Join(t.TempDir(), "allowlist.json"), logger)
	if err != nil {
		t.Fatal(err)
	}
	config := http.Config{
		Log: log, Allowlist: allowlist{Allowlist: list, everyone: true}, Importer: backend.importer(seen), Reputations: backend.reader, Authenticator: wallet(owner),
		Monitor: backend.monitor(time.Minute, f), Params: reputation.DefaultParams(), Logger: logger,
	}
	finnSettings{}.apply(&config, f)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- (&serveCmd{Grace: time.Minute}).serve(ctx, listener, http.NewServer(config), backend, list, logger)
	}()
	request, err := nethttp.NewRequest(nethttp.MethodPost, "http://"+listener.Addr().String()+"/api/chat", strings.NewReader(`{"prompt":"hello"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer a")
	request.Header.Set("Content-Type", "application/json")
	response, err := nethttp.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != 200 {
		t.Fatalf("%d %s, %v", response.StatusCode, text, err)
	}
	stop()
	time.AfterFunc(300*time.Millisecond, func() { log.awake.Store(true) })
	if err := <-ended; err != nil {
		t.Error(err)
	}
	events, err := backend.log.History(t.Context(), "mibera:42", 0, 10)
	if err != nil || len(events) != 1 || events[0].Type != "task_completed" {
		t.Errorf("the log has %+v, %v", events, err)
	}
}
