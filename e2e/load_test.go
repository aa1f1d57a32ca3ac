package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// load are callers that append, read and chat through the balancer for as long as
// it is asked for. A request that fails is tried again, and that is counted; one
// that fails for good fails the test.
type load struct {
	t       *testing.T
	retries atomic.Int64
	done    atomic.Int64 // operations that succeeded
	working sync.WaitGroup
	stop    context.CancelFunc
	ctx     context.Context
	failed  chan error // the first failures; later ones are dropped
	authors []*author
}

const (
	authors  = 4
	readers  = 2
	chatters = 2
)

func newLoad(t *testing.T) *load {
	l := &load{t: t, failed: make(chan error, authors+readers+chatters)}
	l.ctx, l.stop = context.WithCancel(t.Context())
	t.Cleanup(func() {
		l.stop()
		l.working.Wait()
	})
	return l
}

// begin lets everyone work.
func (l *load) begin(c *client) {
	c = c.patient(&l.retries)
	for range authors {
		a := &author{load: l, client: c, nft: unique("nft"), stored: map[string]int64{}}
		l.authors = append(l.authors, a)
		l.work(a.append)
	}
	for range readers {
		r := &reader{client: c}
		l.work(r.read)
	}
}

// work does something again and again until the load ends. What has begun by then
// is done.
func (l *load) work(step func(ctx context.Context) error) {
	l.working.Go(func() {
		for l.ctx.Err() == nil {
			if err := step(l.t.Context()); err != nil {
				select {
				case l.failed <- err:
				default:
				}
				return
			}
			l.done.Add(1)
		}
	})
}

// goOn returns when so many further operations have succeeded.
func (l *load) goOn(operations int64) {
	l.t.Helper()
	want := l.done.Load() + operations
	eventually(l.t, "the load goes on", func() bool {
		l.check()
		return l.done.Load() >= want
	})
}

// check fails the test when a caller has given up.
func (l *load) check() {
	l.t.Helper()
	select {
	case err := <-l.failed:
		l.t.Fatal(err)
	default:
	}
}

// end lets everybody finish what has begun.
func (l *load) end() {
	l.t.Helper()
	l.stop()
	l.working.Wait()
	l.check()
}

// author appends events of one NFT, and reads what becomes of it.
type author struct {
	load   *load
	client *client
	nft    string
	stored map[string]int64 // positions that were acknowledged, by event
	last   int64            // the latest of them
	read   int64            // the latest position that was read
}

func (a *author) append(ctx context.Context) error {
	e := judged(a.nft, 0.8)
	got, err := a.client.try(ctx, http.MethodPost, "/api/reputation/"+a.nft+"/events", e)
	if err != nil {
		return fmt.Errorf("append: %w", err)
	}
	var result appended
	if err := json.Unmarshal(got.Body, &result); err != nil || got.Status/100 != 2 || len(result.Results) != 1 {
		return fmt.Errorf("append: %d %s", got.Status, got.Body)
	}
	if result.Position <= a.last {
		return fmt.Errorf("an event has position %d after one that has %d", result.Position, a.last)
	}
	a.last, a.stored[e.ID] = result.Position, result.Position
	return a.check(ctx)
}

// check reads what was written: all of it, and never less than before.
func (a *author) check(ctx context.Context) error {
	path := fmt.Sprintf("/api/reputation/%s?at_least=%d&wait=20s", a.nft, a.last)
	got, err := a.client.try(ctx, http.MethodGet, path, nil)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	var r reputation
	if err := json.Unmarshal(got.Body, &r); err != nil || got.Status != http.StatusOK {
		return fmt.Errorf("%s: %d %s", path, got.Status, got.Body)
	}
	if r.Position < a.last || r.Position < a.read || r.Samples != int64(len(a.stored)) {
		return fmt.Errorf("%s: position %d with %d samples; %d were stored up to %d, and %d was read before", path, r.Position, r.Samples, len(a.stored), a.last, a.read)
	}
	a.read = r.Position
	return nil
}

// reader reads the list of agents, whose position never goes back.
type reader struct {
	client *client
	last   int64
}

func (r *reader) read(ctx context.Context) error {
	got, err := r.client.try(ctx, http.MethodGet, "/api/reputation?limit=5", nil)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	if got.Status != http.StatusOK {
		return fmt.Errorf("list: %d %s", got.Status, got.Body)
	}
	if position := got.position(); position < r.last {
		return fmt.Errorf("the list goes back from position %d to %d", r.last, position)
	} else {
		r.last = position
	}
	return nil
}

// checkLog: each event that was acknowledged is in the log once, where it was said
// to be, and no other is.
func (a *author) checkLog(t *testing.T, c *client) {
	t.Helper()
	found := map[string]int{}
	for _, s := range c.history(a.nft) {
		found[s.Event.ID]++
		if want := a.stored[s.Event.ID]; s.Position != want {
			t.Errorf("%s: event %s is at %d, and was acknowledged at %d", a.nft, s.Event.ID, s.Position, want)
		}
	}
	for id, position := range a.stored {
		if found[id] != 1 {
			t.Errorf("%s: event %s, acknowledged at %d, is in the log %d times", a.nft, id, position, found[id])
		}
	}
}

// chatter chats. Each message has an id of its own, by which it counts once however
// often it is sent.
type chatter struct {
	client *client
	nft    string
	chats  int
}

func (c *chatter) chat(ctx context.Context) error {
	client := c.client.with("X-Request-Id", unique("message"))
	got, err := client.try(ctx, http.MethodPost, "/api/chat", map[string]string{"prompt": "hello"})
	if err != nil {
		return fmt.Errorf("chat: %w", err)
	}
	if got.Status != http.StatusOK {
		return fmt.Errorf("chat: %d %s", got.Status, got.Body)
	}
	c.chats++
	return nil
}
