package http_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dixie/http"
	"dixie/internal/fakefinn"
	"dixie/reputation"
)

// moody is a log that fails, or takes its time.
type moody struct {
	reputation.Log
	away  atomic.Bool
	delay atomic.Int64 // nanoseconds
	lost  atomic.Bool  // the reply of an append that was made
}

func (m *moody) Append(ctx context.Context, entries ...reputation.Entry) ([]reputation.Appended, error) {
	select {
	case <-time.After(time.Duration(m.delay.Load())):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if m.away.Load() {
		return nil, reputation.ErrUnavailable
	}
	results, err := m.Log.Append(ctx, entries...)
	if m.lost.CompareAndSwap(true, false) {
		return nil, reputation.ErrUnavailable
	}
	return results, err
}

// withMoody serves in fake time on a moody log.
func withMoody(t testing.TB, change ...func(*http.Config)) (*inTime, *moody) {
	t.Helper()
	m := &moody{}
	return newInTime(t, append([]func(*http.Config){func(c *http.Config) { m.Log, c.Log = c.Log, m }}, change...)...), m
}

var hello = chat("alice", `{"prompt":"hello"}`)

// TestOutcomeIsDurable: an answer that was given is one whose event is stored, if
// the log takes no longer than it should.
func TestOutcomeIsDurable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, log := withMoody(t)
		log.delay.Store(int64(40 * time.Millisecond))
		start := time.Now()
		s.do(t, hello).said(t)
		if waited := time.Since(start); waited != 40*time.Millisecond || len(s.learnt(t, "mibera:42")) != 1 {
			t.Errorf("answered after %s, with %d events", waited, len(s.learnt(t, "mibera:42")))
		}
		closeServer(t, s.server)
	})
}

// TestOutcomeDoesNotDelay: an answer waits a moment for the log and no longer. The
// event is stored when it can be.
func TestOutcomeDoesNotDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, log := withMoody(t)
		log.away.Store(true)
		start := time.Now()
		s.do(t, hello).said(t)
		if waited := time.Since(start); waited != 50*time.Millisecond {
			t.Errorf("answered after %s", waited)
		}
		time.Sleep(30 * time.Minute)
		log.away.Store(false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if events := s.learnt(t, "mibera:42"); len(events) != 1 || !events[0].Timestamp.Time().Equal(now) {
			t.Errorf("events %+v", events)
		}
		closeServer(t, s.server)
	})
}

// TestOutcomeIsOnce: an append whose reply was lost is made again, and counts
// once.
func TestOutcomeIsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, log := withMoody(t)
		log.lost.Store(true)
		s.do(t, hello).said(t)
		closeServer(t, s.server)
		if n := len(s.learnt(t, "mibera:42")); n != 1 || log.lost.Load() {
			t.Errorf("%d events", n)
		}
	})
}

// TestClose stores what is not stored yet, tries often while it may, and says what
// it could not store, so that it can be brought back.
func TestClose(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		away   time.Duration
		stored int
	}{"in time": {2 * time.Second, 3}, "too late": {time.Hour, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var journal journal
				s, log := withMoody(t, journal.keep)
				log.away.Store(true)
				for range 3 {
					s.do(t, hello).said(t)
				}
				time.Sleep(20 * time.Second) // so that the next attempt is far away
				time.AfterFunc(tt.away, func() { log.away.Store(false) })
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				err := s.server.Close(ctx)
				if n := len(s.learnt(t, "mibera:42")); n != tt.stored || (err == nil) != (n == 3) || time.Since(start) > 5*time.Second {
					t.Errorf("%d events after %s, error %v", n, time.Since(start), err)
				}
				lost := strings.Count(journal.String(), `"msg":"the outcome of a chat is lost"`)
				if lost != 3-tt.stored {
					t.Errorf("the log tells of %d lost outcomes:\n%s", lost, journal.String())
				}
				if lost > 0 && (!errors.Is(err, context.DeadlineExceeded) || !strings.Contains(journal.String(), `\"type\":\"task_completed\"`)) {
					t.Errorf("error %v; the log:\n%s", err, journal.String())
				}
				s.do(t, hello).wantError(t, 503, "unavailable") // closed
				s.do(t, hello.as("append")).said(t)             // of which nothing is learnt
			})
		})
	}
}

// TestTooManyOutcomes: a chat whose outcome could not be kept is not begun.
func TestTooManyOutcomes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const places = 10
		s, log := withMoody(t, func(c *http.Config) { c.MaxOutcomes = places })
		log.away.Store(true)
		for range places {
			s.do(t, hello).said(t)
		}
		asked := len(s.finn.Requests("/message"))
		s.do(t, hello).wantError(t, 503, "unavailable")
		s.do(t, chat("carol", `{"prompt":"hello"}`)).wantError(t, 503, "unavailable")
		s.do(t, hello.as("append")).said(t)
		if n := len(s.finn.Requests("/message")); n != asked+1 {
			t.Errorf("finn was asked %d times more, want once", n-asked)
		}
		log.away.Store(false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(s.learnt(t, "mibera:42")); n != places {
			t.Errorf("%d events", n)
		}
		for range places + 1 { // places are given back, also after failures
			s.finn.Change(func(b *fakefinn.Behaviour) { b.Status = 400 })
			s.do(t, hello).want(t, 400)
		}
		s.finn.Change(func(b *fakefinn.Behaviour) { b.Status = 0 })
		s.do(t, hello).said(t)
		closeServer(t, s.server)
	})
}

// TestOutcomeGivesUp: after an hour an outcome that cannot be named is told to the
// log and forgotten.
func TestOutcomeGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var journal journal
		s, _ := withMoody(t, journal.keep)
		s.finn.Change(func(b *fakefinn.Behaviour) { b.Trouble, b.Only = fakefinn.Rubbish, "/api/identity/" })
		s.do(t, hello).said(t)
		time.Sleep(59 * time.Minute)
		if strings.Contains(journal.String(), "is lost") {
			t.Error("given up too early")
		}
		time.Sleep(2 * time.Minute)
		if !strings.Contains(journal.String(), fmt.Sprintf(`"wallet":%q`, wallets["alice"])) || !strings.Contains(journal.String(), "is lost") {
			t.Errorf("the log:\n%s", journal.String())
		}
		closeServer(t, s.server)
	})
}
