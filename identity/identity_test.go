package identity_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"dixie/identity"
	"dixie/internal/fakefinn"
	"dixie/internal/logtext"
)

const (
	alice = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
	bob   = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
	carol = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
)

// direct calls a handler without a network, so that tests can run in fake time.
// A handler that breaks off is an error of the network.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (response *http.Response, err error) {
	defer func() {
		if value := recover(); value != nil {
			response, err = nil, fmt.Errorf("connection reset: %v", value)
		}
	}()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// journal is a log that can be read.
type journal struct{ logtext.Log }

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(j, nil))
}

// transition is a line about the circuit breaker.
type transition struct {
	Message  string `json:"msg"`
	From     string `json:"from"`
	To       string `json:"to"`
	Failures int    `json:"consecutive_failures"`
	Service  string `json:"service"`
}

func (j *journal) transitions(t *testing.T) []transition {
	t.Helper()
	var all []transition
	for line := range strings.Lines(j.String()) {
		var one transition
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	return all
}

// newClient asks a handler directly. The configuration can be changed before.
func newClient(t *testing.T, finn http.Handler, change ...func(*identity.Config)) *identity.Client {
	t.Helper()
	config := identity.Config{
		BaseURL: "http://finn.example", Transport: direct{finn},
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, c := range change {
		c(&config)
	}
	client, err := identity.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// overNetwork serves a handler and asks it as in production.
func overNetwork(t *testing.T, finn http.Handler, change ...func(*identity.Config)) *identity.Client {
	t.Helper()
	web := httptest.NewUnstartedServer(finn)
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	web.Start()
	t.Cleanup(web.Close)
	return newClient(t, finn, append([]func(*identity.Config){func(c *identity.Config) {
		c.BaseURL, c.Transport = web.URL, nil
	}}, change...)...)
}

// newFinn is a finn in trouble.
func newFinn(trouble fakefinn.Trouble) *fakefinn.Server {
	finn := fakefinn.New()
	finn.Change(func(b *fakefinn.Behaviour) { b.Trouble = trouble })
	return finn
}

// get asks for a path and reads the answer.
func get(ctx context.Context, c *identity.Client, path ...string) (string, error) {
	return send(ctx, c, identity.Request{Method: http.MethodGet, Path: path})
}

func send(ctx context.Context, c *identity.Client, r identity.Request) (string, error) {
	response, err := c.Send(ctx, r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

// wantUnavailable checks that an error means that nothing is known.
func wantUnavailable(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, identity.ErrUnavailable) || errors.Is(err, identity.ErrNoNFT) {
		t.Errorf("error %v, want ErrUnavailable alone", err)
	}
}
