package projections_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"dixie/internal/pgtest"
	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

// flaky is a broker that loses messages, and confirmations of others.
func flaky() *projectionstest.Broker {
	return &projectionstest.Broker{OnPublish: func(m projectionstest.Sent, store func()) error {
		// The global generator, as several lanes call at once.
		switch rand.IntN(40) {
		case 0:
			return errors.New("lost on the way")
		case 1:
			store()
			return errors.New("confirmation lost")
		}
		store()
		return nil
	}}
}

// playPublished appends a history while publishers and projectors come and go, and
// lets the last ones finish.
func playPublished(t projectionstest.TB, b projectionstest.Backend, history []chapter, broker projections.Broker) {
	t.Helper()
	for _, c := range history {
		start := b.Head(t)
		stop := func() {}
		if c.pageSize > 0 {
			stop = projectionstest.Run(t, b.Publisher(reputation.DefaultParams(), c.pageSize, broker))
		}
		for part := range slices.Chunk(c.entries, 10) {
			b.AppendEntries(t, part...)
		}
		if c.pageSize > 0 {
			b.Await(t, start+c.folded, projections.Publisher)
		}
		stop()
	}
	stop := projectionstest.Run(t, append(b.Projectors(reputation.DefaultParams(), 0), b.Publisher(reputation.DefaultParams(), 9, broker))...)
	b.Settle(t)
	b.Await(t, b.Head(t), projections.Publisher)
	stop()
}

// checkPublished: everything came once and in the order of its NFT, and the
// published changes of state are the histories of the stored rows.
func checkPublished(t projectionstest.TB, b projectionstest.Backend, got []projectionstest.Sent) {
	t.Helper()
	projectionstest.SamePublished(t, projectionstest.Published(t, b.Log, reputation.DefaultParams()), got)
	published := map[string][]reputation.Transition{}
	for _, m := range got {
		if m.Topic == "reputation.state_changed" {
			var change reputation.Transition
			if err := json.Unmarshal([]byte(m.Payload), &change); err != nil {
				t.Fatal(err)
			}
			published[m.NFT] = append(published[m.NFT], change)
		}
	}
	stored := map[string][]reputation.Transition{}
	for row, err := range b.Store.AllAggregates(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if len(row.Aggregate.Transitions) > 0 {
			stored[row.NFT] = row.Aggregate.Transitions
		}
	}
	sameText := cmp.Comparer(func(a, b reputation.Timestamp) bool { return a.String() == b.String() })
	if diff := cmp.Diff(stored, published, sameText); diff != "" {
		t.Errorf("changes of state (-stored +published):\n%s", diff)
	}
}

// TestPublishedMemory: whatever is lost on the way, and however often publishers
// stop, the broker has everything once and in order.
func TestPublishedMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // as a publisher waits a second after each failure
		// Nor may a bubble be asked for the deadline of the test.
		rapid.Check(struct{ testing.TB }{t}, func(t *rapid.T) {
			b := openMemory(slog.New(slog.DiscardHandler))
			broker := flaky()
			playPublished(t, b, histories.Draw(t, "history"), broker)
			checkPublished(t, b, broker.Stored())
		})
	})
}

// TestPublishedPostgres is the same with PostgreSQL. A history that fails here is
// found again by its seed.
func TestPublishedPostgres(t *testing.T) {
	t.Parallel()
	first := int(time.Now().UnixNano())
	for i := range 4 {
		t.Run(fmt.Sprint("seed ", first+i), func(t *testing.T) {
			t.Parallel()
			b, _ := openPostgres(t, pgtest.Pool(t))
			var broker projectionstest.Broker
			playPublished(t, b, histories.Example(first+i), &broker)
			checkPublished(t, b, broker.Stored())
		})
	}
}

// TestPublishAgain: without its checkpoint the publisher begins with the first
// event, whatever is left of its other rows, and of what it remembers.
func TestPublishAgain(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	b, _ := openPostgres(t, pool)
	var broker projectionstest.Broker
	b.Append(t, projectionstest.Signal("bear-1", 0.5), projectionstest.Signal("bear-1", 1))
	b.AppendEntries(t, projectionstest.Raw(t, "bear-1", `{}`))
	p := b.Publisher(reputation.DefaultParams(), 0, &broker)
	stop := projectionstest.Run(t, p)
	b.Await(t, 3, projections.Publisher)
	stop()
	for _, statement := range []string{
		`DELETE FROM projection_checkpoints WHERE projection = 'publisher'`,
		`INSERT INTO publisher_agents VALUES ('bear-2', 'honey', 100)`,
		`INSERT INTO projection_failures VALUES ('publisher', 9, 'bear-1', 'invalid_event', 'of another log')`,
	} {
		if _, err := pool.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	projectionstest.Run(t, p)
	projectionstest.Eventually(t, "everything is published again", func() bool { return broker.Again() == len(broker.Stored()) })
	b.Append(t, projectionstest.Signal("bear-2", 1))
	b.Await(t, 4, projections.Publisher)
	projectionstest.SamePublished(t, projectionstest.Published(t, b.Log, reputation.DefaultParams()), broker.Stored())
	if failures := b.Failures(t, projections.Publisher); len(failures) != 1 || failures[0].Position != 3 {
		t.Errorf("set aside %+v", failures)
	}
}

// TestPublishAnotherLog: a publisher that is ahead of the log says what to do about
// it, and publishes nothing.
func TestPublishAnotherLog(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	b, _ := openPostgres(t, pool)
	_, err := pool.Exec(t.Context(),
		`INSERT INTO projection_checkpoints (projection, version, position) VALUES ('publisher', '1', 7)`)
	if err != nil {
		t.Fatal(err)
	}
	b.Append(t, projectionstest.Signal("bear-1", 0.5))
	var broker projectionstest.Broker
	p := b.Publisher(reputation.DefaultParams(), 0, &broker)
	projectionstest.Run(t, p)
	projectionstest.AwaitState(t, projections.NeedsRebuild, p)
	_, err = p.State()
	var ahead *projections.AheadError
	if !errors.As(err, &ahead) || !strings.Contains(err.Error(), "delete the publisher's row of projection_checkpoints") {
		t.Errorf("error %v", err)
	}
	if len(broker.Stored()) > 0 {
		t.Error("something was published")
	}
	overviews, err := b.Reader.Overview(t.Context(), reputation.DefaultParams())
	if err != nil {
		t.Fatal(err)
	}
	last := overviews[len(overviews)-1]
	if last.Projection != projections.Publisher || last.State != reputation.ProjectionNeedsRebuild || last.Remedy != ahead.Error() {
		t.Errorf("overview %+v", last)
	}
}
