// Package nats publishes to NATS JetStream. A [Publisher] is a watermill publisher
// that owns its connection and looks after the stream which keeps what is
// published.
package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// connectTimeout bounds one attempt to reach one server.
	connectTimeout = 2 * time.Second

	// answerTimeout bounds the wait for JetStream's confirmation of a message, and
	// for each of its answers about the stream.
	answerTimeout = 5 * time.Second

	// reconnectWait is the wait between attempts of a connection that was lost.
	reconnectWait = time.Second

	// pingInterval and maxPings find out that a server is gone without a word.
	pingInterval = 5 * time.Second
	maxPings     = 2

	// headerBytes is more than the headers of a message take.
	headerBytes = 4 << 10
)

var (
	// ErrUnreachable says that no server can be reached, or that the connection is
	// lost. Trying again can help.
	ErrUnreachable = errors.New("NATS is unreachable")

	// ErrUnusable says that JetStream, or its stream, cannot keep what is published
	// until someone changes its settings.
	ErrUnusable = errors.New("the NATS stream cannot be used")

	// ErrClosed says that the publisher has been closed.
	ErrClosed = errors.New("NATS publisher closed")
)

// Config sets a [Publisher] up.
type Config struct {
	// URL is one server, or several separated by commas: nats://host:4222, or with
	// tls://, ws:// or wss://. Its credentials appear in no message of this package.
	URL string
	// Stream is created when it does not exist.
	Stream Stream
	// Topics are those to which anything is published. A stream that does not take
	// all of them is not used.
	Topics []string
	// MaxMessageBytes is the longest payload.
	MaxMessageBytes int
	Logger          *slog.Logger
}

// Publisher publishes to a stream. It dials when it is opened, not before, and
// finds a lost connection again by itself. Its methods are safe for concurrent
// use.
type Publisher struct {
	config Config

	opening sync.Mutex // held while a connection is made or closed
	closed  bool
	told    string // differences of the stream that were logged last

	session atomic.Pointer[session]
	problem atomic.Pointer[Problem] // of the stream
}

var _ message.Publisher = (*Publisher)(nil)

// session is a connection and what speaks through it.
type session struct {
	conn    *natsgo.Conn
	streams jetstream.JetStream
	publish *wmnats.Publisher
	ended   chan struct{} // closed after the connection's last callback
}

// New returns a publisher that has not dialled yet.
func New(config Config) (*Publisher, error) {
	if err := errors.Join(checkURL(config.URL), config.Stream.validate()); err != nil {
		return nil, err
	}
	return &Publisher{config: config}, nil
}

// Open connects if there is no connection, and returns nil when the stream can take
// messages. The error matches [ErrUnreachable] or [ErrUnusable].
func (p *Publisher) Open(ctx context.Context) error {
	p.opening.Lock()
	defer p.opening.Unlock()
	if p.closed {
		return ErrClosed
	}
	s, err := p.connected()
	if err != nil {
		return err
	}
	return p.examine(ctx, s)
}

// connected is the session if it has a connection at this moment.
func (p *Publisher) connected() (*session, error) {
	s := p.session.Load()
	if s == nil || s.conn.IsClosed() {
		var err error
		if s, err = p.connect(); err != nil {
			return nil, err
		}
		p.session.Store(s)
	}
	if !s.conn.IsConnected() {
		if last := s.conn.LastError(); last != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, last)
		}
		return nil, ErrUnreachable
	}
	return s, nil
}

func (p *Publisher) connect() (*session, error) {
	s := &session{ended: make(chan struct{})}
	conn, err := natsgo.Connect(p.config.URL, p.options(s)...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	s.conn = conn
	if s.streams, err = jetstream.New(conn, jetstream.WithDefaultTimeout(answerTimeout)); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	s.publish, err = wmnats.NewPublisherWithNatsConn(conn, wmnats.PublisherPublishConfig{
		Marshaler:         marshaler{stream: p.config.Stream.Name},
		SubjectCalculator: wmnats.DefaultSubjectCalculator,
		JetStream: wmnats.JetStreamConfig{
			ConnectOptions: []natsgo.JSOpt{natsgo.MaxWait(answerTimeout)},
			TrackMsgId:     true, // the message's UUID is its Nats-Msg-Id
		},
	}, nil)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	p.config.Logger.Info("connected to NATS", "server", conn.ConnectedUrlRedacted())
	return s, nil
}

func (p *Publisher) options(s *session) []natsgo.Option {
	logger := p.config.Logger
	var told string // the client calls back from one goroutine
	return []natsgo.Option{
		natsgo.Name("dixie"),
		natsgo.Timeout(connectTimeout),
		natsgo.MaxReconnects(-1), // for ever
		natsgo.ReconnectWait(reconnectWait),
		natsgo.IgnoreAuthErrorAbort(), // the server's users may be mended
		natsgo.PingInterval(pingInterval), natsgo.MaxPingsOutstanding(maxPings),
		// What cannot be sent fails, and is not kept to be sent behind anyone's back.
		natsgo.ReconnectBufSize(-1),
		natsgo.DisconnectErrHandler(func(_ *natsgo.Conn, err error) {
			if err != nil { // else it was closed here
				logger.Warn("the connection to NATS is lost", "error", err)
			}
		}),
		natsgo.ReconnectErrHandler(func(_ *natsgo.Conn, err error) {
			logger.Debug("cannot connect to NATS again yet", "error", err)
		}),
		natsgo.ReconnectHandler(func(conn *natsgo.Conn) {
			told = ""
			logger.Info("connected to NATS again", "server", conn.ConnectedUrlRedacted())
		}),
		natsgo.ErrorHandler(func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) {
			level := slog.LevelWarn
			if err.Error() == told { // a refusal comes with each attempt
				level = slog.LevelDebug
			}
			told = err.Error()
			logger.Log(context.Background(), level, "NATS reports an error", "error", err)
		}),
		natsgo.ClosedHandler(func(*natsgo.Conn) { close(s.ended) }),
	}
}

// Publish implements [message.Publisher]: it returns when the stream has confirmed
// the messages, which it stores in the order given. A message whose UUID came
// within the stream's window of duplicates is confirmed and not stored again.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	s := p.session.Load()
	if s == nil {
		return fmt.Errorf("%w: not opened", ErrUnreachable)
	}
	err := s.publish.Publish(topic, messages...)
	if err != nil && !s.conn.IsConnected() {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}

// Close implements [message.Publisher]. It returns when the connection and its
// goroutines have ended.
func (p *Publisher) Close() error {
	p.opening.Lock()
	defer p.opening.Unlock()
	p.closed = true
	if s := p.session.Load(); s != nil {
		s.conn.Close()
		<-s.ended
	}
	return nil
}

// Problem is what is wrong with the stream, in words that anyone may read.
type Problem struct {
	Fatal  bool // nothing is published until it is mended
	Detail string
}

// State tells whether there is a connection at this moment, and what was wrong
// with the stream when it was examined last; nil when nothing was. It does not ask
// the server.
func (p *Publisher) State() (connected bool, problem *Problem) {
	s := p.session.Load()
	return s != nil && s.conn.IsConnected(), p.problem.Load()
}

// marshaler is watermill's, with the stream's name in each message: what another
// stream would store is refused.
type marshaler struct {
	wmnats.NATSMarshaler
	stream string
}

func (m marshaler) Marshal(topic string, msg *message.Message) (*natsgo.Msg, error) {
	marshalled, err := m.NATSMarshaler.Marshal(topic, msg)
	if err == nil {
		marshalled.Header.Set(natsgo.ExpectedStreamHdr, m.stream)
	}
	return marshalled, err
}
