package projections_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

// verified is a database with a settled log of everything that can happen.
func verified(t *testing.T) process {
	t.Helper()
	p := open(t)
	stop := p.start(t)
	var entries []reputation.Entry
	for n := range int64(400) {
		entries = append(entries, randomEntry(n+1))
	}
	if _, err := p.Log.Append(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
	p.Settle(t)
	stop()
	return p
}

// start runs the projectors until the function that it returns is called.
func (p process) start(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	projectors := p.rows.NewProjectors(projections.Config{Log: p.Log, Params: reputation.DefaultParams(), Logger: testLogger(t)})
	for _, projector := range projectors {
		go func() {
			projector.Run(ctx)
			done <- struct{}{}
		}()
	}
	return func() {
		cancel()
		for range projectors {
			<-done
		}
	}
}

func (p process) verify(t *testing.T, config projections.VerifyConfig) (projections.VerifyReport, []projections.Difference) {
	t.Helper()
	var found []projections.Difference
	config.Params = reputation.DefaultParams()
	config.Differ = func(d projections.Difference) { found = append(found, d) }
	report, err := p.rows.Verify(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if report.Differences != int64(len(found)) {
		t.Errorf("the report counts %d differences of %d", report.Differences, len(found))
	}
	return report, found
}

func TestVerifyClean(t *testing.T) {
	t.Parallel()
	p := verified(t)
	report, found := p.verify(t, projections.VerifyConfig{})
	if len(found) > 0 || report.Events != 400 || report.Rows == 0 || len(report.Digest) != 64 {
		t.Errorf("report %+v, differences %v", report, found)
	}
}

// Every kind of damage is named with its row and its field.
func TestVerifyNamesDamage(t *testing.T) {
	t.Parallel()
	const first = ` WHERE nft_id = (SELECT min(nft_id) FROM reputation_aggregates)`
	for name, c := range map[string]struct {
		damage string
		want   string // that one of the differences matches
	}{
		"one byte of an aggregate": {
			`UPDATE reputation_aggregates SET aggregate = jsonb_set(aggregate, '{pool_id}', '"alphb"')` + first,
			`^reputation_aggregates bear-a: aggregate\.pool_id: stored "alphb", computed "alpha" \(position \d+\)$`,
		},
		"one byte of a transition": {
			`UPDATE reputation_aggregates SET aggregate = jsonb_set(aggregate, '{transition_history,0,from}', '"colc"')` + first,
			`^reputation_aggregates bear-a: aggregate\.transition_history: stored .*"colc".*, computed .*"cold"`,
		},
		"one byte of the state": {
			`UPDATE reputation_aggregates SET folded = overlay(folded::text PLACING '9' FROM position('Z"' IN folded::text) - 1)::json` + first,
			`^reputation_aggregates bear-a: folded\.aggregate\.created_at: stored "[^"]+9Z", computed "[^"]+0Z"`,
		},
		"state": {
			`UPDATE reputation_aggregates SET state = 'x'` + first,
			`^reputation_aggregates bear-a: state: stored "x", computed "\w+"`,
		},
		"position":    {`UPDATE reputation_aggregates SET position = 1` + first, `^reputation_aggregates bear-a: position: stored 1, computed \d+`},
		"missing row": {`DELETE FROM reputation_aggregates` + first, `^reputation_aggregates bear-a: row: stored nothing, computed {"aggregate":`},
		"unexpected row": {
			`INSERT INTO reputation_aggregates (nft_id, aggregate) VALUES ('bear-aa', '{}')`,
			`^reputation_aggregates bear-aa: row: stored {"aggregate":{},"folded":null,"position":null,"state":"cold"}, computed nothing \(position 0\)$`,
		},
		"last unexpected row": {
			`INSERT INTO reputation_task_cohorts (nft_id, model_id, task_type, cohort) VALUES ('zz', 'm', 't', '{}')`,
			`^reputation_task_cohorts zz m t: row: stored {"cohort":{}`,
		},
		"one byte of a cohort": {
			`UPDATE reputation_task_cohorts SET cohort = jsonb_set(cohort, '{task_type}', '"analysiz"') WHERE nft_id = 'bear-b'`,
			`^reputation_task_cohorts bear-b native analysis: cohort\.task_type: stored "analysiz", computed "analysis"`,
		},
		"one bit of a score": {
			`UPDATE reputation_task_cohorts SET score = score + 1e-16 * (CASE WHEN score < 0.5 THEN 1 ELSE 2 END) WHERE nft_id = 'bear-b'`,
			`^reputation_task_cohorts bear-b native analysis: score: stored 0\.\d+, computed 0\.\d+`,
		},
		"samples":     {`UPDATE reputation_task_cohorts SET samples = samples + 1`, `^reputation_task_cohorts bear-a native analysis: samples: `},
		"observed_at": {`UPDATE reputation_task_cohorts SET observed_at = '2026-02-25T12:00:00Z'`, `^reputation_task_cohorts bear-a native analysis: observed_at: `},
		"collection":  {`UPDATE reputation_collections SET sum = sum + 0.001`, `^reputation_collections honey: sum: stored \d+\.\d+, computed \d+\.\d+ \(position \d+\)`},
		"member":      {`DELETE FROM reputation_cohort_members WHERE nft_id = 'bear-c'`, `^reputation_cohort_members bear-c: row: stored nothing, computed {"collection_id":"\w+"}`},
		"failure":     {`DELETE FROM projection_failures WHERE projection = 'cohorts'`, `^projection_failures cohorts 8: row: stored nothing, computed {"nft_id":"bear-d","reason":"collection_mismatch"} \(position 8\)`},
		"reason":      {`UPDATE projection_failures SET reason = 'x' WHERE position = 8`, `^projection_failures aggregates 8: reason: stored "x", computed "collection_mismatch"`},
		"last failure": {
			`INSERT INTO projection_failures (projection, position, nft_id, reason, detail) VALUES ('aggregates', 9999, 'a', 'b', 'c')`,
			`^projection_failures aggregates 9999: row: stored {"nft_id":"a","reason":"b"}, computed nothing`,
		},
		"unexpected failure": {
			`INSERT INTO projection_failures (projection, position, nft_id, reason, detail) VALUES ('cohorts', 3, 'a', 'b', 'c')`,
			`^projection_failures cohorts 3: row: stored {"nft_id":"a","reason":"b"}, computed nothing`,
		},

		"one byte of an event": {
			`UPDATE reputation_events SET event = jsonb_set(event, '{quality_observation,score}', '0.123') WHERE position = 6`,
			`^reputation_aggregates bear-c: .*stored .*, computed `,
		},
		"one byte of its id": {
			`UPDATE reputation_events SET event = jsonb_set(event, '{type}', '"quality_signbl"') WHERE position = 6`,
			`^projection_failures aggregates 6: row: stored nothing, computed {"nft_id":"bear-c","reason":"invalid_event"} \(position 6\)`,
		},
		"one byte of its NFT": {
			`UPDATE reputation_events SET nft_id = 'bear-D' WHERE position = 6`,
			`^reputation_aggregates bear-D: row: stored nothing, computed `,
		},
		"one byte of its type": {
			`UPDATE reputation_events SET event_type = 'model_performancf' WHERE position = 6`,
			`^reputation_events 6: event_type: stored model_performancf, computed model_performance \(position 6\)$`,
		},
		"another id": {
			`ALTER TABLE reputation_events ALTER COLUMN id DROP EXPRESSION; UPDATE reputation_events SET id = gen_random_uuid() WHERE position = 6`,
			`^reputation_events 6: id: stored [0-9a-f-]{36}, computed 00000000-0000-4000-8000-000000000006`,
		},
		"another time":   {`UPDATE reputation_events SET created_at = created_at - interval '1 hour' WHERE position = 6`, `^reputation_events 6: created_at: stored \S+, computed later than `},
		"deleted event":  {`DELETE FROM reputation_events WHERE position = 200`, `^reputation_events 201: position: stored 201, computed 200 \(position 201\)$`},
		"deleted first":  {`DELETE FROM reputation_events WHERE position = 1`, `^reputation_events 2: position: stored 2, computed 1 \(position 2\)$`},
		"before all":     {`INSERT INTO reputation_events (position, nft_id, event_type, event, created_at) VALUES (0, 'a', 'b', '{}', '2000-01-01')`, `^reputation_events 0: position: stored 0, computed 1`},
		"swapped events": {`UPDATE reputation_events SET position = CASE position WHEN 200 THEN 100001 ELSE 200 END WHERE position IN (200, 201); UPDATE reputation_events SET position = 201 WHERE position = 100001`, `^reputation_events 201: created_at: `},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := damageable(t)
			// As a superuser who disables the triggers of the log.
			exec(t, p.pool, `ALTER TABLE reputation_events DISABLE TRIGGER USER`)
			for statement := range strings.SplitSeq(c.damage, ";") {
				exec(t, p.pool, statement)
			}
			_, found := p.verify(t, projections.VerifyConfig{})
			want := regexp.MustCompile(c.want)
			if !slices.ContainsFunc(found, func(d projections.Difference) bool { return want.MatchString(d.String()) }) {
				t.Errorf("no difference matches %s: %v", want, found)
			}
		})
	}
}

// damageable is a database with a settled log of which it is known what is in it:
// of twenty bears, position 8 is set aside.
func damageable(t *testing.T) process {
	t.Helper()
	p := open(t)
	var entries []reputation.Entry
	for n := range int64(400) {
		event := projectionstest.Task(fmt.Sprintf("bear-%c", 'a'+n/2%20), "native", "analysis", float64(n%89+1)/91)
		if n == 7 {
			event.Collection = "mead"
		}
		entries = append(entries, event.Entry(n+1))
	}
	p.AppendEntries(t, entries...)
	p.rebuild(t)
	return p
}

// A byte of an event that no projection uses changes no row. Only the digest of the
// log tells.
func TestVerifyLogDigest(t *testing.T) {
	t.Parallel()
	p := verified(t)
	before, _ := p.verify(t, projections.VerifyConfig{})
	again, _ := p.verify(t, projections.VerifyConfig{})
	exec(t, p.pool, `ALTER TABLE reputation_events DISABLE TRIGGER USER`)
	exec(t, p.pool, `UPDATE reputation_events SET event = jsonb_set(event, '{agent_id}', '"x"') WHERE position = 8`)
	after, found := p.verify(t, projections.VerifyConfig{})
	if len(found) > 0 || after.Digest != before.Digest {
		t.Errorf("differences %v, digests %s and %s", found, before.Digest, after.Digest)
	}
	if before.LogDigest != again.LogDigest || len(before.LogDigest) != 64 || after.LogDigest == before.LogDigest {
		t.Errorf("digests of the log: %s, again %s, and %s of another", before.LogDigest, again.LogDigest, after.LogDigest)
	}
}

// A sample is the same for the same seed, and finds what is wrong in it and only
// that.
func TestVerifySample(t *testing.T) {
	t.Parallel()
	p := verified(t)
	exec(t, p.pool, `UPDATE reputation_aggregates SET state = 'x'`)
	exec(t, p.pool, `UPDATE reputation_collections SET sum = 0`)
	exec(t, p.pool, `INSERT INTO projection_failures (projection, position, nft_id, reason, detail) VALUES ('aggregates', 9999, 'a', 'b', 'c')`)
	sampled := func(n int, seed uint64) (keys []string) {
		report, found := p.verify(t, projections.VerifyConfig{Sample: n, Seed: seed})
		for _, d := range found {
			if d.Table != "reputation_aggregates" || d.Field != "state" {
				t.Errorf("unexpected %v", d)
			}
			keys = append(keys, d.Key)
		}
		if report.Digest != "" || report.LogDigest == "" || report.Events != 400 {
			t.Errorf("report %+v", report)
		}
		return keys
	}
	all := int(query[int64](t, p.pool, `SELECT count(*) FROM reputation_aggregates`))
	first, again, other := sampled(5, 1), sampled(5, 1), sampled(5, 2)
	if len(first) != 5 || !slices.Equal(first, again) || slices.Equal(first, other) {
		t.Errorf("samples %v, %v with the same seed, %v with another", first, again, other)
	}
	if n := len(sampled(all+100, 3)); n != all {
		t.Errorf("%d of %d agents in a sample of more than there are", n, all)
	}
}

// Failures are as many as events, and read some at a time.
func TestVerifyManyFailures(t *testing.T) {
	t.Parallel()
	p := open(t)
	var entries []reputation.Entry
	for i := range 3_500 {
		entries = append(entries, projectionstest.Raw(t, fmt.Sprint("bear-", i%7), `{"x":1}`))
	}
	for part := range slices.Chunk(entries, 500) {
		p.AppendEntries(t, part...)
	}
	p.rebuild(t)
	if report, found := p.verify(t, projections.VerifyConfig{}); len(found) > 0 || report.Rows != 7_000 {
		t.Errorf("report %+v, differences %v", report, found)
	}
	exec(t, p.pool, `DELETE FROM projection_failures WHERE position IN (1, 1000, 1001, 3500)`)
	if _, found := p.verify(t, projections.VerifyConfig{Projections: []string{projections.Cohorts}}); len(found) != 4 {
		t.Errorf("differences %v", found)
	}
}

// Rows of another version cannot be compared, nor those of another log.
func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	p := verified(t)
	var version *projections.VersionError
	if _, err := p.rows.Verify(t.Context(), projections.VerifyConfig{Params: reputation.DixieParams()}); !errors.As(err, &version) {
		t.Errorf("error %v, want a VersionError", err)
	}
	exec(t, p.pool, `UPDATE projection_checkpoints SET position = 401 WHERE projection = 'cohorts'`)
	var ahead *projections.AheadError
	if _, err := p.rows.Verify(t.Context(), projections.VerifyConfig{Params: reputation.DefaultParams()}); !errors.As(err, &ahead) {
		t.Errorf("error %v, want an AheadError", err)
	}
	p.verify(t, projections.VerifyConfig{Projections: []string{projections.Aggregates}})
}

// What is not yet projected is no difference, whichever projection is behind.
func TestVerifyBehind(t *testing.T) {
	t.Parallel()
	p := verified(t)
	p.AppendEntries(t, projectionstest.Task("bear-a", "native", "analysis", 0.5).Entry(1001), projectionstest.Raw(t, "bear-a", `{}`))
	stop := projectionstest.Run(t, p.Projectors(reputation.DefaultParams(), 0)[0])
	p.Await(t, 402, projections.Aggregates)
	stop()
	report, found := p.verify(t, projections.VerifyConfig{})
	if len(found) > 0 || report.Events != 402 || report.Positions[projections.Aggregates] != 402 || report.Positions[projections.Cohorts] != 400 || report.Head != 402 {
		t.Errorf("report %+v, differences %v", report, found)
	}
}

// Two databases with the same log share a digest, and others do not.
func TestVerifyDigest(t *testing.T) {
	t.Parallel()
	first, second := verified(t), open(t)
	events, err := first.Log.Read(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	stop := second.start(t)
	defer stop()
	for _, e := range events {
		entry, err := reputation.RawEntry(e.NFT, e.Type, e.JSON)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := second.Log.Append(t.Context(), entry); err != nil {
			t.Fatal(err)
		}
	}
	second.Settle(t)
	a, _ := first.verify(t, projections.VerifyConfig{})
	b, _ := second.verify(t, projections.VerifyConfig{})
	if a.Digest != b.Digest {
		t.Errorf("digests %s and %s of one log", a.Digest, b.Digest)
	}
	if _, err := second.Log.Append(t.Context(), randomEntry(401)); err != nil {
		t.Fatal(err)
	}
	second.Settle(t)
	if c, _ := second.verify(t, projections.VerifyConfig{}); c.Digest == a.Digest {
		t.Error("another log has the same digest")
	}
}

// Verification reads one snapshot: it stays clean while events are appended and
// projected.
func TestVerifyBesideTraffic(t *testing.T) {
	t.Parallel()
	p := open(t)
	stopProjecting := p.start(t)
	defer stopProjecting()
	stopAppending := p.load(t)
	defer stopAppending()
	for range 5 {
		if _, found := p.verify(t, projections.VerifyConfig{}); len(found) > 0 {
			t.Fatalf("differences beside live traffic: %v", found)
		}
	}
}

func TestVerifyOneNFT(t *testing.T) {
	t.Parallel()
	p := verified(t)
	nft := query[string](t, p.pool, `SELECT min(nft_id) FROM reputation_aggregates`)
	other := query[string](t, p.pool, `SELECT max(nft_id) FROM reputation_aggregates`)
	exec(t, p.pool, `UPDATE reputation_aggregates SET state = 'x'`)
	_, found := p.verify(t, projections.VerifyConfig{NFT: nft})
	if len(found) != 1 || found[0].Key != nft {
		t.Errorf("differences of %s (and not of %s): %v", nft, other, found)
	}
}
