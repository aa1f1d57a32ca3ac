package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Stream are the settings with which a stream is created. One that exists keeps
// its own.
type Stream struct {
	Name string
	// Subjects are those that it takes; each may have wildcards.
	Subjects []string
	// MaxAge is how long a message is kept; 0 is for ever.
	MaxAge time.Duration
	// MaxBytes is how much is kept, with the oldest messages going first; 0 is no
	// limit.
	MaxBytes int64
	// Duplicates is for how long the ids of messages are remembered, so that one
	// that is sent twice is stored once; more than 0, and not more than MaxAge.
	Duplicates time.Duration
	// Replicas is on how many servers of a cluster messages are kept, 1 to 5.
	Replicas int
}

func (s Stream) validate() error {
	var wrong []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Errorf("NATS stream: "+format, args...))
		}
	}
	refuse(s.Name == "" || strings.ContainsAny(s.Name, ">*. /\\\t\r\n"),
		"the name must not be empty, nor have spaces or any of > * . / \\, found %q", s.Name)
	refuse(s.MaxAge < 0, "the age must not be negative, found %s", s.MaxAge)
	refuse(s.MaxBytes < 0, "the size must not be negative, found %d", s.MaxBytes)
	// The server refuses windows that are shorter.
	refuse(s.Duplicates < 100*time.Millisecond, "the window of duplicates must be at least 100ms, found %s", s.Duplicates)
	refuse(s.MaxAge > 0 && s.Duplicates > s.MaxAge, "the window of duplicates must not be longer than the age %s, found %s", s.MaxAge, s.Duplicates)
	refuse(s.Replicas < 1 || s.Replicas > 5, "the replicas must be 1 to 5, found %d", s.Replicas)
	return errors.Join(wrong...)
}

func (s Stream) config() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: s.Name, Subjects: s.Subjects, Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy,
		Discard: jetstream.DiscardOld, MaxAge: s.MaxAge, MaxBytes: limit(s.MaxBytes), MaxMsgs: -1, MaxMsgsPerSubject: -1,
		Duplicates: s.Duplicates, Replicas: s.Replicas,
		Description: "Events and state changes of Dixie's reputation log",
	}
}

// limit is how JetStream spells that there is none.
func limit(n int64) int64 {
	if n <= 0 {
		return -1
	}
	return n
}

// examine creates the stream if there is none, and says what is wrong with one that
// there is.
func (p *Publisher) examine(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	name := p.config.Stream.Name
	stream, err := s.streams.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if stream, err = s.streams.CreateStream(ctx, p.config.Stream.config()); err == nil {
			p.config.Logger.InfoContext(ctx, "created the NATS stream", "stream", name)
		}
	}
	if err != nil {
		return p.unusable(ctx, s, err)
	}
	config := stream.CachedInfo().Config
	if fault := p.fault(s, config); fault != "" {
		p.problem.Store(&Problem{Fatal: true, Detail: fault})
		return fmt.Errorf("%w: %s", ErrUnusable, fault)
	}
	p.compare(ctx, config)
	return nil
}

// unusable says why there is no stream.
func (p *Publisher) unusable(ctx context.Context, s *session, err error) error {
	if !s.conn.IsConnected() || ctx.Err() != nil {
		return fmt.Errorf("%w: ask for stream %s: %w", ErrUnreachable, p.config.Stream.Name, err)
	}
	detail := fmt.Sprintf("stream %s cannot be had from the server, whose answer is in the log", p.config.Stream.Name)
	var refused *jetstream.APIError
	switch {
	case errors.Is(err, natsgo.ErrNoResponders), errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		detail = "the server has no JetStream"
	case errors.As(err, &refused) && refused.ErrorCode == overlapCode:
		detail = fmt.Sprintf("another stream than %s takes its subjects", p.config.Stream.Name)
	}
	p.problem.Store(&Problem{Fatal: true, Detail: detail})
	return fmt.Errorf("%w: %s: %w", ErrUnusable, detail, err)
}

// overlapCode is JetStream's error when subjects overlap with another stream's.
const overlapCode = 10065

// fault is why the stream cannot keep what is published; empty when it can.
func (p *Publisher) fault(s *session, config jetstream.StreamConfig) string {
	missing := slices.DeleteFunc(slices.Clone(p.config.Topics), func(topic string) bool {
		return slices.ContainsFunc(config.Subjects, func(pattern string) bool { return takes(pattern, topic) })
	})
	most := p.config.MaxMessageBytes + headerBytes
	switch {
	case len(missing) > 0:
		return fmt.Sprintf("stream %s does not take %s", config.Name, strings.Join(missing, ", "))
	case config.NoAck:
		return fmt.Sprintf("stream %s does not confirm messages (no_ack)", config.Name)
	case config.Sealed:
		return fmt.Sprintf("stream %s is sealed", config.Name)
	case config.MaxMsgSize > 0 && int(config.MaxMsgSize) < most:
		return fmt.Sprintf("stream %s takes messages of at most %d bytes (max_msg_size), needed are %d", config.Name, config.MaxMsgSize, most)
	case s.conn.MaxPayload() < int64(most):
		return fmt.Sprintf("the server takes messages of at most %d bytes (max_payload), needed are %d", s.conn.MaxPayload(), most)
	}
	return ""
}

// compare tells of settings that are not those with which the stream would have
// been created. They are left alone.
func (p *Publisher) compare(ctx context.Context, have jetstream.StreamConfig) {
	var names, texts []string
	for _, d := range differences(p.config.Stream.config(), have) {
		names = append(names, d.name)
		texts = append(texts, fmt.Sprintf("%s is %v, not %v", d.name, d.have, d.want))
	}
	text := strings.Join(texts, "; ")
	if text != p.told && text != "" {
		p.config.Logger.WarnContext(ctx, "the NATS stream has other settings than configured, and keeps them",
			"stream", have.Name, "differences", text)
	}
	p.told = text
	if text == "" {
		p.problem.Store(nil)
		return
	}
	p.problem.Store(&Problem{Detail: fmt.Sprintf("stream %s has other settings than configured: %s", have.Name, strings.Join(names, ", "))})
}

type difference struct {
	name       string
	want, have any
}

func differences(want, have jetstream.StreamConfig) []difference {
	all := []difference{
		{"subjects", sorted(want.Subjects), sorted(have.Subjects)},
		{"storage", want.Storage, have.Storage},
		{"retention", want.Retention, have.Retention},
		{"discard", want.Discard, have.Discard},
		{"max_age", want.MaxAge, have.MaxAge},
		{"max_bytes", want.MaxBytes, limit(have.MaxBytes)},
		{"max_msgs", want.MaxMsgs, limit(have.MaxMsgs)},
		{"max_msgs_per_subject", want.MaxMsgsPerSubject, limit(have.MaxMsgsPerSubject)},
		{"duplicate_window", want.Duplicates, have.Duplicates},
		{"num_replicas", want.Replicas, have.Replicas},
	}
	return slices.DeleteFunc(all, func(d difference) bool { return d.want == d.have })
}

func sorted(subjects []string) string {
	return strings.Join(slices.Sorted(slices.Values(subjects)), " ")
}

// takes reports whether a subject matches a pattern, in which * stands for one
// token and > for the rest.
func takes(pattern, subject string) bool {
	want, have := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range want {
		if token == ">" {
			return i < len(have)
		}
		if i >= len(have) || token != "*" && token != have[i] {
			return false
		}
	}
	return len(want) == len(have)
}
