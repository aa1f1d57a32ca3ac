package projections_test

import (
	"context"
	"strings"
	"testing"

	"dixie/projections"
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
	for name, c := range map[string]struct {
		damage string
		want   string // how one of the differences begins
	}{
		"aggregate": {
			`UPDATE reputation_aggregates SET aggregate = jsonb_set(aggregate, '{pool_id}', '"x"') WHERE nft_id = (SELECT min(nft_id) FROM reputation_aggregates)`,
			`reputation_aggregates `,
		},
		"folded": {
			`UPDATE reputation_aggregates SET folded = jsonb_set(folded::jsonb, '{last_event_at}', '"2020-01-01T00:00:00Z"')::json WHERE nft_id = (SELECT min(nft_id) FROM reputation_aggregates)`,
			`reputation_aggregates `,
		},
		"state":           {`UPDATE reputation_aggregates SET state = 'x' WHERE nft_id = (SELECT min(nft_id) FROM reputation_aggregates)`, `reputation_aggregates `},
		"missing row":     {`DELETE FROM reputation_aggregates WHERE nft_id = (SELECT min(nft_id) FROM reputation_aggregates)`, `reputation_aggregates `},
		"unexpected row":  {`INSERT INTO reputation_aggregates (nft_id, aggregate) VALUES ('zz', '{}')`, `reputation_aggregates zz: row: stored {"aggregate":{}`},
		"cohort":          {`UPDATE reputation_task_cohorts SET samples = samples + 1`, `reputation_task_cohorts `},
		"shown cohort":    {`UPDATE reputation_task_cohorts SET cohort = jsonb_set(cohort, '{sample_count}', '99')`, `reputation_task_cohorts `},
		"collection":      {`UPDATE reputation_collections SET sum = sum + 0.001`, `reputation_collections `},
		"member":          {`DELETE FROM reputation_cohort_members`, `reputation_cohort_members `},
		"failure":         {`DELETE FROM projection_failures WHERE projection = 'cohorts'`, `projection_failures `},
		"deleted event":   {`DELETE FROM reputation_events WHERE position = 200`, `reputation_events 201: position: stored 201, computed 200`},
		"swapped events":  {`UPDATE reputation_events SET position = CASE position WHEN 200 THEN 100001 ELSE 200 END WHERE position IN (200, 201); UPDATE reputation_events SET position = 201 WHERE position = 100001`, `reputation_events 201: created_at`},
		"content changed": {`UPDATE reputation_events SET event = event || '{"timestamp":"2000-01-01T00:00:00Z"}' WHERE position BETWEEN 100 AND 300`, `reputation_`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := verified(t)
			// As a superuser who disables the triggers of the log.
			exec(t, p.pool, `ALTER TABLE reputation_events DISABLE TRIGGER USER`)
			for statement := range strings.SplitSeq(c.damage, ";") {
				exec(t, p.pool, statement)
			}
			_, found := p.verify(t, projections.VerifyConfig{})
			for _, d := range found {
				if strings.HasPrefix(d.String(), c.want) {
					return
				}
			}
			t.Errorf("no difference begins with %q: %v", c.want, found)
		})
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
