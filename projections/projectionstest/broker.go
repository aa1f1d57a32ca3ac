package projectionstest

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"dixie/eventstore"
	"dixie/projections"
	"dixie/reputation"
)

// Sent is a message that was published.
type Sent struct {
	Topic, ID, NFT string
	Position       int64
	Payload        string
}

// Broker keeps what is published as JetStream does: a message whose id it has is
// confirmed and not stored again.
type Broker struct {
	// OnOpen is the answer to Open; nil is always nil.
	OnOpen func() error
	// OnPublish decides what becomes of a message: whether and when it is stored, and
	// whether that is confirmed. nil stores and confirms.
	OnPublish func(m Sent, store func()) error

	mu     sync.Mutex
	stored []Sent
	ids    map[string]struct{}
	again  int
}

var _ projections.Broker = (*Broker)(nil)

// Open implements [projections.Broker].
func (b *Broker) Open(ctx context.Context) error {
	if b.OnOpen != nil {
		return b.OnOpen()
	}
	return ctx.Err()
}

// Publish implements [message.Publisher].
func (b *Broker) Publish(topic string, messages ...*message.Message) error {
	for _, m := range messages {
		sent, err := ReadSent(topic, m.UUID, m.Metadata.Get, m.Payload)
		if err != nil {
			return err
		}
		store := func() { b.store(sent) }
		if b.OnPublish == nil {
			store()
		} else if err := b.OnPublish(sent, store); err != nil {
			return err
		}
	}
	return nil
}

// ReadSent takes a message apart. header reads a header or a piece of metadata.
func ReadSent(topic, id string, header func(string) string, payload []byte) (Sent, error) {
	position, err := strconv.ParseInt(header(projections.MetadataPosition), 10, 64)
	return Sent{
		Topic: topic, ID: id, NFT: header(projections.MetadataNFT), Position: position, Payload: string(payload),
	}, err
}

func (b *Broker) store(m Sent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ids == nil {
		b.ids = map[string]struct{}{}
	}
	if _, ok := b.ids[m.ID]; ok {
		b.again++
		return
	}
	b.ids[m.ID] = struct{}{}
	b.stored = append(b.stored, m)
}

// Close implements [message.Publisher].
func (b *Broker) Close() error { return nil }

// Stored are the messages in the order in which they came.
func (b *Broker) Stored() []Sent {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.stored)
}

// Again is how many messages came that were stored before.
func (b *Broker) Again() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.again
}

// Published is what should be published of a log, in its order: its events, and the
// changes of state in the histories that one pass over it gives.
func Published(t TB, log reputation.Log, params reputation.Params) []Sent {
	t.Helper()
	head, err := log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	agents, collections := map[string]*reputation.Agent{}, map[string]*reputation.Collection{}
	var sent []Sent
	for r, err := range eventstore.All(t.Context(), log, 0, head) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := r.Event()
		if err != nil {
			continue
		}
		nft := r.NFT
		agent, collection := value(agents, nft), value(collections, e.CollectionID)
		before := len(agent.Aggregate.Transitions)
		err = params.FoldAggregate(agent, collection, nft, &e)
		if aside := (*reputation.SetAsideError)(nil); errors.As(err, &aside) && aside.Reason == reputation.ReasonInvalidNFT {
			continue
		}
		sent = append(sent, Sent{"reputation.events." + string(e.Type()), e.ID, nft, r.Position, canonical(t, r.JSON)})
		if err != nil {
			continue
		}
		agents[nft], collections[e.CollectionID] = agent, collection
		for _, change := range agent.Aggregate.Transitions[before:] {
			text := stateChanged(t, nft, &r, &e, change)
			sent = append(sent, Sent{"reputation.state_changed", e.ID + ":state", nft, r.Position, text})
		}
	}
	return sent
}

func stateChanged(t TB, nft string, r *reputation.Recorded, e *reputation.Event, change reputation.Transition) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"nft_id": nft, "collection_id": e.CollectionID, "event_id": e.ID, "position": r.Position,
		"from": change.From, "to": change.To, "at": change.At, "trigger": change.Trigger,
	})
	if err != nil {
		t.Fatal(err)
	}
	return canonical(t, text)
}

func canonical(t TB, text []byte) string {
	t.Helper()
	form, err := reputation.Canonical(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(form)
}

// SamePublished checks that everything that is wanted came once, and what is of one
// NFT in the order that is wanted.
func SamePublished(t TB, want, got []Sent) {
	t.Helper()
	if diff := cmp.Diff(byNFT(want), byNFT(got)); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
}

func byNFT(messages []Sent) map[string][]Sent {
	lanes := map[string][]Sent{}
	for _, m := range messages {
		lanes[m.NFT] = append(lanes[m.NFT], m)
	}
	return lanes
}
