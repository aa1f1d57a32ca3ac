package projections

import (
	"context"
	"fmt"

	"dixie/eventstore"
	"dixie/reputation"
)

// ResendConfig says what to publish again.
type ResendConfig struct {
	Log    eventstore.Reader
	Broker Broker
	Params reputation.Params
	// From and Until are the first and the last position; 1 ≤ From, and Until is at
	// most the head of the log.
	From, Until int64
	// Progress is called after each page with the number of events that are done, of
	// Until: those before From are read only. nil tells nobody.
	Progress func(done int64)
}

// Resent counts what was published again.
type Resent struct {
	Position     int64 // up to which everything is published
	Events       int64
	StateChanges int64
	SetAside     int64 // rows that are no events
}

// Resend publishes a part of the log as the publisher does, without moving any
// checkpoint. Which states change depends on the events before, which are folded
// first: memory grows with the number of agents. After an error the counts tell
// of what was published before it.
func Resend(ctx context.Context, config ResendConfig) (Resent, error) {
	if err := config.Broker.Open(ctx); err != nil {
		return Resent{}, err
	}
	r := resending{ResendConfig: config, outbox: newOutbox(config.Broker, config.Params), ranks: map[string]*reputation.Rank{}}
	pages := eventstore.NewPages(config.Log, 0)
	for after := int64(0); after < config.Until; {
		page, err := pages.After(ctx, after)
		if err == nil && page == nil {
			err = fmt.Errorf("%w: position %d is missing", eventstore.ErrGap, after+1)
		}
		if err == nil {
			err = r.page(ctx, page)
		}
		if err != nil {
			return r.Resent, err
		}
		after = page.To
		if config.Progress != nil {
			config.Progress(min(after, config.Until))
		}
	}
	return r.Resent, nil
}

type resending struct {
	ResendConfig
	Resent
	outbox *outbox
	ranks  map[string]*reputation.Rank // of all agents so far
}

// page folds what a page has before From, and publishes what it has from there on.
func (r *resending) page(ctx context.Context, page *eventstore.Page) error {
	events := page.Events[:min(page.To, r.Until)-page.From]
	for len(events) > 0 && events[0].Position < r.From {
		_, _ = r.outbox.fold(r.ranks, &events[0]) // an event without effect is one
		events = events[1:]
	}
	if len(events) == 0 {
		return nil
	}
	part := eventstore.Page{From: events[0].Position - 1, To: events[len(events)-1].Position, Events: events}
	lanes, failures := r.outbox.letters(&part, r.ranks)
	if err := r.outbox.deliver(ctx, lanes); err != nil {
		return fmt.Errorf("publish positions %d to %d: %w", part.From+1, part.To, err)
	}
	r.outbox.done()
	r.Position = part.To
	r.count(lanes, len(events), len(failures))
	return nil
}

func (r *resending) count(lanes [][]letter, events, failures int) {
	messages := 0
	for _, lane := range lanes {
		messages += len(lane)
	}
	r.Events += int64(events - failures)
	r.StateChanges += int64(messages - (events - failures))
	r.SetAside += int64(failures)
}
