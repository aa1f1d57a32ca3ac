package nats_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"dixie/eventstore"
	"dixie/internal/nats"
	"dixie/internal/natstest"
	"dixie/internal/pgtest"
	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

// pageSize makes several pages of a test's log.
const pageSize = 100

// backends are a log and the publishers that follow it.
var backends = map[string]func(*testing.T) projectionstest.Backend{
	"memory": func(*testing.T) projectionstest.Backend {
		log := eventstore.NewMemory()
		rows := projections.NewMemory(log)
		return projectionstest.Backend{Log: log, Reader: rows, Publisher: publisherOf(log, rows.NewProjectors)}
	},
	"postgres": func(t *testing.T) projectionstest.Backend {
		pool := pgtest.Pool(t)
		log := eventstore.OpenPostgres(pool, slog.New(slog.DiscardHandler))
		t.Cleanup(log.Close)
		rows := projections.NewPostgres(pool)
		return projectionstest.Backend{Log: log, Reader: rows, Publisher: publisherOf(log, rows.NewProjectors)}
	},
}

func publisherOf(
	log reputation.Log, projectors func(projections.Config) []*projections.Projector,
) func(reputation.Params, int, projections.Broker) *projections.Projector {
	return func(params reputation.Params, pageSize int, broker projections.Broker) *projections.Projector {
		all := projectors(projections.Config{
			Log: log, Params: params, PageSize: pageSize, Broker: broker, Logger: slog.New(slog.DiscardHandler),
		})
		return all[len(all)-1]
	}
}

func forBackends(t *testing.T, test func(*testing.T, projectionstest.Backend)) {
	t.Parallel()
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// appendEvents appends events of some agents, whose states change, one busier than
// the others.
func appendEvents(t *testing.T, b projectionstest.Backend, n int) {
	t.Helper()
	events := make([]projectionstest.Event, n)
	for i := range events {
		nft := fmt.Sprint("bear-", i%50)
		if i%5 == 0 {
			nft = "busy"
		}
		events[i] = projectionstest.Task(nft, "native", "analysis", float64(i%100)/100)
		if i%333 == 332 {
			events[i] = projectionstest.Reset(nft)
		}
	}
	b.Append(t, events...)
}

// checkStream waits until everything is published, and checks that the stream has
// it once, and in the order of each agent.
func checkStream(t *testing.T, b projectionstest.Backend, server *natstest.Server) {
	t.Helper()
	b.Await(t, b.Head(t), projections.Publisher)
	var got []projectionstest.Sent
	for i, m := range server.Messages("DIXIE") {
		header := m.Headers()
		sent, err := projectionstest.ReadSent(m.Subject(), header.Get("Nats-Msg-Id"), header.Get, m.Data())
		if err != nil {
			t.Fatalf("message %d: %v", i+1, err)
		}
		got = append(got, sent)
	}
	projectionstest.SamePublished(t, projectionstest.Published(t, b.Log, reputation.DefaultParams()), got)
}

// Everything arrives although the server is stopped and started meanwhile, once and
// in the order of each agent; the log is taking events all the time.
func TestServerStoppedAndStarted(t *testing.T) {
	forBackends(t, func(t *testing.T, b projectionstest.Backend) {
		server := natstest.Start(t)
		p := b.Publisher(reputation.DefaultParams(), pageSize, newPublisher(t, settings(server.URL())))
		appendEvents(t, b, 600)
		projectionstest.Run(t, p)
		for range 2 {
			messages := server.Stored("DIXIE")
			projectionstest.Eventually(t, "more is published", func() bool { return server.Stored("DIXIE") > messages+20 })
			server.Stop()
			appendEvents(t, b, 600)
			projectionstest.AwaitState(t, projections.Retrying, p)
			server.Start()
		}
		checkStream(t, b, server)
		projectionstest.AwaitState(t, projections.Running, p)
	})
}

// A server that starts long after the publisher gets everything.
func TestServerStartsLater(t *testing.T) {
	forBackends(t, func(t *testing.T, b projectionstest.Backend) {
		server := natstest.Start(t)
		server.Stop()
		p := b.Publisher(reputation.DefaultParams(), pageSize, newPublisher(t, settings(server.URL())))
		projectionstest.Run(t, p)
		appendEvents(t, b, 300)
		projectionstest.AwaitState(t, projections.Retrying, p)
		server.Start()
		checkStream(t, b, server)
	})
}

// dying confirms nothing from some message on, although it is stored, and ends the
// publisher then.
type dying struct {
	*nats.Publisher
	left atomic.Int64
	kill context.CancelFunc
}

func (d *dying) Publish(topic string, messages ...*message.Message) error {
	err := d.Publisher.Publish(topic, messages...)
	if d.left.Add(-1) <= 0 {
		d.kill()
		return context.Canceled
	}
	return err
}

// A publisher that is killed between the stream's confirmation and its own
// checkpoint is followed by one that sends the page again, and the stream drops
// what it has.
func TestKilledBeforeTheCheckpoint(t *testing.T) {
	forBackends(t, func(t *testing.T, b projectionstest.Backend) {
		server := natstest.Start(t)
		appendEvents(t, b, 400)
		for _, messages := range []int64{70, 150, 1} {
			ctx, kill := context.WithCancel(t.Context())
			broker := &dying{Publisher: newPublisher(t, settings(server.URL())), kill: kill}
			broker.left.Store(messages)
			b.Publisher(reputation.DefaultParams(), pageSize, broker).Run(ctx)
			kill()
			_ = broker.Close()
		}
		stored := server.Stored("DIXIE")
		if stored < 150 {
			t.Fatalf("only %d messages were stored before the last publisher", stored)
		}
		projectionstest.Run(t, b.Publisher(reputation.DefaultParams(), pageSize, newPublisher(t, settings(server.URL()))))
		checkStream(t, b, server)
	})
}

// Two publishers, of which one is killed: the other goes on.
func TestStandbyGoesOn(t *testing.T) {
	forBackends(t, func(t *testing.T, b projectionstest.Backend) {
		server := natstest.Start(t)
		first := b.Publisher(reputation.DefaultParams(), pageSize, newPublisher(t, settings(server.URL())))
		stop := projectionstest.Run(t, first)
		projectionstest.AwaitState(t, projections.Running, first)
		second := b.Publisher(reputation.DefaultParams(), pageSize, newPublisher(t, settings(server.URL())))
		projectionstest.Run(t, second)
		projectionstest.AwaitState(t, projections.Standby, second)
		appendEvents(t, b, 800)
		projectionstest.Eventually(t, "something is published", func() bool { return server.Stored("DIXIE") > 20 })
		stop()
		checkStream(t, b, server)
		projectionstest.AwaitState(t, projections.Running, second)
	})
}

// What is sent again is dropped by the stream, and what it has lost comes back.
func TestResend(t *testing.T) {
	forBackends(t, func(t *testing.T, b projectionstest.Backend) {
		server := natstest.Start(t)
		appendEvents(t, b, 300)
		publisher := newPublisher(t, settings(server.URL()))
		projectionstest.Run(t, b.Publisher(reputation.DefaultParams(), pageSize, publisher))
		checkStream(t, b, server)
		resend := func() {
			t.Helper()
			_, err := projections.Resend(t.Context(), projections.ResendConfig{
				Log: b.Log, Broker: publisher, Params: reputation.DefaultParams(), From: 1, Until: b.Head(t),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		resend()
		checkStream(t, b, server)
		if err := server.JetStream().DeleteStream(t.Context(), "DIXIE"); err != nil {
			t.Fatal(err)
		}
		resend()
		checkStream(t, b, server)
	})
}

// A stream that cannot be used stops publishing and nothing else, until it is
// mended.
func TestUnusableStreamStopsPublishing(t *testing.T) {
	t.Parallel()
	b := backends["memory"](t)
	server := natstest.Start(t)
	addStream(t, server, "DIXIE", "reputation.events.*")
	publisher := newPublisher(t, settings(server.URL()))
	p := b.Publisher(reputation.DefaultParams(), pageSize, publisher)
	projectionstest.Run(t, p)
	appendEvents(t, b, 100)
	projectionstest.AwaitState(t, projections.Retrying, p)
	if n := server.Stored("DIXIE"); n != 0 {
		t.Errorf("%d messages were published", n)
	}
	putStream(t, server, streamOf(settings("")))
	checkStream(t, b, server)
	if _, problem := publisher.State(); problem != nil {
		t.Errorf("problem %+v", problem)
	}
}

// Messages of the longest event fit.
func TestLongestEvent(t *testing.T) {
	t.Parallel()
	b := backends["memory"](t)
	server := natstest.Start(t)
	evaluator := string(bytes.Repeat([]byte("x"), reputation.MaxEventBytes-500))
	event := projectionstest.Task("bear-1", "native", "analysis", 0.5)
	body := event.Body.(reputation.ModelPerformance)
	body.Observation.EvaluatedBy = evaluator
	event.Body = body
	b.Append(t, event)
	projectionstest.Run(t, b.Publisher(reputation.DefaultParams(), pageSize, newPublisher(t, settings(server.URL()))))
	checkStream(t, b, server)
}
