package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"dixie/http"
	"dixie/internal/nats"
	"dixie/projections"
)

// natsSwitch decides whether anything is published: only with both settings.
type natsSwitch struct {
	URL     string `name:"nats-url" env:"NATS_URL" secret:"" placeholder:"URL" help:"NATS server to publish to, such as nats://localhost:4222, or several separated by commas. Alone it does nothing, see --nats-publish."`
	Publish bool   `name:"nats-publish" env:"DIXIE_NATS_PUBLISH" help:"Publish events and changes of state to NATS JetStream. It needs --nats-url."`
}

func (n natsSwitch) on() bool { return n.URL != "" && n.Publish }

// natsStream are the settings with which the stream is created.
type natsStream struct {
	Stream     string        `name:"nats-stream" env:"DIXIE_NATS_STREAM" default:"DIXIE" help:"JetStream stream that keeps what is published. It is created when it does not exist; one that exists keeps its settings."`
	MaxAge     time.Duration `name:"nats-max-age" env:"DIXIE_NATS_MAX_AGE" default:"168h" help:"How long the created stream keeps messages, 0 for ever."`
	MaxBytes   int64         `name:"nats-max-bytes" env:"DIXIE_NATS_MAX_BYTES" default:"1073741824" help:"Bytes that the created stream keeps at most, 0 without limit. The oldest messages go first."`
	Duplicates time.Duration `name:"nats-duplicates" env:"DIXIE_NATS_DUPLICATES" default:"10m" help:"For how long the created stream recognises a message that is sent again."`
	Replicas   int           `name:"nats-replicas" env:"DIXIE_NATS_REPLICAS" default:"1" help:"Servers of a NATS cluster on which the created stream keeps messages, 1 to 5."`
}

// natsSettings are all settings of publishing.
type natsSettings struct {
	natsSwitch `embed:""`
	natsStream `embed:""`
}

// open returns a publisher that dials when it is first used, and nil when
// publishing is switched off.
func (n natsSettings) open(ctx context.Context, logger *slog.Logger) (*nats.Publisher, error) {
	if n.Publish && n.URL == "" {
		logger.WarnContext(ctx, "DIXIE_NATS_PUBLISH is set and NATS_URL is not: nothing is published")
	}
	if !n.on() {
		return nil, nil
	}
	return n.natsStream.publisher(n.URL, logger)
}

func (n natsStream) publisher(url string, logger *slog.Logger) (*nats.Publisher, error) {
	if url == "" {
		return nil, errors.New("no NATS server is configured: set NATS_URL or give --nats-url")
	}
	return nats.New(nats.Config{
		URL: url,
		Stream: nats.Stream{
			Name: n.Stream, Subjects: projections.Subjects, MaxAge: n.MaxAge, MaxBytes: n.MaxBytes,
			Duplicates: n.Duplicates, Replicas: n.Replicas,
		},
		Topics: projections.Topics(), MaxMessageBytes: projections.MaxMessageBytes, Logger: logger,
	})
}

// broker is a publisher as projections know it, counted; nil stays nil.
func broker(publisher *nats.Publisher, seen *observation) projections.Broker {
	if publisher == nil {
		return nil
	}
	return seen.Broker(publisher)
}

func closeNATS(publisher *nats.Publisher) {
	if publisher != nil {
		_ = publisher.Close() // it tells nothing
	}
}

// natsHealth is what health says of publishing.
func natsHealth(publisher *nats.Publisher) http.NATSHealth {
	if publisher == nil {
		return http.NATSHealth{}
	}
	connected, problem := publisher.State()
	switch {
	case !connected:
		return http.NATSHealth{Status: "unreachable"}
	case problem == nil:
		return http.NATSHealth{Status: "connected"}
	case problem.Fatal:
		return http.NATSHealth{Status: "misconfigured", Detail: problem.Detail}
	}
	return http.NATSHealth{Status: "connected", Detail: problem.Detail}
}
