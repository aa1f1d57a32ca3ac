package eventstore_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dixie/eventstore"
	"dixie/eventstore/eventstoretest"
)

// counted counts how often a log is read.
type counted struct {
	eventstore.Reader
	reads atomic.Int64
	delay time.Duration
}

func (c *counted) Read(ctx context.Context, after int64, limit int) ([]eventstore.Recorded, error) {
	c.reads.Add(1)
	select {
	case <-time.After(c.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return c.Reader.Read(ctx, after, limit)
}

// Feeds that follow a log together read it once.
func TestPagesAreShared(t *testing.T) {
	t.Parallel()
	log := &counted{Reader: memory(t, 25), delay: 10 * time.Millisecond}
	pages := eventstore.NewPages(log, 10)
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for after := int64(0); after < 25; {
				page, err := pages.After(t.Context(), after)
				if err != nil || page.From != after {
					t.Errorf("after %d: %+v, %v", after, page, err)
					return
				}
				after = page.To
			}
		})
	}
	readers.Wait()
	if reads := log.reads.Load(); reads != 3 {
		t.Errorf("the log was read %d times for 3 pages", reads)
	}
	if page, err := pages.After(t.Context(), 25); page != nil || err != nil {
		t.Errorf("at the end: %+v, %v", page, err)
	}
}

// Readers that begin at different positions come to the same pages.
func TestPagesAlign(t *testing.T) {
	t.Parallel()
	pages := eventstore.NewPages(memory(t, 40), 10)
	for _, c := range []struct{ after, to int64 }{{0, 10}, {7, 10}, {10, 20}, {19, 20}, {35, 40}} {
		if page, err := pages.After(t.Context(), c.after); err != nil || page.To != c.to {
			t.Errorf("after %d: %+v, %v; want it to end at %d", c.after, page, err, c.to)
		}
	}
}

// A reader whose companion gives up gets its page all the same.
func TestPagesOutliveOneReader(t *testing.T) {
	t.Parallel()
	pages := eventstore.NewPages(&counted{Reader: memory(t, 5), delay: 50 * time.Millisecond}, 10)
	leaving, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := pages.After(leaving, 0)
		left <- err
	}()
	time.AfterFunc(10*time.Millisecond, leave)
	time.Sleep(5 * time.Millisecond)
	if page, err := pages.After(t.Context(), 0); err != nil || page.To != 5 {
		t.Errorf("%+v, %v", page, err)
	}
	if err := <-left; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A new feed reads anew, because the log may have been restored since.
func TestPagesForgetForNewFeed(t *testing.T) {
	t.Parallel()
	log := &counted{Reader: memory(t, 5)}
	pages := eventstore.NewPages(log, 10)
	for want := int64(1); want <= 2; want++ {
		feed := pages.Feed(eventstore.FeedConfig{})
		messages, err := feed.Subscribe(t.Context(), eventstore.Topic)
		if err != nil {
			t.Fatal(err)
		}
		<-messages
		_ = feed.Close()
		if reads := log.reads.Load(); reads < want {
			t.Errorf("read %d times for %d feeds", reads, want)
		}
	}
	eventstoretest.Append(t, log.Reader.(*eventstore.Memory), eventstoretest.Entry("a", 6))
	if page, err := pages.After(t.Context(), 5); err != nil || page.To != 6 {
		t.Errorf("%+v, %v", page, err)
	}
}
