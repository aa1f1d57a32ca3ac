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

// load are callers that append, read, chat and follow the log through the balancer
// for as long as it is asked for. A request that fails is tried again, and that is
// counted; one that fails for good fails the test.
type load struct {
	t       *testing.T
	retries atomic.Int64
	done    atomic.Int64 // operations that succeeded
	failed  chan error   // the first failures; later ones are dropped

	ctx     context.Context // ends when nothing more shall be begun
	stop    context.CancelFunc
	working sync.WaitGroup
	authors []*author

	follower  *follower
	unfollow  context.CancelFunc
	following sync.WaitGroup
}

const (
	authors  = 4
	readers  = 2
	chatters = 2
)

// startLoad lets callers work through the balancer.
func startLoad(t *testing.T) *load {
	t.Helper()
	variable(t, controlVariable)
	c := keyed(t, "read", "append")
	l := &load{t: t, failed: make(chan error, 1)}
	l.ctx, l.stop = context.WithCancel(t.Context())
	following, unfollow := context.WithCancel(t.Context())
	l.unfollow = unfollow
	t.Cleanup(func() {
		l.stop()
		unfollow()
		l.working.Wait()
		l.following.Wait()
	})
	mark := unique("nft")
	l.follower = newFollower(c, c.append(mark, judged(mark, 0.5)))
	l.following.Go(func() { l.note(l.follower.run(following)) })
	c = c.patient(&l.retries)
	for range authors {
		a := &author{client: c, nft: unique("nft"), stored: map[string]int64{}}
		l.authors = append(l.authors, a)
		l.work(a.append)
	}
	for range readers {
		r := &reader{client: c}
		l.work(r.read)
	}
	return l
}

// work does something again and again until the load ends. What has begun by then
// is done.
func (l *load) work(step func(ctx context.Context) error) {
	l.working.Go(func() {
		for l.ctx.Err() == nil {
			if err := step(l.t.Context()); err != nil {
				l.note(err)
				return
			}
			l.done.Add(1)
		}
	})
}

// note keeps a failure, if there is none yet.
func (l *load) note(err error) {
	if err == nil {
		return
	}
	select {
	case l.failed <- err:
	default:
	}
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

// goOn returns when so many further operations have succeeded.
func (l *load) goOn(operations int64) {
	l.t.Helper()
	want := l.done.Load() + operations
	eventually(l.t, "the load goes on", func() bool {
		l.check()
		return l.done.Load() >= want
	})
}

// end lets everybody finish what has begun, and compares what they know with the
// log: each event that was acknowledged is in it once, where it was said to be.
func (l *load) end(c *client) {
	l.t.Helper()
	l.stop()
	l.working.Wait()
	l.check()
	for _, a := range l.authors {
		eventually(l.t, "who follows the log has all of it", func() bool {
			l.check()
			return l.follower.last.Load() >= a.last
		})
	}
	l.unfollow()
	l.following.Wait()
	l.check()
	for _, a := range l.authors {
		a.checkLog(l.t, c, l.follower.events)
	}
	l.t.Logf("%d operations, %d retries; the log was followed with %d connections", l.done.Load(), l.retries.Load(), l.follower.comes)
}

// author appends events of one NFT, and reads what becomes of it.
type author struct {
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

// checkLog compares the log, and what was seen by following it, with what was
// acknowledged.
func (a *author) checkLog(t *testing.T, c *client, followed map[string]int64) {
	t.Helper()
	if len(a.stored) == 0 {
		t.Errorf("%s: nothing was appended", a.nft)
	}
	found := map[string]int{}
	for _, s := range c.history(a.nft) {
		found[s.Event.ID]++
		if want := a.stored[s.Event.ID]; s.Position != want {
			t.Errorf("%s: event %s is at %d, and was acknowledged at %d", a.nft, s.Event.ID, s.Position, want)
		}
	}
	for id, position := range a.stored {
		if found[id] != 1 || followed[id] != position {
			t.Errorf("%s: event %s, acknowledged at %d, is in the log %d times, and was followed at %d", a.nft, id, position, found[id], followed[id])
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
