package projections

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/errgroup"

	"dixie/eventstore"
	"dixie/reputation"
)

// The topics of what is published. That of an event ends with the event's type.
const (
	TopicEvents       = "reputation.events."
	TopicStateChanged = "reputation.state_changed"
)

// Subjects are the topics, with those of event types to come, as subjects of NATS.
var Subjects = []string{TopicEvents + "*", TopicStateChanged}

// Topics are all topics to which anything is published.
func Topics() []string {
	topics := make([]string, 0, len(reputation.Types)+1)
	for _, t := range reputation.Types {
		topics = append(topics, TopicEvents+string(t))
	}
	return append(topics, TopicStateChanged)
}

// The metadata of what is published: where the event is in the log, and for which
// NFT it counts.
const (
	MetadataPosition = "Dixie-Position"
	MetadataNFT      = "Dixie-NFT"
)

const (
	// MaxMessageBytes is the longest payload that is published: an event, or a
	// state change, in which an event's own texts make up most.
	MaxMessageBytes = reputation.MaxEventBytes

	// inFlight is how many messages may be on their way to the broker at once. More
	// were no faster on one machine.
	inFlight = 64

	// publisherVersion is of what the publisher stores. It does not depend on the
	// scoring parameters: counts are stored, and states follow from them.
	publisherVersion = "1"
)

// errUnsent ends a term: the broker has to be opened again.
var errUnsent = errors.New("not published")

// Broker is where messages are published.
type Broker interface {
	// Open returns nil when messages can be published. It is asked again until it
	// does, and again after each failure to publish.
	Open(ctx context.Context) error
	// Publisher's Publish returns when the broker has stored the messages. A message
	// whose UUID the broker has stored lately is not stored again. It is safe for
	// concurrent use. Whoever made the broker closes it.
	message.Publisher
}

func newPublisher(b backend, pages *eventstore.Pages, config Config) *Projector {
	o := newOutbox(config.Broker, config.Params)
	return &Projector{
		projection: projection{name: Publisher, fold: o.save}, params: config.Params, backend: b, pages: pages,
		outbox: o, middleware: config.Middleware, logger: config.Logger.With("projection", Publisher), state: Stopped,
	}
}

// version is that of the rows that the projector writes.
func (p *Projector) version() string { return versionOf(p.projection.name, p.params) }

// versionOf is the version of a projection's rows with some parameters.
func versionOf(projection string, params reputation.Params) string {
	if projection == Publisher {
		return publisherVersion
	}
	return params.Version()
}

// read loads rows. Only what uses the lease waits for its turn, so that the lease
// is renewed also while a slow broker takes a page.
func (t *term) read(ctx context.Context, work func(context.Context, tx) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lease.read(ctx, work)
}

// outbox sends pages of the log to a broker: each event, and each change of state
// that it makes. The checkpoint moves when the broker has all of a page; a page
// that fails is sent again but for the messages that the broker has confirmed. A
// nil outbox, of a projection that only folds, sends nothing.
type outbox struct {
	broker Broker
	params reputation.Params

	changes rankChanges // of the page that was sent last

	mu    sync.Mutex
	after int64               // checkpoint from which acked tells
	acked map[string]struct{} // ids of messages that the broker has
}

func newOutbox(broker Broker, params reputation.Params) *outbox {
	return &outbox{broker: broker, params: params, acked: map[string]struct{}{}}
}

// letter is a message and where it goes.
type letter struct {
	topic   string
	message *message.Message
}

// rankChanges are what one page changes in what the publisher stores.
type rankChanges struct {
	restart  bool // what is stored belongs to no checkpoint and goes first
	ranks    []changedRank
	failures []Failure
}

type changedRank struct {
	nft  string
	rank reputation.Rank
}

// open waits for nothing: it fails while the broker cannot be used.
func (o *outbox) open(ctx context.Context) error {
	if o == nil {
		return nil
	}
	return o.broker.Open(ctx)
}

// send publishes a page and returns when the broker has all of it.
func (o *outbox) send(ctx context.Context, t *term, page *eventstore.Page) error {
	if o == nil {
		return nil
	}
	before, err := o.load(ctx, t, page)
	if err != nil {
		return err
	}
	ranks := make(map[string]*reputation.Rank, len(before))
	for nft, rank := range before {
		ranks[nft] = &rank
	}
	lanes, failures := o.letters(page, ranks)
	o.since(page.From)
	if err := o.deliver(ctx, lanes); err != nil {
		return fmt.Errorf("%w: %w", errUnsent, err)
	}
	o.changes = rankChanges{restart: page.From == 0, failures: failures}
	for _, nft := range nfts(page) {
		if rank := ranks[nft]; rank != nil && *rank != before[nft] {
			o.changes.ranks = append(o.changes.ranks, changedRank{nft, *rank})
		}
	}
	return nil
}

// load are the ranks of the page's agents, as they are before it.
func (o *outbox) load(ctx context.Context, t *term, page *eventstore.Page) (map[string]reputation.Rank, error) {
	if page.From == 0 {
		return nil, nil
	}
	var stored map[string]reputation.Rank
	err := t.read(ctx, func(ctx context.Context, tx tx) (err error) {
		stored, err = tx.loadRanks(ctx, nfts(page))
		return err
	})
	for nft, rank := range stored {
		stored[nft] = o.params.RankAt(rank.CollectionID, rank.Samples)
	}
	return stored, err
}

// letters are the messages of a page, a lane for each NFT, in which they have to
// arrive in order; and what was set aside. It folds the page into ranks.
func (o *outbox) letters(page *eventstore.Page, ranks map[string]*reputation.Rank) (lanes [][]letter, failures []Failure) {
	laneOf := map[string]int{}
	for i := range page.Events {
		e := &page.Events[i]
		change, err := o.fold(ranks, e)
		if unpublishable(err) {
			failures = append(failures, newFailure(Publisher, e, err))
			continue
		}
		lane, ok := laneOf[e.NFT]
		if !ok {
			lane = len(lanes)
			laneOf[e.NFT], lanes = lane, append(lanes, nil)
		}
		lanes[lane] = append(lanes[lane], newLetter(e, TopicEvents+string(e.Event.Type()), e.Event.ID, e.Event.AppendJSON(nil)))
		if change != nil {
			lanes[lane] = append(lanes[lane], changeLetter(e, change))
		}
	}
	return lanes, failures
}

// fold applies an event to the rank of its agent.
func (o *outbox) fold(ranks map[string]*reputation.Rank, e *eventstore.PageEvent) (*reputation.Transition, error) {
	if e.Err != nil {
		return nil, e.Err
	}
	return o.params.FoldRank(obtain(ranks, e.NFT), e.NFT, &e.Event)
}

// unpublishable tells rows that are no events, or of no NFT that anyone could ask
// for, from events that merely have no effect, which are published.
func unpublishable(err error) bool {
	var aside *reputation.SetAsideError
	return err != nil && (!errors.As(err, &aside) || aside.Reason != reputation.ReasonCollectionMismatch)
}

func newLetter(e *eventstore.PageEvent, topic, id string, payload []byte) letter {
	m := message.NewMessage(id, payload)
	m.Metadata.Set(MetadataPosition, strconv.FormatInt(e.Position, 10))
	m.Metadata.Set(MetadataNFT, e.NFT)
	return letter{topic, m}
}

// changeLetter tells of a change of state. Its id is derived from the event's, so
// that it is the same whenever it is sent.
func changeLetter(e *eventstore.PageEvent, change *reputation.Transition) letter {
	c := reputation.StateChange{
		NFT: e.NFT, CollectionID: e.Event.CollectionID, EventID: e.Event.ID, Position: e.Position, Transition: *change,
	}
	return newLetter(e, TopicStateChanged, e.Event.ID+":state", c.AppendJSON(nil))
}

// since forgets what was confirmed after another checkpoint.
func (o *outbox) since(after int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.after != after {
		o.after = after
		clear(o.acked)
	}
}

// done forgets what was confirmed: the checkpoint tells from now on.
func (o *outbox) done() {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.acked)
}

// deliver publishes the lanes side by side, and returns after the first failure or
// when the broker has everything.
func (o *outbox) deliver(ctx context.Context, lanes [][]letter) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(inFlight)
	for _, lane := range lanes {
		group.Go(func() error { return o.inOrder(ctx, lane) })
	}
	return group.Wait()
}

// inOrder publishes a letter when the broker has the one before: whatever is lost
// on the way, an agent's messages are stored in their order.
func (o *outbox) inOrder(ctx context.Context, lane []letter) error {
	for _, l := range lane {
		if o.has(l.message.UUID) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := o.broker.Publish(l.topic, l.message); err != nil {
			return err
		}
		o.confirm(l.message.UUID)
	}
	return nil
}

func (o *outbox) has(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.acked[id]
	return ok
}

func (o *outbox) confirm(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acked[id] = struct{}{}
}

// save stores what the page that was sent last has changed, in the transaction
// that moves the checkpoint.
func (o *outbox) save(ctx context.Context, _ reputation.Params, tx tx, _ *eventstore.Page) error {
	return tx.saveRanks(ctx, o.changes)
}
