package http_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"dixie/http"
	"dixie/internal/pgtest"
)

// keptRoutes are the reads whose answers are kept.
var keptRoutes = []string{"/api/reputation/bear-1", "/api/reputation/query?routingKey=nft:bear-1", "/api/reputation/query?routingKey=nft:nobody"}

// none keeps no answers.
func none(c *http.Config) { c.AnswerBytes = -1 }

// wantAnswers counts the answers that a server has given out of its memory, and those
// that it read, since a number of each.
func (s *service) wantAnswers(t *testing.T, since [2]int64, kept, read int64) {
	t.Helper()
	k, r := s.server.KeptAnswers()
	if k-since[0] != kept || r-since[1] != read {
		t.Errorf("%d kept and %d read answers, want %d and %d", k-since[0], r-since[1], kept, read)
	}
}

func (s *service) answers() [2]int64 {
	kept, read := s.server.KeptAnswers()
	return [2]int64{kept, read}
}

// TestKeptAnswers: nobody can tell an answer that was kept from one that is read,
// whatever happens in between.
func TestKeptAnswers(t *testing.T) {
	t.Parallel()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			back := b.open(t)
			back.project(t)
			keeping, reading := serve(t, back), serve(t, back, none)
			keeping.tell(t)
			check := func(parameters string) {
				t.Helper()
				for _, path := range keptRoutes {
					for range 2 {
						got, want := keeping.get(t, and(path, parameters)), reading.get(t, and(path, parameters))
						same(t, path, got.body, want.body)
						for _, name := range []string{"ETag", "X-Reputation-Position", "Content-Length", "Content-Type", "Cache-Control"} {
							same(t, path+" "+name, got.header.Get(name), want.header.Get(name))
						}
					}
				}
			}
			for n := range 5 {
				check("wait=0s&at_least=0")
				nft := []string{"bear-1", "bear-2"}[n%2]
				head := keeping.do(t, appendTo(nft, signal(n+1, 0.1*float64(n)))).want(t, 201)
				check(fmt.Sprintf("wait=30s&at_least=%s", head.header.Get("X-Reputation-Position")))
				keeping.settle(t)
				check("wait=0s&at_least=0")
			}
			if kept, _ := keeping.server.KeptAnswers(); kept == 0 {
				t.Error("no answer was kept")
			}
			if kept, _ := reading.server.KeptAnswers(); kept != 0 {
				t.Errorf("%d answers were kept", kept)
			}
		})
	}
}

// TestKeptAnswersNotModified: a caller who has the answer is told so, and no more.
func TestKeptAnswersNotModified(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, s *service) {
		s.tell(t)
		s.settle(t)
		var tag string
		for range 3 {
			tag = s.get(t, keptRoutes[0]).want(t, 200).header.Get("ETag")
		}
		since := s.answers()
		got := s.do(t, call{path: keptRoutes[0], header: map[string]string{"If-None-Match": tag}}).want(t, 304)
		if got.body != "" || got.header.Get("ETag") != tag || got.header.Get("X-Reputation-Position") != "10" {
			t.Errorf("%v %q", got.header, got.body)
		}
		s.wantAnswers(t, since, 1, 0)
	})
}

// TestKeptAnswersMemory: what is kept has a bound, and what was asked for last is kept.
func TestKeptAnswersMemory(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory, func(c *http.Config) { c.AnswerBytes = 16 << 10 })
	s.tell(t)
	s.settle(t)
	read := func(n int) { s.get(t, fmt.Sprintf("/api/reputation/query?routingKey=nft:agent-%d", n)).want(t, 200) }
	for n := range 100 {
		read(n)
	}
	since := s.answers()
	read(99)
	read(0)
	s.wantAnswers(t, since, 1, 1)
}

// TestKeptAnswersAge: what another program writes is seen a minute later.
func TestKeptAnswersAge(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	back := openPool(t, pool)
	back.project(t)
	var later atomic.Int64
	s := serve(t, back, func(c *http.Config) {
		c.Now = func() time.Time { return now.Add(time.Duration(later.Load())) }
	})
	s.tell(t)
	s.settle(t)
	for range 3 {
		s.get(t, keptRoutes[1]).want(t, 200)
	}
	_, err := pool.Exec(t.Context(), `UPDATE reputation_aggregates SET aggregate = jsonb_set(aggregate, '{blended_score}', '0.125') WHERE nft_id = 'bear-1'`)
	if err != nil {
		t.Fatal(err)
	}
	later.Store(int64(time.Minute))
	same(t, "the score", s.get(t, keptRoutes[1]).want(t, 200).body, "{\"score\":0.125}\n")
}

// TestKeptAnswersReliability: what an answer says of the age of its last observation
// changes with the day, and not a minute later.
func TestKeptAnswersReliability(t *testing.T) {
	t.Parallel()
	var at atomic.Pointer[time.Time]
	at.Store(&now)
	clock := func(c *http.Config) { c.Now = func() time.Time { return *at.Load() } }
	s := newService(t, openMemory, clock)
	reading := serve(t, s.backend, clock, none)
	s.tell(t)
	s.settle(t)
	ask := func(s *service, when time.Time) (v struct {
		view
		LastUpdated time.Time `json:"last_updated"`
	}) {
		at.Store(&when)
		s.get(t, keptRoutes[0]).want(t, 200).into(t, &v)
		return v
	}
	updated := ask(s, now).LastUpdated
	changes := 0
	for day := range 100 {
		midnight := updated.Add(time.Duration(day) * 24 * time.Hour)
		before, after := ask(s, midnight.Add(-20*time.Second)), ask(s, midnight.Add(20*time.Second))
		same(t, "reliability", after.Reliability, ask(reading, midnight.Add(20*time.Second)).Reliability)
		if fmt.Sprint(before.Reliability) != fmt.Sprint(after.Reliability) {
			changes++
		}
	}
	if changes == 0 {
		t.Error("the reliability never changed")
	}
}
