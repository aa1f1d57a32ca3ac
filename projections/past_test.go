package projections_test

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dixie/internal/pgtest"
	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

// shortLogs are random logs of which each prefix can be replayed.
var shortLogs = rapid.Custom(func(t *rapid.T) []reputation.Entry {
	var entries []reputation.Entry
	for n := range rapid.Int64Range(1, 25).Draw(t, "events") {
		entries = append(entries, drawEntry(t, n+1))
	}
	return entries
})

// TestPastMemory: as of each position the past is, to the last bit, a replay of the
// log up to there.
func TestPastMemory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := openMemory(slog.New(slog.DiscardHandler))
		b.AppendEntries(t, shortLogs.Draw(t, "log")...)
		stop := b.Project(t)
		b.Settle(t)
		stop()
		b.CheckPast(t, reputation.DefaultParams())
	})
}

// TestPastPostgres is the same with PostgreSQL. A log that fails here is found again
// by its seed.
func TestPastPostgres(t *testing.T) {
	t.Parallel()
	first := int(time.Now().UnixNano())
	for i := range 3 {
		t.Run(fmt.Sprint("seed ", first+i), func(t *testing.T) {
			t.Parallel()
			b, _ := openPostgres(t, pgtest.Pool(t))
			b.AppendEntries(t, shortLogs.Example(first+i)...)
			b.Project(t)
			b.Settle(t)
			b.CheckPast(t, reputation.DefaultParams())
		})
	}
}

// TestPastBesideRebuilds: whatever is appended, projected and rebuilt meanwhile, the
// past stays what it was.
func TestPastBesideRebuilds(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.Project(t)
	defer p.load(t)()
	projectionstest.Eventually(t, "there is a past", func() bool { return p.Head(t) >= 50 })
	at := p.Head(t)
	p.Await(t, at, projections.Names...)
	past := p.Past(projections.PastConfig{Params: reputation.DefaultParams()})
	nft := query[string](t, p.pool, `SELECT nft_id FROM reputation_events WHERE position <= 50 GROUP BY nft_id ORDER BY count(*) DESC LIMIT 1`)
	want := pastOf(t, past, nft, at)

	rebuilt := make(chan error, 1)
	go func() {
		var err error
		for done := 0; done < 5 && err == nil; {
			_, err = p.rows.Rebuild(t.Context(), projections.RebuildConfig{Params: reputation.DefaultParams(), Logger: testLogger(t)})
			var running *projections.RebuildingError
			switch {
			case err == nil:
				done++
			case errors.As(err, &running):
				err = nil // the session of the last one is ending
			}
		}
		rebuilt <- err
	}()
	for reads := 0; ; reads++ {
		if got := pastOf(t, past, nft, at); got != want {
			t.Fatalf("the past of %s at %d has changed:\n got %s\nwant %s", nft, at, got, want)
		}
		select {
		case err := <-rebuilt:
			if err != nil || reads < 10 {
				t.Fatalf("%d reads beside the rebuilds, error %v", reads, err)
			}
			return
		default:
		}
	}
}

// pastOf is an NFT's whole state as of a position.
func pastOf(t testing.TB, past *projections.Past, nft string, position int64) string {
	t.Helper()
	r, err := past.ReputationAt(t.Context(), nft, position)
	if err != nil {
		t.Fatal(err)
	}
	text, err := reputation.Encode(r.Agent)
	if err != nil {
		t.Fatal(err)
	}
	cohorts, err := reputation.Encode(r.Cohorts)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(string(text), string(cohorts), r.Collection)
}

// manyCollections is a log of 20,000 events of 2,000 NFTs in 500 collections, and the
// members that it has.
const manyCollections = `
	INSERT INTO reputation_events (position, nft_id, event_type, event, created_at)
	SELECT n, 'wasp-' || n % 2000, 'quality_signal',
	       jsonb_build_object('type', 'quality_signal', 'event_id', '00000000-0000-4000-9000-' || lpad(to_hex(n), 12, '0'), 'agent_id', 'agent',
	                          'score', 0.5, 'timestamp', '2026-02-25T12:00:00Z', 'collection_id', 'nest-' || n % 500),
	       now() + n * interval '1 microsecond'
	  FROM generate_series(1, 20000) AS n;
	INSERT INTO reputation_cohort_members (nft_id, collection_id)
	SELECT 'wasp-' || n, 'nest-' || n % 500 FROM generate_series(0, 1999) AS n;
	INSERT INTO projection_checkpoints (projection, version, position) VALUES ('cohorts', 'x', 20000)`

// TestPlanOfPast: the past of an agent costs what its collection has had, however
// long the log is.
func TestPlanOfPast(t *testing.T) {
	t.Parallel()
	var spy spy
	p := open(t, spy.option)
	exec(t, p.pool, manyCollections)
	exec(t, p.pool, `ANALYZE`)
	conn := connect(t, p.pool)
	exec(t, conn, `SET plan_cache_mode = force_custom_plan`)
	spy.take()
	past := p.Past(projections.PastConfig{Params: reputation.DefaultParams()})
	if r, err := past.ReputationAt(t.Context(), "wasp-7", 20000); err != nil || r.Agent.Aggregate.SampleCount != 10 || r.Collection.Members != 4 {
		t.Fatalf("%+v, %v", r, err)
	}
	statements := spy.take("reputation_cohort_members")
	if len(statements) != 3 {
		t.Errorf("%d statements, want 3", len(statements))
	}
	for _, s := range statements {
		plan := explain(t, conn, s.sql, s.args...)
		if plan.any(func(n *node) bool { return n.Type == "Seq Scan" && n.Relation != "projection_checkpoints" }) {
			t.Errorf("%s\n%+v", s.sql, plan)
		}
	}
}
