package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/eventstore"
	"dixie/internal/fakefinn"
	"dixie/internal/natstest"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

const (
	signingSecret = "a secret of the fault harness, long enough"
	chatters      = 3 // wallets
)

// upstreams are what the service talks to besides PostgreSQL.
type upstreams struct {
	finn        *fakefinn.Server
	finnRelay   *relay
	finnURL     string
	broker      *natstest.Server
	brokerMu    sync.Mutex // held by who starts and stops it
	brokerRelay *relay
	tokens      []string // of the wallets
}

// startUpstreams starts a finn that knows the wallets, and NATS.
func startUpstreams(t testing.TB) *upstreams {
	t.Helper()
	u := &upstreams{finn: fakefinn.New(), broker: natstest.Start(t)}
	server := httptest.NewServer(u.finn)
	t.Cleanup(server.Close)
	u.finnRelay = newPlainRelay(t, server.Listener.Addr().String())
	u.finnURL = "http://" + u.finnRelay.address()
	u.brokerRelay = newPlainRelay(t, strings.TrimPrefix(u.broker.URL(), "nats://"))
	for i := range chatters {
		u.finn.Give(wallet(i), fakefinn.NFT{Collection: "chatters", Token: fmt.Sprint(i)})
		stdout, stderr, err := cliWith([]string{"DIXIE_JWT_PRIVATE_KEY=" + signingSecret}, "token", "--wallet", wallet(i))
		if err != nil {
			t.Fatalf("dixie token: %v\n%s", err, stderr)
		}
		u.tokens = append(u.tokens, strings.TrimSpace(stdout))
	}
	u.well()
	return u
}

func wallet(i int) string { return fmt.Sprintf("0x%040x", 0xd1e+i) }

// settings are those of a server that uses them.
func (u *upstreams) settings() []string {
	return []string{
		"FINN_URL=" + u.finnURL, "FINN_TIMEOUT=1s", "DIXIE_JWT_PRIVATE_KEY=" + signingSecret,
		"DIXIE_SIWE_DOMAINS=http://localhost:3001",
		"NATS_URL=nats://" + u.brokerRelay.address(), "DIXIE_NATS_PUBLISH=true", "DIXIE_NATS_DUPLICATES=1h",
	}
}

// well is finn without trouble.
func (u *upstreams) well() {
	u.finn.Change(func(b *fakefinn.Behaviour) {
		*b = fakefinn.Behaviour{Delay: 1500 * time.Millisecond, Reply: map[string]any{"task_type": "analysis"}}
	})
}

// upstreamKinds are the faults of what the service talks to.
var upstreamKinds = []kind{
	{"finn: slow", 2 * time.Second, 10 * time.Second, finnTrouble(fakefinn.Slow)},
	{"finn: down", time.Second, 5 * time.Second, finnTrouble(fakefinn.Down)},
	{"finn: failing", time.Second, 5 * time.Second, finnTrouble(fakefinn.Failing)},
	{"finn: rubbish", time.Second, 5 * time.Second, finnTrouble(fakefinn.Rubbish)},
	{"finn: flapping", time.Second, 5 * time.Second, finnTrouble(fakefinn.Flapping)},
	{"finn: refuses", time.Second, 5 * time.Second, finnNetwork(refusing)},
	{"finn: hangs", 2 * time.Second, 15 * time.Second, finnNetwork(hanging)},
	{"finn: no HTTP", time.Second, 5 * time.Second, finnNetwork(babbling)},
	{"NATS: refuses", time.Second, 5 * time.Second, natsNetwork(refusing)},
	{"NATS: hangs", 2 * time.Second, 20 * time.Second, natsNetwork(hanging)},
	{"NATS: slow", time.Second, 10 * time.Second, natsNetwork(slow)},
	{"NATS: rubbish", time.Second, 5 * time.Second, natsNetwork(babbling)},
	{"NATS: stopped", 500 * time.Millisecond, 5 * time.Second, stopNATS},
}

func finnTrouble(trouble fakefinn.Trouble) func(*world, *rand.Rand) (heal func()) {
	return func(w *world, _ *rand.Rand) (heal func()) {
		w.upstreams.finn.Change(func(b *fakefinn.Behaviour) { b.Trouble = trouble })
		return w.upstreams.well
	}
}

func finnNetwork(m manner) func(*world, *rand.Rand) (heal func()) {
	return func(w *world, _ *rand.Rand) (heal func()) { return w.upstreams.finnRelay.treat(m) }
}

func natsNetwork(m manner) func(*world, *rand.Rand) (heal func()) {
	return func(w *world, _ *rand.Rand) (heal func()) { return w.upstreams.brokerRelay.treat(m) }
}

func stopNATS(w *world, _ *rand.Rand) (heal func()) {
	u := w.upstreams
	u.brokerMu.Lock()
	u.broker.Stop()
	return func() {
		defer u.brokerMu.Unlock()
		w.counts.restart()
		u.broker.Start()
	}
}

// chatter talks to its agent. Of an answer that it got, the log has the outcome, unless
// the server was killed that still had to store it.
func (c *client) chatter(ctx context.Context, number int) {
	number %= chatters
	for ctx.Err() == nil {
		message := c.author.id()
		outcome := c.w.ledger.expect(outcomeID(wallet(number), message))
		request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, c.any().base()+"/api/chat", strings.NewReader(`{"prompt":"hello"}`))
		if err != nil {
			continue // the server has never been up
		}
		request.Header.Set("Authorization", "Bearer "+c.w.upstreams.tokens[number])
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("X-Request-Id", message)
		a := exchange(c.http, request)
		c.w.count("chat", a)
		c.judgeChat(a)
		if a.ok() && c.w.spared {
			c.w.ledger.due(outcome)
		}
		c.pause(ctx, 300*time.Millisecond)
	}
}

// judgeChat checks that finn's trouble is told as what it is.
func (c *client) judgeChat(a answer) {
	switch {
	case a.status == 0, a.status == http.StatusOK, documented[a.code] == a.status:
	case a.status >= 500 && (a.code == "upstream_error" || a.code == "circuit_open" || a.code == "identity_unavailable"):
	default:
		c.w.errorf("chat: status %d: %s", a.status, a.body)
	}
	if strings.Contains(string(a.body), fakefinn.Secret) {
		c.w.errorf("chat: the answer has a text of finn's: %s", a.body)
	}
}

// outcomeID is the id of the event that a chat tells of: it depends on wallet and
// message alone, so that the outcome counts once.
func outcomeID(wallet, message string) string {
	space := uuid.MustParse("9f0b6a0e-6a35-5c0f-8f8e-5d3f6b0a7c21")
	return uuid.NewSHA1(space, []byte(strings.ToLower(wallet)+"/"+message+"/task_completed")).String()
}

// publishPatience is how long the publisher may take to send what is left.
const publishPatience = 90 * time.Second

// awaitPublished waits until all of the log is published.
func (w *world) awaitPublished() {
	conn := w.postgres.connect(w.t, w.database)
	defer closeConn(conn)
	for deadline := time.Now().Add(publishPatience); ; time.Sleep(100 * time.Millisecond) {
		var left int64
		err := conn.QueryRow(context.Background(), `SELECT (SELECT max(position) FROM reputation_events)
			- coalesce((SELECT position FROM projection_checkpoints WHERE projection = 'publisher'), 0)`).Scan(&left)
		if err == nil && left == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.errorf("the publisher is %d events behind %s after all was mended, error %v", left, publishPatience, err)
			return
		}
	}
}

// reconcilePublished compares the stream with the log.
func (w *world) reconcilePublished() {
	pool, err := pgxpool.New(context.Background(), w.postgres.url(w.database))
	if err != nil {
		w.t.Fatal(err)
	}
	defer pool.Close()
	want := projectionstest.Published(w.t, eventstore.ReadPostgres(pool), reputation.DefaultParams())
	var got []projectionstest.Sent
	for _, m := range w.upstreams.broker.Messages("DIXIE") {
		header := m.Headers()
		sent, err := projectionstest.ReadSent(m.Subject(), header.Get("Nats-Msg-Id"), header.Get, m.Data())
		if err != nil {
			w.errorf("a message that was published cannot be read: %v", err)
			return
		}
		got = append(got, sent)
	}
	projectionstest.SamePublished(w.t, want, got)
}
