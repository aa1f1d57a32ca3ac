package eventstoretest

import (
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"dixie/reputation"
)

// readFunc reads events after a position.
type readFunc func(after int64) ([]reputation.Recorded, error)

// A Follower reads a log while it is written, as the log's comments tell readers
// to: it waits for Changed, and polls.
type Follower struct {
	t       testing.TB
	changed func() <-chan struct{}
	read    readFunc
	last    atomic.Int64  // where to stop
	told    chan struct{} // closed when last is known
	done    chan struct{}
	seen    []reputation.Recorded // valid when done is closed
}

// Follow starts to read a log from its beginning.
func Follow(t testing.TB, log reputation.Log) *Follower {
	return follow(t, log.Changed, func(after int64) ([]reputation.Recorded, error) {
		return log.Read(t.Context(), after, 50)
	})
}

func follow(t testing.TB, changed func() <-chan struct{}, read readFunc) *Follower {
	f := &Follower{t: t, changed: changed, read: read, told: make(chan struct{}), done: make(chan struct{})}
	f.last.Store(math.MaxInt64)
	go f.run()
	return f
}

func (f *Follower) run() {
	defer close(f.done)
	told := f.told
	after := int64(0)
	for after < f.last.Load() {
		changed := f.changed()
		page, err := f.read(after)
		if f.t.Context().Err() != nil {
			return
		}
		if err != nil && !errors.Is(err, reputation.ErrUnavailable) {
			f.t.Errorf("follow the log after %d: %v", after, err)
			return
		}
		if len(page) > 0 {
			f.seen = append(f.seen, page...)
			after = page[len(page)-1].Position
			continue
		}
		select {
		case <-changed:
		case <-told:
			told = nil
		case <-time.After(100 * time.Millisecond):
		case <-f.t.Context().Done():
			return
		}
	}
}

// Until waits until the follower has read position last and returns all that it
// has read.
func (f *Follower) Until(last int64) []reputation.Recorded {
	f.t.Helper()
	f.last.Store(last)
	close(f.told)
	select {
	case <-f.done:
	case <-time.After(patience):
		f.t.Fatalf("the follower did not reach position %d", last)
	}
	return f.seen
}
