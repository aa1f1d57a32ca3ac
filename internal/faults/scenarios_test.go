package faults_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestSameEvent sends one event a hundred times at once through all servers, and two
// contents under one id.
func TestSameEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{servers: 3, seed: seedOf(t)})
	c := w.newClient(1)
	for range rounds(2, 30) {
		c.contend(100, false)
		c.contend(100, true)
	}
	w.reconcile()
	answers := w.counts.answers
	if answers["POST 201"] != int64(agents)+int64(rounds(2, 30))*2 {
		t.Errorf("%d answers say that they stored an event", answers["POST 201"])
	}
	if answers["POST 409"] == 0 || answers["POST 200"] == 0 {
		t.Error("nothing was repeated or contended for")
	}
}

// rounds is how often something is tried.
func rounds(short, longer int) int {
	if *long {
		return longer
	}
	return short
}

// sent is a request of [TestTermination] and what its client heard.
type sent struct {
	event   event
	answer  answer
	refused bool // before the request was sent
}

// TestTermination ends a server with SIGTERM under load. Each request is answered, or
// the server had nothing to do with it: what it stored it has answered.
func TestTermination(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{servers: 1, seed: seedOf(t)})
	random := rand.New(rand.NewPCG(w.seed, 99))
	s := w.servers[0]
	for range rounds(3, 20) {
		ctx, stop := context.WithCancel(context.Background())
		var clients sync.WaitGroup
		all := make([][]sent, 12)
		for i := range all {
			c := w.newClient(uint64(i))
			// Connections that are kept can be closed while a request is on its way.
			c.http.Transport.(*http.Transport).DisableKeepAlives = i%2 == 0
			clients.Go(func() { all[i] = c.postUntil(ctx, s) })
		}
		time.Sleep(time.Duration(100+random.IntN(300)) * time.Millisecond)
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		stop()
		clients.Wait()
		w.checkAnswered(all)
		w.restart(s)
	}
	w.reconcile()
}

// postUntil sends one event after the other until ctx ends.
func (c *client) postUntil(ctx context.Context, s *server) (all []sent) {
	for ctx.Err() == nil {
		e := c.author.event()
		c.w.ledger.send(e)
		a := c.do(context.Background(), s, http.MethodPost, "/api/reputation/"+e.nft+"/events", "application/json", e.json)
		if a.ok() {
			c.note(a, []event{e})
		}
		all = append(all, sent{event: e, answer: a, refused: errors.Is(a.err, syscall.ECONNREFUSED)})
		if a.err != nil {
			time.Sleep(5 * time.Millisecond)
		}
	}
	return all
}

// checkAnswered checks that no event is stored of a request that was not answered.
func (w *world) checkAnswered(all [][]sent) {
	stored := map[string]bool{}
	w.eachRow(func(r row) { stored[key(r.event)] = true })
	answered, refused := 0, 0
	for _, one := range all {
		for _, s := range one {
			switch {
			case s.answer.ok():
				answered++
			case s.answer.status > 0:
				w.errorf("a server that ends answered %d: %s", s.answer.status, s.answer.body)
			case stored[key([]byte(s.event.json))]:
				w.errorf("the server stored an event and did not answer: %v", s.answer.err)
			case s.refused:
				refused++
			}
		}
	}
	if answered == 0 || refused == 0 {
		w.t.Errorf("it shows nothing: %d requests were answered and %d refused", answered, refused)
	}
}

// leaseEnds is when PostgreSQL ends the lease of a projector that is silent, and
// takeover how much later another must have begun.
const (
	leaseEnds = 20 * time.Second
	takeover  = 10 * time.Second
)

var holderLine = regexp.MustCompile(`(?m)^(aggregates|cohorts) .* process ([0-9]+), since`)

// projectors are the servers that project, by projection.
func (w *world) projectors() map[string]*server {
	status := mustCLI(w.t, w.postgres.serviceURL(w.database, ""), "status")
	found := map[string]*server{}
	for _, match := range holderLine.FindAllStringSubmatch(status, -1) {
		pid, _ := strconv.Atoi(match[2])
		for _, s := range w.servers {
			if s.pid() == pid {
				found[match[1]] = s
			}
		}
	}
	return found
}

// TestPausedProjector freezes the process that projects for longer than its lease. Another
// takes over, and the one that wakes up late writes nothing.
func TestPausedProjector(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{servers: 3, seed: seedOf(t)})
	for range rounds(1, 4) {
		load := w.work(roles{"appender": 3, "reader": 1, "sql writer": 1})
		time.Sleep(300 * time.Millisecond)
		holder := w.projectors()["aggregates"]
		if holder == nil {
			t.Fatal("nobody projects")
		}
		holder.pause()
		began := time.Now()
		others := func() bool {
			p := w.projectors()
			return p["aggregates"] != holder && p["cohorts"] != holder
		}
		for !others() && time.Since(began) < leaseEnds+takeover {
			time.Sleep(200 * time.Millisecond)
		}
		if !others() {
			t.Errorf("nobody has taken over %s after the projector was paused", time.Since(began))
		}
		time.Sleep(500 * time.Millisecond) // the other writes
		holder.resume()
		time.Sleep(500 * time.Millisecond) // and the one that was late wakes up
		load.end()
	}
	w.reconcile()
}

// TestLongTransactions: a transaction that is left open, or prepared, anywhere in the
// cluster keeps nobody from projecting.
func TestLongTransactions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{servers: 2, seed: seedOf(t)})
	heal := longTransactions(w, rand.New(rand.NewPCG(w.seed, 99)))
	c := w.newClient(1)
	for range 20 {
		e := c.author.event()
		w.ledger.send(e)
		a := c.do(t.Context(), w.servers[0], http.MethodPost, "/api/reputation/"+e.nft+"/events", "application/json", e.json)
		if !a.ok() {
			t.Fatalf("append: %d %v %s", a.status, a.err, a.body)
		}
		c.note(a, []event{e})
		read := c.do(t.Context(), w.servers[1], http.MethodGet, fmt.Sprintf("/api/reputation/%s?at_least=%d&wait=%s", e.nft, a.position, patient), "", "")
		if !read.ok() {
			t.Fatalf("the projections stall: %d %v %s", read.status, read.err, read.body)
		}
	}
	heal()
	w.reconcile()
}

// TestGarbage writes rows that no fold accepts, many and between others, and rebuilds.
func TestGarbage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{servers: 2, seed: seedOf(t)})
	load := w.work(roles{"sql writer": 6, "appender": 2, "reader": 1})
	time.Sleep(time.Duration(rounds(2, 20)) * time.Second)
	load.end()
	w.awaitProjections()
	url := w.postgres.serviceURL(w.database, "")
	before := w.digests(url)
	mustCLI(t, url, "rebuild")
	if after := w.digests(url); after != before {
		t.Errorf("a rebuild comes to other rows:\n%s\n%s", before, after)
	}
	listed := strings.Count(mustCLI(t, url, "failures", "list", "aggregates", "--limit", "0"), "\n")
	if aside := query[int](w, `SELECT count(*) FROM projection_failures WHERE projection = 'aggregates'`); aside == 0 || listed < aside {
		t.Errorf("%d events are set aside, and %d lines told", aside, listed)
	}
	w.reconcile()
}

// TestClock: another program's clock is ahead, and the service's time of storing goes on
// from there, so that histories by time stay those by position.
func TestClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{servers: 2, seed: seedOf(t)})
	c := w.newClient(1)
	e := c.author.event()
	w.ledger.send(e)
	position := query[int64](w, fmt.Sprintf(`INSERT INTO reputation_events (nft_id, event_type, event, created_at)
		VALUES ('%s', '%s', '%s', now() + interval '1 day') RETURNING position`, e.nft, e.kind(), e.json))
	if err := w.ledger.stored(e, position); err != nil {
		t.Error(err)
	}
	load := w.work(usual)
	time.Sleep(time.Second)
	load.end()
	disorder := query[int](w, `SELECT count(*) FROM (SELECT created_at <= lag(created_at) OVER (ORDER BY position) AS back FROM reputation_events) AS r WHERE back`)
	if disorder > 0 {
		t.Errorf("%d events were stored before the one that they follow", disorder)
	}
	w.reconcile()
}

// TestUpstreams breaks finn and NATS in every way, one after the other.
func TestUpstreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{servers: 2, seed: seedOf(t), upstreams: true})
	w.spared = true
	random := rand.New(rand.NewPCG(w.seed, 99))
	load := w.work(roles{"appender": 2, "reader": 1, "sql writer": 1, "chatter": chatters})
	for _, k := range upstreamKinds {
		k.happen(w, random, k.period())
		time.Sleep(300 * time.Millisecond)
	}
	load.end()
	w.reconcile()
}

// TestTerminationWhileBroken ends a server that cannot write what it has: it still ends
// in time.
func TestTerminationWhileBroken(t *testing.T) {
	t.Parallel()
	for name, inject := range map[string]func(*world, *rand.Rand) (heal func()){
		"somebody holds the log":        holdLog,
		"PostgreSQL does not answer":    network(hanging),
		"PostgreSQL cannot be reached":  network(refusing),
		"somebody locks the aggregates": func(w *world, _ *rand.Rand) func() { return w.transaction(w.database, locks[2]) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{servers: 1, seed: seedOf(t)})
			load := w.work(roles{"appender": 8, "gambler": 8, "importer": 2, "reader": 6})
			time.Sleep(500 * time.Millisecond)
			heal := inject(w, rand.New(rand.NewPCG(w.seed, 99)))
			time.Sleep(500 * time.Millisecond)
			if err := w.servers[0].stop(); err != nil {
				w.errorf("%v", err)
			}
			heal()
			w.restart(w.servers[0])
			load.end()
			w.reconcile()
		})
	}
}
