package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// subjects are those that the service publishes to.
var subjects = []string{"reputation.events.*", "reputation.state_changed"}

// stream is the name of the stream, unless the deployment has another.
const stream = "DIXIE"

// connectNATS is a client of the deployment's NATS.
func connectNATS(t *testing.T) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(variable(t, natsVariable))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// published waits for so many messages about an NFT, in the order in which they
// were stored.
func published(t *testing.T, js jetstream.JetStream, nft string, messages int) (found []jetstream.Msg) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	consumer, err := js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{FilterSubjects: subjects})
	if err != nil {
		t.Fatal(err)
	}
	for len(found) < messages && ctx.Err() == nil {
		m, err := consumer.Next(jetstream.FetchMaxWait(time.Second))
		if err == nil && m.Headers().Get("Dixie-NFT") == nft {
			found = append(found, m)
		}
	}
	if len(found) < messages {
		t.Fatalf("%d messages about %s, want %d", len(found), nft, messages)
	}
	return found
}

// lastOf is the sequence of the last message of the stream, 0 while there is no
// stream.
func lastOf(t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	found, err := js.Stream(t.Context(), stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return found.CachedInfo().State.LastSeq
}

// TestNATSAsDeployed: a deployment that does not publish leaves the stream alone,
// and one that does publishes what is appended.
func TestNATSAsDeployed(t *testing.T) {
	js, c := connectNATS(t), keyed(t, "read", "append")
	if c.health().Infrastructure["nats"].Status == "dormant" {
		checkQuiet(t, js, c)
		return
	}
	nft := unique("nft")
	events := []event{judged(nft, 0.9), judged(nft, 0.8)}
	c.append(nft, events...)
	checkPublished(t, published(t, js, nft, 3), events)
}

// checkQuiet: an event that is appended and folded is not published. It returns
// the event.
func checkQuiet(t *testing.T, js jetstream.JetStream, c *client) event {
	t.Helper()
	before := lastOf(t, js)
	nft := unique("nft")
	e := judged(nft, 0.9)
	c.reputation(nft, c.append(nft, e))
	if now := lastOf(t, js); now != before {
		t.Errorf("%d messages were published although nobody switched it on", now-before)
	}
	return e
}

// TestNATSSwitched: with NATS_URL alone nothing is published. Switched on, the
// whole log is, each event once, an event before the change of state that it
// makes; and switched off again it is quiet.
func TestNATSSwitched(t *testing.T) {
	js, ctl, c := connectNATS(t), controlled(t), keyed(t, "read", "append")
	off := ctl.configure(t, 1, nil)
	if status := off.health().Infrastructure["nats"].Status; status != "dormant" {
		t.Fatalf("NATS is %s although nobody switched it on", status)
	}
	earlier := checkQuiet(t, js, c)

	on := ctl.configure(t, 1, map[string]string{"DIXIE_NATS_PUBLISH": "true"})
	eventually(t, "NATS is connected", func() bool { return on.health().Infrastructure["nats"].Status == "connected" })
	checkPublished(t, published(t, js, earlier.Agent, 2), []event{earlier})
	nft := unique("nft")
	events := []event{judged(nft, 0.9), judged(nft, 0.8), judged(nft, 0.7)}
	c.append(nft, events...)
	checkPublished(t, published(t, js, nft, 4), events)

	off = ctl.configure(t, 1, nil)
	if status := off.health().Infrastructure["nats"].Status; status != "dormant" {
		t.Errorf("NATS is %s although it was switched off", status)
	}
	checkQuiet(t, js, c)
}

// checkPublished: the messages are the events and the change of state that the
// first of them makes.
func checkPublished(t *testing.T, messages []jetstream.Msg, events []event) {
	t.Helper()
	changed := messages[1]
	var change struct {
		NFT  string `json:"nft_id"`
		From string
		To   string
	}
	if err := json.Unmarshal(changed.Data(), &change); err != nil {
		t.Fatalf("%v: %s", err, changed.Data())
	}
	id := changed.Headers().Get(nats.MsgIdHdr)
	if changed.Subject() != "reputation.state_changed" || id != events[0].ID+":state" || change.From != "cold" || change.To != "warming" {
		t.Errorf("after the first event there is %s %s %+v", changed.Subject(), id, change)
	}
	last := int64(0)
	for i, m := range append(messages[:1:1], messages[2:]...) {
		var got event
		if err := json.Unmarshal(m.Data(), &got); err != nil {
			t.Fatalf("%v: %s", err, m.Data())
		}
		position, err := strconv.ParseInt(m.Headers().Get("Dixie-Position"), 10, 64)
		if err != nil || position <= last {
			t.Errorf("position %d after %d, %v", position, last, err)
		}
		last = position
		if m.Subject() != "reputation.events.quality_signal" || m.Headers().Get(nats.MsgIdHdr) != events[i].ID || got.ID != events[i].ID || *got.Score != *events[i].Score {
			t.Errorf("message %d is %s %s, want event %+v", i, m.Subject(), m.Data(), events[i])
		}
	}
}
