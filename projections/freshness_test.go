package projections_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

// wantUnchanged asks whether a reading of both projections would give the same.
func (p process) wantUnchanged(t testing.TB, nft string, mark reputation.Mark, want bool) {
	t.Helper()
	_, got, err := p.Reader.Unchanged(t.Context(), nft, mark, projections.Names...)
	if err != nil || got != want {
		t.Errorf("%s since %+v: unchanged %t, error %v, want %t", nft, mark, got, err, want)
	}
}

// mark reads an NFT once the projections were asked for the first time, from which on
// they can compare.
func (p process) mark(t testing.TB, nft string) reputation.Mark {
	t.Helper()
	if _, _, err := p.Reader.Unchanged(t.Context(), nft, reputation.Mark{}); err != nil {
		t.Fatal(err)
	}
	return p.Reputation(t, nft).Mark
}

// TestUnchangedElsewhere: a process knows of pages that another one has projected, and
// which NFTs they were of.
func TestUnchangedElsewhere(t *testing.T) {
	t.Parallel()
	projector := open(t)
	replica := projector.catchingUp(t, 0)
	projector.Project(t)
	projector.Append(t, projectionstest.Signal("bear-1", 0.5), projectionstest.Signal("bear-2", 0.5))
	projector.Settle(t)
	first, second := replica.mark(t, "bear-1"), replica.mark(t, "bear-2")
	projector.Append(t, projectionstest.Signal("bear-2", 1), projectionstest.Signal("bear-3", 1))
	projector.Settle(t)
	replica.wantUnchanged(t, "bear-1", first, true)
	replica.wantUnchanged(t, "bear-2", second, false)
	replica.wantUnchanged(t, "bear-2", replica.mark(t, "bear-2"), true)
}

// TestUnchangedNot: what no known event tells of, counts as a change of everything.
func TestUnchangedNot(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*testing.T, process){
		"rebuilt":            func(t *testing.T, p process) { p.rebuild(t) },
		"rebuilt aggregates": func(t *testing.T, p process) { p.rebuild(t, projections.Aggregates) },
		"many events": func(t *testing.T, p process) {
			for range 6 {
				p.Append(t, manySignals("bear-2", 1000)...)
			}
			p.project(t)
		},
		"gone back": func(t *testing.T, p process) {
			exec(t, p.pool, `UPDATE projection_checkpoints SET position = 9`)
		},
		"another log of the same length": func(t *testing.T, p process) {
			exec(t, p.pool, `UPDATE projection_checkpoints SET event_created_at = event_created_at + interval '1 second'`)
		},
		"another log that has grown": func(t *testing.T, p process) {
			p.takeBack(t, 4)
			exec(t, p.pool, `
				UPDATE projection_checkpoints
				   SET position = 4, event_created_at = (SELECT created_at FROM reputation_events WHERE position = 4)`)
			p.Append(t, manySignals("bear-2", 20)...)
			p.project(t)
		},
		"emptied": func(t *testing.T, p process) { exec(t, p.pool, `DELETE FROM projection_checkpoints`) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := open(t)
			p.Append(t, manySignals("bear-1", 10)...)
			p.project(t)
			mark := p.mark(t, "bear-1")
			p.wantUnchanged(t, "bear-1", mark, true)
			change(t, p)
			p.wantUnchanged(t, "bear-1", mark, false)
			p.wantUnchanged(t, "bear-1", p.mark(t, "bear-1"), true)
		})
	}
}

// project projects what there is, and ends.
func (p process) project(t testing.TB) {
	t.Helper()
	stop := p.Project(t)
	p.Settle(t)
	stop()
}

func manySignals(nft string, n int) []projectionstest.Event {
	events := make([]projectionstest.Event, n)
	for i := range events {
		events[i] = projectionstest.Signal(nft, 0.5)
	}
	return events
}

// TestUnchangedShared: those who ask at the same time share what is asked of the
// database, and who leaves does not keep the others from their answer.
func TestUnchangedShared(t *testing.T) {
	t.Parallel()
	var spy spy
	p := open(t, spy.option)
	p.Project(t)
	p.Append(t, projectionstest.Signal("bear-1", 0.5))
	p.Settle(t)
	mark := p.mark(t, "bear-1")
	spy.take()
	const asking, rounds = 50, 40
	var all sync.WaitGroup
	for n := range asking {
		leaves := n%10 == 0
		all.Go(func() {
			for range rounds {
				if err := p.ask(t, mark, leaves); err != nil && !(leaves && errors.Is(err, context.Canceled)) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	looks := len(spy.take("projection_checkpoints"))
	t.Logf("%d questions, %d looks", asking*rounds, looks)
	if looks == 0 || looks > asking*rounds/4 {
		t.Errorf("%d questions were answered by %d looks", asking*rounds, looks)
	}
}

// ask fails unless bear-1 is unchanged. Who asks may leave before there is an answer.
func (p process) ask(t testing.TB, mark reputation.Mark, leaves bool) error {
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	if leaves {
		go leave()
	}
	_, unchanged, err := p.Reader.Unchanged(ctx, "bear-1", mark, projections.Names...)
	if err == nil && !unchanged {
		err = errors.New("not unchanged")
	}
	return err
}

// TestUnchangedPlan: to ask the log what changed does not read all of it.
func TestUnchangedPlan(t *testing.T) {
	t.Parallel()
	var spy spy
	p := open(t, spy.option)
	p.Project(t)
	for range 20 {
		p.Append(t, manySignals("bear-1", 1000)...)
	}
	p.Settle(t)
	p.mark(t, "bear-1")
	p.Append(t, projectionstest.Signal("bear-1", 1))
	p.Settle(t)
	exec(t, p.pool, `ANALYZE`)
	spy.take("reputation_events")
	p.mark(t, "bear-1")
	statements := spy.take("reputation_events")
	if len(statements) != 1 {
		t.Fatalf("statements %v", statements)
	}
	conn := connect(t, p.pool)
	scans := func(n *node) bool { return n.Type == "Seq Scan" && n.Relation == "reputation_events" }
	if plan := explain(t, conn, statements[0].sql, statements[0].args[1:]...); plan.any(scans) {
		t.Errorf("%s\n%+v", statements[0].sql, plan)
	}
}
