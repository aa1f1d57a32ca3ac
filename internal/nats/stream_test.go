package nats_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"dixie/internal/nats"
	"dixie/internal/natstest"
)

// addStream creates a stream as someone else would.
func addStream(t *testing.T, server *natstest.Server, name string, subjects ...string) {
	t.Helper()
	putStream(t, server, jetstream.StreamConfig{Name: name, Subjects: subjects})
}

func putStream(t *testing.T, server *natstest.Server, config jetstream.StreamConfig) {
	t.Helper()
	if _, err := server.JetStream().CreateOrUpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

func streamConfig(t *testing.T, server *natstest.Server) jetstream.StreamConfig {
	t.Helper()
	stream, err := server.JetStream().Stream(t.Context(), "DIXIE")
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().Config
}

// A stream that does not exist is created as configured, and one that does is what
// the next publisher finds.
func TestCreatesStream(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	config := settings(server.URL())
	open(t, config)
	c := streamConfig(t, server)
	if c.Storage != jetstream.FileStorage || c.MaxAge != time.Hour || c.MaxBytes != 64<<20 || c.Duplicates != 10*time.Minute ||
		c.Replicas != 1 || c.Retention != jetstream.LimitsPolicy || c.Discard != jetstream.DiscardOld ||
		!cmp.Equal(c.Subjects, []string{"reputation.events.*", "reputation.state_changed"}) {
		t.Errorf("created %+v", c)
	}
	if _, problem := open(t, config).State(); problem != nil {
		t.Errorf("the second publisher finds %+v", problem)
	}
}

func TestCreatesStreamWithoutLimits(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	config := settings(server.URL())
	config.Stream.MaxAge, config.Stream.MaxBytes = 0, 0
	open(t, config)
	if c := streamConfig(t, server); c.MaxAge != 0 || c.MaxBytes != -1 {
		t.Errorf("created %+v", c)
	}
	if _, problem := open(t, config).State(); problem != nil {
		t.Errorf("the second publisher finds %+v", problem)
	}
}

// A stream with other settings is used and left alone, and is told of.
func TestOtherSettings(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	putStream(t, server, jetstream.StreamConfig{
		Name: "DIXIE", Subjects: []string{"reputation.>", "weather"}, Storage: jetstream.MemoryStorage, MaxAge: 2 * time.Hour,
		Duplicates: time.Minute, MaxMsgs: 5,
	})
	before := streamConfig(t, server)
	var log journal
	config := settings(server.URL())
	config.Logger = log.logger()
	p := open(t, config)
	for range 3 {
		if err := p.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Publish("reputation.state_changed", newMessage("id-1", "one")); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, streamConfig(t, server)); diff != "" {
		t.Errorf("the stream was changed (-before +after):\n%s", diff)
	}
	connected, problem := p.State()
	want := "stream DIXIE has other settings than configured: subjects, storage, max_age, max_bytes, max_msgs, duplicate_window"
	if !connected || problem == nil || problem.Fatal || problem.Detail != want {
		t.Errorf("connected %v, problem %+v", connected, problem)
	}
	if text := log.String(); strings.Count(text, "has other settings") != 1 ||
		!strings.Contains(text, "max_age is 2h0m0s, not 1h0m0s") || !strings.Contains(text, "storage is Memory, not File") {
		t.Errorf("log:\n%s", text)
	}
}

// streamOf is the stream as it would be created.
func streamOf(config nats.Config) jetstream.StreamConfig {
	s := config.Stream
	return jetstream.StreamConfig{
		Name: s.Name, Subjects: s.Subjects, MaxAge: s.MaxAge, MaxBytes: s.MaxBytes, Duplicates: s.Duplicates, Replicas: s.Replicas,
	}
}

// A stream that cannot keep what is published is not published to, until it is
// mended.
func TestUnusableStreams(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		option natstest.Option
		spoil  func(*jetstream.StreamConfig)
		want   string
	}{
		"a subject is missing": {
			spoil: func(c *jetstream.StreamConfig) { c.Subjects = []string{"reputation.events.*"} },
			want:  "stream DIXIE does not take reputation.state_changed",
		},
		"subjects are missing": {
			spoil: func(c *jetstream.StreamConfig) {
				c.Subjects = []string{"reputation.events.quality_signal", "reputation.events.task_completed", "reputation.*",
					"reputation.events.*.more", "reputation.*.x", "other.>"}
			},
			want: "stream DIXIE does not take reputation.events.credential_update, reputation.events.model_performance, reputation.events.reputation_reset",
		},
		"no confirmations": {
			spoil: func(c *jetstream.StreamConfig) { c.NoAck = true },
			want:  "stream DIXIE does not confirm messages (no_ack)",
		},
		"small messages": {
			spoil: func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1 << 10 },
			want:  "stream DIXIE takes messages of at most 1024 bytes (max_msg_size), needed are 69632",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := natstest.Start(t)
			config := settings(server.URL())
			spoilt := streamOf(config)
			test.spoil(&spoilt)
			putStream(t, server, spoilt)
			p := newPublisher(t, config)
			err := p.Open(t.Context())
			wantUnusable(t, p, err, test.want)
			putStream(t, server, streamOf(config))
			if err := p.Open(t.Context()); err != nil {
				t.Errorf("after the stream was mended: %v", err)
			}
			if _, problem := p.State(); problem != nil {
				t.Errorf("after the stream was mended: %+v", problem)
			}
		})
	}
}

func wantUnusable(t *testing.T, p *nats.Publisher, err error, want string) {
	t.Helper()
	if !errors.Is(err, nats.ErrUnusable) || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
	if connected, problem := p.State(); !connected || problem == nil || !problem.Fatal || problem.Detail != want {
		t.Errorf("connected %v, problem %+v, want %q", connected, problem, want)
	}
}

// Wildcards of a stream take what they stand for.
func TestWildcards(t *testing.T) {
	t.Parallel()
	for _, subjects := range [][]string{{"reputation.>"}, {"reputation.*.*", "reputation.*"}, {"reputation.events.>", "reputation.state_changed"}} {
		server := natstest.Start(t)
		addStream(t, server, "DIXIE", subjects...)
		open(t, settings(server.URL()))
	}
}

func TestOverlappingStream(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	addStream(t, server, "OTHER", "reputation.>")
	p := newPublisher(t, settings(server.URL()))
	wantUnusable(t, p, p.Open(t.Context()), "another stream than DIXIE takes its subjects")
}

func TestRefusedStream(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	config := settings(server.URL())
	config.Stream.Replicas = 3 // of a server without a cluster
	p := newPublisher(t, config)
	wantUnusable(t, p, p.Open(t.Context()), "stream DIXIE cannot be had from the server, whose answer is in the log")
}

func TestWithoutJetStream(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.WithoutJetStream)
	p := newPublisher(t, settings(server.URL()))
	wantUnusable(t, p, p.Open(t.Context()), "the server has no JetStream")
}

func TestSmallPayloads(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.WithMaxPayload(32<<10))
	p := newPublisher(t, settings(server.URL()))
	wantUnusable(t, p, p.Open(t.Context()), "the server takes messages of at most 32768 bytes (max_payload), needed are 69632")
}

// A stream that someone deletes is created again.
func TestDeletedStream(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	p := open(t, settings(server.URL()))
	if err := server.JetStream().DeleteStream(t.Context(), "DIXIE"); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish("reputation.state_changed", newMessage("id-1", "one")); err == nil {
		t.Error("a message without a stream was confirmed")
	}
	if err := p.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish("reputation.state_changed", newMessage("id-1", "one")); err != nil {
		t.Error(err)
	}
}
