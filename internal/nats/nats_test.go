package nats_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"

	"dixie/internal/logtext"
	"dixie/internal/nats"
	"dixie/internal/natstest"
	"dixie/projections"
)

// settings are those of cmd/dixie.
func settings(url string) nats.Config {
	return nats.Config{
		URL: url,
		Stream: nats.Stream{
			Name: "DIXIE", Subjects: projections.Subjects, MaxAge: time.Hour, MaxBytes: 64 << 20,
			Duplicates: 10 * time.Minute, Replicas: 1,
		},
		Topics: projections.Topics(), MaxMessageBytes: projections.MaxMessageBytes,
		Logger: slog.New(slog.DiscardHandler),
	}
}

// newPublisher returns a publisher that ends with the test.
func newPublisher(t *testing.T, config nats.Config) *nats.Publisher {
	t.Helper()
	p, err := nats.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// open opens a publisher, which must succeed.
func open(t *testing.T, config nats.Config) *nats.Publisher {
	t.Helper()
	p := newPublisher(t, config)
	if err := p.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

func newMessage(id, payload string) *message.Message {
	m := message.NewMessage(id, []byte(payload))
	m.Metadata.Set("Dixie-Position", "7")
	m.Metadata.Set("Dixie-NFT", "bear-1")
	return m
}

// A message arrives as it was given, with its id as Nats-Msg-Id; the same id again
// is confirmed and not stored.
func TestPublish(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	p := open(t, settings(server.URL()))
	for _, m := range []*message.Message{newMessage("id-1", "one"), newMessage("id-2", "two"), newMessage("id-1", "one")} {
		if err := p.Publish("reputation.events.quality_signal", m); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Publish("reputation.state_changed", newMessage("id-3", "three"), newMessage("id-4", "four")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range server.Messages("DIXIE") {
		h := m.Headers()
		got = append(got, fmt.Sprint(m.Subject(), " ", h.Get("Nats-Msg-Id"), " ", h.Get("Dixie-Position"), " ", h.Get("Dixie-NFT"), " ", string(m.Data())))
	}
	want := []string{
		"reputation.events.quality_signal id-1 7 bear-1 one", "reputation.events.quality_signal id-2 7 bear-1 two",
		"reputation.state_changed id-3 7 bear-1 three", "reputation.state_changed id-4 7 bear-1 four",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	if connected, problem := p.State(); !connected || problem != nil {
		t.Errorf("connected %v, problem %+v", connected, problem)
	}
}

// What no stream stores, or another stream would, is an error.
func TestPublishElsewhere(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	p := open(t, settings(server.URL()))
	if err := p.Publish("reputation.nowhere", newMessage("id-1", "one")); err == nil {
		t.Error("a message that no stream takes was confirmed")
	}
	addStream(t, server, "OTHER", "reputation.elsewhere")
	if err := p.Publish("reputation.elsewhere", newMessage("id-1", "one")); err == nil {
		t.Error("a message for another stream was confirmed")
	}
	if n := len(server.Messages("OTHER")); n != 0 {
		t.Errorf("another stream has %d messages", n)
	}
}

// Nothing is dialled before the publisher is opened, and nothing after it was
// closed.
func TestDialsWhenOpened(t *testing.T) {
	t.Parallel()
	listener, accepted := listen(t)
	config := settings("nats://" + listener.Addr().String())
	p := newPublisher(t, config)
	if err := p.Publish("reputation.state_changed", newMessage("id-1", "one")); !errors.Is(err, nats.ErrUnreachable) {
		t.Errorf("publish before open: %v", err)
	}
	if connected, problem := p.State(); connected || problem != nil {
		t.Errorf("before it was opened: connected %v, problem %+v", connected, problem)
	}
	if accepted() != 0 {
		t.Fatal("it dialled before it was opened")
	}
	if err := p.Open(t.Context()); !errors.Is(err, nats.ErrUnreachable) {
		t.Errorf("open without a server: %v", err)
	}
	if accepted() == 0 {
		t.Error("opening does not dial: the test shows nothing")
	}
	_ = p.Close()
	dialled := accepted()
	if err := p.Open(t.Context()); !errors.Is(err, nats.ErrClosed) || accepted() != dialled {
		t.Errorf("open after close: %v", err)
	}
}

// listen accepts connections, hangs up and counts them.
func listen(t *testing.T) (listener net.Listener, accepted func() int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	count := 0
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			count++
			mu.Unlock()
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		accepting.Wait()
	})
	return listener, func() int {
		mu.Lock()
		defer mu.Unlock()
		return count
	}
}

// A server that is away is an error that passes, and its return is noticed.
func TestServerAway(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	server.Stop()
	p := newPublisher(t, settings(server.URL()))
	if err := p.Open(t.Context()); !errors.Is(err, nats.ErrUnreachable) {
		t.Fatalf("open while the server is away: %v", err)
	}
	server.Start()
	if err := p.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	eventually(t, "the connection is lost", func() bool { connected, _ := p.State(); return !connected })
	for _, err := range []error{p.Open(t.Context()), p.Publish("reputation.state_changed", newMessage("id-1", "one"))} {
		if !errors.Is(err, nats.ErrUnreachable) {
			t.Errorf("while the server is away: %v", err)
		}
	}
	server.Start()
	eventually(t, "it is open again", func() bool { return p.Open(t.Context()) == nil })
	if err := p.Publish("reputation.state_changed", newMessage("id-2", "two")); err != nil {
		t.Error(err)
	}
	// What failed was not kept to be sent later.
	if messages := server.Messages("DIXIE"); len(messages) != 1 || messages[0].Headers().Get("Nats-Msg-Id") != "id-2" {
		t.Errorf("%d messages", len(messages))
	}
}

func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !happened(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// journal keeps log lines.
type journal struct{ logtext.Log }

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Credentials of the URL open the connection, and appear nowhere.
func TestCredentials(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.WithUser("dixie", "hunter2"))
	var log journal
	for url, right := range map[string]bool{
		strings.Replace(server.URL(), "://", "://dixie:hunter2@", 1): true,
		strings.Replace(server.URL(), "://", "://dixie:hunter3@", 1): false,
		strings.Replace(server.URL(), "://", "://hunter4@", 1):       false,
		"nats://dixie:hunter5@127.0.0.1:1":                           false,
	} {
		config := settings(url)
		config.Logger = log.logger()
		p := newPublisher(t, config)
		err := p.Open(t.Context())
		if right != (err == nil) {
			t.Errorf("error %v, want none: %v", err, right)
		}
		if err != nil && strings.Contains(err.Error(), "hunter") {
			t.Errorf("the error has the password: %v", err)
		}
		_ = p.Close()
	}
	if text := log.String(); !strings.Contains(text, "connected to NATS") || strings.Contains(text, "hunter") {
		t.Errorf("log:\n%s", text)
	}
}

// A user that the server refuses for a while is let in when the server is mended.
func TestCredentialsMended(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.WithUser("dixie", "hunter2"))
	var log journal
	config := settings(strings.Replace(server.URL(), "://", "://dixie:hunter2@", 1))
	config.Logger = log.logger()
	p := open(t, config)
	server.Stop()
	server.Change(natstest.WithUser("dixie", "hunter3"))
	server.Start()
	// The client gives up after the second refusal unless it is told not to.
	eventually(t, "the server refuses", func() bool { return strings.Count(log.String(), "NATS reports an error") >= 3 })
	server.Stop()
	server.Change(natstest.WithUser("dixie", "hunter2"))
	server.Start()
	eventually(t, "it is open again", func() bool { return p.Open(t.Context()) == nil })
	if n := strings.Count(log.String(), `"WARN","msg":"NATS reports an error"`); n != 1 {
		t.Errorf("the refusal was told %d times", n)
	}
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]struct {
		change func(*nats.Config)
		want   string
	}{
		"no URL":           {func(c *nats.Config) { c.URL = " , " }, "NATS URL: server 1"},
		"empty URL":        {func(c *nats.Config) { c.URL = "" }, "NATS URL: is empty"},
		"bad escape":       {func(c *nats.Config) { c.URL = "nats://dixie:hunter2%zz@localhost" }, "NATS URL: server 1"},
		"no host":          {func(c *nats.Config) { c.URL = "nats://localhost,nats://dixie:hunter2@" }, "NATS URL: server 2"},
		"scheme":           {func(c *nats.Config) { c.URL = "http://dixie:hunter2@localhost" }, "NATS URL: server 1"},
		"no name":          {func(c *nats.Config) { c.Stream.Name = "" }, "the name must not be empty"},
		"name":             {func(c *nats.Config) { c.Stream.Name = "dixie.events" }, `found "dixie.events"`},
		"negative age":     {func(c *nats.Config) { c.Stream.MaxAge = -time.Second }, "found -1s"},
		"negative size":    {func(c *nats.Config) { c.Stream.MaxBytes = -1 }, "found -1"},
		"no duplicates":    {func(c *nats.Config) { c.Stream.Duplicates = 0 }, "at least 100ms"},
		"long duplicates":  {func(c *nats.Config) { c.Stream.MaxAge = time.Minute }, "not be longer than the age 1m0s, found 10m0s"},
		"no replicas":      {func(c *nats.Config) { c.Stream.Replicas = 0 }, "1 to 5, found 0"},
		"several problems": {func(c *nats.Config) { c.URL, c.Stream.Replicas = "", 6 }, "1 to 5, found 6"},
	} {
		config := settings("nats://localhost:4222")
		bad.change(&config)
		p, err := nats.New(config)
		if err == nil || !strings.Contains(err.Error(), bad.want) || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: error %v, want one with %q", name, err, bad.want)
		}
		if p != nil {
			t.Errorf("%s: there is a publisher", name)
		}
	}
	for _, url := range []string{
		"localhost", "localhost:4222", "nats://a:4222, nats://b", "tls://user:p%40ss@host", "token@host:4222", "ws://host", "nats://[::1]:4222",
	} {
		if _, err := nats.New(settings(url)); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}
