package faults_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dixie/internal/pgtest"
)

// setup says what a world consists of.
type setup struct {
	servers   int
	seed      uint64
	disk      string // directory of a small file system for PostgreSQL; empty for any
	upstreams bool   // with finn and NATS
}

// world is a service with its database and its clients.
type world struct {
	t         testing.TB
	seed      uint64
	postgres  *postgres
	database  string
	disk      string // the small file system that PostgreSQL is on; empty when there is none
	servers   []*server
	relays    []*relay   // of each server, to PostgreSQL
	upstreams *upstreams // nil where there are none
	ledger    *ledger
	counts    *counts
	authors   atomic.Uint64
	spared    bool        // no server is killed
	ended     atomic.Bool // nobody tries any longer
	problems  atomic.Int64
	followed  [][sha256.Size]byte // the log as the follower saw it
}

// newWorld starts PostgreSQL, and servers that share a database.
func newWorld(t testing.TB, s setup) *world {
	t.Helper()
	w := &world{t: t, seed: s.seed, database: "dixie", disk: s.disk, ledger: newLedger(), counts: newCounts()}
	w.postgres = startPostgres(t, pgtest.Options{Dir: s.disk})
	w.postgres.createDatabase(t, w.database)
	mustCLI(t, w.postgres.serviceURL(w.database, ""), "migrate", "up")
	if s.upstreams {
		w.upstreams = startUpstreams(t)
	}
	w.serve(s.servers)
	w.populate()
	return w
}

// serve starts servers on the world's database, which end with the test.
func (w *world) serve(servers int) {
	w.t.Helper()
	allowlist := writeAllowlist(w.t)
	for i := range servers {
		w.addServer(i, allowlist)
	}
	w.eachServer(func(s *server) {
		if err := s.start(context.Background()); err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(func() {
		w.ended.Store(true)
		for _, s := range w.servers {
			s.kill()
		}
	})
	if w.t.Failed() {
		w.t.FailNow()
	}
}

func (w *world) addServer(i int, allowlist string) {
	relay := newRelay(w.t, w.postgres.URL(w.database))
	w.relays = append(w.relays, relay)
	settings := []string{
		"DATABASE_URL=" + w.postgres.serviceURL(w.database, relay.address()),
		"DATABASE_POOL_SIZE=6", "DIXIE_ALLOWLIST_PATH=" + allowlist, "DIXIE_RATE_LIMIT_RPM=0",
		"DIXIE_SHUTDOWN_GRACE=" + grace.String(),
	}
	if w.upstreams != nil {
		settings = append(settings, w.upstreams.settings()...)
	}
	w.servers = append(w.servers, &server{
		t: w.t, name: fmt.Sprintf("server %d", i+1), logs: filepath.Join(w.t.TempDir(), fmt.Sprintf("server%d.log", i+1)),
		settings: func() []string { return settings },
	})
}

// writeAllowlist lets the harness's key in.
func writeAllowlist(t testing.TB) string {
	t.Helper()
	sum := sha256.Sum256([]byte(apiKey))
	var wallets []string
	for i := range chatters {
		wallets = append(wallets, `"`+wallet(i)+`"`)
	}
	text := fmt.Sprintf(`{"version":1,"wallets":[%s],"apiKeys":[{"name":"harness","hash":"sha256:%s","scopes":["read","append","admin"],"created_at":"2026-01-01T00:00:00Z"}]}`,
		strings.Join(wallets, ","), hex.EncodeToString(sum[:]))
	path := filepath.Join(t.TempDir(), "allowlist.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// populate gives each agent an event, and with it its collection.
func (w *world) populate() {
	c := w.newClient(0)
	for i := range agents {
		if e := c.author.of(fmt.Sprintf("agent:%d", i)); !c.append(context.Background(), w.servers[0], e) {
			w.t.Fatalf("the service does not take an event before anything is broken")
		}
	}
}

// eachServer does something to all servers at once.
func (w *world) eachServer(do func(*server)) {
	var all sync.WaitGroup
	for _, s := range w.servers {
		all.Go(func() {
			s.Lock()
			defer s.Unlock()
			do(s)
		})
	}
	all.Wait()
}

// newClient makes a client whose doings follow from the world's seed and a number.
func (w *world) newClient(number uint64) *client {
	return &client{
		w: w, http: newHTTPClient(), seen: map[string]int64{},
		random: rand.New(rand.NewPCG(w.seed, number)),
		author: &author{name: w.authors.Add(1), random: rand.New(rand.NewPCG(w.seed, number+1<<32))},
	}
}

// over reports whether waiting for an answer makes no sense any more.
func (w *world) over() bool { return w.ended.Load() }

// maxProblems bounds what one run reports: the first are the ones that help.
const maxProblems = 20

// errorf reports a broken promise.
func (w *world) errorf(format string, arguments ...any) {
	w.counts.problem()
	if n := w.problems.Add(1); n <= maxProblems {
		w.t.Errorf(format, arguments...)
	} else if n == maxProblems+1 {
		w.t.Errorf("there is more")
	}
}

// load is a set of clients that are at work.
type load struct {
	w    *world
	stop context.CancelFunc
	done sync.WaitGroup
}

// roles are what clients do, and how many do so.
type roles map[string]int

// usual is everyday traffic.
var usual = roles{"appender": 6, "gambler": 2, "importer": 1, "twins": 1, "reader": 3, "follower": 1, "sql writer": 1}

// everything is everyday traffic and what else the world has clients for.
func (w *world) everything() roles {
	all := maps.Clone(usual)
	if w.upstreams != nil {
		all["chatter"] = chatters
	}
	return all
}

// work sets clients to work.
func (w *world) work(roles roles) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{w: w, stop: stop}
	number := uint64(1)
	for _, name := range []string{"appender", "gambler", "importer", "twins", "reader", "follower", "sql writer", "chatter"} {
		for i := range roles[name] {
			c := w.newClient(number)
			number++
			l.done.Go(func() {
				defer c.http.CloseIdleConnections()
				c.be(ctx, name, i)
			})
		}
	}
	return l
}

// be does what a role is to do; number tells those of one role apart.
func (c *client) be(ctx context.Context, role string, number int) {
	switch role {
	case "appender":
		c.appender(ctx)
	case "gambler":
		c.gambler(ctx)
	case "importer":
		c.importer(ctx)
	case "twins":
		c.twins(ctx)
	case "reader":
		c.reader(ctx)
	case "follower":
		c.follower(ctx)
	case "sql writer":
		c.sqlWriter(ctx)
	case "chatter":
		c.chatter(ctx, number)
	}
}

// settlePatience is how long clients may take to settle what they do not know of, when
// nothing is broken any more.
const settlePatience = 90 * time.Second

// end has the clients settle what they began, and waits for them.
func (l *load) end() {
	l.stop()
	settled := make(chan struct{})
	go func() {
		l.done.Wait()
		close(settled)
	}()
	select {
	case <-settled:
		return
	case <-time.After(settlePatience):
	}
	l.w.errorf("clients are not served %s after all was mended", settlePatience)
	l.w.ended.Store(true)
	<-settled
}
