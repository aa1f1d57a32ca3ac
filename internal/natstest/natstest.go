// Package natstest runs a NATS server with JetStream inside of tests.
package natstest

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// patience bounds what only a failing test waits for.
const patience = time.Minute

// Server is a NATS server on a port and a directory of its own, which it keeps when
// it is stopped and started. Methods are for one goroutine.
type Server struct {
	t       testing.TB
	options server.Options
	running *server.Server
}

// Option changes how a server is set up.
type Option func(*server.Options)

// WithUser lets in one user only.
func WithUser(name, password string) Option {
	return func(o *server.Options) { o.Username, o.Password = name, password }
}

// WithoutJetStream has the server keep nothing.
func WithoutJetStream(o *server.Options) { o.JetStream = false }

// WithMaxPayload bounds what a message may weigh, in bytes.
func WithMaxPayload(most int32) Option { return func(o *server.Options) { o.MaxPayload = most } }

// Start starts a server that ends with the test.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	s := &Server{t: t, options: server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(),
		NoLog: true, NoSigs: true, MaxPayload: server.MAX_PAYLOAD_SIZE,
	}}
	for _, change := range options {
		change(&s.options)
	}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Start starts the server again.
func (s *Server) Start() {
	s.t.Helper()
	options := s.options // the server changes them
	running, err := server.NewServer(&options)
	if err != nil {
		s.t.Fatalf("start NATS: %v", err)
	}
	running.Start()
	if !running.ReadyForConnections(patience) {
		s.t.Fatal("NATS does not start")
	}
	s.options.Port = running.Addr().(*net.TCPAddr).Port
	s.running = running
}

// Stop stops the server. It is no error to stop it twice.
func (s *Server) Stop() {
	s.running.Shutdown()
	s.running.WaitForShutdown()
}

// URL is where clients find the server, without credentials.
func (s *Server) URL() string { return fmt.Sprintf("nats://127.0.0.1:%d", s.options.Port) }

// JetStream is a client of the server that ends with the test.
func (s *Server) JetStream() jetstream.JetStream {
	s.t.Helper()
	conn, err := nats.Connect(s.URL(), nats.UserInfo(s.options.Username, s.options.Password), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		s.t.Fatal(err)
	}
	return js
}

// Messages are all messages of a stream, oldest first.
func (s *Server) Messages(stream string) []jetstream.Msg {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	found, err := s.JetStream().Stream(ctx, stream)
	if err != nil {
		s.t.Fatalf("stream %s: %v", stream, err)
	}
	consumer, err := found.CreateConsumer(ctx, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy})
	if err != nil {
		s.t.Fatalf("read stream %s: %v", stream, err)
	}
	stored := int(found.CachedInfo().State.Msgs)
	var messages []jetstream.Msg
	for len(messages) < stored {
		batch, err := consumer.Fetch(min(1000, stored-len(messages)), jetstream.FetchMaxWait(patience))
		if err != nil {
			s.t.Fatalf("read stream %s: %v", stream, err)
		}
		for m := range batch.Messages() {
			messages = append(messages, m)
		}
		if batch.Error() != nil {
			s.t.Fatalf("read stream %s after %d messages: %v", stream, len(messages), batch.Error())
		}
	}
	return messages
}

// Change changes how the server is set up when it is started next.
func (s *Server) Change(option Option) { option(&s.options) }

// Stored is the number of messages of a stream, 0 while there is none.
func (s *Server) Stored(stream string) int {
	s.t.Helper()
	info, err := s.running.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, account := range info.AccountDetails {
		for _, found := range account.Streams {
			if found.Name == stream {
				return int(found.State.Msgs)
			}
		}
	}
	return 0
}
