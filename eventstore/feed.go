package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"dixie/reputation"
)

// Topic is the one topic of a [Feed].
const Topic = "reputation_events"

// The metadata of a feed's messages: the position before the page's first event,
// and that of its last.
const (
	MetadataFrom = "from"
	MetadataTo   = "to"
)

// Reader is the part of a [Store] that a feed reads.
type Reader interface {
	Read(ctx context.Context, after int64, limit int) ([]Recorded, error)
	Changed() <-chan struct{}
}

// Page is a run of consecutive events: those at From+1 to To.
type Page struct {
	From, To int64
	Events   []PageEvent
}

// PageEvent is a recorded event, decoded. Err says why it could not be; Event is
// then the zero value.
type PageEvent struct {
	Recorded
	Event reputation.Event
	Err   error
}

type pageKey struct{}

// PageFrom is the page that a feed's message carries in its context, and nil for
// any other message.
func PageFrom(ctx context.Context) *Page {
	page, _ := ctx.Value(pageKey{}).(*Page)
	return page
}

// FeedConfig sets a [Feed] up. The zero value of a field means its default.
type FeedConfig struct {
	From     int64         // the position after which the feed begins
	PageSize int           // most events of a page; 2,000
	Backoff  time.Duration // wait before a failed page or read is tried again; 200 ms
	Logger   *slog.Logger  // slog.Default()
}

// Feed is a watermill subscriber that follows a log. A message is one page. The
// next page is sent only after the last was acknowledged, and a page that was
// not is sent again, so that pages are handled one at a time and in order
// although watermill starts a goroutine for each message. While a full page is being
// handled the feed reads and decodes the next, and no further. After one that came
// to the end of the log it reads on when that was handled: all that was appended
// meanwhile is one page then, and the read takes nothing from the handling.
type Feed struct {
	pages  *Pages
	config FeedConfig

	mu     sync.Mutex
	err    error
	closed bool
	stops  []context.CancelFunc
	done   sync.WaitGroup
}

var _ message.Subscriber = (*Feed)(nil)

// NewFeed returns a feed of a log.
func NewFeed(log Reader, config FeedConfig) *Feed {
	return NewPages(log, config.PageSize).Feed(config)
}

// Feed returns a feed that shares its pages with other feeds. The PageSize of
// config is not used. Pages that are kept are read again for it, in case that the
// log was restored from a backup since.
func (p *Pages) Feed(config FeedConfig) *Feed {
	p.forget()
	if config.Backoff <= 0 {
		config.Backoff = 200 * time.Millisecond
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	return &Feed{pages: p, config: config}
}

// Subscribe implements [message.Subscriber]. The channel is closed when ctx ends,
// the feed is closed, or the log turns out to be damaged, which [Feed.Err] then
// tells.
func (f *Feed) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if topic != Topic {
		return nil, fmt.Errorf("subscribe: the feed has topic %q, not %q", Topic, topic)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	ctx, stop := context.WithCancel(ctx)
	f.stops = append(f.stops, stop)
	pages := make(chan delivery)
	messages := make(chan *message.Message)
	f.done.Go(func() {
		defer close(pages)
		f.read(ctx, pages)
	})
	f.done.Go(func() {
		defer close(messages)
		defer stop()
		f.deliver(ctx, pages, messages)
	})
	return messages, nil
}

// Close implements [message.Subscriber]. It waits for the feed's goroutines.
func (f *Feed) Close() error {
	f.mu.Lock()
	f.closed = true
	for _, stop := range f.stops {
		stop()
	}
	f.mu.Unlock()
	f.done.Wait()
	return nil
}

// Err is why the feed ended by itself: nil, or an error that matches [ErrGap].
func (f *Feed) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// delivery is a page on its way.
type delivery struct {
	page  *Page
	acked chan struct{} // closed when it was
}

// read sends page after page until ctx ends or the log has a gap.
func (f *Feed) read(ctx context.Context, pages chan<- delivery) {
	after := f.config.From
	for {
		page, err := f.next(ctx, after)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrGap) {
			f.mu.Lock()
			f.err = err
			f.mu.Unlock()
			return
		}
		if err != nil {
			f.config.Logger.WarnContext(ctx, "reading the log failed, trying again", "after", after, "error", err)
			sleep(ctx, f.config.Backoff)
			continue
		}
		next := delivery{page, make(chan struct{})}
		select {
		case pages <- next:
			after = page.To
		case <-ctx.Done():
			return
		}
		if f.pages.full(page) {
			continue
		}
		select {
		case <-next.acked:
		case <-ctx.Done():
			return
		}
	}
}

// next waits for the page after a position.
func (f *Feed) next(ctx context.Context, after int64) (*Page, error) {
	poll := time.NewTimer(pollInterval)
	defer poll.Stop()
	for {
		// Asked for before reading, so that an append in between is not missed.
		changed := f.pages.Changed()
		page, err := f.pages.After(ctx, after)
		if err != nil || page != nil {
			return page, err
		}
		poll.Reset(pollInterval)
		select {
		case <-changed:
		case <-poll.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// deliver sends each page until it is acknowledged.
func (f *Feed) deliver(ctx context.Context, pages <-chan delivery, messages chan<- *message.Message) {
	for next := range pages {
		for {
			acked, ok := f.send(ctx, next.page, messages)
			if !ok {
				return
			}
			if acked {
				close(next.acked)
				break
			}
			sleep(ctx, f.config.Backoff)
		}
	}
}

// send delivers a page once. The second result is false when ctx has ended.
func (f *Feed) send(ctx context.Context, page *Page, messages chan<- *message.Message) (acked, ok bool) {
	msg := newMessage(ctx, page)
	select {
	case messages <- msg:
	case <-ctx.Done():
		return false, false
	}
	select {
	case <-msg.Acked():
		return true, true
	case <-msg.Nacked():
		return false, true
	case <-ctx.Done():
		return false, false
	}
}

func newMessage(ctx context.Context, page *Page) *message.Message {
	payload, _ := json.Marshal(map[string]int64{MetadataFrom: page.From, MetadataTo: page.To})
	msg := message.NewMessage(watermill.NewUUID(), payload)
	msg.Metadata.Set(MetadataFrom, strconv.FormatInt(page.From, 10))
	msg.Metadata.Set(MetadataTo, strconv.FormatInt(page.To, 10))
	msg.SetContext(context.WithValue(ctx, pageKey{}, page))
	return msg
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
