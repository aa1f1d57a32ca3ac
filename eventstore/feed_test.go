package eventstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"

	"dixie/eventstore"
	"dixie/eventstore/eventstoretest"
	"dixie/internal/pgtest"
	"dixie/reputation"
)

// backoff is of no time of the feed's, so that waits are told apart.
const backoff = 37 * time.Millisecond

// inBubble runs a test with a clock of its own, which moves only while all
// goroutines wait: waits are exact and take no time. It fails when the test
// leaves a goroutine behind.
func inBubble(t *testing.T, test func(*testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, test)
}

// memory is a log with events 1 to count.
func memory(t testing.TB, count int) *eventstore.Memory {
	t.Helper()
	log := eventstore.NewMemory()
	eventstoretest.Append(t, log, eventstoretest.Entries("a", 1, count)...)
	return log
}

func newFeed(t testing.TB, log eventstore.Reader, config eventstore.FeedConfig) *eventstore.Feed {
	t.Helper()
	config.Backoff = backoff
	config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	feed := eventstore.NewFeed(log, config)
	t.Cleanup(func() {
		if err := feed.Close(); err != nil {
			t.Error(err)
		}
	})
	return feed
}

func subscribe(t testing.TB, feed *eventstore.Feed) <-chan *message.Message {
	t.Helper()
	messages, err := feed.Subscribe(t.Context(), eventstore.Topic)
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

// receive waits for the next message and checks that it is the page (from, to].
func receive(t testing.TB, messages <-chan *message.Message, from, to int64) (*message.Message, *eventstore.Page) {
	t.Helper()
	var msg *message.Message
	select {
	case msg = <-messages:
	case <-time.After(time.Hour):
	}
	if msg == nil {
		t.Fatalf("no message, want the page (%d, %d]", from, to)
	}
	page := eventstore.PageFrom(msg.Context())
	if page == nil {
		t.Fatal("a message without a page")
	}
	if page.From != from || page.To != to {
		t.Fatalf("page (%d, %d], want (%d, %d]", page.From, page.To, from, to)
	}
	return msg, page
}

// nothing checks that no message comes however long one waits.
func nothing(t testing.TB, messages <-chan *message.Message) {
	t.Helper()
	select {
	case msg, ok := <-messages:
		t.Fatalf("message %v (channel open: %t)", msg, ok)
	case <-time.After(time.Hour):
	}
}

// closed checks that the channel is closed, or soon is.
func closed(t testing.TB, messages <-chan *message.Message) {
	t.Helper()
	select {
	case msg, ok := <-messages:
		if ok {
			t.Fatalf("message %v, want the end of the feed", msg.UUID)
		}
	case <-time.After(time.Hour):
		t.Fatal("the feed does not end")
	}
}

// A reader is a log that can be made to fail.
type reader struct {
	eventstore.Reader
	read    func(after int64, limit int) ([]reputation.Recorded, error) // nil: the log's
	changed func() <-chan struct{}                                      // nil: the log's
	reads   atomic.Int64
}

func (r *reader) Read(ctx context.Context, after int64, limit int) ([]reputation.Recorded, error) {
	r.reads.Add(1)
	if r.read != nil {
		return r.read(after, limit)
	}
	return r.Reader.Read(ctx, after, limit)
}

func (r *reader) Changed() <-chan struct{} {
	if r.changed != nil {
		return r.changed()
	}
	return r.Reader.Changed()
}

func TestFeedPages(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := memory(t, 25)
		messages := subscribe(t, newFeed(t, log, eventstore.FeedConfig{PageSize: 10}))
		for _, to := range []int64{10, 20, 25} {
			from := (to - 1) / 10 * 10
			msg, page := receive(t, messages, from, to)
			checkMessage(t, msg, page)
			msg.Ack()
		}
		nothing(t, messages)
		eventstoretest.Append(t, log, eventstoretest.Entries("a", 26, 28)...)
		msg, page := receive(t, messages, 25, 28)
		checkMessage(t, msg, page)
	})
}

// checkMessage checks that what a message says agrees with its page.
func checkMessage(t *testing.T, msg *message.Message, page *eventstore.Page) {
	t.Helper()
	bounds := map[string]string{
		eventstore.MetadataFrom: strconv.FormatInt(page.From, 10),
		eventstore.MetadataTo:   strconv.FormatInt(page.To, 10),
	}
	if diff := cmp.Diff(bounds, map[string]string(msg.Metadata)); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	var payload map[string]int64
	if err := json.Unmarshal(msg.Payload, &payload); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"from": page.From, "to": page.To}, payload); diff != "" {
		t.Errorf("payload (-want +got):\n%s", diff)
	}
	for i, e := range page.Events {
		n := int(page.From) + i + 1
		if e.Position != int64(n) || e.Err != nil || e.Event.ID != eventstoretest.Event(n).ID || e.NFT != "a" {
			t.Errorf("event %d of the page (%d, %d] is %+v", i, page.From, page.To, e)
		}
	}
	if len(page.Events) != int(page.To-page.From) {
		t.Errorf("%d events in the page (%d, %d]", len(page.Events), page.From, page.To)
	}
}

func TestFeedDefaults(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		feed := eventstore.NewFeed(memory(t, 4500), eventstore.FeedConfig{})
		defer feed.Close()
		messages := subscribe(t, feed)
		msg, _ := receive(t, messages, 0, 2000)
		msg.Nack()
		began := time.Now()
		msg, _ = receive(t, messages, 0, 2000)
		if waited := time.Since(began); waited != 200*time.Millisecond {
			t.Errorf("delivered again after %v", waited)
		}
		msg.Ack()
		receive(t, messages, 2000, 4000)
	})
}

// TestFeedWaitsForAck: while a page is being handled, the feed reads one page
// ahead, and no further.
func TestFeedWaitsForAck(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := &reader{Reader: memory(t, 50)}
		messages := subscribe(t, newFeed(t, log, eventstore.FeedConfig{PageSize: 10}))
		for page := range int64(5) {
			msg, _ := receive(t, messages, 10*page, 10*page+10)
			nothing(t, messages)
			if reads := log.reads.Load(); page < 4 && reads != page+2 {
				t.Errorf("%d pages were read while page %d is being handled", reads, page+1)
			}
			msg.Ack()
		}
	})
}

// TestFeedGathers: what is appended while a page from the end of the log is being
// handled is one page, which is read when it is needed.
func TestFeedGathers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		events := memory(t, 1)
		log := &reader{Reader: events}
		messages := subscribe(t, newFeed(t, log, eventstore.FeedConfig{PageSize: 10}))
		msg, _ := receive(t, messages, 0, 1)
		for n := 2; n <= 5; n++ {
			eventstoretest.Append(t, events, eventstoretest.Entry("a", n))
			nothing(t, messages)
		}
		msg.Nack()
		msg, _ = receive(t, messages, 0, 1)
		if reads := log.reads.Load(); reads != 1 {
			t.Errorf("%d reads while the first page is being handled", reads)
		}
		msg.Ack()
		receive(t, messages, 1, 5)
	})
}

func TestFeedNack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		messages := subscribe(t, newFeed(t, memory(t, 20), eventstore.FeedConfig{PageSize: 10}))
		seen := map[string]bool{}
		for range 4 {
			msg, _ := receive(t, messages, 0, 10)
			if seen[msg.UUID] {
				t.Error("the same message again")
			}
			seen[msg.UUID] = true
			time.Sleep(time.Minute) // handling takes its time
			nacked := time.Now()
			msg.Nack()
			next, _ := receive(t, messages, 0, 10)
			if waited := time.Since(nacked); waited != backoff {
				t.Errorf("delivered again after %v, want %v", waited, backoff)
			}
			seen[next.UUID] = true
			next.Nack()
		}
		msg, _ := receive(t, messages, 0, 10)
		msg.Ack()
		receive(t, messages, 10, 20)
	})
}

func TestFeedFrom(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := memory(t, 20)
		messages := subscribe(t, newFeed(t, log, eventstore.FeedConfig{From: 7, PageSize: 10}))
		// Up to a multiple of the page size, where feeds that began elsewhere come too.
		msg, page := receive(t, messages, 7, 10)
		checkMessage(t, msg, page)
		end := subscribe(t, newFeed(t, log, eventstore.FeedConfig{From: 20}))
		nothing(t, end)
		eventstoretest.Append(t, log, eventstoretest.Entry("a", 21))
		receive(t, end, 20, 21)
	})
}

func TestFeedWakes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := memory(t, 0)
		messages := subscribe(t, newFeed(t, log, eventstore.FeedConfig{}))
		for n := 1; n <= 5; n++ {
			time.Sleep(eventstore.PollInterval * 2 / 3) // no moment at which it polls
			began := time.Now()
			eventstoretest.Append(t, log, eventstoretest.Entry("a", n))
			msg, _ := receive(t, messages, int64(n-1), int64(n))
			if waited := time.Since(began); waited != 0 {
				t.Errorf("event %d came after %v", n, waited)
			}
			msg.Ack()
		}
	})
}

// TestFeedPolls: a log whose hints are lost delays a feed, but no more.
func TestFeedPolls(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := memory(t, 0)
		silent := &reader{Reader: log, changed: func() <-chan struct{} { return make(chan struct{}) }}
		messages := subscribe(t, newFeed(t, silent, eventstore.FeedConfig{}))
		for n := 1; n <= 5; n++ {
			time.Sleep(3*time.Second + 100*time.Millisecond)
			began := time.Now()
			eventstoretest.Append(t, log, eventstoretest.Entry("a", n))
			msg, _ := receive(t, messages, int64(n-1), int64(n))
			if waited := time.Since(began); waited > eventstore.PollInterval {
				t.Errorf("event %d came after %v", n, waited)
			}
			msg.Ack()
		}
	})
}

// TestFeedMissesNothing: an append between the read that found nothing and the
// wait wakes the feed all the same.
func TestFeedMissesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := memory(t, 0)
		late := &reader{Reader: log}
		late.read = func(after int64, limit int) ([]reputation.Recorded, error) {
			events, err := log.Read(t.Context(), after, limit)
			if late.reads.Load() == 1 {
				eventstoretest.Append(t, log, eventstoretest.Entry("a", 1))
			}
			return events, err
		}
		began := time.Now()
		receive(t, subscribe(t, newFeed(t, late, eventstore.FeedConfig{})), 0, 1)
		if waited := time.Since(began); waited != 0 {
			t.Errorf("the event came after %v", waited)
		}
	})
}

func TestFeedRetriesReads(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := memory(t, 20)
		failing := &reader{Reader: log}
		failing.read = func(after int64, limit int) ([]reputation.Recorded, error) {
			if failing.reads.Load()%4 != 0 {
				return nil, reputation.ErrUnavailable
			}
			return log.Read(t.Context(), after, limit)
		}
		feed := newFeed(t, failing, eventstore.FeedConfig{PageSize: 10})
		messages := subscribe(t, feed)
		for _, from := range []int64{0, 10} {
			began := time.Now()
			msg, _ := receive(t, messages, from, from+10)
			if waited := time.Since(began); waited != 3*backoff {
				t.Errorf("page after %v, want %v", waited, 3*backoff)
			}
			msg.Ack()
		}
		if err := feed.Err(); err != nil {
			t.Errorf("Err: %v", err)
		}
	})
}

// TestFeedGap: a log with a hole must not be folded. What is before the hole is
// still handled.
func TestFeedGap(t *testing.T) {
	t.Parallel()
	for name, tamper := range map[string]func([]reputation.Recorded) []reputation.Recorded{
		"missing event":  func(events []reputation.Recorded) []reputation.Recorded { return slices.Delete(events, 4, 5) },
		"missing page":   func(events []reputation.Recorded) []reputation.Recorded { return slices.Delete(events, 3, 6) },
		"repeated event": func(events []reputation.Recorded) []reputation.Recorded { return slices.Insert(events, 4, events[3]) },
		"disorder": func(events []reputation.Recorded) []reputation.Recorded {
			events[3], events[4] = events[4], events[3]
			return events
		},
		"first of a page": func(events []reputation.Recorded) []reputation.Recorded { return slices.Delete(events, 3, 4) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				events := tamper(eventstoretest.All(t, memory(t, 12)))
				damaged := &reader{Reader: eventstore.NewMemory()}
				damaged.read = func(after int64, limit int) ([]reputation.Recorded, error) {
					rest := events[slices.IndexFunc(events, func(e reputation.Recorded) bool { return e.Position > after }):]
					return rest[:min(limit, len(rest))], nil
				}
				feed := newFeed(t, damaged, eventstore.FeedConfig{PageSize: 3})
				messages := subscribe(t, feed)
				msg, _ := receive(t, messages, 0, 3)
				nothing(t, messages)
				msg.Ack()
				closed(t, messages)
				if err := feed.Err(); !errors.Is(err, eventstore.ErrGap) {
					t.Errorf("Err: %v, want ErrGap", err)
				}
			})
		})
	}
}

// TestFeedEnds: a feed ends at once whatever it is doing, by Close and by the end
// of the subscription's context.
func TestFeedEnds(t *testing.T) {
	t.Parallel()
	empty := func(testing.TB) eventstore.Reader { return eventstore.NewMemory() }
	full := func(t testing.TB) eventstore.Reader { return memory(t, 20) }
	failing := func(testing.TB) eventstore.Reader {
		return &reader{
			Reader: eventstore.NewMemory(),
			read:   func(int64, int) ([]reputation.Recorded, error) { return nil, reputation.ErrUnavailable },
		}
	}
	for doing, state := range map[string]struct {
		log    func(testing.TB) eventstore.Reader
		handle func(*message.Message) // nil: nobody receives
	}{
		"waiting for events":       {log: empty},
		"waiting to read again":    {log: failing},
		"waiting for a receiver":   {log: full},
		"waiting for an answer":    {log: full, handle: func(*message.Message) {}},
		"waiting to deliver again": {log: full, handle: func(msg *message.Message) { msg.Nack() }},
	} {
		for _, byClose := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/close=%t", doing, byClose), func(t *testing.T) {
				inBubble(t, func(t *testing.T) { endFeed(t, state.log(t), state.handle, byClose) })
			})
		}
	}
}

func endFeed(t *testing.T, log eventstore.Reader, handle func(*message.Message), byClose bool) {
	feed := newFeed(t, log, eventstore.FeedConfig{PageSize: 10})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	messages, err := feed.Subscribe(ctx, eventstore.Topic)
	if err != nil {
		t.Fatal(err)
	}
	var msg *message.Message
	if handle != nil {
		msg, _ = receive(t, messages, 0, 10)
		handle(msg)
	}
	synctest.Wait()
	began := time.Now()
	if byClose {
		closeFeed(t, feed)
	} else {
		cancel()
		synctest.Wait()
	}
	select {
	case msg, ok := <-messages:
		if ok {
			t.Errorf("message %v, want the end of the feed", msg.UUID)
		}
	default:
		t.Error("the feed has not ended")
	}
	if waited := time.Since(began); waited != 0 {
		t.Errorf("the feed ended after %v", waited)
	}
	if msg != nil && msg.Context().Err() == nil {
		t.Error("the message's context goes on, so its handler does")
	}
	if err := feed.Err(); err != nil {
		t.Errorf("Err: %v", err)
	}
}

func closeFeed(t testing.TB, feed *eventstore.Feed) {
	t.Helper()
	if err := feed.Close(); err != nil {
		t.Error(err)
	}
	if _, err := feed.Subscribe(t.Context(), eventstore.Topic); !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("subscribing to a closed feed: error %v, want ErrClosed", err)
	}
}

func TestFeedUndecodable(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := memory(t, 2)
		for _, text := range []string{
			`{}`, `null`, `[1,2]`, `"text"`,
			`{"event_id":"00000000-0000-4000-8000-00000000aaaa","type":"of the future"}`,
		} {
			eventstoretest.Append(t, log, eventstoretest.Raw(t, "a", text))
		}
		eventstoretest.Append(t, log, eventstoretest.Entry("a", 8))
		messages := subscribe(t, newFeed(t, log, eventstore.FeedConfig{PageSize: 4}))
		for _, from := range []int64{0, 4} {
			msg, page := receive(t, messages, from, from+4)
			for _, e := range page.Events {
				checkDecoded(t, e, e.Position < 3 || e.Position > 7)
			}
			msg.Ack()
		}
		nothing(t, messages)
	})
}

func checkDecoded(t testing.TB, e eventstore.PageEvent, valid bool) {
	t.Helper()
	if valid {
		if e.Err != nil || e.Event.ID != eventstoretest.Event(int(e.Position)).ID {
			t.Errorf("position %d: %v, error %v", e.Position, e.Event, e.Err)
		}
		return
	}
	if _, invalid := errors.AsType[*reputation.InvalidError](e.Err); !invalid || e.Event.Body != nil || e.NFT != "a" || len(e.JSON) == 0 {
		t.Errorf("position %d: %v, error %v, want that it is invalid", e.Position, e, e.Err)
	}
}

func TestFeedTopic(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		feed := newFeed(t, memory(t, 1), eventstore.FeedConfig{})
		for _, topic := range []string{"", "other", eventstore.Topic + "s"} {
			if messages, err := feed.Subscribe(t.Context(), topic); err == nil || messages != nil {
				t.Errorf("topic %q: no error", topic)
			}
		}
		receive(t, subscribe(t, feed), 0, 1)
	})
}

func TestPageFrom(t *testing.T) {
	t.Parallel()
	if page := eventstore.PageFrom(t.Context()); page != nil {
		t.Errorf("a page out of nowhere: %v", page)
	}
}

// A handler is a slow consumer that checks that it is given consecutive pages,
// one at a time, and fails now and then.
type handler struct {
	t     testing.TB
	pause time.Duration
	until int64
	done  chan struct{} // closed when until was handled

	busy  atomic.Int32
	mu    sync.Mutex
	calls int
	to    int64 // of the last page that was handled
}

func (h *handler) handle(msg *message.Message) error {
	if h.busy.Add(1) != 1 {
		h.t.Error("two pages are handled at a time")
	}
	defer h.busy.Add(-1)
	time.Sleep(h.pause)
	h.mu.Lock()
	defer h.mu.Unlock()
	page := eventstore.PageFrom(msg.Context())
	if page == nil || page.From != h.to {
		h.t.Errorf("no page that begins after position %d", h.to)
		return nil
	}
	h.calls++
	if h.calls%3 == 0 {
		return errors.New("the handler's database is away")
	}
	h.to = page.To
	if h.to == h.until {
		close(h.done)
	}
	return nil
}

// route runs a real router, with goroutines for each message, until the handler
// has handled its last page.
func route(t testing.TB, feed *eventstore.Feed, h *handler) {
	t.Helper()
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	router.AddConsumerHandler("test", eventstore.Topic, feed, h.handle)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- router.Run(ctx) }()
	select {
	case <-h.done:
	case err := <-ended:
		t.Fatalf("the router ended: %v", err)
	case <-time.After(patience):
		t.Fatal("the handler did not see the last page")
	}
	if err := router.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestFeedRouter(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const callers, each = 4, 50
		log := memory(t, 0)
		feed := newFeed(t, log, eventstore.FeedConfig{PageSize: 7})
		for c := range callers {
			go func() {
				for n := range each {
					if _, err := log.Append(t.Context(), eventstoretest.Entry("a", c*each+n)); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Duration(c+1) * time.Millisecond)
				}
			}()
		}
		route(t, feed, &handler{t: t, pause: 5 * time.Millisecond, until: callers * each, done: make(chan struct{})})
	})
}

// TestFeedPostgres is the whole way: writers, PostgreSQL, a feed in another
// process, a router.
func TestFeedPostgres(t *testing.T) {
	t.Parallel()
	const callers, each = 8, 40
	pool := pgtest.Pool(t)
	log := openPostgres(t, pool)
	feed := newFeed(t, openPostgres(t, pool), eventstore.FeedConfig{PageSize: 11})
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for n := range each {
				n += c * each
				if c%2 == 0 {
					if err := insert(t.Context(), pool, "a", n); err != nil {
						t.Error(err)
					}
				} else if _, err := log.Append(t.Context(), eventstoretest.Entry("a", n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	defer all.Wait()
	route(t, feed, &handler{t: t, pause: time.Millisecond, until: callers * each, done: make(chan struct{})})
}
